#include "boot/bzimage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "boot/boot_params.h"
#include "tests/boot/kernel_files.h"

namespace wick::boot {
namespace {

using ::testing::HasSubstr;

::boot_params zero_page(const GuestMemory& memory, const BootImage& loaded) {
  return *memory.read<::boot_params>({loaded.cpu.rsi});
}

uint64_t end_of(GuestMemory::Range range) { return range.start.value + range.size_bytes; }

TEST(BzImage, LoadsTheCodeAtThePreferredAddress) {
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = load_bzimage(memory, BzImage().files());
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->kernel_range.start.value, 16 * kMiB);
  EXPECT_EQ(loaded->kernel_range.size_bytes, 8 * kMiB);
  EXPECT_EQ(loaded->cpu.rip, 16 * kMiB + 0x200);
  EXPECT_EQ(loaded->kernel, "bzImage, boot protocol 2.15, Linux 6.1.0-test");
  const auto code = *memory.slice({16 * kMiB}, 8192 + 1);
  EXPECT_EQ(code.front(), std::byte{0xc3});
  EXPECT_EQ(code[8191], std::byte{0xc3});
  EXPECT_EQ(code[8192], std::byte{0});
}

TEST(BzImage, FillsInWhatALoaderOwesTheKernel) {
  const auto memory = memory_of(64 * kMiB);
  BootFiles files = BzImage().files_with_initrd(10'000);
  files.cmdline = "console=ttyS0 panic=-1";
  const auto loaded = load_bzimage(memory, files);
  ASSERT_TRUE(loaded) << message(loaded);
  const auto params = zero_page(memory, *loaded);
  EXPECT_EQ(params.hdr.type_of_loader, 0xff);
  EXPECT_EQ(params.hdr.code32_start, 16 * kMiB);
  EXPECT_EQ(params.hdr.ramdisk_image, loaded->initrd_range.start.value);
  EXPECT_EQ(params.hdr.ramdisk_size, 10'000u);
  EXPECT_EQ(params.acpi_rsdp_addr, 0xe0000u);
  EXPECT_EQ(params.sentinel, 0);
  EXPECT_EQ(params.hdr.boot_flag, 0xaa55);
  EXPECT_EQ(params.hdr.init_size, 8 * kMiB);

  const auto text = *memory.slice({params.hdr.cmd_line_ptr}, files.cmdline.size() + 1);
  EXPECT_STREQ(reinterpret_cast<const char*>(text.data()), files.cmdline.c_str());
  const auto initrd = *memory.slice({params.hdr.ramdisk_image}, 10'000);
  EXPECT_EQ(initrd.front(), std::byte{'i'});
  EXPECT_EQ(initrd.back(), std::byte{'i'});
}

TEST(BzImage, TellsTheKernelItsMemory) {
  const auto memory = memory_of({{{0}, 64 * kMiB}, {{1ULL << 32}, 32 * kMiB}});
  const auto loaded = load_bzimage(memory, BzImage().files());
  ASSERT_TRUE(loaded) << message(loaded);
  const auto params = zero_page(memory, *loaded);
  ASSERT_EQ(params.e820_entries, 4);
  const auto entry = [&](int i) {
    const auto& e = params.e820_table[i];
    return std::array<uint64_t, 3>{e.addr, e.size, e.type};
  };
  EXPECT_THAT(entry(0), ::testing::ElementsAre(0, 0x9fc00, 1));
  EXPECT_THAT(entry(1), ::testing::ElementsAre(0x9fc00, 0x60400, 2));
  EXPECT_THAT(entry(2), ::testing::ElementsAre(kMiB, 63 * kMiB, 1));
  EXPECT_THAT(entry(3), ::testing::ElementsAre(1ULL << 32, 32 * kMiB, 1));
}

TEST(BzImage, ReadsZeroSetupSectorsAsFour) {
  BzImage image;
  image.header.setup_sects = 0;
  const auto memory = memory_of(64 * kMiB);
  ASSERT_TRUE(load_bzimage(memory, image.files()));
  EXPECT_EQ(*memory.read<uint8_t>({16 * kMiB}), 0xc3);
}

TEST(BzImage, IgnoresWhatFollowsTheCode) {
  Bytes bytes = BzImage().bytes();
  bytes.resize(bytes.size() + 0x5c0, std::byte{'s'});  // a Debian kernel's signature
  const auto memory = memory_of(64 * kMiB);
  ASSERT_TRUE(load_bzimage(memory, {input_file(bytes, "bzImage"), std::nullopt, "", {}}));
  EXPECT_EQ(*memory.read<uint8_t>({16 * kMiB + 8192}), 0);
}

TEST(BzImage, KeepsFieldsOfHeadersLongerThanOurs) {
  Bytes bytes = BzImage().bytes();
  bytes[0x201] = std::byte{0x290 - 0x202};
  bytes[0x28f] = std::byte{0x77};
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = load_bzimage(memory, {input_file(bytes, "bzImage"), std::nullopt, "", {}});
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(*memory.read<uint8_t>({loaded->cpu.rsi + 0x28f}), 0x77);
}

TEST(BzImage, DoesNotReadFieldsBehindAShorterHeader) {
  BzImage image;
  image.header.jump = 0x62eb;  // protocol 2.12 without handover_offset
  image.header.handover_offset = 0x12345678;
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = load_bzimage(memory, image.files());
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(zero_page(memory, *loaded).hdr.handover_offset, 0u);
}

TEST(BzImage, WithoutA64BitEntryStartsAtIts32BitOne) {
  BzImage image;
  image.header.xloadflags = 0;
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = load_bzimage(memory, image.files_with_initrd(10'000));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, 16 * kMiB);
  EXPECT_EQ(loaded->cpu.efer, 0u);
  EXPECT_EQ(loaded->kernel, "bzImage, boot protocol 2.15, 32-bit entry, Linux 6.1.0-test");
  const auto params = zero_page(memory, *loaded);
  EXPECT_EQ(params.hdr.code32_start, 16 * kMiB);
  EXPECT_EQ(params.hdr.ramdisk_size, 10'000u);
}

TEST(BzImage, HasNo64BitEntryBeforeProtocol2_12) {
  BzImage image;
  image.header.version = 0x020b;  // xloadflags are not defined yet
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = load_bzimage(memory, image.files());
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, 16 * kMiB);
}

TEST(BzImage, FromBeforeProtocol2_10SaysNeitherItsPlaceNorItsSize) {
  BzImage image;
  image.header.version = 0x0206;
  image.header.jump = 0x3aeb;  // up to cmdline_size
  image.header.kernel_alignment = 4 * kMiB;
  const auto memory = memory_of(64 * kMiB);
  auto loaded = load_bzimage(memory, image.files());
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->kernel_range.start.value, 4 * kMiB);
  EXPECT_EQ(loaded->kernel_range.size_bytes, 3 * 8192u);
  EXPECT_EQ(loaded->cpu.rip, 4 * kMiB);

  image.header.relocatable_kernel = 0;
  loaded = load_bzimage(memory, image.files());
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->kernel_range.start.value, kMiB);
}

// Breaks one field at a time, and checks the message.
struct WrongField {
  const char* name;
  std::function<void(::setup_header&)> spoil;
  const char* says;
};

void PrintTo(const WrongField& field, std::ostream* out) { *out << field.name; }

class BzImageWithWrongField : public ::testing::TestWithParam<WrongField> {};

TEST_P(BzImageWithWrongField, IsRefusedByName) {
  BzImage image;
  Bytes bytes = image.bytes();
  GetParam().spoil(image.header);
  std::memcpy(bytes.data() + 0x1f1, &image.header, sizeof(image.header));
  const auto memory = memory_of(64 * kMiB);
  const auto loaded =
      load_bzimage(memory, {input_file(bytes, "bzImage"), std::nullopt, "console=ttyS0", {}});
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message(), HasSubstr(GetParam().says));
  EXPECT_EQ(loaded.error().message().find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BzImageWithWrongField,
    ::testing::Values(
        WrongField{"boot_flag", [](auto& h) { h.boot_flag = 0x55aa; }, "boot_flag is 0x55aa"},
        WrongField{"header", [](auto& h) { h.header = 0x53726449; }, "no \"HdrS\""},
        WrongField{"version_2_02", [](auto& h) { h.version = 0x0202; },
                   "boot protocol 2.02 is too old, wick needs 2.06"},
        WrongField{"version_2_05", [](auto& h) { h.version = 0x0205; }, "boot protocol 2.05"},
        WrongField{"loadflags", [](auto& h) { h.loadflags = 0; }, "a zImage (LOADED_HIGH is off)"},
        WrongField{"jump_opcode", [](auto& h) { h.jump = 0x6ae9; },
                   "setup header is damaged: the opcode at 0x200 is 0xe9, not a short jump (0xeb)"},
        WrongField{"code32_start", [](auto& h) { h.code32_start = 0; },
                   "starts in real mode and calls a BIOS (code32_start is 0)"},
        WrongField{"jump_short", [](auto& h) { h.jump = 0x20eb; }, "it ends at 0x222"},
        WrongField{"jump_short_2_10", [](auto& h) { h.version = 0x020a, h.jump = 0x5eeb; },
                   "it ends at 0x260"},
        WrongField{"jump_short_2_09", [](auto& h) { h.version = 0x0209, h.jump = 0x36eb; },
                   "it ends at 0x238"},
        WrongField{"jump_long", [](auto& h) { h.jump = 0xffeb; }, "it ends at 0x301"},
        WrongField{"setup_sects", [](auto& h) { h.setup_sects = 255; }, "128512 of 139264 bytes"},
        WrongField{"syssize_zero", [](auto& h) { h.syssize = 0; }, "syssize gives 0 bytes"},
        WrongField{"syssize_small", [](auto& h) { h.syssize = 32; }, "syssize gives 512 bytes"},
        WrongField{"syssize_large", [](auto& h) { h.syssize = 0xffff'ffff; }, "cut short"},
        WrongField{"payload_offset", [](auto& h) { h.payload_offset = 0x2000; }, "the payload"},
        WrongField{"payload_length", [](auto& h) { h.payload_length = 0xffff'ffff; },
                   "the payload ends at 0x1000000ff, the code at 0x2000"},
        WrongField{"alignment_zero", [](auto& h) { h.kernel_alignment = 0; }, "kernel_alignment"},
        WrongField{"alignment_odd", [](auto& h) { h.kernel_alignment = 0x300000; },
                   "kernel_alignment 0x300000 is not a power of two"},
        WrongField{"alignment_large", [](auto& h) { h.kernel_alignment = 0x8000'0000; },
                   "the guest has 64 MiB of memory; give at least 2056 MiB"},
        WrongField{"init_size_zero", [](auto& h) { h.init_size = 0; }, "init_size 0x0 is less"},
        WrongField{"init_size_large", [](auto& h) { h.init_size = 0xffff'ffff; }, "pass 4 GiB"},
        WrongField{"pref_address", [](auto& h) { h.pref_address = ~0ULL; },
                   "pref_address 0xffffffffffffffff"},
        WrongField{"pref_address_high", [](auto& h) { h.pref_address = 0xc000'0000; },
                   "no guest has memory from 0xc0000000 to 4 GiB"},
        WrongField{"cmdline_size", [](auto& h) { h.cmdline_size = 4; }, "takes 4 at most"}),
    [](const auto& test) { return test.param.name; });

TEST(BzImage, OfAnyShorterLengthSaysHowMuchIsMissing) {
  const Bytes bytes = BzImage().bytes();
  const auto memory = memory_of(64 * kMiB);
  for (size_t length = 1; length <= bytes.size() - 16; length += 37) {
    const auto loaded = load_bzimage(
        memory, {input_file(std::span(bytes).first(length), "bzImage"), std::nullopt, "", {}});
    ASSERT_FALSE(loaded);
    if (length >= 0x290) {
      EXPECT_THAT(loaded.error().message(),
                  HasSubstr(fmt::format("{} of {} bytes are missing", bytes.size() - length,
                                        bytes.size())));
    }
  }
}

// syssize counts paragraphs of 16 bytes, rounded up (memtest86+, iPXE).
TEST(BzImage, MayLackAPartOfItsLastParagraph) {
  const Bytes bytes = BzImage().bytes();
  for (size_t missing = 1; missing < 16; ++missing) {
    const auto memory = memory_of(64 * kMiB);
    const uint64_t end = 16 * kMiB + 8192;
    const auto file = std::span(bytes).first(bytes.size() - missing);
    const auto loaded = load_bzimage(memory, {input_file(file, "bzImage"), std::nullopt, "", {}});
    ASSERT_TRUE(loaded) << message(loaded);
    EXPECT_EQ(*memory.read<uint8_t>({end - missing - 1}), 0xc3);
    EXPECT_EQ(*memory.read<uint8_t>({end - missing}), 0);
    EXPECT_EQ(*memory.read<uint8_t>({end - 1}), 0);
  }
}

TEST(BzImage, LacksAWholeParagraphWhenItIsCutShort) {
  const Bytes bytes = BzImage().bytes();
  const auto file = std::span(bytes).first(bytes.size() - 16);
  EXPECT_THAT(message(load_bzimage(memory_of(64 * kMiB),
                                   {input_file(file, "bzImage"), std::nullopt, "", {}})),
              HasSubstr("cut short: 16 of 10752 bytes are missing"));
}

TEST(BzImage, HasNoPayloadFieldsBeforeProtocol2_08) {
  BzImage image;
  image.header.payload_offset = 0x2e30'2e31;  // the text that iPXE has there
  image.header.payload_length = 0x6967'2b30;
  const auto memory = memory_of(64 * kMiB);
  image.header.version = 0x0207;
  const auto loaded = load_bzimage(memory, image.files());
  EXPECT_TRUE(loaded) << message(loaded);
  image.header.version = 0x0208;
  EXPECT_THAT(message(load_bzimage(memory, image.files())), HasSubstr("the payload ends at"));
}

TEST(BzImage, RefusesACommandLineThatTheKernelWouldCut) {
  const auto memory = memory_of(64 * kMiB);
  EXPECT_TRUE(load_bzimage(memory, BzImage().files(std::string(2047, 'x'))));
  EXPECT_THAT(message(load_bzimage(memory, BzImage().files(std::string(2048, 'x')))),
              HasSubstr("command line: 2048 bytes, but this kernel takes 2047 at most"));
}

TEST(BzImage, NeverWritesACommandLineBeyondItsPlace) {
  BzImage image;
  image.header.cmdline_size = 0xffff'ffff;
  const auto memory = memory_of(64 * kMiB);
  EXPECT_TRUE(load_bzimage(memory, image.files(std::string(65535, 'x'))));
  EXPECT_THAT(message(load_bzimage(memory, image.files(std::string(65536, 'x')))),
              HasSubstr("takes 65535 at most"));
}

TEST(BzImage, PutsTheInitrdAsHighAsTheKernelAllows) {
  const auto memory = memory_of(64 * kMiB);
  auto loaded = load_bzimage(memory, BzImage().files_with_initrd(5000));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->initrd_range.start.value, 64 * kMiB - 8192);

  BzImage low;
  low.header.initrd_addr_max = 0x37f'ffff;  // the highest byte
  loaded = load_bzimage(memory, low.files_with_initrd(4096));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->initrd_range.start.value, 0x37f'f000u);
}

TEST(BzImage, PutsTheInitrdBelowTheKernelWhenThereIsNoRoomAbove) {
  const auto memory = memory_of(25 * kMiB);
  const auto loaded = load_bzimage(memory, BzImage().files_with_initrd(4 * kMiB));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->kernel_range.start.value, 16 * kMiB);
  EXPECT_EQ(loaded->initrd_range.start.value, 12 * kMiB);
}

TEST(BzImage, RelocatesTheKernelOutOfTheInitrdsWay) {
  BzImage image;
  image.header.initrd_addr_max =
      32 * kMiB - 1;  // too little room on each side of a kernel at 16 MiB
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = load_bzimage(memory, image.files_with_initrd(20 * kMiB));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->kernel_range.start.value, 56 * kMiB);
  EXPECT_EQ(loaded->initrd_range.start.value, 12 * kMiB);
  EXPECT_EQ(zero_page(memory, *loaded).hdr.code32_start, 56 * kMiB);
  EXPECT_EQ(loaded->cpu.rip, 56 * kMiB + 0x200);
}

TEST(BzImage, ThatCannotMoveStaysInTheInitrdsWay) {
  BzImage image;
  image.header.relocatable_kernel = 0;
  image.header.initrd_addr_max = 32 * kMiB - 1;
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = load_bzimage(memory, image.files_with_initrd(20 * kMiB));
  EXPECT_THAT(message(loaded),
              HasSubstr("initrd: 20 MiB and a kernel of 8 MiB do not fit below 0x2000000 "
                        "(initrd_addr_max), however much memory the guest has; use a smaller"));
}

TEST(BzImage, RefusesAnInitrdAboveItsHighestAddress) {
  BzImage image;
  image.header.initrd_addr_max = 0;
  const auto memory = memory_of(64 * kMiB);
  EXPECT_THAT(message(load_bzimage(memory, image.files_with_initrd(1))),
              HasSubstr("below 0x1 (initrd_addr_max)"));
}

constexpr uint64_t kGiB = 1ULL << 30;

// Memory as a machine has it, and a sparse initrd that is never read in full.
GuestMemory machine_memory(uint64_t size_bytes) {
  if (size_bytes <= 3 * kGiB) return memory_of(size_bytes);
  return memory_of({{{0}, 3 * kGiB}, {{4 * kGiB}, size_bytes - 3 * kGiB}});
}

BootFiles with_sparse_initrd(const BzImage& image, uint64_t size_bytes) {
  BootFiles files = image.files();
  Fd fd(::memfd_create("initrd", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size_bytes)), 0);
  files.initrd = *InputFile::adopt(std::move(fd), "initrd");
  return files;
}

TEST(BzImage, TakesAnInitrdAbove4GiBWhereItSaysSo) {
  BzImage image;
  image.header.initrd_addr_max = 32 * kMiB - 1;  // as if low memory were small
  const auto memory = machine_memory(3 * kGiB + 64 * kMiB);
  const auto files = with_sparse_initrd(image, 40 * kMiB);
  EXPECT_FALSE(load_bzimage(memory, files));
  image.header.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
  const auto loaded = load_bzimage(memory, with_sparse_initrd(image, 40 * kMiB));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->initrd_range.start.value, 4 * kGiB + 24 * kMiB);
  const auto params = zero_page(memory, *loaded);
  EXPECT_EQ(params.hdr.ramdisk_image, 24 * kMiB);
  EXPECT_EQ(params.ext_ramdisk_image, 1u);
  EXPECT_EQ(params.hdr.ramdisk_size, 40 * kMiB);
  EXPECT_EQ(params.ext_ramdisk_size, 0u);
  // Only the 64-bit entry reads the upper halves.
  image.header.xloadflags = XLF_CAN_BE_LOADED_ABOVE_4G;
  EXPECT_FALSE(load_bzimage(memory, with_sparse_initrd(image, 40 * kMiB)));
}

TEST(BzImage, PutsAnInitrdThatFitsWhereItAlwaysWas) {
  BzImage image;
  image.header.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
  const auto memory = machine_memory(5 * kGiB);
  const auto loaded = load_bzimage(memory, image.files_with_initrd(4096));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->initrd_range.start.value, 2 * kGiB - 4096);
  EXPECT_EQ(zero_page(memory, *loaded).ext_ramdisk_image, 0u);
}

// The amount of memory that the message advises suffices, and 1 MiB less does not.
TEST(BzImage, AdvisesTheMemoryThatAnInitrdNeeds) {
  struct Case {
    uint64_t initrd_mib;
    bool above_4g;
    bool relocatable;
    uint64_t needed_mib;  // 0: no amount suffices
  };
  const Case cases[] = {
      {100, false, true, 110},         {2000, false, true, 2010},      {2030, false, true, 2040},
      {2000, false, false, 2024},      {2030, false, false, 0},        {2047, false, true, 2056},
      {2048, false, true, 0},          {2500, false, true, 0},         {2500, true, true, 2510},
      {3070, true, true, 3072 + 3070}, {5000, true, true, 3072 + 5000}};
  for (const Case& c : cases) {
    SCOPED_TRACE(fmt::format("{} MiB, {}, {}", c.initrd_mib, c.above_4g, c.relocatable));
    BzImage image;
    if (c.above_4g) image.header.xloadflags |= XLF_CAN_BE_LOADED_ABOVE_4G;
    image.header.relocatable_kernel = c.relocatable ? 1 : 0;
    image.header.kernel_alignment = 2 * kMiB;
    const auto tried = [&](uint64_t memory_mib) {
      return message(load_bzimage(machine_memory(memory_mib * kMiB),
                                  with_sparse_initrd(image, c.initrd_mib * kMiB)));
    };
    if (c.needed_mib == 0) {
      for (const uint64_t memory_mib : {64, 3072, 16384})
        EXPECT_THAT(tried(memory_mib),
                    HasSubstr("however much memory the guest has; use a smaller initrd"));
      continue;
    }
    const std::string advice = fmt::format("give at least {} MiB with --memory", c.needed_mib);
    EXPECT_THAT(tried(64), HasSubstr(advice));
    EXPECT_THAT(tried(c.needed_mib - 1), HasSubstr(advice));
    if (c.initrd_mib == 100 || c.initrd_mib == 2500) {
      EXPECT_EQ(tried(c.needed_mib), "");
    }
  }
}

TEST(BzImage, SkipsAHoleInMemory) {
  const auto memory = memory_of({{{0}, 20 * kMiB}, {{33 * kMiB}, 31 * kMiB}});
  const auto loaded = load_bzimage(memory, BzImage().files_with_initrd(2 * kMiB));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->kernel_range.start.value, 34 * kMiB);
  EXPECT_EQ(loaded->initrd_range.start.value, 62 * kMiB);
}

TEST(BzImage, StaysBelow4GiBWithMemoryAbove) {
  const auto memory = memory_of({{{0}, 20 * kMiB}, {{1ULL << 32}, 64 * kMiB}});
  EXPECT_THAT(message(load_bzimage(memory, BzImage().files())),
              HasSubstr("the kernel unpacks to 8 MiB at 0x1000000, but the guest has 84 MiB"));
}

TEST(BzImage, IsNeverLoadedBelowThePreferredAddress) {
  // Linux would move itself back up, over the end of memory.
  const auto memory = memory_of(23 * kMiB);
  const auto loaded = load_bzimage(memory, BzImage().files());
  EXPECT_THAT(message(loaded), HasSubstr("the guest has 23 MiB of memory; give at least 24 MiB"));
}

TEST(BzImage, NeedsMoreThanTheFirstMegabyte) {
  for (const uint64_t size : {uint64_t{4096}, uint64_t{640 << 10}, kMiB})
    EXPECT_THAT(message(load_bzimage(memory_of(size), BzImage().files())),
                HasSubstr("give more than 1 MiB with --memory"));
}

// Kernel and initrd lie in memory and do not overlap, whatever their sizes.
TEST(BzImage, KeepsKernelAndInitrdApart) {
  for (uint64_t memory_mib = 24; memory_mib <= 40; memory_mib += 3) {
    for (uint64_t initrd_kib = 1; initrd_kib < 26 << 10; initrd_kib += 2500) {
      const auto memory = memory_of(memory_mib * kMiB);
      const auto loaded = load_bzimage(memory, BzImage().files_with_initrd(initrd_kib << 10));
      if (!loaded) continue;
      const auto& kernel = loaded->kernel_range;
      const auto& initrd = loaded->initrd_range;
      EXPECT_TRUE(end_of(initrd) <= kernel.start.value || end_of(kernel) <= initrd.start.value);
      EXPECT_TRUE(memory.slice(initrd.start, initrd.size_bytes));
      EXPECT_TRUE(memory.slice(kernel.start, kernel.size_bytes));
      EXPECT_EQ(initrd.start.value % 4096, 0u);
    }
  }
}

}  // namespace
}  // namespace wick::boot

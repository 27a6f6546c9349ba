#include "boot/elf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/boot/kernel_files.h"

namespace wick::boot {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

HvmStartInfo start_info(const GuestMemory& memory, const BootImage& loaded) {
  return *memory.read<HvmStartInfo>({loaded.cpu.rbx});
}

TEST(ElfKernel, IsLoadedByItsPhysicalAddresses) {
  const auto memory = memory_of(64 * kMiB);
  std::ranges::fill(*memory.slice({18 * kMiB + 4096}, 4096), std::byte{0xee});
  const auto loaded = load_elf(memory, ElfImage().files());
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, 16 * kMiB + 0x100);
  EXPECT_EQ(loaded->kernel_range.start.value, 16 * kMiB);
  EXPECT_EQ(loaded->kernel_range.size_bytes, 2 * kMiB + 16384);
  EXPECT_EQ(*memory.read<uint8_t>({16 * kMiB}), 0xc3);
  EXPECT_EQ(*memory.read<uint8_t>({18 * kMiB + 4095}), 0xc3);
  EXPECT_EQ(*memory.read<uint8_t>({18 * kMiB + 4096}), 0xee) << "the bss is zeroed already";
}

TEST(ElfKernel, GetsTheStartInfoOfPvh) {
  const auto memory = memory_of({{{0}, 64 * kMiB}, {{1ULL << 32}, 32 * kMiB}});
  BootFiles files = ElfImage().files();
  files.initrd = input_file(Bytes(5000, std::byte{'i'}), "initrd");
  const auto loaded = load_elf(memory, files);
  ASSERT_TRUE(loaded) << message(loaded);
  const auto info = start_info(memory, *loaded);
  EXPECT_EQ(info.magic, 0x336ec578u);
  EXPECT_EQ(info.version, 1u);
  EXPECT_EQ(info.rsdp, 0xe0000u);
  EXPECT_STREQ(reinterpret_cast<const char*>(memory.slice({info.cmdline}, 100)->data()),
               "console=ttyS0");
  ASSERT_EQ(info.module_count, 1u);
  const auto module = *memory.read<HvmModule>({info.modules});
  EXPECT_EQ(module.address, 64 * kMiB - 8192);
  EXPECT_EQ(module.size_bytes, 5000u);
  EXPECT_EQ(*memory.read<uint8_t>({module.address + 4999}), 'i');
  ASSERT_EQ(info.memory_map_count, 4u);
  const auto last = *memory.read<HvmMemoryMapEntry>({info.memory_map + 3 * 24});
  EXPECT_EQ(last.start, 1ULL << 32);
  EXPECT_EQ(last.size_bytes, 32 * kMiB);
  EXPECT_EQ(last.type, 1u);
}

TEST(ElfKernel, WithoutInitrdHasNoModules) {
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = load_elf(memory, ElfImage().files());
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(start_info(memory, *loaded).module_count, 0u);
  EXPECT_EQ(loaded->initrd_range.size_bytes, 0u);
}

TEST(ElfKernel, EntryMayBeTheFourBytesOfXen) {
  ElfImage image;
  image.notes.clear();
  image.add_note("GNU", 3, Bytes(20));
  image.add_note("Linux", 18, Bytes(8));
  image.add_note("Xen", 18, {std::byte{0x40}, std::byte{0}, std::byte{0}, std::byte{1}});
  const auto loaded = load_elf(memory_of(64 * kMiB), image.files());
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, 0x1000040u);
}

struct WrongElf {
  const char* name;
  std::function<void(ElfImage&)> spoil;
  const char* says;
};

void PrintTo(const WrongElf& elf, std::ostream* out) { *out << elf.name; }

class ElfKernelThatIsWrong : public ::testing::TestWithParam<WrongElf> {};

TEST_P(ElfKernelThatIsWrong, IsRefusedByName) {
  ElfImage image;
  GetParam().spoil(image);
  const auto loaded = load_elf(memory_of(64 * kMiB), image.files());
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message(), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Kernels, ElfKernelThatIsWrong,
    ::testing::Values(
        WrongElf{"magic", [](auto& e) { e.header.e_ident[0] = 0; }, "not an ELF file"},
        WrongElf{"class32", [](auto& e) { e.header.e_ident[EI_CLASS] = ELFCLASS32; },
                 "class 1 for x86-64"},
        WrongElf{"big_endian", [](auto& e) { e.header.e_ident[EI_DATA] = ELFDATA2MSB; },
                 "big-endian"},
        WrongElf{"arm64", [](auto& e) { e.header.e_machine = EM_AARCH64; }, "for arm64"},
        WrongElf{"class64", [](auto& e) { e.header.e_machine = EM_386; }, "class 2 for 32-bit x86"},
        WrongElf{"object", [](auto& e) { e.header.e_type = ET_REL; }, "of type 1"},
        WrongElf{"phentsize", [](auto& e) { e.header.e_phentsize = 32; }, "headers of 32 bytes"},
        WrongElf{"phnum", [](auto& e) { e.header.e_phnum = 0xffff; }, "65535 program headers"},
        WrongElf{"phoff", [](auto& e) { e.header.e_phoff = ~0ULL - 8; }, "cut short"},
        WrongElf{"phoff_end", [](auto& e) { e.header.e_phoff = e.bytes().size() - 55; },
                 "cut short: its program headers"},
        WrongElf{"no_note", [](auto& e) { e.notes.clear(); }, "without a PVH entry (Xen note 18)"},
        WrongElf{"other_note", [](auto& e) { e.notes[8] = std::byte{17}; }, "CONFIG_PVH=y"},
        WrongElf{"note_name", [](auto& e) { e.notes[12] = std::byte{'Y'}; }, "without a PVH entry"},
        WrongElf{"note_name_size", [](auto& e) { e.notes[3] = std::byte{0xff}; },
                 "without a PVH entry"},
        WrongElf{"note_size", [](auto& e) { e.notes[7] = std::byte{0xff}; }, "without a PVH entry"},
        WrongElf{"note_too_short", [](auto& e) { e.notes[4] = std::byte{2}; },
                 "without a PVH entry"},
        WrongElf{"entry", [](auto& e) { e.notes[16 + 3] = std::byte{9}; }, "in no segment"},
        WrongElf{"nothing", [](auto& e) { e.segments.clear(); }, "nothing to load"},
        WrongElf{"overlap", [](auto& e) { e.segments[1].address = 16 * kMiB + 4095; },
                 "segments overlap: one begins at 0x1000fff, the one before ends at 0x1001000"},
        WrongElf{"same_place", [](auto& e) { e.segments[1].address = 16 * kMiB; },
                 "segments overlap"},
        WrongElf{"low", [](auto& e) { e.segments[1].address = 0xff000; }, "below 1 MiB"},
        WrongElf{"beyond_ram", [](auto& e) { e.segments[1].address = 64 * kMiB - 4096; },
                 "the guest has 64 MiB of memory; give at least 65 MiB"},
        WrongElf{"wraps", [](auto& e) { e.segments[1].memory_bytes = ~0ULL; }, "beyond the 4 GiB"},
        WrongElf{"above_4g", [](auto& e) { e.segments[1].address = 1ULL << 32; },
                 "beyond the 4 GiB"},
        WrongElf{"more_file_than_memory", [](auto& e) { e.segments[1].memory_bytes = 4095; },
                 "0x1000 bytes for a segment of 0xfff"}),
    [](const auto& test) { return test.param.name; });

TEST(ElfKernel, CutShortAnywhereIsRefused) {
  const Bytes bytes = ElfImage().bytes();
  const auto memory = memory_of(64 * kMiB);
  for (size_t length = 1; length < bytes.size(); length += 61) {
    const auto loaded = load_elf(
        memory, ElfImage::files({bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length)}));
    ASSERT_FALSE(loaded) << length;
  }
}

TEST(ElfKernel, SegmentMayNotSpanAHole) {
  const auto memory = memory_of({{{0}, 18 * kMiB + 4096}, {{20 * kMiB}, 44 * kMiB}});
  EXPECT_THAT(message(load_elf(memory, ElfImage().files())),
              HasSubstr("a segment from 0x1200000 to 0x1204000"));
}

TEST(ElfKernel, SaysWhatTheWholeOfItNeeds) {
  EXPECT_THAT(
      message(load_elf(memory_of(16 * kMiB), ElfImage().files())),
      HasSubstr("a segment from 0x1000000 to 0x1001000, but the guest has 16 MiB of memory; "
                "give at least 19 MiB"));
}

TEST(ElfKernel, KeepsTheInitrdOffItsSegments) {
  BootFiles files = ElfImage().files();
  files.initrd = input_file(Bytes(10 * kMiB, std::byte{'i'}), "initrd");
  const auto loaded = load_elf(memory_of(20 * kMiB), files);
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->initrd_range.start.value, 6 * kMiB);
  EXPECT_THAT(message(load_elf(memory_of(20 * kMiB),
                               {input_file(ElfImage().bytes(), "vmlinux"),
                                input_file(Bytes(16 * kMiB, std::byte{'i'}), "initrd"),
                                "",
                                {}})),
              HasSubstr("initrd: 16 MiB and a kernel of 3 MiB do not fit"));
}

TEST(ElfKernel, RefusesACommandLineThatLinuxWouldCut) {
  const auto memory = memory_of(64 * kMiB);
  const Bytes bytes = ElfImage().bytes();
  EXPECT_TRUE(load_elf(memory, ElfImage::files(bytes, std::string(2047, 'x'))));
  EXPECT_THAT(message(load_elf(memory, ElfImage::files(bytes, std::string(2048, 'x')))),
              HasSubstr("2048 bytes, but this kernel takes 2047"));
}

// The same kernel as a 32-bit file, like a vmlinux for 32-bit x86.
Bytes as_elf32(const ElfImage& image) {
  Bytes bytes = image.bytes();
  const auto wide = image.program_headers();
  Elf32_Ehdr header{};
  std::memcpy(header.e_ident, image.header.e_ident, sizeof(header.e_ident));
  header.e_ident[EI_CLASS] = ELFCLASS32;
  header.e_type = ET_EXEC;
  header.e_machine = EM_386;
  header.e_phoff = sizeof(header);
  header.e_ehsize = sizeof(header);
  header.e_phentsize = sizeof(Elf32_Phdr);
  header.e_phnum = static_cast<uint16_t>(wide.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  for (size_t i = 0; i < wide.size(); ++i) {
    const Elf32_Phdr segment{.p_type = wide[i].p_type,
                             .p_offset = static_cast<uint32_t>(wide[i].p_offset),
                             .p_vaddr = 0xc100'0000,
                             .p_paddr = static_cast<uint32_t>(wide[i].p_paddr),
                             .p_filesz = static_cast<uint32_t>(wide[i].p_filesz),
                             .p_memsz = static_cast<uint32_t>(wide[i].p_memsz),
                             .p_flags = PF_R,
                             .p_align = static_cast<uint32_t>(wide[i].p_align)};
    std::memcpy(bytes.data() + sizeof(header) + i * sizeof(segment), &segment, sizeof(segment));
  }
  return bytes;
}

TEST(ElfKernel, Of32BitsIsLoadedLikeOneOf64) {
  ElfImage image;
  image.notes.clear();
  image.add_note("Xen", 18, {std::byte{0}, std::byte{1}, std::byte{0}, std::byte{1}});
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = load_elf(memory, ElfImage::files(as_elf32(image)));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, 16 * kMiB + 0x100);
  EXPECT_EQ(loaded->cpu.efer, 0u);
  EXPECT_EQ(loaded->kernel_range.start.value, 16 * kMiB);
  EXPECT_EQ(loaded->kernel_range.size_bytes, 2 * kMiB + 16384);
  EXPECT_EQ(*memory.read<uint8_t>({18 * kMiB + 4095}), 0xc3);
  EXPECT_EQ(*memory.read<uint8_t>({18 * kMiB + 4096}), 0) << "bss";
  EXPECT_EQ(start_info(memory, *loaded).magic, 0x336ec578u);
}

TEST(ElfKernel, Of32BitsCutShortAnywhereIsRefused) {
  const Bytes bytes = as_elf32(ElfImage());
  const auto memory = memory_of(64 * kMiB);
  for (size_t length = 1; length < bytes.size(); length += 61)
    ASSERT_FALSE(load_elf(
        memory, ElfImage::files({bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length)})))
        << length;
}

TEST(ElfKernel, AdvisesNoMemoryThatDoesNotHelp) {
  BootFiles files = ElfImage().files();
  Fd fd(::memfd_create("initrd", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(fd.get(), 3070ll << 20), 0);
  files.initrd = *InputFile::adopt(std::move(fd), "initrd");
  EXPECT_THAT(message(load_elf(memory_of(64 * kMiB), files)),
              AllOf(HasSubstr("use a smaller initrd"), Not(HasSubstr("--memory"))));
  ElfImage high;
  high.segments[1].address = 0xd000'0000;
  EXPECT_THAT(message(load_elf(memory_of(64 * kMiB), high.files())),
              AllOf(HasSubstr("use another kernel"), Not(HasSubstr("--memory"))));
}

}  // namespace
}  // namespace wick::boot

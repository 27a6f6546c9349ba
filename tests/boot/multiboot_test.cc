#include "boot/multiboot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>

#include "boot/memory_map.h"
#include "tests/boot/kernel_files.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint32_t kStart = MultibootImage::kStart;

MultibootInfo info_of(const GuestMemory& memory, const BootImage& loaded) {
  return *memory.read<MultibootInfo>({loaded.cpu.rbx});
}

std::string text_at(const GuestMemory& memory, uint32_t address) {
  const auto bytes = memory.slice({address}, 200);
  return bytes ? reinterpret_cast<const char*>(bytes->data()) : "no memory";
}

BootModule module_of(size_t size_bytes, std::string text) {
  return {input_file(Bytes(size_bytes, std::byte{'m'}), text), text};
}

TEST(MultibootKernel, IsLoadedByTheAddressesOfItsHeader) {
  const auto memory = memory_of(16 * kMiB);
  const auto loaded = load_multiboot(memory, MultibootImage::files(MultibootImage().flat()));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->kernel_range.start.value, kStart);
  EXPECT_EQ(loaded->kernel_range.size_bytes, 8192u) << "with its bss";
  EXPECT_EQ(*memory.read<uint32_t>({kStart + 0x40}), MultibootHeader::kMagic);
  EXPECT_EQ(*memory.read<uint8_t>({kStart + 4095}), 0xc3);
  EXPECT_EQ(*memory.read<uint8_t>({kStart + 4096}), 0);
}

// 3.1.3: the part of the file before load_addr is not loaded; zeroes mean the end of the file, and
// no bss.
TEST(MultibootKernel, MayBeginLaterInItsFileAndEndWithIt) {
  MultibootImage image;
  image.header.header_addr = kStart;
  image.header.load_end_addr = 0;
  image.header.bss_end_addr = 0;
  const auto memory = memory_of(16 * kMiB);
  const auto loaded = load_multiboot(memory, MultibootImage::files(image.flat()));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(*memory.read<uint32_t>({kStart}), MultibootHeader::kMagic);
  EXPECT_EQ(loaded->kernel_range.size_bytes, 4096u - 0x40);
}

TEST(MultibootKernel, IsLoadedByItsElfHeadersIfItGivesNoAddresses) {
  MultibootImage image;
  image.header.flags = MultibootHeader::kPageAlign | MultibootHeader::kMemoryInfo;
  const auto memory = memory_of(16 * kMiB);
  const auto loaded = load_multiboot(memory, MultibootImage::files(image.elf(2 * kMiB, 2 * kMiB)));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, 2 * kMiB + 0x80);
  EXPECT_EQ(loaded->kernel_range.start.value, 2 * kMiB);
  EXPECT_EQ(loaded->kernel_range.size_bytes, 8192u);
  EXPECT_EQ(*memory.read<uint32_t>({2 * kMiB + 0x40}), MultibootHeader::kMagic);
}

TEST(MultibootKernel, OfElfWithAddressesIsLoadedByTheAddresses) {
  MultibootImage image;
  image.header.load_end_addr = kStart + 0x100;
  image.header.bss_end_addr = 0;
  const auto loaded =
      load_multiboot(memory_of(16 * kMiB), MultibootImage::files(image.elf(4 * kMiB, 4 * kMiB)));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->kernel_range.start.value, kStart);
  EXPECT_EQ(loaded->kernel_range.size_bytes, 0x100u);
}

TEST(MultibootKernel, OfElfMayHaveAVirtualEntryOrAPhysicalOne) {
  MultibootImage image;
  image.header.flags = 0;
  const auto memory = memory_of(16 * kMiB);
  const auto by_virtual =
      load_multiboot(memory, MultibootImage::files(image.elf(kStart, 0xc010'0000)));
  ASSERT_TRUE(by_virtual) << message(by_virtual);
  EXPECT_EQ(by_virtual->cpu.rip, kStart + 0x80);
  Bytes bytes = image.elf(kStart, 0xc010'0000);
  const uint32_t physical = kStart + 0x90;
  std::memcpy(bytes.data() + offsetof(Elf32_Ehdr, e_entry), &physical, sizeof(physical));
  const auto by_physical = load_multiboot(memory, MultibootImage::files(bytes));
  ASSERT_TRUE(by_physical) << message(by_physical);
  EXPECT_EQ(by_physical->cpu.rip, kStart + 0x90);
}

TEST(MultibootKernel, Of64BitElfIsLoadedToo) {
  ElfImage elf;
  elf.notes.clear();
  elf.header.e_entry = 16 * kMiB + 0x20;
  Bytes bytes = elf.bytes();
  MultibootImage image;
  image.header.flags = 0;
  image.put_header(bytes, 0x1000);
  const auto loaded = load_multiboot(memory_of(64 * kMiB), MultibootImage::files(bytes));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, 16 * kMiB + 0x20);
  EXPECT_EQ(loaded->cpu.efer, 0u) << "it starts in 32-bit mode all the same";
}

// 3.2
TEST(MultibootKernel, StartsInProtectedModeWithoutPaging) {
  const auto loaded =
      load_multiboot(memory_of(16 * kMiB), MultibootImage::files(MultibootImage().flat()));
  ASSERT_TRUE(loaded) << message(loaded);
  const CpuState& cpu = loaded->cpu;
  EXPECT_EQ(cpu.rax, 0x2badb002u);
  EXPECT_EQ(cpu.rip, kStart + 0x80);
  EXPECT_EQ(cpu.cr0 & 0x8000'0001, 1u);
  EXPECT_EQ(cpu.rflags, 2u) << "interrupts off";
  EXPECT_EQ(cpu.cs.base, 0u);
  EXPECT_EQ(cpu.cs.limit, 0xffff'ffffu);
  EXPECT_EQ(cpu.cs.db, 1);
  EXPECT_EQ(cpu.cs.type & 8, 8) << "code";
  for (const Segment& data : {cpu.ds, cpu.es, cpu.fs, cpu.gs, cpu.ss}) {
    EXPECT_EQ(data.base, 0u);
    EXPECT_EQ(data.limit, 0xffff'ffffu);
    EXPECT_EQ(data.type & 0xa, 2) << "data that can be written";
  }
}

// 3.3
TEST(MultibootKernel, GetsTheMemoryMap) {
  const auto memory = memory_of({{{0}, 64 * kMiB}, {{1ULL << 32}, 32 * kMiB}});
  const auto loaded = load_multiboot(memory, MultibootImage::files(MultibootImage().flat()));
  ASSERT_TRUE(loaded) << message(loaded);
  const auto info = info_of(memory, *loaded);
  EXPECT_EQ(info.flags, 0x24du) << "memory, cmdline, modules, map, name of the loader";
  EXPECT_EQ(info.mem_lower, 639u);
  EXPECT_EQ(info.mem_upper, 63u * 1024);
  ASSERT_EQ(info.mmap_length, 4u * 24);
  const auto entry = [&](uint32_t i) {
    return *memory.read<MultibootMmapEntry>({info.mmap_addr + i * 24});
  };
  EXPECT_EQ(entry(0).size, 20u);
  EXPECT_EQ(entry(0).base_addr, 0u);
  EXPECT_EQ(entry(0).length, 0x9fc00u);
  EXPECT_EQ(entry(0).type, 1u);
  EXPECT_EQ(entry(1).type, 2u);
  EXPECT_EQ(entry(2).base_addr, 1 * kMiB);
  EXPECT_EQ(entry(2).length, 63 * kMiB);
  EXPECT_EQ(entry(3).base_addr, 1ULL << 32);
  EXPECT_EQ(entry(3).length, 32 * kMiB);
  EXPECT_EQ(text_at(memory, info.boot_loader_name), "wick");
}

TEST(MultibootKernel, GetsACommandLineThatBeginsWithItsName) {
  const auto memory = memory_of(16 * kMiB);
  const Bytes image = MultibootImage().flat();
  const auto cmdline = [&](BootFiles files) {
    const auto loaded = load_multiboot(memory, files);
    return loaded ? text_at(memory, info_of(memory, *loaded).cmdline) : message(loaded);
  };
  EXPECT_EQ(cmdline(MultibootImage::files(image, "vmexit cpuid")), "kernel vmexit cpuid");
  EXPECT_EQ(cmdline(MultibootImage::files(image)), "kernel");
  BootFiles blank = MultibootImage::files(image, "x");
  blank.kernel = input_file(image, "my kernel");
  EXPECT_EQ(cmdline(std::move(blank)), "my_kernel x") << "the name is one word";
}

TEST(MultibootKernel, GetsItsModulesBehindItselfOnPagesOfTheirOwn) {
  const auto memory = memory_of(16 * kMiB);
  BootFiles files = MultibootImage::files(MultibootImage().flat());
  files.modules.push_back(module_of(5000, "initrd"));
  files.modules.push_back(module_of(1, "conf a=b c"));
  const auto loaded = load_multiboot(memory, files);
  ASSERT_TRUE(loaded) << message(loaded);
  const auto info = info_of(memory, *loaded);
  ASSERT_EQ(info.mods_count, 2u);
  const auto first = *memory.read<MultibootModule>({info.mods_addr});
  EXPECT_EQ(first.mod_start, kStart + 8192);
  EXPECT_EQ(first.mod_end, kStart + 8192 + 5000);
  EXPECT_EQ(text_at(memory, first.string), "initrd");
  const auto second = *memory.read<MultibootModule>({info.mods_addr + 16});
  EXPECT_EQ(second.mod_start, kStart + 4 * 4096);
  EXPECT_EQ(second.mod_end, second.mod_start + 1);
  EXPECT_EQ(text_at(memory, second.string), "conf a=b c");
  EXPECT_EQ(*memory.read<uint8_t>({first.mod_end - 1}), 'm');
  EXPECT_EQ(*memory.read<uint8_t>({first.mod_end}), 0);
  EXPECT_EQ(*memory.read<uint8_t>({second.mod_start}), 'm');
}

TEST(MultibootKernel, WithoutModulesHasAnEmptyList) {
  const auto memory = memory_of(16 * kMiB);
  const auto loaded = load_multiboot(memory, MultibootImage::files(MultibootImage().flat()));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(info_of(memory, *loaded).mods_count, 0u);
  EXPECT_EQ(loaded->initrd_range.size_bytes, 0u);
  EXPECT_EQ(loaded->warning, "");
}

TEST(MultibootKernel, ThatWantsAVideoModeIsLoadedWithAWarning) {
  MultibootImage image;
  image.header.flags |= MultibootHeader::kVideoMode;
  const auto loaded = load_multiboot(memory_of(16 * kMiB), MultibootImage::files(image.flat()));
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_THAT(loaded->warning, HasSubstr("wants a video mode"));
}

TEST(MultibootKernel, RefusesModulesThatDoNotFit) {
  BootFiles files = MultibootImage::files(MultibootImage().flat());
  files.modules.push_back(module_of(5000, "small"));
  Fd fd(::memfd_create("big", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(fd.get(), 20ll << 20), 0);
  files.modules.push_back({*InputFile::adopt(std::move(fd), "big"), "big"});
  EXPECT_THAT(message(load_multiboot(memory_of(16 * kMiB), files)),
              AllOf(HasSubstr("big: the module would be from 0x104000 to 0x1504000"),
                    HasSubstr("give at least 22 MiB")));
}

TEST(MultibootKernel, RefusesTextsThatDoNotFit) {
  const Bytes image = MultibootImage().flat();
  const auto memory = memory_of(16 * kMiB);
  EXPECT_TRUE(load_multiboot(memory, MultibootImage::files(image, std::string(60'000, 'x'))));
  EXPECT_THAT(
      message(load_multiboot(memory, MultibootImage::files(image, std::string(65'500, 'x')))),
      HasSubstr("65536 fit"));
  BootFiles files = MultibootImage::files(image, std::string(40'000, 'x'));
  files.modules.push_back(module_of(1, std::string(40'000, 'y')));
  EXPECT_THAT(message(load_multiboot(memory, files)), HasSubstr("shorten --append"));
}

struct WrongMultiboot {
  const char* name;
  std::function<void(MultibootImage::Header&)> spoil;
  const char* says;
};

void PrintTo(const WrongMultiboot& wrong, std::ostream* out) { *out << wrong.name; }

class MultibootKernelThatIsWrong : public ::testing::TestWithParam<WrongMultiboot> {};

TEST_P(MultibootKernelThatIsWrong, IsRefusedByName) {
  MultibootImage image;
  GetParam().spoil(image.header);
  const auto loaded = load_multiboot(memory_of(16 * kMiB), MultibootImage::files(image.flat()));
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message(), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Kernels, MultibootKernelThatIsWrong,
    ::testing::Values(
        WrongMultiboot{"requirement", [](auto& h) { h.flags |= 0x8000; }, "features 0x8000"},
        WrongMultiboot{"no_elf", [](auto& h) { h.flags = 0; }, "not an ELF file"},
        WrongMultiboot{"header_below", [](auto& h) { h.header_addr = kStart - 4; },
                       "damaged Multiboot header"},
        WrongMultiboot{"before_the_file", [](auto& h) { h.header_addr = kStart + 0x44; },
                       "damaged Multiboot header"},
        WrongMultiboot{"ends_before", [](auto& h) { h.load_end_addr = kStart - 1; },
                       "damaged Multiboot header"},
        WrongMultiboot{"empty", [](auto& h) { h.load_end_addr = kStart; },
                       "damaged Multiboot header"},
        WrongMultiboot{"bss_before_the_end", [](auto& h) { h.bss_end_addr = kStart + 4095; },
                       "damaged Multiboot header"},
        WrongMultiboot{"cut_short", [](auto& h) { h.load_end_addr = kStart + 4097; }, "cut short"},
        WrongMultiboot{"huge_bss", [](auto& h) { h.bss_end_addr = 0xffff'ffff; },
                       "the guest has 16 MiB"},
        WrongMultiboot{"entry_below", [](auto& h) { h.entry_addr = kStart - 1; },
                       "not in what is loaded"},
        WrongMultiboot{"entry_in_bss", [](auto& h) { h.entry_addr = kStart + 4096; },
                       "not in what is loaded"},
        WrongMultiboot{"low",
                       [](auto& h) {
                         h = {.header_addr = 0x10040,
                              .load_addr = 0x10000,
                              .load_end_addr = 0x11000,
                              .bss_end_addr = 0,
                              .entry_addr = 0x10080};
                       },
                       "below 1 MiB"},
        WrongMultiboot{"beyond_ram",
                       [](auto& h) {
                         h = {.header_addr = 0xffff'f040,
                              .load_addr = 0xffff'f000,
                              .load_end_addr = 0,
                              .bss_end_addr = 0,
                              .entry_addr = 0xffff'f080};
                       },
                       "the guest has 16 MiB"}),
    [](const auto& test) { return test.param.name; });

TEST(MultibootKernel, CutShortAnywhereIsRefused) {
  const auto memory = memory_of(16 * kMiB);
  MultibootImage by_segments;
  by_segments.header.flags = 0;
  for (const Bytes& whole : {MultibootImage().flat(), by_segments.elf()})
    for (size_t length = 1; length < whole.size(); length += 61) {
      BootFiles files = MultibootImage::files(whole);
      files.kernel =
          input_file({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length)}, "kernel");
      ASSERT_FALSE(load_multiboot(memory, files)) << length;
    }
}

class MultibootFiles : public ::testing::Test {
 protected:
  Result<BootFiles> open(const Bytes& kernel, const std::string& modules = {}) const {
    const std::string path =
        folder_.write("kernel", {reinterpret_cast<const char*>(kernel.data()), kernel.size()});
    return open_files(path, modules, KernelCache());
  }
  const fakes::TempDir folder_;
};

TEST_F(MultibootFiles, AreRecognizedByTheirHeader) {
  const auto flat = open(MultibootImage().flat());
  ASSERT_TRUE(flat) << message(flat);
  EXPECT_TRUE(flat->multiboot);
  const auto loaded = load(memory_of(16 * kMiB), *flat);
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_THAT(loaded->kernel, HasSubstr("Multiboot"));
  EXPECT_TRUE(open(MultibootImage().elf())->multiboot);
}

TEST_F(MultibootFiles, KeepTheirNameWhenTheyAreDecompressed) {
  const Bytes flat = MultibootImage().flat();
  const std::string path =
      folder_.write("kernel", {reinterpret_cast<const char*>(flat.data()), flat.size()});
  ASSERT_TRUE(fakes::shell("gzip '" + path + "'"));
  const auto files = open_files(path + ".gz", "", KernelCache());
  ASSERT_TRUE(files) << message(files);
  const auto memory = memory_of(16 * kMiB);
  const auto loaded = load_multiboot(memory, *files);
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(text_at(memory, info_of(memory, *loaded).cmdline), path + ".gz");
}

// Xen's, for example, and some of Unikraft's.
TEST_F(MultibootFiles, WithAPvhNoteStartThere) {
  Bytes bytes = ElfImage().bytes();
  MultibootImage().put_header(bytes, 0x800);
  const auto files = open(bytes);
  ASSERT_TRUE(files) << message(files);
  EXPECT_FALSE(files->multiboot);
}

TEST_F(MultibootFiles, OfABzImageStartAsLinuxDoes) {
  Bytes bytes = BzImage().bytes();
  MultibootImage().put_header(bytes, 0x700);
  const auto files = open(bytes);
  ASSERT_TRUE(files) << message(files);
  EXPECT_FALSE(files->multiboot);
}

TEST_F(MultibootFiles, HaveModulesWithArguments) {
  const std::string one = folder_.write("one", "1");
  const std::string comma = folder_.write("a,b", "22");
  const auto files = open(MultibootImage().flat(), one + " x y," + folder_ / "a,,b" + "," + one);
  ASSERT_TRUE(files) << message(files);
  EXPECT_FALSE(files->initrd);
  ASSERT_EQ(files->modules.size(), 3u);
  EXPECT_EQ(files->modules[0].text, one + " x y");
  EXPECT_EQ(files->modules[0].file.name(), one);
  EXPECT_EQ(files->modules[1].text, comma);
  EXPECT_EQ(files->modules[1].file.size_bytes(), 2u);
  EXPECT_EQ(files->modules[2].text, one);
}

TEST_F(MultibootFiles, WithModulesThatAreMissingAreRefused) {
  EXPECT_THAT(message(open(MultibootImage().flat(), "/nowhere/x args")),
              AllOf(HasSubstr("/nowhere/x: cannot open"), HasSubstr("--initrd")));
  for (const char* const empty : {",", " args", "/dev/null,"})
    EXPECT_FALSE(open(MultibootImage().flat(), empty)) << empty;
}

}  // namespace
}  // namespace wick::boot

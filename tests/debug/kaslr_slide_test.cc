#include "debug/kaslr_slide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <utility>

#include "tests/debug/elf_symbols.h"
#include "tests/fakes/temp_dir.h"

namespace wick::debug {
namespace {

using testing::HasSubstr;

constexpr uint64_t kLinked = 0xffff'ffff'8200'0080;

ElfSymbols vmlinux() {
  return ElfSymbols({{"startup_64", 0xffff'ffff'8100'0000},
                     {"xen_entry_SYSCALL_64", 1},
                     {"entry_SYSCALL_64", kLinked},
                     {"entry_SYSCALL_64_after_hwframe", 2}});
}

Result<uint64_t> find(const std::string& bytes, std::string_view symbol = "entry_SYSCALL_64") {
  const auto read = [&](uint64_t offset, std::span<std::byte> to) {
    if (offset > bytes.size() || to.size() > bytes.size() - offset) std::abort();  // a promise
    std::memcpy(to.data(), bytes.data() + offset, to.size());
    return true;
  };
  return find_symbol({"vmlinux", bytes.size(), read}, symbol);
}

std::string refusal(const std::string& bytes) {
  const auto found = find(bytes);
  return found ? fmt::format("found {:#x}", *found) : found.error().message();
}

TEST(KaslrSlide, FindsASymbolByItsWholeName) {
  EXPECT_EQ(find(vmlinux().bytes()).value(), kLinked);
  EXPECT_EQ(find(vmlinux().bytes(), "startup_64").value(), 0xffff'ffff'8100'0000);
}

TEST(KaslrSlide, FindsASymbolWhoseNameIsTheEndOfAnother) {
  // Linkers store such a name once.
  ElfSymbols file({{"xen_entry_SYSCALL_64", 7}});
  std::string bytes = file.bytes();
  Elf64_Sym symbol;
  const size_t at = file.sections[1].sh_offset + sizeof(symbol);
  std::memcpy(&symbol, bytes.data() + at, sizeof(symbol));
  symbol.st_name += 4;
  std::memcpy(bytes.data() + at, &symbol, sizeof(symbol));
  EXPECT_EQ(find(bytes).value(), 7u);
}

TEST(KaslrSlide, RefusesWhatIsNoVmlinux) {
  EXPECT_THAT(refusal(""), HasSubstr("ends within"));
  EXPECT_THAT(refusal(std::string(1000, 'x')), HasSubstr("not an ELF file"));
  ElfSymbols file = vmlinux();
  file.header.e_machine = EM_AARCH64;
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("not an ELF file for x86-64"));
  EXPECT_THAT(refusal(ElfSymbols({{"main", 1}}).bytes()), HasSubstr("no symbol entry_SYSCALL_64"));
}

TEST(KaslrSlide, RefusesAStrippedVmlinux) {
  ElfSymbols file = vmlinux();
  file.sections[1].sh_type = SHT_PROGBITS;
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("not stripped"));
  file = vmlinux();
  file.header.e_shoff = 0;
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("not stripped"));
}

TEST(KaslrSlide, RefusesTablesOutsideTheFile) {
  for (const uint64_t wild : {uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 24}) {
    ElfSymbols file = vmlinux();
    file.header.e_shoff = wild;
    EXPECT_FALSE(find(file.bytes())) << wild;
    for (const int section : {1, 2}) {
      file = vmlinux();
      file.sections[section].sh_offset = wild;
      EXPECT_FALSE(find(file.bytes())) << wild;
      file = vmlinux();
      file.sections[section].sh_size = wild;
      EXPECT_FALSE(find(file.bytes())) << wild;
    }
  }
  ElfSymbols file = vmlinux();
  file.sections[1].sh_link = file.header.e_shnum;
  EXPECT_FALSE(find(file.bytes()));
  file = vmlinux();
  file.sections[1].sh_entsize = 0;
  EXPECT_FALSE(find(file.bytes()));
  file = vmlinux();
  file.header.e_shnum = 0;
  file.sections[0].sh_size = ~uint64_t{0};
  EXPECT_FALSE(find(file.bytes()));
}

TEST(KaslrSlide, AnyCutOfTheFileIsRefused) {
  const std::string whole = vmlinux().bytes();
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(find(whole.substr(0, size))) << size;
}

TEST(KaslrSlide, FindsTheSectionsOfAFileWithVeryMany) {
  ElfSymbols file = vmlinux();
  file.sections[0].sh_size = std::exchange(file.header.e_shnum, 0);  // the count is there
  EXPECT_EQ(find(file.bytes()).value(), kLinked);
}

TEST(KaslrSlide, IsAMultipleOf2MiBBelow1GiB) {
  EXPECT_EQ(kaslr_slide(kLinked, kLinked).value(), 0u);
  EXPECT_EQ(kaslr_slide(kLinked, kLinked + 0x1a00'0000).value(), 0x1a00'0000u);
  EXPECT_FALSE(kaslr_slide(kLinked, kLinked + 0x1a00'0040));
  EXPECT_FALSE(kaslr_slide(kLinked, kLinked - 0x20'0000));
  EXPECT_FALSE(kaslr_slide(kLinked, kLinked + 0x4000'0000));
}

TEST(KaslrSlide, KnowsWhetherPerCpuSymbolsAreOffsets) {
  const fakes::TempDir dir;
  const ElfSymbols::Named text = {{"entry_SYSCALL_64", kLinked}};
  const auto linked = [&](const ElfSymbols::Named& per_cpu) {
    return read_linked_kernel(dir.write("vmlinux", ElfSymbols(text, per_cpu).bytes())).value();
  };
  EXPECT_EQ(linked({}).syscall_entry, kLinked);
  EXPECT_FALSE(linked({}).per_cpu_at_zero);
  EXPECT_TRUE(linked({{"__per_cpu_start", 0}}).per_cpu_at_zero);
  EXPECT_FALSE(linked({{"__per_cpu_start", 0xffff'ffff'8300'0000}}).per_cpu_at_zero);
}

TEST(KaslrSlide, RefusesFilesThatAreNotFiles) {
  const fakes::TempDir dir;
  EXPECT_THAT(read_linked_kernel(dir.path()).error().message(), HasSubstr("regular file"));
  EXPECT_THAT(read_linked_kernel(dir / "none").error().message(), HasSubstr("check the path"));
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(read_linked_kernel(dir / "fifo").error().message(), HasSubstr("regular file"));
}

}  // namespace
}  // namespace wick::debug

#include "debug/gdb_registers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "debug/gdb_packet.h"

namespace wick::debug {
namespace {

const GdbRegisterSet kSet(true);

const GdbRegister& named(std::string_view name) {
  return *std::ranges::find(kSet.registers(), name, &GdbRegister::name);
}

bool no_memory(uint64_t, std::span<std::byte>) { return false; }

std::string value(uint64_t number, size_t size_bytes) {
  std::string bytes(reinterpret_cast<const char*>(&number), sizeof(number));
  bytes.resize(size_bytes);
  return bytes;
}

Result<void> write(GdbRegisters& to, std::string_view name, uint64_t number,
                   const ReadLinear& read = no_memory) {
  const GdbRegister& which = named(name);
  return write_register(to, which, value(number, which.size_bytes), read);
}

uint64_t read(const GdbRegisters& from, std::string_view name) {
  const std::string bytes = read_register(from, named(name));
  uint64_t number = 0;
  std::memcpy(&number, bytes.data(), std::min(bytes.size(), sizeof(number)));
  return number;
}

TEST(GdbRegisters, HaveTheNumbersThatGdbExpectsWithoutADescription) {
  const auto all = kSet.registers();
  EXPECT_EQ(all[0].name, "rax");
  EXPECT_EQ(all[7].name, "rsp");
  EXPECT_EQ(all[16].name, "rip");
  EXPECT_EQ(all[23].name, "gs");
  EXPECT_EQ(all[24].name, "st0");
  EXPECT_EQ(all[39].name, "fop");
  EXPECT_EQ(all[40].name, "xmm0");
  EXPECT_EQ(all[56].name, "mxcsr");
}

TEST(GdbRegisters, AllReadWhatWasWritten) {
  GdbRegisters registers;
  uint8_t next = 1;
  for (const GdbRegister& each : kSet.registers()) {
    if (each.name == "k_gs_base" || each.name == "ftag") continue;
    std::string bytes(each.size_bytes, '\0');
    bytes[0] = static_cast<char>(next++ | 2);  // bit 1 of RFLAGS is always 1
    if (each.size_bytes > 8) bytes[9] = 'x';
    ASSERT_TRUE(write_register(registers, each, bytes, no_memory)) << each.name;
    EXPECT_EQ(read_register(registers, each), bytes) << each.name;
  }
}

TEST(GdbRegisters, AreThoseOfTheInstructionsNumbers) {
  GdbRegisters registers;
  for (uint64_t i = 0; i < 16; ++i) registers.cpu.general[i] = i;
  EXPECT_EQ(read(registers, "rbx"), 3u);
  EXPECT_EQ(read(registers, "rcx"), 1u);
  EXPECT_EQ(read(registers, "rsp"), 4u);
  EXPECT_EQ(read(registers, "rbp"), 5u);
  EXPECT_EQ(read(registers, "rsi"), 6u);
  EXPECT_EQ(read(registers, "r15"), 15u);
}

TEST(GdbRegisters, HaveNoYmmWithoutAvx) {
  const GdbRegisterSet without(false);
  EXPECT_EQ(without.description().find("ymm"), std::string::npos);
  EXPECT_EQ(without.size_bytes() + 16 * 16, kSet.size_bytes());
}

TEST(GdbRegisters, LoadASegmentInRealMode) {
  GdbRegisters registers;
  ASSERT_TRUE(write(registers, "ds", 0x1234));
  EXPECT_EQ(registers.cpu.ds.base, 0x12340u);
  EXPECT_EQ(registers.cpu.ds.limit, 0xffffu);
}

TEST(GdbRegisters, LoadASegmentFromItsTable) {
  GdbRegisters registers;
  registers.cpu.cr0 = 1;
  registers.cpu.gdt = {.base = 0x5000, .limit = 0x1f};
  registers.cpu.ldt.base = 0x6000;
  registers.cpu.ldt.limit = 7;
  const auto tables = [](uint64_t address, std::span<std::byte> to) {
    // 4 GiB of code at 0x12345600.
    const std::array<uint8_t, 8> descriptor = {0xff, 0xff, 0x00, 0x56, 0x34, 0x9b, 0xcf, 0x12};
    if ((address != 0x5018 && address != 0x6000) || to.size() != 8) return false;
    std::memcpy(to.data(), descriptor.data(), 8);
    return true;
  };
  ASSERT_TRUE(write(registers, "cs", 0x1b, tables));
  EXPECT_EQ(registers.cpu.cs.selector, 0x1b);
  EXPECT_EQ(registers.cpu.cs.base, 0x1234'5600u);
  EXPECT_EQ(registers.cpu.cs.limit, 0xffff'ffffu);
  EXPECT_EQ(registers.cpu.cs.attributes, 0x00c0'9b00u);
  EXPECT_TRUE(write(registers, "ds", 0x4, tables)) << "from the local table";
  EXPECT_EQ(registers.cpu.ds.base, 0x1234'5600u);
  EXPECT_TRUE(write(registers, "es", 0x3, tables)) << "the null selector";
  EXPECT_FALSE(registers.cpu.es.usable);
}

TEST(GdbRegisters, RefuseASelectorWithoutADescriptor) {
  GdbRegisters registers;
  registers.cpu.cr0 = 1;
  registers.cpu.gdt = {.base = 0x5000, .limit = 0x1e};
  const auto any = [](uint64_t, std::span<std::byte>) { return true; };
  EXPECT_FALSE(write(registers, "cs", 0x18, any)) << "it is cut by the limit";
  EXPECT_FALSE(write(registers, "cs", 0xffff, any));
  EXPECT_FALSE(write(registers, "cs", 0x10, no_memory));
  EXPECT_EQ(registers.cpu.cs.selector, 0);
}

TEST(GdbRegisters, TellWhichX87RegistersAreEmpty) {
  GdbRegisters registers;
  EXPECT_EQ(read(registers, "ftag"), 0xffffu);
  // Physical registers 6 and 7 hold ST(0), a 1, and ST(1), a zero; TOP is 6.
  registers.fpu.status = 6 << 11;
  registers.fpu.tag = 0xc0;
  registers.fpu.st[0][7] = std::byte{0x80};
  registers.fpu.st[0][8] = std::byte{0xff};
  registers.fpu.st[0][9] = std::byte{0x3f};
  EXPECT_EQ(read(registers, "ftag"), 0x4fffu);
  ASSERT_TRUE(write(registers, "ftag", 0xfffc));
  EXPECT_EQ(registers.fpu.tag, 1);
}

TEST(GdbRegisters, TheNextInstructionIsAtALinearAddress) {
  vmm::CpuRegisters cpu;
  cpu.cs.base = 0xf'0000;
  cpu.rip = 0xfff0;
  EXPECT_EQ(instruction_address(cpu), 0xf'fff0u);
  cpu.efer = 1 << 10;
  cpu.cs.attributes = 1 << 21;
  cpu.rip = 0xffff'ffff'8000'0000;
  EXPECT_EQ(instruction_address(cpu), cpu.rip) << "64-bit code ignores the base";
}

}  // namespace
}  // namespace wick::debug

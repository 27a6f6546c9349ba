// Guests that do what no driver does. Other tests check the devices one by one on fakes; these
// use all devices together on KVM.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <tuple>

#include "tests/lab/tiny.h"

namespace wick::lab {
namespace {

using guests::Code;
using testing::EndsWith;

constexpr uint32_t kVirtioWindows = 0xd000'0000;
constexpr uint32_t kWindowBytes = 0x1000;

// Expects that the guest gets to the end of `code`, and then prints a line and resets.
void expect_survives(const Code& code, const std::vector<std::string>& options) {
  const TempDir dir;
  const Finished run = finish(run_tiny(dir, code, options));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, EndsWith("survived\n"));
  EXPECT_EQ(last_line(run.err), "wick: the guest rebooted");
  // At most five warnings a second for each thing that a guest can do wrong.
  EXPECT_LT(lines(run.err).size(), 500u) << run.err;
}

TEST(HostileGuest, CanReadAndWriteEveryPort) {
  Code code;
  // No value that means a panic at port 0x505 (bit 0), a sleeping state at 0x605 (bit 5), or a
  // reset at 0xcf9 (bit 2) or 0x64.
  for (const auto value : {uint8_t{0xca}, uint8_t{0x50}, uint8_t{0}}) {
    const Code::Label loop = code.repeat(0x1fff);
    code.poke_counted_port(value).end_repeat(loop);
  }
  expect_survives(code.print("survived\n").reset(),
                  {"-s", "stdio", "-s", "null", "-s", "null", "-s", "null"});
}

TEST(HostileGuest, CanWriteEveryPciRegister) {
  constexpr uint32_t kEcam = 0xe000'0000;
  constexpr uint32_t kBars = 0xc000'0000;
  const TempDir dir;
  Code code;
  const auto write_around = [&](uint32_t address, uint32_t bytes) {
    for (const uint32_t value : {0xffff'ffffU, 0U, 0xc000'0000U, 0x0000'0406U}) {
      for (uint32_t offset = 0; offset < bytes; offset += 4) {
        code.load8(address + offset).store32(address + offset, value);
        code.store8(address + offset + 1, static_cast<uint8_t>(value));
      }
    }
  };
  // The registers in the BARs of the entropy device, with accesses across the end of a page; then
  // the configuration spaces of all devices, which moves the BARs.
  for (const uint32_t page : {0x0000U, 0x1000U, 0x2000U, 0x3000U, 0x4000U})
    write_around(kBars + page, 0x40);
  code.store32(kBars + 0x3ffd, 0xffff'ffffU);
  for (const uint32_t slot : {0U, 1U, 3U, 8U}) write_around(kEcam + (slot << 15), 0xc0);
  expect_survives(code.print("survived\n").reset(), {"-d", blank_disk(dir, "a", 1 << 20)});
}

TEST(HostileGuest, CanWriteEveryVirtioRegister) {
  const TempDir dir;
  Code code;
  for (const uint32_t window : {kVirtioWindows, kVirtioWindows + kWindowBytes}) {
    for (const uint32_t value : {0xffff'ffffU, 1U, 0U, 0x10'0000U, 0x0fU}) {
      for (uint32_t offset = 0; offset < 0x120; offset += 4) {
        code.load8(window + offset).store32(window + offset, value);
        code.store8(window + offset + 1, static_cast<uint8_t>(value));
      }
    }
    // Initialises the device step by step, with a queue at an address that is not RAM.
    for (const uint32_t status : {0U, 1U, 3U, 0xbU}) code.store32(window + 0x70, status);
    code.store32(window + 0x30, 0).store32(window + 0x38, 8);
    for (const uint32_t offset : {0x80U, 0x90U, 0xa0U}) code.store32(window + offset, 0xfee0'0000);
    code.store32(window + 0x44, 1).store32(window + 0x70, 0xf).store32(window + 0x50, 0);
  }
  expect_survives(code.print("survived\n").reset(),
                  {"--transport", "mmio", "-d", blank_disk(dir, "a", 1 << 20), "-d",
                   blank_disk(dir, "b", 1 << 20) + ",readonly=on"});
}

// Each reset posts to the main loop and waits for it.
TEST(HostileGuest, ThatResetsADeviceInALoopCanBeStopped) {
  const TempDir dir;
  Code code;
  code.print("running\n");
  const auto again = code.here();
  for (const uint32_t status : {1U, 3U, 0U}) code.store32(kVirtioWindows + 0x70, status);
  code.jump(again);
  Process vm(run_tiny(dir, code, {"--transport", "mmio"}));
  vm.console().expect("running");
  vm.signal(SIGTERM);
  expect_ending(vm, 128 + SIGTERM, "wick: ended by signal 15");
  const Finished late = finish(run_tiny(dir, code, {"--transport", "mmio", "--timeout", "1"}));
  EXPECT_EQ(late.status, 5) << late.err;
}

// On both drives of both channels, while earlier commands are still executing, with the bus
// master's table in RAM and outside of it.
TEST(HostileGuest, CanGiveEveryIdeCommand) {
  constexpr uint16_t kBusMasters = 0xc000;
  constexpr uint32_t kTable = 0x50'0000;
  constexpr uint32_t kArea = 0x60'0000;  // far from the guest itself
  for (const uint8_t device : {uint8_t{0xe0}, uint8_t{0xf0}}) {
    const TempDir dir;
    Code code;
    code.store32(kTable, kArea).store32(kTable + 4, 0);
    code.store32(kTable + 8, kArea).store32(kTable + 12, 0x8000'0000);
    for (const auto& [ports, control, master] :
         {std::tuple{uint16_t{0x1f0}, uint16_t{0x3f6}, kBusMasters},
          std::tuple{uint16_t{0x170}, uint16_t{0x376}, uint16_t{kBusMasters + 8}}}) {
      const auto port = [base = ports](int offset) { return static_cast<uint16_t>(base + offset); };
      for (int opcode = 0; opcode < 256; ++opcode) {
        code.out8(control, 0).out8(port(6), device);
        for (int offset = 1; offset < 6; ++offset)
          code.out8(port(offset), static_cast<uint8_t>(opcode & offset));
        code.out8(port(7), static_cast<uint8_t>(opcode));
        code.out16(static_cast<uint16_t>(master + 6), opcode % 2 == 0 ? kTable >> 16 : 0xfee0);
        code.out8(master, opcode % 3 == 0 ? 9 : 1).out16(port(0), 0xffff).in8(port(0));
        code.in8(port(7)).out8(master, 0).out8(port(7), 0x08);
        if (opcode % 8 == 7) code.out8(control, 4);
      }
    }
    expect_survives(code.print("survived\n").reset(),
                    {"-d", blank_disk(dir, "a", 1 << 20) + ",device=ide", "-d",
                     blank_disk(dir, "b", 1 << 20) + ",device=ide,readonly=on", "--cdrom",
                     blank_disk(dir, "c", 1 << 20)});
  }
}

}  // namespace
}  // namespace wick::lab

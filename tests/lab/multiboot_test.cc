// Multiboot kernels of a few instructions: what they find when they start.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/tiny.h"

namespace wick::lab {
namespace {

using guests::Code;
using testing::HasSubstr;
using testing::StartsWith;

constexpr uint16_t kDebugExitPort = 0xf4;
constexpr uint16_t kFwCfgPort = 0x510;

Finished run(const TempDir& dir, const Code& code, std::vector<std::string> options) {
  write_file(dir / "tiny", guests::multiboot(code));
  std::vector<std::string> argv =
      wick_run({"-k", dir / "tiny", "-m", "32M", "--debug-exit", "0xf4"});
  argv.insert(argv.end(), options.begin(), options.end());
  return finish(argv);
}

Code& bytes(Code& code, std::initializer_list<uint8_t> added) {
  for (const uint8_t byte : added) code.byte(byte);
  return code;
}

// Prints the string whose address is in esi.
Code& print_string(Code& code) {
  bytes(code, {0x66, 0xba, 0xf8, 0x03});  // mov dx, 0x3f8
  return bytes(code, {0xac,               // again: lodsb
                      0x84, 0xc0,         // test al, al
                      0x74, 0x03,         // jz end
                      0xee,               // out dx, al
                      0xeb, 0xf8});       // jmp again
}

TEST(MultibootGuest, StartsWithTheMagicNumberAndItsCommandLine) {
  Code code;
  bytes(code, {0x3d, 0x02, 0xb0, 0xad, 0x2b,  // cmp eax, 0x2badb002
               0x74, 0x02, 0x0f, 0x0b,        // je over; ud2
               0x8b, 0x73, 0x10});            // over: mov esi, [ebx + 16]
  print_string(code).out8(kDebugExitPort, 0x10).spin();
  const TempDir dir;
  const Finished finished = run(dir, code, {"-a", "first second"});
  EXPECT_EQ(finished.status, 33) << finished.err;
  EXPECT_EQ(finished.out, dir / "tiny" + " first second") << "nothing of Linux's is added";
  EXPECT_THAT(finished.err, StartsWith("wick: the guest ended the run with status 33"));
}

// kvm-unit-tests take their environment from the only module.
TEST(MultibootGuest, FindsItsModules) {
  Code code;
  bytes(code, {0x8b, 0x7b, 0x18,        // mov edi, [ebx + 24]
               0x8b, 0x77, 0x10,        // mov esi, [edi + 16]: start of the second
               0x8b, 0x4f, 0x14,        // mov ecx, [edi + 20]: its end
               0x29, 0xf1,              // sub ecx, esi
               0x66, 0xba, 0xf8, 0x03,  // mov dx, 0x3f8
               0xf3, 0x6e,              // rep outsb
               0x8b, 0x77, 0x18});      // mov esi, [edi + 24]: its string
  print_string(code);
  bytes(code, {0x8a, 0x43, 0x14});  // mov al, [ebx + 20]: how many
  code.out_al(kDebugExitPort).spin();
  const TempDir dir;
  write_file(dir / "one", "1");
  write_file(dir / "env", "NR_CPUS=4\n");
  const Finished finished = run(dir, code, {"-i", dir / "one" + "," + dir / "env" + " some text"});
  EXPECT_EQ(finished.status, 5) << finished.err;
  EXPECT_EQ(finished.out, "NR_CPUS=4\n" + dir / "env" + " some text");
}

// They ask the firmware configuration device how many CPUs and how much memory there are.
TEST(MultibootGuest, FindsTheNumberOfCpusAndTheMemory) {
  const auto ask = [](uint16_t key, int skipped) {
    Code code;
    code.out16(kFwCfgPort, key);
    for (int i = 0; i < skipped; ++i) code.in8(kFwCfgPort + 1);
    code.in8(kFwCfgPort + 1).out_al(kDebugExitPort).spin();
    const TempDir dir;
    return run(dir, code, {"-c", "2"}).status;
  };
  constexpr uint16_t kRamSize = 3;
  constexpr uint16_t kCpus = 5;
  EXPECT_EQ(ask(kCpus, 0), 2 << 1 | 1);
  EXPECT_EQ(ask(kCpus, 1), 1);
  EXPECT_EQ(ask(kRamSize, 3), 0x02 << 1 | 1) << "32 MiB is 0x02000000";
}

TEST(MultibootGuest, ThatDiesBeforeItHasATableOfInterruptsIsATripleFault) {
  const TempDir dir;
  const Finished finished = run(dir, Code().triple_fault(), {});
  EXPECT_EQ(finished.status, 4);
  EXPECT_THAT(finished.err, testing::Not(HasSubstr("console=ttyS0"))) << "no hints about Linux";
}

TEST(MultibootGuest, StartsAgainAfterAReset) {
  Code code;
  code.print("up\n").reset();
  const TempDir dir;
  const Finished finished = run(dir, code, {"--on-reboot", "reset", "--timeout", "3"});
  EXPECT_EQ(finished.status, 5) << finished.err;
  EXPECT_THAT(finished.out, StartsWith("up\nup\n"));
}

}  // namespace
}  // namespace wick::lab

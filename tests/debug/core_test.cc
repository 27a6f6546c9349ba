// Cores, as readelf, gdb, crash and drgn see them.
#include "debug/core.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "base/bytes.h"
#include "tests/debug/guest_note.h"
#include "tests/fakes/fake_machine.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::debug {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kPattern = 0x5000;
constexpr uint64_t kNoteAddress = 0x8000;
constexpr uint64_t kLast = vmm::FakeMachine::kMemoryBytes - 4096;

class Core : public ::testing::Test {
 protected:
  Core() {
    put(kPattern, "a text in the guest's memory");
    put(kLast + 4000, "at the end");
    for (uint32_t cpu = 0; cpu < 2; ++cpu) set_registers(machine_.registers_[cpu], cpu);
    machine_.msrs_[0xc000'0102] = 0xffff'8880'0000'0000;
    machine_.state_ = vmm::RunState::kPaused;
  }

  static void set_registers(vmm::CpuRegisters& cpu, uint32_t number) {
    for (uint64_t i = 0; i < 16; ++i) cpu.general[i] = 0x1000 * (number + 1) + i;
    cpu.rip = 0xffff'ffff'8100'0000 + number;
    cpu.rflags = 0x246;
    cpu.cs = {.base = 0, .limit = 0xffff'ffff, .selector = 0x10, .attributes = 0xa09b00};
    cpu.ss = {.base = 0, .limit = 0xffff'ffff, .selector = 0x18, .attributes = 0xc09300};
    cpu.ldt.usable = false;
    cpu.gs.base = 0xffff'8880'1234'0000;
    cpu.cr0 = 0x8005'0033;
    cpu.cr3 = 0x20'0000;
    cpu.cr4 = 0x6f0;
    cpu.efer = 0xd01;
  }

  void put(uint64_t address, std::string_view text) {
    ASSERT_TRUE(machine_.memory().write_bytes({address}, as_bytes(text.data(), text.size())));
  }
  void give_vmcoreinfo() {
    const auto note = elf_note(
        "VMCOREINFO",
        "OSRELEASE=6.1.0-test\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82610000\n"
        "KERNELOFFSET=1000000\nNUMBER(pgtable_l5_enabled)=0\nNUMBER(phys_base)=16777216\n");
    ASSERT_TRUE(machine_.memory().write_bytes({kNoteAddress}, note));
    machine_.vmcoreinfo_ = vmcoreinfo_entry(kNoteAddress, 4096);
  }

  CoreOptions options(CoreFormat format = CoreFormat::kElf) {
    return {.format = format, .file = open_core_file(path_).value(), .name = path_};
  }
  // Writes the core and returns the message of the error.
  std::string write(CoreOptions how) {
    const auto result = write_core(machine_, std::move(how));
    return result ? "" : result.error().message();
  }
  uint64_t size() const {
    struct stat status {};
    EXPECT_EQ(::stat(path_.c_str(), &status), 0);
    return static_cast<uint64_t>(status.st_size);
  }
  std::string run(const std::string& command) const {
    const auto [status, output] = fakes::run_shell(command + " '" + path_ + "'");
    EXPECT_EQ(status, 0) << command << "\n" << output;
    return output;
  }
  std::string gdb(const std::string& commands) const {
    const auto [status, output] = fakes::run_shell("gdb -nx -batch -c '" + path_ + "' " + commands);
    EXPECT_EQ(status, 0) << output;
    return output;
  }

  const fakes::TempDir folder_;
  const std::string path_ = folder_ / "core";
  vmm::FakeMachine machine_;
};

TEST_F(Core, RefusesWhatExcludesEachOther) {
  CoreOptions how = options(CoreFormat::kKdumpZlib);
  how.paging = true;
  EXPECT_THAT(write(std::move(how)), HasSubstr("choose the format elf"));
  how = options(CoreFormat::kKdumpZlib);
  how.range = CoreRange{0, 4096};
  EXPECT_THAT(write(std::move(how)), HasSubstr("choose the format elf"));
}

TEST_F(Core, RefusesARangeWithoutRam) {
  for (const CoreRange range : {CoreRange{vmm::FakeMachine::kMemoryBytes, 1 << 20},
                                CoreRange{UINT64_MAX, UINT64_MAX}, CoreRange{4096, 0}}) {
    CoreOptions how = options();
    how.range = range;
    EXPECT_THAT(write(std::move(how)), HasSubstr("no RAM at"));
  }
}

TEST_F(Core, IsEmptyAfterAnError) {
  // Its page tables refer to themselves.
  for (uint64_t i = 0; i < 512; ++i)
    ASSERT_TRUE(machine_.memory().write<uint64_t>({0x20'0000 + i * 8}, 0x20'0000 | 1));
  CoreOptions how = options();
  how.paging = true;
  const std::string error = write(std::move(how));
  EXPECT_THAT(error, HasSubstr("page tables"));
  EXPECT_THAT(error, HasSubstr("leave out the paging"));
  EXPECT_EQ(size(), 0u);
}

TEST_F(Core, IsAnElfFileWithANoteForEachCpu) {
  give_vmcoreinfo();
  EXPECT_EQ(write(options()), "");
  const std::string output = run("readelf -aW");
  EXPECT_THAT(output, Not(HasSubstr("arning")));
  EXPECT_THAT(output, Not(HasSubstr("rror")));
  EXPECT_THAT(output, ContainsRegex("Type: +CORE"));
  EXPECT_THAT(output, ContainsRegex("Machine: +Advanced Micro Devices X86-64"));
  EXPECT_THAT(output, ContainsRegex("LOAD +0x001000 0x0000000000000000 0x0000000000000000 "
                                    "0x1000000 0x1000000"));
  // The sizes are those of QEMU 7.2.
  EXPECT_THAT(output, ContainsRegex("CORE +0x00000150\tNT_PRSTATUS.*\n +CORE +0x00000150\t"
                                    "NT_PRSTATUS.*\n +QEMU +0x000001b8.*\n +QEMU +0x000001b8.*"
                                    "\n +VMCOREINFO +0x"));
}

TEST_F(Core, IsWrittenWithoutANoteThatIsDamaged) {
  machine_.vmcoreinfo_ = vmcoreinfo_entry(UINT64_MAX, 4096);
  EXPECT_EQ(write(options()), "");
  EXPECT_THAT(run("readelf -nW"), Not(HasSubstr("VMCOREINFO")));
}

TEST_F(Core, OpensInGdbWithAThreadForEachCpu) {
  EXPECT_EQ(write(options()), "");
  const std::string output =
      gdb("-ex 'info threads' -ex 'thread 2' -ex 'info registers' "
          "-ex 'x/s 0x5000' -ex 'x/s 0xfffFA0'");
  EXPECT_THAT(output, ContainsRegex("1 +LWP 1 +0xffffffff81000000"));
  EXPECT_THAT(output, ContainsRegex("2 +LWP 2 +0xffffffff81000001"));
  // In the order of their numbers in instructions: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi.
  int number = 0;
  for (const std::string name : {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9",
                                 "r10", "r11", "r12", "r13", "r14", "r15"})
    EXPECT_THAT(output, ContainsRegex(fmt::format("\n{} +0x{:x} ", name, 0x2000 + number++)));
  EXPECT_THAT(output, ContainsRegex("\neflags +0x246 "));
  EXPECT_THAT(output, ContainsRegex("\ncs +0x10 "));
  EXPECT_THAT(output, HasSubstr("a text in the guest's memory"));
  EXPECT_THAT(output, HasSubstr("at the end"));
}

TEST_F(Core, OpensInGdbAsThatOfA32BitGuestIfTheGuestIsOne) {
  for (vmm::CpuRegisters& cpu : machine_.registers_) cpu.efer = 0;
  machine_.registers_[1].rip = 0xc012'3456;
  EXPECT_EQ(write(options()), "");
  const std::string notes = run("readelf -hnW");
  EXPECT_THAT(notes, ContainsRegex("Machine: +Intel 80386"));
  EXPECT_THAT(notes, ContainsRegex("CORE +0x00000090\tNT_PRSTATUS"));
  const std::string output =
      gdb("-ex 'info threads' -ex 'thread 2' -ex 'info registers' -ex 'x/s 0x5000'");
  EXPECT_THAT(output, ContainsRegex("2 +LWP 2 +0xc0123456"));
  int number = 0;
  for (const std::string name : {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"})
    EXPECT_THAT(output, ContainsRegex(fmt::format("\n{} +0x{:x} ", name, 0x2000 + number++)));
  EXPECT_THAT(output, ContainsRegex("\neflags +0x246 "));
  EXPECT_THAT(output, ContainsRegex("\ncs +0x10 "));
  EXPECT_THAT(output, ContainsRegex("\nss +0x18 "));
  EXPECT_THAT(output, HasSubstr("a text in the guest's memory"));
}

TEST_F(Core, HasTheStateThatQemuWrites) {
  machine_.registers_[1].ldt.attributes = 0x8200;
  EXPECT_EQ(write(options()), "");
  const std::string notes = folder_.read("core").substr(64 + 2 * 56, 2 * (20 + 336) + 2 * 460);
  const auto word = [&](size_t offset) {
    return load_le<uint64_t>(as_bytes(notes.data() + offset, 8));
  };
  EXPECT_EQ(word(20 + 336 + 20 + 32), 2u) << "pr_pid";
  EXPECT_EQ(word(20 + 336 + 20 + 112 + 22 * 8), 0xffff'8880'1234'0000u) << "gs_base";
  const size_t state = 2 * (20 + 336) + 460 + 20;  // of the second vCPU
  EXPECT_EQ(word(state), uint64_t{440} << 32 | 1) << "version and size";
  EXPECT_EQ(word(state + 8), 0x2000u) << "rax";
  EXPECT_EQ(word(state + 16), 0x2003u) << "rbx";
  EXPECT_EQ(word(state + 136), 0xffff'ffff'8100'0001u) << "rip";
  EXPECT_EQ(word(state + 152), uint64_t{0xffff'ffff} << 32 | 0x10) << "cs";
  EXPECT_EQ(word(state + 160), 0xa09b00u) << "its attributes";
  EXPECT_EQ(word(state + 152 + 6 * 24 + 8), 0u) << "an LDT that is not usable has none";
  EXPECT_EQ(word(state + 392), 0x8005'0033u) << "cr0";
  EXPECT_EQ(word(state + 416), 0x20'0000u) << "cr3";
  EXPECT_EQ(word(state + 432), 0xffff'8880'0000'0000u) << "kernel_gs_base";
}

TEST_F(Core, TakesNoRoomForZeroPages) {
  EXPECT_EQ(write(options()), "");
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_size, static_cast<off_t>(4096 + vmm::FakeMachine::kMemoryBytes));
  EXPECT_LE(status.st_blocks * 512, 256 << 10);
}

TEST_F(Core, HasOnlyTheRangeThatIsAsked) {
  CoreOptions how = options();
  how.range = CoreRange{kPattern + 2, 100};
  EXPECT_EQ(write(std::move(how)), "");
  EXPECT_THAT(run("readelf -lW"),
              ContainsRegex("LOAD +0x001000 0x0000000000005002 0x0000000000005002 0x000064"));
  EXPECT_EQ(folder_.read("core").substr(4096, 26), "text in the guest's memory");
  how = options();
  how.range = CoreRange{kLast, UINT64_MAX};
  EXPECT_EQ(write(std::move(how)), "");
  EXPECT_EQ(size(), 8192u);
}

TEST_F(Core, HasLinearAddressesWithPaging) {
  const auto entry = [&](uint64_t at, uint64_t value) {
    ASSERT_TRUE(machine_.memory().write<uint64_t>({at}, value | 1));
  };
  entry(0x20'0000 + 511 * 8, 0x20'1000);
  entry(0x20'1000 + 510 * 8, 0x20'2000);
  entry(0x20'2000, 0x20'3000);
  entry(0x20'2000 + 8, 0xfe0'0000 | 1 << 7);  // a large page without RAM
  entry(0x20'2000 + 16, 0xe0'0000 | 1 << 7);
  entry(0x20'3000 + 8, kPattern);
  CoreOptions how = options();
  how.paging = true;
  EXPECT_EQ(write(std::move(how)), "");
  const std::string output = run("readelf -lW");
  EXPECT_THAT(output,
              ContainsRegex("LOAD +0x006000 0xffffffff80001000 0x0000000000005000 0x001000"));
  EXPECT_THAT(output,
              ContainsRegex("LOAD +0xe01000 0xffffffff80400000 0x0000000000e00000 0x200000"));
  EXPECT_THAT(output, Not(HasSubstr("0xffffffff80200000")));
  EXPECT_THAT(gdb("-ex 'x/s 0xffffffff80001000' -ex 'x/s 0xffffffff805fffa0'"),
              AllOf(HasSubstr("a text in the guest's memory"), HasSubstr("at the end")));
}

// A kernel that has given its vmcoreinfo is where Linux is.
TEST_F(Core, HasTheLinearAddressesOfALinuxKernelAlsoWithoutPaging) {
  const auto entry = [&](uint64_t at, uint64_t value) {
    ASSERT_TRUE(machine_.memory().write<uint64_t>({at}, value | 1));
  };
  entry(0x20'0000 + 511 * 8, 0x20'1000);
  entry(0x20'0000, 0x20'1000);  // also elsewhere
  entry(0x20'1000 + 510 * 8, 0x20'2000);
  entry(0x20'1000 + 511 * 8, 0x20'2000);
  entry(0x20'2000 + 100 * 8, 0xe0'0000 | 1 << 7);
  give_vmcoreinfo();
  EXPECT_EQ(write(options()), "");
  const std::string output = run("readelf -lW");
  EXPECT_THAT(output, HasSubstr("There are 3 program headers"));
  EXPECT_THAT(output,
              ContainsRegex("LOAD +0xe01000 0xffffffff8c800000 0x0000000000e00000 0x200000"));
  machine_.vmcoreinfo_.clear();
  EXPECT_EQ(write(options()), "");
  EXPECT_THAT(run("readelf -lW"), HasSubstr("There are 2 program headers"));
}

TEST_F(Core, HasPhysicalAddressesWithPagingIfNoCpuHasIt) {
  for (vmm::CpuRegisters& cpu : machine_.registers_) cpu.cr0 = 0x10;
  CoreOptions how = options();
  how.paging = true;
  EXPECT_EQ(write(std::move(how)), "");
  EXPECT_THAT(run("readelf -lW"), HasSubstr("0x1000000 0x1000000"));
}

// More than e_phnum has room for: every other page of a user's.
TEST_F(Core, HasMoreRangesThanTheHeaderCanCount) {
  const auto entry = [&](uint64_t at, uint64_t value) {
    ASSERT_TRUE(machine_.memory().write<uint64_t>({at}, value | 1));
  };
  entry(0x20'0000, 0x20'1000);
  entry(0x20'1000, 0x20'2000);
  for (uint64_t i = 0; i < 300; ++i) entry(0x20'2000 + i * 8, 0x20'3000);
  for (uint64_t i = 0; i < 512; i += 2) entry(0x20'3000 + i * 8, kPattern);
  CoreOptions how = options();
  how.paging = true;
  EXPECT_EQ(write(std::move(how)), "");
  const std::string output = run("readelf -hW");
  EXPECT_THAT(output, HasSubstr("65535 (76801)"));
  EXPECT_THAT(gdb("-ex 'x/s 0x2000'"), HasSubstr("a text in the guest's memory"));
}

TEST_F(Core, GoesThroughAPipeAsItIs) {
  EXPECT_EQ(write(options()), "");
  const std::string wanted = folder_.read("core");
  for (const CoreFormat format : {CoreFormat::kElf, CoreFormat::kKdumpZlib}) {
    CoreOptions how = options(format);
    ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
    std::string got;
    std::thread reader([&] { got = folder_.read("fifo"); });
    how.file = Fd(::open((folder_ / "fifo").c_str(), O_WRONLY));
    EXPECT_EQ(write(std::move(how)), "");
    reader.join();
    ASSERT_EQ(::unlink((folder_ / "fifo").c_str()), 0);
    if (format == CoreFormat::kElf)
      EXPECT_TRUE(got == wanted);
    else
      EXPECT_EQ(got.substr(0, 12), "makedumpfile");
  }
}

// The kernel's release, which crash finds in the core by itself.
TEST_F(Core, TellsCrashTheKernelsRelease) {
  give_vmcoreinfo();
  for (const CoreFormat format : {CoreFormat::kElf, CoreFormat::kKdumpZlib}) {
    EXPECT_EQ(write(options(format)), "");
    EXPECT_THAT(run("crash --osrelease"), HasSubstr("6.1.0-test"));
  }
}

// drgn reads ELF cores by itself, and compressed ones by libkdumpfile.
TEST_F(Core, HasItsMemoryInDrgn) {
  give_vmcoreinfo();
  const std::string script = folder_.write("read.py",
                                           "print(prog.read(0x5000, 28, physical=True))\n"
                                           "print(prog.read(0xffffa0, 10, physical=True))\n"
                                           "print(prog.read(0x600000, 4, physical=True))\n"
                                           "print(prog.flags)\n");
  for (const CoreFormat format : {CoreFormat::kElf, CoreFormat::kKdumpZlib}) {
    EXPECT_EQ(write(options(format)), "");
    const auto [status, output] =
        fakes::run_shell("drgn --no-default-symbols -c '" + path_ + "' '" + script + "'");
    EXPECT_EQ(status, 0);
    EXPECT_THAT(output, HasSubstr("a text in the guest's memory"));
    EXPECT_THAT(output, HasSubstr("at the end"));
    EXPECT_THAT(output, HasSubstr("b'\\x00\\x00\\x00\\x00'"));
    EXPECT_THAT(output, HasSubstr("IS_LINUX_KERNEL"));
  }
}

}  // namespace
}  // namespace wick::debug

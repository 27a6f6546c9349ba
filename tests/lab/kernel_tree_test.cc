// The kernel developer's tree, linux-source as built (guest-images/build kernel-tree): the
// kernel's own selftests, its modules, and its symbols in gdb, crash and drgn.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr Seconds kTreePatience{1200};

Finished exec_on_tree(const std::string& script, const std::vector<std::string>& options = {}) {
  std::vector<std::string> argv = wick({"exec", "-k", image("kernel-tree"), "--pwd",
                                        std::filesystem::canonical(image("kernel-tree"))});
  argv.insert(argv.end(), options.begin(), options.end());
  argv.insert(argv.end(), {"--", "sh", "-c", script});
  return finish(argv, kTreePatience);
}

TEST(KernelTree, ItsSelftestsRunWithTheirVerdictsLong) {
  const Finished run = exec_on_tree(
      "exec make -s -C tools/testing/selftests TARGETS='timers size' run_tests", {"-m", "1G"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("\nok 1 selftests: size: get_size\n"),
                             ContainsRegex("\n(not )?ok 1 selftests: timers: posix_timers"),
                             HasSubstr("\nok 2 selftests: timers: nanosleep\n")));
}

TEST(KernelTree, ItsModulesAreLoadedLong) {
  const Finished run = exec_on_tree("insmod drivers/net/dummy.ko && cat /proc/modules");
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("dummy "));
}

// lkdtm is the kernel's own module for provoking crashes. SPINLOCKUP hangs when it is called the
// second time. If the kernel survived, `exit 0` would look like a pass.
TEST(KernelTree, AModuleThatCrashesTheKernelIsNeverAPassLong) {
  const std::string provoke =
      "insmod drivers/misc/lkdtm/lkdtm.ko && "
      "for i in 1 2; do echo $CRASH >/sys/kernel/debug/provoke-crash/DIRECT; done; exit 0";
  const auto provoked = [&](const std::string& crash, const std::string& before = "true") {
    return exec_on_tree(before + "; CRASH=" + crash + "; " + provoke, {"--timeout", "60"});
  };
  const Finished panic = provoked("PANIC");
  EXPECT_EQ(panic.status, 3) << panic.err;
  EXPECT_THAT(panic.err, HasSubstr("Kernel panic - not syncing: dumptest"));
  const Finished oops = provoked("EXCEPTION", "echo 1 >/proc/sys/kernel/panic_on_oops");
  EXPECT_EQ(oops.status, 3) << oops.err;
  EXPECT_THAT(oops.err, HasSubstr("RIP: 0010:lkdtm_EXCEPTION"));
  const Finished stuck = provoked("SPINLOCKUP");
  EXPECT_EQ(stuck.status, 5) << stuck.err;
}

// A guest whose kernel has a slide, stopped anywhere: QEMU, as the lab's CPU, does not let KVM see
// breakpoints of software (IntelLabControl.* have them).
TEST(KernelTree, ItsSymbolsAreKnownToGdbLong) {
  const TempDir dir;
  const auto in_folder = [&](const std::vector<std::string>& arguments) {
    std::vector<std::string> argv = {"env", "WICK_RUNTIME_DIR=" + (dir / "run")};
    const std::vector<std::string> words = wick(arguments);
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
  };
  const std::string tree = std::filesystem::canonical(image("kernel-tree"));
  const Finished started = finish(in_folder({"start", "web", "-k", tree + "/arch/x86/boot/bzImage",
                                             "-m", "256M", "-d", alpine_disk(dir), "-a", "quiet"}));
  ASSERT_EQ(started.status, 0) << started.err;
  {
    Dialogue console = Dialogue::connect(dir / "run/web/ttyS0.sock");
    log_in(console);
    console.send("while true; do sleep 0.1; done\n");
    write_file(dir / "commands",
               "set width 0\nbacktrace\nlx-ps\nlx-version\n"
               "print $lx_current().pid\nprint $lx_per_cpu(\"runqueues\", 0).cpu\ndetach\n");
    const Finished gdb = finish(
        in_folder({"gdb", "web", tree + "/vmlinux", "--", "-nx", "-batch", "-x", dir / "commands"}),
        kTreePatience);
    EXPECT_EQ(gdb.status, 0) << gdb.err;
    EXPECT_THAT(gdb.out,
                AllOf(ContainsRegex("#0 .* at [a-z]+/[a-z0-9/_.-]+:[0-9]+"), HasSubstr("swapper/0"),
                      HasSubstr("kswapd0"), HasSubstr("Linux version 6.1"),
                      ContainsRegex("\\$1 = [0-9]+\n\\$2 = 0\n")))
        << gdb.err;
    console.send("\x03");
    EXPECT_EQ(run_in_guest(console, "echo goes on"), "goes on");
  }
  EXPECT_EQ(finish(in_folder({"destroy", "web"})).status, 0);
}

TEST(KernelTree, CrashAndDrgnOpenACoreOfItLong) {
  const TempDir dir(folder_on_disk());
  const std::string tree = std::filesystem::canonical(image("kernel-tree"));
  const std::string core = dir / "core";
  const Finished run = finish(wick({"exec", "-k", tree, "-m", "256M", "--on-panic", "core:" + core,
                                    "--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 60"}),
                              kTreePatience);
  EXPECT_EQ(run.status, 3) << run.err;
  write_file(dir / "commands", "sys\nbt\nps\nquit\n");
  const Finished crash =
      finish({"crash", "-s", "-i", dir / "commands", tree + "/vmlinux", core}, kTreePatience);
  EXPECT_EQ(crash.status, 0) << crash.err << crash.out;
  EXPECT_THAT(crash.out, AllOf(HasSubstr("sysrq triggered crash"), HasSubstr("sysrq_handle_crash"),
                               HasSubstr("COMMAND: \"sh\"")));
  write_file(dir / "script",
             "from drgn.helpers.linux.pid import for_each_task\n"
             "print(prog['init_uts_ns'].name.release.string_().decode())\n"
             "print(sorted({task.comm.string_().decode() for task in for_each_task(prog)}))\n");
  const Finished drgn =
      finish({"drgn", "-q", "-s", tree + "/vmlinux", "-c", core, dir / "script"}, kTreePatience);
  EXPECT_EQ(drgn.status, 0) << drgn.err << drgn.out;
  EXPECT_THAT(drgn.out, AllOf(HasSubstr("6.1."), HasSubstr("'sh'")));
}

}  // namespace
}  // namespace wick::lab

// How a run with a command ends, what the command gets from its caller, and which kernel runs.
#include "cli/exec_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/bytes.h"
#include "cli/ending.h"
#include "cli/exec_kernel.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using vmm::Ending;
using Kind = guest::CommandEnd::Kind;

struct Told {
  RunOutcome outcome;
  std::string text;
};

Told outcome_of(const guest::CommandEnd* end, Ending ending) {
  vmm::RunReport report;
  report.ending = ending;
  report.console_lines = {"[    0.5] a line of the console"};
  std::string text = describe(report);
  RunOutcome outcome =
      exec_outcome(end, report, {exit_status(report), "the machine's reason"}, text);
  return {std::move(outcome), std::move(text)};
}

TEST(ExecOutcome, IsTheCommandsStatusWithoutAWord) {
  const guest::CommandEnd end{.kind = Kind::kExited, .status = 42, .message = {}};
  const Told told = outcome_of(&end, Ending::kQuit);
  EXPECT_EQ(told.outcome.status, 42);
  EXPECT_EQ(told.text, "");
}

TEST(ExecOutcome, OfACommandWhoseOutputIsLostIsNoSuccess) {
  guest::CommandEnd end{.kind = Kind::kExited, .message = {}, .output_error = ENOSPC};
  const Told told = outcome_of(&end, Ending::kQuit);
  EXPECT_EQ(told.outcome.status, 1);
  EXPECT_THAT(told.text, HasSubstr("No space left on device"));
  end.status = 42;
  EXPECT_EQ(outcome_of(&end, Ending::kQuit).outcome.status, 42);
}

TEST(ExecOutcome, NamesTheSignal) {
  guest::CommandEnd end{.kind = Kind::kExited, .status = 139, .message = {}};
  end.exit.signal = 11;
  const Told told = outcome_of(&end, Ending::kQuit);
  EXPECT_EQ(told.outcome.status, 139);
  EXPECT_EQ(told.text, "wick: the command was killed by signal 11 (SIGSEGV)\n");
}

TEST(ExecOutcome, OfAMachineThatEndedFirstIsNeverASuccess) {
  const guest::CommandEnd success{.kind = Kind::kExited, .status = 0, .message = {}};
  for (const guest::CommandEnd* const end :
       {static_cast<const guest::CommandEnd*>(nullptr), &success})
    for (const Ending ending :
         {Ending::kPoweredOff, Ending::kRebooted, Ending::kHalted, Ending::kHostFailed,
          Ending::kPanicked, Ending::kTripleFault, Ending::kTimeout, Ending::kKvmError})
      EXPECT_NE(outcome_of(end, ending).outcome.status, 0) << static_cast<int>(ending);
  EXPECT_NE(outcome_of(nullptr, Ending::kQuit).outcome.status, 0);
  const Told told = outcome_of(nullptr, Ending::kPoweredOff);
  EXPECT_EQ(told.outcome.status, 1);
  EXPECT_EQ(told.text,
            "  [    0.5] a line of the console\n"
            "wick: the machine's reason before the command ended\n");
}

TEST(ExecOutcome, KeepsTheStatusesOfRun) {
  EXPECT_EQ(outcome_of(nullptr, Ending::kPanicked).outcome.status, 3);
  EXPECT_EQ(outcome_of(nullptr, Ending::kTripleFault).outcome.status, 4);
  EXPECT_EQ(outcome_of(nullptr, Ending::kTimeout).outcome.status, 5);
  EXPECT_EQ(outcome_of(nullptr, Ending::kKvmError).outcome.status, 6);
}

TEST(ExecOutcome, OfAnInitThatFailedIsOneWithItsMessage) {
  const guest::CommandEnd end{.kind = Kind::kFailed, .message = "mount /x: \x1b[31mbad"};
  const Told told = outcome_of(&end, Ending::kQuit);
  EXPECT_EQ(told.outcome.status, 1);
  EXPECT_EQ(told.text, "wick: the guest's init failed: mount /x: \\x1b[31mbad\n");
}

TEST(ExecEnvironment, PassesOnOnlyWhatIsOnTheList) {
  const std::vector<std::string> caller = {"PATH=/bin", "LC_ALL=C", "SECRET=x", "HOME=/home/a",
                                           "PATHS=y"};
  EXPECT_THAT(exec_environment(caller, {}, std::nullopt),
              ElementsAre("PATH=/bin", "LC_ALL=C", "HOME=/home/a"));
  EXPECT_THAT(exec_environment(caller, {"SECRET", "HOME=/tmp", "NONE"}, std::nullopt),
              ElementsAre("PATH=/bin", "LC_ALL=C", "SECRET=x", "HOME=/tmp"));
  EXPECT_THAT(exec_environment({}, {}, std::nullopt),
              ElementsAre(HasSubstr("PATH=/usr/local/sbin")));
}

TEST(ExecEnvironment, OfAnotherUserHasItsHome) {
  const ExecUser user{
      .uid = 7, .gid = 7, .groups = {}, .name = "b", .home = "/home/b", .shell = ""};
  EXPECT_THAT(exec_environment({"PATH=/bin", "HOME=/home/a", "USER=a"}, {}, user),
              ElementsAre("PATH=/bin", "USER=b", "LOGNAME=b", "HOME=/home/b"));
}

TEST(ExecUsers, AreFoundByNameAndNumber) {
  EXPECT_EQ(find_exec_user("root")->uid, 0u);
  EXPECT_EQ(find_exec_user("12:34")->uid, 12u);
  EXPECT_EQ(find_exec_user("12:34")->gid, 34u);
  EXPECT_EQ(find_exec_user("")->uid, ::getuid());
  EXPECT_THAT(find_exec_user("no-such-user").error().message(), HasSubstr("no such user"));
  EXPECT_FALSE(find_exec_user("12:staff"));
  // setuid(2) would leave the command root.
  for (const char* none : {"4294967295", "4294967295:4294967295", "12:4294967295", "4294967296"})
    EXPECT_FALSE(find_exec_user(none)) << none;
}

class ExecKernelTest : public testing::Test {
 protected:
  void write(const std::string& name, std::string_view content) const {
    std::filesystem::create_directories(std::filesystem::path(dir_ / name).parent_path());
    (void)dir_.write(name, content);
  }
  // A bzImage as far as its version goes (Documentation/arch/x86/boot.rst).
  static std::string bzimage(std::string_view release) {
    std::string image(4096, '\0');
    image[0x1f1] = 4;  // setup_sects
    image.replace(0x202, 4, "HdrS");
    image[0x20f] = 3;  // kernel_version: 0x300, without the boot sector
    return image.replace(0x500, release.size(), release);
  }
  const fakes::TempDir dir_;
};

TEST_F(ExecKernelTest, OfTheHostHasTheHostsModules) {
  write("boot/vmlinuz-6.1", bzimage("6.1-test (me)"));
  write("modules/6.1-test/modules.dep", "");
  const auto kernel = find_exec_kernel("", "auto", dir_ / "boot", dir_ / "modules");
  ASSERT_TRUE(kernel) << kernel.error().message();
  EXPECT_EQ(kernel->path, dir_ / "boot/vmlinuz-6.1");
  EXPECT_EQ(kernel->modules, dir_ / "modules/6.1-test");
  EXPECT_EQ(find_exec_kernel("", "none", dir_ / "boot", dir_ / "modules")->modules, "");
}

TEST_F(ExecKernelTest, OfATreeHasTheTreesModules) {
  write("tree/arch/x86/boot/bzImage", bzimage("6.2 (me)"));
  write("tree/include/config/kernel.release", "6.2\n");
  EXPECT_EQ(find_exec_kernel(dir_ / "tree", "auto")->modules, "") << "a kernel without modules";
  write("tree/modules.order", "fs/fuse/virtiofs.o\n");
  for (const char* const given : {"tree", "tree/arch/x86/boot/bzImage"}) {
    const auto kernel = find_exec_kernel(dir_ / given, "auto");
    ASSERT_TRUE(kernel) << kernel.error().message();
    EXPECT_EQ(kernel->path, dir_ / "tree/arch/x86/boot/bzImage");
    EXPECT_TRUE(std::filesystem::equivalent(kernel->modules, dir_ / "tree"));
  }
}

TEST_F(ExecKernelTest, TakesAFolderThatModulesWereInstalledTo) {
  write("k", bzimage("6.3 (me)"));
  write("out/lib/modules/6.3/modules.dep", "");
  EXPECT_EQ(find_exec_kernel(dir_ / "k", dir_ / "out")->modules, dir_ / "out/lib/modules/6.3");
  EXPECT_THAT(find_exec_kernel(dir_ / "k", dir_.path()).error().message(),
              HasSubstr("has no modules for"));
}

TEST_F(ExecKernelTest, ThatWasNotBuiltIsNamed) {
  std::filesystem::create_directory(dir_ / "tree");
  EXPECT_THAT(find_exec_kernel(dir_ / "tree", "auto").error().message(),
              HasSubstr("neither arch/x86/boot/bzImage nor vmlinux is there"));
}

TEST(ExecPlan, MountsTheRootBeforeTheFoldersInIt) {
  const ExecGuest guest{
      .root_tag = "root",
      .overlay_tag = {},
      .shares = {{"one", "/work", true}},
      .tmpfs = {"/scratch"},
      .hostname = "wick-1",
      .user = {.uid = 5, .gid = 6, .groups = {7, 8}, .name = {}, .home = {}, .shell = {}},
      .pwd = "/work",
      .environment = {"A=b"},
      .command = {"true", "x"},
      .terminal = std::nullopt,
      .separate_stderr = false,
      .modules = {}};
  const std::string plan = exec_plan(guest, {"/wick/modules/fuse.ko"}).text();
  using namespace std::string_view_literals;
  const auto place = [&](std::string_view text) {
    const size_t found = plan.find(text);
    EXPECT_NE(found, plan.npos) << text;
    return found;
  };
  // The folder is read-only, nosuid and nodev.
  EXPECT_LT(place("module\0/wick/modules/fuse.ko\0"sv), place("port\0wick.exec\0"sv));
  EXPECT_LT(place("port\0"sv), place("mount\0root\0/wick/lower\0virtiofs\0001\0\0"sv));
  EXPECT_LT(place("move-root\0/wick/root\0"sv), place("mount\0one\0/work\0virtiofs\0007\0\0"sv));
  EXPECT_LT(place("mount\0tmpfs\0/scratch\0"sv), place("user\0005\0006\0007,8\0"sv));
  EXPECT_TRUE(plan.ends_with("env\0A=b\0arg\0true\0arg\0x\0"sv));
}

}  // namespace
}  // namespace wick::cli

// The command line of wick exec.
#include <gmock/gmock.h>

#include <filesystem>

#include "tests/cli/command_line.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Kind = vmm::SerialConfig::Kind;

ExecCommand exec(const Arguments& arguments, const Variables& variables = {}) {
  const auto command = parse(arguments, variables);
  if (!command) {
    ADD_FAILURE() << command.error().error.message();
    return {};
  }
  return std::get<ExecCommand>(*command);
}

TEST(ExecOptions, TheCommandBeginsBehindTwoDashes) {
  const ExecCommand command = exec({"exec", "-m", "2G", "--", "grep", "-c", "--", "x", "--help"});
  EXPECT_THAT(command.exec.command, ElementsAre("grep", "-c", "--", "x", "--help"));
  EXPECT_EQ(command.run.machine.memory_bytes, uint64_t{2} << 30);
}

TEST(ExecOptions, ACommandWithoutDashesIsAUsageErrorThatSaysWhatToDo) {
  EXPECT_THAT(usage_error({"exec", "true"}), HasSubstr("put -- before the command"));
}

TEST(ExecOptions, HaveTheirOwnDefaults) {
  const ExecCommand command = exec({"exec"});
  EXPECT_EQ(command.run.machine.memory_bytes, uint64_t{1} << 30);
  EXPECT_EQ(command.run.machine.hotplug, vmm::MachineConfig::Hotplug::kOff);
  ASSERT_EQ(command.run.machine.serials.size(), 1u);
  EXPECT_EQ(command.run.machine.serials.front().kind, Kind::kNull);
  EXPECT_EQ(command.exec.root, "/");
  EXPECT_EQ(command.exec.modules, "auto");
  EXPECT_THAT(command.exec.command, testing::IsEmpty());
}

TEST(ExecOptions, MoreMessagesShowTheKernels) {
  EXPECT_EQ(exec({"exec", "-v"}).run.machine.serials.front().kind, Kind::kStderr);
}

TEST(ExecOptions, OfRunHoldFromAllSources) {
  EXPECT_EQ(exec({"exec"}, {{"WICK_CPUS", "3"}}).run.machine.cpus, 3u);
  EXPECT_EQ(exec({"exec", "-c", "2"}, {{"WICK_MEMORY", "300M"}}).run.machine.memory_bytes,
            uint64_t{300} << 20);
}

TEST(ExecOptions, ThatTakeTheCommandsStreamsAreRefused) {
  EXPECT_THAT(usage_error({"exec", "-s", "stdio"}), HasSubstr("the command has it"));
  EXPECT_THAT(usage_error({"exec", "--console", "stdio"}), HasSubstr("the command has it"));
  EXPECT_THAT(usage_error({"exec", "--qmp", "stdio"}), HasSubstr("the command has it"));
  EXPECT_THAT(usage_error({"exec", "--on-reboot", "reset"}), HasSubstr("would be lost"));
  EXPECT_THAT(usage_error({"exec", "--location", "/x"}), HasSubstr("boots a kernel"));
}

TEST(ExecOptions, SeveralKernelsAndScriptsAreRunsOfTheirOwn) {
  const fakes::TempDir dir;
  fakes::write_file(dir / "a", "");
  fakes::write_file(dir / "b", "");
  const ExecCommand command = exec({"exec", "-k", "one", "-k", "two", "--script", dir / "a",
                                    "--script", dir / "b", "--jobs", "2"});
  EXPECT_THAT(command.exec.kernels, ElementsAre("one", "two"));
  EXPECT_THAT(command.exec.scripts, testing::SizeIs(2));
  EXPECT_EQ(command.exec.jobs, 2u);
  EXPECT_THAT(usage_error({"exec", "-k", "one", "--jobs", "2"}), HasSubstr("one run only"));
}

TEST(ExecOptions, AScriptMustLieInTheGuestsRoot) {
  const fakes::TempDir dir;
  std::filesystem::create_directory(dir / "root");
  fakes::write_file(dir / "root/inside", "");
  fakes::write_file(dir / "outside", "");
  exec({"exec", "--root", dir / "root", "--script", dir / "root/inside"});
  EXPECT_THAT(usage_error({"exec", "--root", dir / "root", "--script", dir / "outside"}),
              HasSubstr("the guest has no such file"));
  EXPECT_THAT(usage_error({"exec", "--root", "none", "--script", dir / "outside"}),
              HasSubstr("the guest has no such file"));
}

// sh takes a folder for an empty script, which succeeds.
TEST(ExecOptions, AScriptIsAFile) {
  const fakes::TempDir dir;
  EXPECT_THAT(usage_error({"exec", "--script", dir.path()}), HasSubstr("is not a regular file"));
}

TEST(ExecOptions, RunsAtOnceShareNoOverlay) {
  const fakes::TempDir dir;
  EXPECT_THAT(usage_error({"exec", "--overlay", dir.path(), "--repeat", "2", "--jobs", "2"}),
              HasSubstr("only one run at a time"));
}

TEST(ExecOptions, ACopyHasTheNameOfTheGuestUnlessAnotherIsGiven) {
  const auto copies =
      exec({"exec", "--copy-out", "logs/x", "--copy-out", "/a:b:c", "--copy-out", "logs/"})
          .exec.copies;
  ASSERT_EQ(copies.size(), 3u);
  EXPECT_EQ(copies[0].guest + ' ' + copies[0].host, "logs/x x");
  EXPECT_EQ(copies[1].guest + ' ' + copies[1].host, "/a b:c");
  EXPECT_EQ(copies[2].guest + ' ' + copies[2].host, "logs/ logs");
  for (const char* wrong : {"", ":x", "x:", "/"})
    EXPECT_THAT(usage_error({"exec", "--copy-out", wrong}), HasSubstr("GUEST:HOST")) << wrong;
}

TEST(ExecOptions, FoldersMustExistAndHaveTheirPathInTheGuest) {
  const fakes::TempDir dir;
  std::filesystem::create_directory(dir / "real");
  std::filesystem::create_directory_symlink(dir / "real", dir / "link");
  const std::string real = std::filesystem::canonical(dir / "real");
  const ExecCommand command = exec(
      {"exec", "--rw", dir / "link", "--ro", (dir / "real") + ":/mnt/x", "--tmpfs", "/scratch"});
  ASSERT_EQ(command.exec.folders.size(), 2u);
  EXPECT_EQ(command.exec.folders[0].host, real);
  EXPECT_EQ(command.exec.folders[0].guest, real);
  EXPECT_FALSE(command.exec.folders[0].read_only);
  EXPECT_EQ(command.exec.folders[1].host, real);
  EXPECT_EQ(command.exec.folders[1].guest, "/mnt/x");
  EXPECT_TRUE(command.exec.folders[1].read_only);
  EXPECT_THAT(usage_error({"exec", "--rw", dir / "none"}), HasSubstr("cannot be shared"));
  EXPECT_THAT(usage_error({"exec", "--tmpfs", "x"}), HasSubstr("absolute path"));
}

TEST(ExecOptions, ThatAreGivenTwiceOrExcludeEachOtherAreRefused) {
  EXPECT_THAT(usage_error({"exec", "--user", "a", "--user", "b"}), HasSubstr("more than once"));
  EXPECT_THAT(usage_error({"exec", "--root", "none", "--overlay", "/tmp"}), HasSubstr("--overlay"));
  EXPECT_THAT(usage_error({"exec", "-E", "=x"}), HasSubstr("name of a variable"));
}

}  // namespace
}  // namespace wick::cli

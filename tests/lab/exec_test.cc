// wick exec: commands on real kernels, and how they end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// The tests' kernel has all it needs built in; busybox is in the initramfs.
std::vector<std::string> exec(const std::vector<std::string>& command,
                              const std::vector<std::string>& options = {},
                              const std::string& user = "0") {
  std::vector<std::string> argv = wick({"exec", "--root", "none", "--user", user, "-m", "256M",
                                        "-k", image("bzImage"), "-i", image("initrd.gz")});
  argv.insert(argv.end(), options.begin(), options.end());
  argv.emplace_back("--");
  argv.insert(argv.end(), command.begin(), command.end());
  return argv;
}

std::vector<std::string> shell(const std::string& script) { return {"sh", "-c", script}; }

TEST(Exec, StatusIsTheCommands) {
  const Finished success = finish(exec({"true"}));
  EXPECT_EQ(success.status, 0) << success.err;
  EXPECT_EQ(success.out + success.err, "");
  EXPECT_EQ(finish(exec({"false"})).status, 1);
  EXPECT_EQ(finish(exec(shell("exit 42"))).status, 42);
}

TEST(Exec, KilledCommandIs128AndTheSignalAndSaysSo) {
  const Finished killed = finish(exec(shell("kill -9 $$")));
  EXPECT_EQ(killed.status, 137);
  EXPECT_EQ(killed.err, "wick: the command was killed by signal 9 (SIGKILL)\n");
}

TEST(Exec, MissingCommandIs127) {
  const Finished missing = finish(exec({"no-such-command"}));
  EXPECT_EQ(missing.status, 127);
  EXPECT_EQ(missing.err, "wick: no-such-command: no such command in the guest\n");
}

TEST(Exec, PanicIsThreeWithTheTrace) {
  const Finished panicked = finish(exec(shell("echo c >/proc/sysrq-trigger; sleep 60")));
  EXPECT_EQ(panicked.status, 3);
  EXPECT_THAT(panicked.err, AllOf(HasSubstr("Kernel panic - not syncing: sysrq triggered crash"),
                                  HasSubstr("wick: the guest's kernel panicked")));
}

TEST(Exec, InitThatDiesIsAPanic) {
  // Process 1 takes no signal that it does not handle; but without its code it faults when the
  // command ends.
  const Finished died =
      finish(exec(shell("dd if=/dev/zero of=/proc/1/mem bs=4096 seek=1025 count=6 "
                        "conv=notrunc 2>/dev/null; exit 0"),
                  {"--timeout", "60"}));
  EXPECT_EQ(died.status, 3) << died.err;
  EXPECT_THAT(died.err, HasSubstr("Attempted to kill init"));
}

TEST(Exec, TimeoutIsFive) {
  const Finished late = finish(exec({"sleep", "1000"}, {"--timeout", "15"}));
  EXPECT_EQ(late.status, 5);
  EXPECT_THAT(late.err, HasSubstr("wick: the time ran out"));
}

TEST(Exec, GuestThatEndsBeforeItsCommandIsAFailure) {
  const Finished off = finish(exec(shell("poweroff -f; sleep 60")));
  EXPECT_EQ(off.status, 1);
  EXPECT_EQ(last_line(off.err), "wick: the guest powered off before the command ended");
  const Finished rebooted = finish(exec(shell("reboot -f; sleep 60")));
  EXPECT_EQ(rebooted.status, 1) << rebooted.err;
  EXPECT_THAT(last_line(rebooted.err), HasSubstr("before the command ended"));
}

TEST(Exec, StreamsAreBinarySafeAndApart) {
  const TempDir dir;
  ASSERT_EQ(finish({"sh", "-c", "head -c 10000000 /dev/urandom >'" + (dir / "in") + "'"}).status,
            0);
  std::string words;
  for (const std::string& word : exec(shell("echo to-stderr >&2; exec cat")))
    words += " '" + word + "'";
  const Finished copied =
      finish({"bash", "-c",
              words + " <'" + (dir / "in") + "' >'" + (dir / "out") + "'; s=$?; cmp '" +
                  (dir / "in") + "' '" + (dir / "out") + "' && exit $s"});
  EXPECT_EQ(copied.status, 0) << copied.err;
  EXPECT_EQ(copied.err, "to-stderr\n");
}

TEST(Exec, SignalGoesToTheCommand) {
  Process run(exec(shell("trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.1; done")));
  run.console().expect("ready\n");
  run.signal(SIGTERM);
  EXPECT_EQ(run.wait(), 9);
  EXPECT_THAT(run.console().transcript(), HasSubstr("bye\n"));
}

TEST(Exec, SignalBeforeTheCommandEndsTheRun) {
  Process run(exec({"true"}));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  run.signal(SIGINT);
  const int status = run.wait();
  // A fast machine may have ended, and a slow one may not have blocked signals yet.
  EXPECT_THAT(status, AnyOf(0, 130, -SIGINT)) << run.errors();
}

TEST(Exec, TerminalIsPassedOn) {
  Process run(exec(shell("test -t 0 && test -t 1 && echo ok; read line; echo \"got $line\"")),
              Stdio::kTerminal);
  run.console().expect("ok");
  run.console().send("words\n");
  run.console().expect("got words");
  EXPECT_EQ(run.wait(), 0);
}

TEST(Exec, TerminalTurnsCtrlCIntoASignal) {
  Process run(exec(shell("echo ready; exec sleep 1000")), Stdio::kTerminal);
  run.console().expect("ready");
  run.console().send("\x03");
  EXPECT_EQ(run.wait(), 130);
}

TEST(Exec, JsonTellsTheEnd) {
  const TempDir dir;
  EXPECT_EQ(finish(exec(shell("exit 4"), {"--json", dir / "end.json"})).status, 4);
  const auto json = nlohmann::json::parse(read_file(dir / "end.json"));
  EXPECT_EQ(json["status"], 4);
  EXPECT_EQ(json["command"], nlohmann::json({"sh", "-c", "exit 4"}));
  EXPECT_TRUE(json["started"]);
  EXPECT_GT(json["times"]["boot_s"], 0);
}

TEST(Exec, RunsAreRepeatedAndReported) {
  const TempDir dir;
  const Finished runs = finish(
      exec(shell("exit 3"), {"--repeat", "3", "--jobs", "2", "--junit", dir / "report.xml"}));
  EXPECT_EQ(runs.status, 3) << runs.err;
  EXPECT_THAT(read_file(dir / "report.xml"),
              AllOf(HasSubstr("tests=\"3\""), HasSubstr("failures=\"3\"")));
}

TEST(Exec, EachKernelRunsEachScript) {
  const TempDir dir(folder_on_disk());
  write_file(dir / "passes", "uname -r\n");
  write_file(dir / "fails", "exit 5\n");
  const Finished runs = finish(
      wick({"exec", "-k", image("bzImage"), "-k", image("lab/vmlinuz"), "--script", dir / "passes",
            "--script", dir / "fails", "--jobs", "2", "--junit", dir / "report.xml"}));
  EXPECT_EQ(runs.status, 5) << runs.err;
  // Only the name of Debian's kernel has this.
  EXPECT_THAT(runs.out, HasSubstr("-amd64\n"));
  EXPECT_EQ(std::ranges::count(runs.out, '\n'), 2) << runs.out;
  const std::string report = read_file(dir / "report.xml");
  EXPECT_THAT(report, AllOf(HasSubstr("tests=\"4\""), HasSubstr("failures=\"2\"")));
  for (const char* name : {"bzImage", "lab/vmlinuz", "passes", "fails"})
    EXPECT_THAT(report, HasSubstr(name));
}

TEST(Exec, ResultsAreCopiedOutAlsoOfACommandThatFails) {
  const TempDir dir;
  const Finished run = finish(exec(shell("mkdir -p /tmp/a/b; echo text >/tmp/a/b/file; exit 7"),
                                   {"--copy-out", "/tmp/a:" + (dir / "results"), "--copy-out",
                                    "/missing:" + (dir / "missing")}));
  EXPECT_EQ(run.status, 7);
  EXPECT_EQ(run.err, "wick: --copy-out /missing: No such file or directory\n");
  EXPECT_EQ(read_file(dir / "results/b/file"), "text\n");
  EXPECT_FALSE(exists(dir / "missing"));
  EXPECT_EQ(finish(exec({"true"}, {"--copy-out", "/missing:" + (dir / "missing")})).status, 1);
}

TEST(Exec, UserFolderAndEnvironmentAreTheAskedOnes) {
  const Finished run = finish(
      exec(shell("id -u; id -g; pwd; echo $MARK"), {"--pwd", "/tmp", "-E", "MARK=here"}, "12:34"));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "12\n34\n/tmp\nhere\n");
}

// Debian's kernel has the drivers as modules.
TEST(Exec, StockKernelGetsTheModulesOfItsDevices) {
  std::vector<std::string> argv =
      wick({"exec", "--root", "none", "--user", "0", "-k", image("lab/vmlinuz"), "-i",
            image("initrd.gz"), "--", "cat", "/proc/modules"});
  const Finished run = finish(argv);
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("virtio_console "), HasSubstr("virtio_pci "),
                             Not(HasSubstr("ext4 "))));
}

// --- the host's files ---

// The host's root is the guest's.
std::vector<std::string> on_host_root(const std::string& script,
                                      const std::vector<std::string>& options = {}) {
  std::vector<std::string> argv = wick({"exec", "-k", image("bzImage")});
  argv.insert(argv.end(), options.begin(), options.end());
  argv.insert(argv.end(), {"--", "sh", "-c", script});
  return argv;
}

TEST(ExecRoot, IsTheHostsAndKeepsNothing) {
  const TempDir dir(folder_on_disk());
  write_file(dir / "file", "of the host");
  const Finished run = finish(on_host_root("cat '" + (dir / "file") + "' && echo new >'" +
                                           (dir / "file") + "' && cat '" + (dir / "file") +
                                           "' && rm '" + (dir / "file") + "' && uname -r"));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, StartsWith("of the hostnew\n"));
  EXPECT_EQ(read_file(dir / "file"), "of the host");
}

TEST(ExecRoot, FoldersAreWrittenOnlyIfTheyMayBe) {
  const TempDir dir(folder_on_disk());
  std::filesystem::create_directory(dir / "rw");
  std::filesystem::create_directory(dir / "ro");
  const Finished run = finish(
      on_host_root("echo kept >'" + (dir / "rw") + "/made'; mount -o remount,rw '" + (dir / "ro") +
                       "'; echo lost >'" + (dir / "ro") + "/made' && exit 9; pwd",
                   {"--rw", dir / "rw", "--ro", dir / "ro", "--pwd", dir / "rw"}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, (dir / "rw") + "\n");
  EXPECT_EQ(read_file(dir / "rw/made"), "kept\n");
  EXPECT_FALSE(exists(dir / "ro/made"));
}

// wick runs as root here. Otherwise the whole host would belong to the user who runs the command.
TEST(ExecRoot, AnotherUserHasOnlyItsOwnRights) {
  const TempDir dir(folder_on_disk());
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  for (const char* folder : {"roots", "own"}) std::filesystem::create_directory(dir / folder);
  write_file(dir / "roots/secret", "secret");
  ASSERT_EQ(::chmod((dir / "roots/secret").c_str(), 0600), 0);
  ASSERT_EQ(::chown((dir / "own").c_str(), 1234, 1234), 0);
  const Finished run = finish(
      wick({"exec", "-m", "256M", "-k", image("bzImage"), "--user", "1234", "--rw", dir / "roots",
            "--rw", dir / "own", "--", "sh", "-c",
            fmt::format("cat {0}/roots/secret; rm -f {0}/roots/secret; touch {0}/roots/new; "
                        "chmod 777 {0}/roots; touch {0}/own/file && chmod 640 {0}/own/file; id -u",
                        dir.path())}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "1234\n");
  EXPECT_EQ(read_file(dir / "roots/secret"), "secret");
  EXPECT_FALSE(std::filesystem::exists(dir / "roots/new"));
  struct stat status {};
  ASSERT_EQ(::stat((dir / "own/file").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 1234u);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

// git looks at its files' times, links them, renames them, and maps them.
TEST(ExecRoot, GitClonesIntoAFolderOfTheHost) {
  const TempDir dir(folder_on_disk());
  std::filesystem::create_directory(dir / "rw");
  const std::string origin = dir / "origin", clone = dir / "rw/clone";
  const auto git = [](const std::string& tree, std::vector<std::string> command) {
    command.insert(command.begin(),
                   {"git", "-C", tree, "-c", "user.name=test", "-c", "user.email=test@localhost"});
    return finish(command);
  };
  std::filesystem::create_directory(origin);
  ASSERT_EQ(git(origin, {"init", "-q"}).status, 0);
  for (int i = 0; i < 100; ++i) {
    std::filesystem::create_directories(fmt::format("{}/{}", origin, i % 10));
    write_file(fmt::format("{}/{}/{}", origin, i % 10, i),
               std::string(1000, static_cast<char>('a' + i % 26)));
  }
  ASSERT_EQ(git(origin, {"add", "."}).status, 0);
  ASSERT_EQ(git(origin, {"commit", "-qm", "all"}).status, 0);
  const Finished run = finish(on_host_root(
      fmt::format("git clone -q '{}' '{}' && cd '{}' && git status --porcelain && echo x >>1/1 && "
                  "git status --porcelain && git -c user.name=g -c user.email=g@g commit -qam x && "
                  "git gc -q && git fsck && git log --oneline | wc -l",
                  origin, clone, clone),
      {"--rw", dir / "rw"}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, " M 1/1\n2\n") << run.err;
  EXPECT_EQ(git(clone, {"fsck"}).status, 0);
  EXPECT_EQ(git(clone, {"log", "--format=%s"}).out, "x\nall\n");
}

TEST(ExecRoot, OverlayKeepsWhatWasWrittenAndRemoved) {
  const TempDir dir(folder_on_disk());
  std::filesystem::create_directory(dir / "kept");
  std::filesystem::create_directory(dir / "tree");
  write_file(dir / "tree/file", "of the host");
  const std::string tree = "'" + (dir / "tree") + "'";
  const std::vector<std::string> options = {"--overlay", dir / "kept"};
  const Finished wrote =
      finish(on_host_root("cd " + tree + " && echo new >made && rm file && ls", options));
  EXPECT_EQ(wrote.out, "made\n") << wrote.err;
  const Finished later = finish(on_host_root("ls " + tree, options));
  EXPECT_EQ(later.out, "made\n") << later.err;
  EXPECT_EQ(read_file(dir / "tree/file"), "of the host");
  EXPECT_FALSE(exists(dir / "tree/made"));
}

TEST(ExecRoot, TemporaryFoldersAndScriptsAreTheGuests) {
  const TempDir dir(folder_on_disk());
  std::filesystem::create_directory(dir / "tmp");
  write_file(dir / "tmp/file", "of the host");
  write_file(dir / "script", "ls '" + (dir / "tmp") + "'; echo \"$0 $*\"\n");
  const Finished run = finish(wick({"exec", "-k", image("bzImage"), "--tmpfs", dir / "tmp",
                                    "--script", dir / "script", "--", "one", "two"}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("one two\n"), Not(HasSubstr("file"))));
}

}  // namespace
}  // namespace wick::lab

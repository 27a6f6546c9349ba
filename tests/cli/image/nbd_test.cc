// wick image nbd as a program, and as its clients nbdinfo, nbdcopy, qemu-img and qemu-io see it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <optional>

#include "tests/cli/image/fixture.h"
#include "tests/fakes/wait_for.h"

namespace wick::cli {
namespace {

using testing::HasSubstr;

constexpr const char* kUri = "'nbd+unix:///?socket=s'";

class NbdProgram : public ImageCommands {
 protected:
  ~NbdProgram() override {
    if (pid_) {
      EXPECT_EQ(end(), 0);
    }
  }

  // Starts the server on the socket "s", and waits until it listens.
  void serve(const std::string& options) {
    start(options + " --socket s");
    EXPECT_TRUE(fakes::wait_for([] { return std::filesystem::exists("s"); })) << log();
  }
  void start(const std::string& options) {
    const std::string line =
        "exec " + std::string(WICK_BINARY) + " image nbd " + options + " 2>log";
    const char* const words[] = {"sh", "-c", line.c_str(), nullptr};
    pid_t pid = -1;
    ASSERT_EQ(::posix_spawn(&pid, "/bin/sh", nullptr, nullptr, const_cast<char**>(words), environ),
              0);
    pid_ = pid;
  }
  // Sends a signal, and returns the exit status.
  int end(int number = SIGTERM) {
    ::kill(*pid_, number);
    return wait();
  }
  int wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(*std::exchange(pid_, {}), &status, 0) > 0, true);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  static std::string log() { return fakes::read_file("log"); }
  static void make_disk() {
    ASSERT_EQ(shell("qemu-img create -q -f qcow2 disk.qcow2 64M && qemu-io "
                    "-c 'write -P 1 0 1M' -c 'write -P 2 5000000 3000' -c 'write -z 20M 1M' "
                    "-c 'write -P 3 63M 1M' disk.qcow2")
                  .status,
              0);
  }
  // A command whose client must succeed.
  void run(const std::string& command) {
    const Outcome outcome = shell("timeout 60 " + command);
    EXPECT_EQ(outcome.status, 0) << command << "\n" << outcome.out << outcome.error << log();
  }

  std::optional<pid_t> pid_;
};

TEST_F(NbdProgram, IsWhatNbdinfoExpects) {
  make_disk();
  serve("-t -x disk -D 'my disk' -e 4 disk.qcow2");
  const Outcome info = shell("timeout 60 nbdinfo --json 'nbd+unix:///disk?socket=s'");
  ASSERT_EQ(info.status, 0) << info.error << log();
  const auto json = nlohmann::json::parse(info.out);
  const auto& disk = json["exports"][0];
  EXPECT_EQ(json["protocol"], "newstyle-fixed");
  EXPECT_EQ(json["structured"], true);
  EXPECT_EQ(disk["export-name"], "disk");
  EXPECT_EQ(disk["description"], "my disk");
  EXPECT_EQ(disk["export-size"], 64 << 20);
  EXPECT_EQ(disk["contexts"][0], "base:allocation");
  EXPECT_EQ(disk["block_size_maximum"], 32 << 20);
  for (const char* const can : {"can_df", "can_flush", "can_fua", "can_multi_conn", "can_trim",
                                "can_zero", "can_fast_zero"})
    EXPECT_EQ(disk[can], true) << can;
  EXPECT_EQ(disk["can_cache"], false);
  EXPECT_EQ(disk["is_read_only"], false);
  run("nbdinfo --list 'nbd+unix:///?socket=s'");
  EXPECT_NE(shell("nbdinfo 'nbd+unix:///other?socket=s'").status, 0);
}

TEST_F(NbdProgram, MapsTheDiskAsQemuDoes) {
  make_disk();
  const Outcome map = shell("qemu-img map --output json disk.qcow2");
  serve("-t -r disk.qcow2");
  const Outcome through = shell("timeout 60 qemu-img map --output json " + std::string(kUri));
  ASSERT_EQ(through.status, 0) << through.error << log();
  // The server knows no depth; extents that differ only in it are one. So compare bytes.
  const auto bytes = [](const std::string& text) {
    std::string kinds(64 << 8, '?');  // of each 4 KiB
    for (const auto& extent : nlohmann::json::parse(text))
      for (size_t at = extent["start"]; at < size_t(extent["start"]) + size_t(extent["length"]);
           at += 4096)
        kinds[at / 4096] = extent["zero"] ? '0' : extent["data"] ? 'd' : '-';
    return kinds;
  };
  EXPECT_EQ(bytes(through.out), bytes(map.out));
  run("nbdinfo --map " + std::string(kUri));
}

TEST_F(NbdProgram, IsCopiedByNbdcopyBothWays) {
  make_disk();
  run("qemu-img convert -O raw disk.qcow2 expected.raw");
  serve("-t -e 4 disk.qcow2");
  run("nbdcopy " + std::string(kUri) + " copy.raw");
  run("cmp expected.raw copy.raw");
  run("nbdcopy --no-extents --requests=64 " + std::string(kUri) + " copy2.raw");
  run("cmp expected.raw copy2.raw");
  EXPECT_EQ(end(), 0) << log();
  run("qemu-img create -q -f qcow2 target.qcow2 64M");
  serve("-t -e 4 target.qcow2");
  run("nbdcopy --flush --destination-is-zero expected.raw " + std::string(kUri));
  EXPECT_EQ(end(), 0) << log();
  run("qemu-img check target.qcow2");
  run("qemu-img compare target.qcow2 disk.qcow2");
}

TEST_F(NbdProgram, IsReadAndWrittenByQemu) {
  make_disk();
  serve("-t disk.qcow2");
  const std::string uri = kUri;
  run("qemu-img convert -f raw -O raw " + uri + " copy.raw");
  run("qemu-io -f raw -c 'read -P 1 0 1M' -c 'read -P 2 5000000 3000' -c 'read -P 0 20M 1M' "
      "-c 'write -P 9 30M 64k' -c 'write -f -P 8 31M 1000' -c 'write -z -u 0 512k' "
      "-c 'write -z 600k 4k' -c 'discard 63M 1M' -c flush -c 'read -P 9 30M 64k' "
      "-c 'read -P 8 31M 1000' -c 'read -P 0 0 512k' -c 'read -P 0 600k 4k' " +
      uri);
  run("qemu-img info " + uri);
  EXPECT_EQ(end(), 0) << log();
  run("qemu-img check disk.qcow2");
  run("qemu-io -c 'read -P 9 30M 64k' -c 'read -P 8 31M 1000' -c 'read -P 0 0 512k' disk.qcow2");
}

TEST_F(NbdProgram, FlushesWhenItIsEnded) {
  make_disk();
  for (const int number : {SIGTERM, SIGINT}) {
    serve("-t disk.qcow2");
    const std::string pattern = std::to_string(10 + number);
    run("qemu-io -t unsafe -f raw -c 'write -P " + pattern + " 10M 1M' " + kUri);
    EXPECT_EQ(end(number), 0) << log();
    EXPECT_FALSE(std::filesystem::exists("s"));
    run("qemu-img check disk.qcow2");
    run("qemu-io -c 'read -P " + pattern + " 10M 1M' disk.qcow2");
  }
}

TEST_F(NbdProgram, EndsWithItsLastClient) {
  make_disk();
  serve("disk.qcow2");
  run("qemu-io -f raw -c 'read -P 1 0 1M' " + std::string(kUri));
  EXPECT_EQ(wait(), 0);
  EXPECT_FALSE(std::filesystem::exists("s"));
}

TEST_F(NbdProgram, GoesToTheBackgroundWhenClientsCanConnect) {
  make_disk();
  const std::string line =
      std::string(WICK_BINARY) + " image nbd --fork --pid-file pid --socket s disk.qcow2";
  ASSERT_EQ(shell(line).status, 0);
  EXPECT_GT(std::stoi(fakes::read_file("pid")), 1);
  run("qemu-io -f raw -c 'read -P 1 0 1M' " + std::string(kUri));
  EXPECT_TRUE(fakes::wait_for([] { return !std::filesystem::exists("pid"); }));
  const Outcome absent = shell(std::string(WICK_BINARY) + " image nbd --fork -k s absent.qcow2");
  EXPECT_EQ(absent.status, 1);
  EXPECT_THAT(absent.error, HasSubstr("absent.qcow2"));
}

TEST_F(NbdProgram, KeepsChangesOnlyIfItShall) {
  make_disk();
  serve("-t -s disk.qcow2");
  run("qemu-io -f raw -c 'write -P 9 0 1M' -c 'read -P 9 0 1M' " + std::string(kUri));
  EXPECT_EQ(end(), 0);
  run("qemu-io -c 'read -P 1 0 1M' disk.qcow2");
  serve("-t -r disk.qcow2");
  EXPECT_NE(shell("qemu-io -f raw -c 'write -P 9 0 1M' " + std::string(kUri)).status, 0);
  EXPECT_EQ(end(), 0);
}

TEST_F(NbdProgram, ServesSnapshotsAndForeignFormatsForReading) {
  make_disk();
  run("qemu-img snapshot -c before disk.qcow2");
  run("qemu-io -c 'write -P 9 0 1M' disk.qcow2");
  serve("-r -l before disk.qcow2");
  run("qemu-io -r -f raw -c 'read -P 1 0 1M' " + std::string(kUri));
  EXPECT_EQ(wait(), 0);
  run("qemu-img convert -O vdi disk.qcow2 disk.vdi");
  serve("-r disk.vdi");
  run("qemu-io -r -f raw -c 'read -P 9 0 1M' " + std::string(kUri));
  EXPECT_EQ(wait(), 0);
  const Outcome refused = shell(std::string(WICK_BINARY) + " image nbd -k s disk.vdi");
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.error, HasSubstr("add -r"));
}

TEST_F(NbdProgram, LooksAtTheSizeAgainAtUsr1) {
  run("truncate -s 1M disk.raw");
  serve("-t -f raw disk.raw");
  EXPECT_EQ(shell("nbdinfo --size " + std::string(kUri)).out, "1048576\n");
  run("truncate -s 2M disk.raw");
  ::kill(*pid_, SIGUSR1);
  EXPECT_TRUE(fakes::wait_for(
      [] { return shell("nbdinfo --size " + std::string(kUri)).out == "2097152\n"; }));
}

TEST_F(NbdProgram, ListensOnLoopbackByDefault) {
  run("truncate -s 1M disk.raw");
  start("-t -f raw -p 10919 disk.raw");
  EXPECT_TRUE(fakes::wait_for([] {
    return shell("nbdinfo --size nbd://127.0.0.1:10919").out == "1048576\n";
  })) << log();
}

TEST_F(NbdProgram, UsageErrorsNameTheOption) {
  const auto error = [](Arguments arguments) {
    arguments.insert(arguments.begin(), "nbd");
    const auto command = parse(arguments);
    return command ? "" : command.error().error.message();
  };
  EXPECT_EQ(error({"disk"}), "");
  EXPECT_THAT(error({}), HasSubstr("FILE is missing"));
  EXPECT_THAT(error({"-e", "65", "disk"}), HasSubstr("-e: \"65\" is not a number, 0 to 64"));
  EXPECT_THAT(error({"-p", "x", "disk"}), HasSubstr("-p"));
  EXPECT_THAT(error({"-k", "s", "-c", "/dev/nbd0", "disk"}), HasSubstr("exclude each other"));
  EXPECT_THAT(error({"-c", "/dev/nbd0", "-t", "disk"}), HasSubstr("-t: not with -c"));
  EXPECT_THAT(error({"-l", "snap", "disk"}), HasSubstr("add -r"));
  EXPECT_THAT(error({"-r", "-s", "disk"}), HasSubstr("-s: not with -r"));
  EXPECT_THAT(error({"-d", "/dev/nbd0", "disk"}), HasSubstr("-d: without FILE"));
  EXPECT_EQ(error({"-d", "/dev/nbd0"}), "");
}

TEST_F(NbdProgram, ADeviceThatIsNoneIsRefused) {
  make_disk();
  const Outcome refused = shell(std::string(WICK_BINARY) + " image nbd -c /dev/null disk.qcow2");
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.error, HasSubstr("/dev/null: is not an NBD device"));
}

}  // namespace
}  // namespace wick::cli

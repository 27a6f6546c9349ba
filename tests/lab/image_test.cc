// Images made by wick's own tools under running guests; QEMU's tools judge them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::AnyOf;

Finished image_tool(std::vector<std::string> words) {
  words.insert(words.begin(), "image");
  return finish(wick(words));
}

void expect_done(const std::vector<std::string>& words) {
  const Finished run = image_tool(words);
  EXPECT_EQ(run.status, 0) << run.out << run.err;
}

Process boot(const std::string& disk, const std::vector<std::string>& more = {}) {
  std::vector<std::string> words = {"-k", image("bzImage"), "-a", "quiet", "-d", disk};
  words.insert(words.end(), more.begin(), more.end());
  return Process(wick_run(words));
}

uint64_t allocated_bytes(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

void expect_sound_after_kill(int delay_ms) {
  const TempDir dir;
  const std::string disk = dir / "overlay.qcow2";
  expect_done({"create", "-f", "qcow2", "-b", alpine_disk(dir), "-F", "raw", disk});
  Process vm = boot(disk);
  log_in(vm.console());
  (void)run_in_guest(vm.console(), "echo flushed >/root/kept && sync");
  (void)run_in_guest(vm.console(),
                     "{ while :; do dd if=/dev/urandom of=/root/$RANDOM bs=64k count=32; "
                     "rm -f /root/*1* /root/*3*; sync; fstrim /; done & } 2>/dev/null");
  std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
  vm.signal(SIGKILL);
  EXPECT_EQ(vm.wait(), -SIGKILL);

  const Finished check = finish({"qemu-img", "check", disk});
  EXPECT_THAT(check.status, AnyOf(0, 3)) << check.out << check.err;  // 3: leaks only
  const std::string raw = dir / "all.raw";
  expect_done({"convert", "-O", "raw", disk, raw});
  const Finished replay = finish({"e2fsck", "-p", raw});
  EXPECT_THAT(replay.status, AnyOf(0, 1)) << replay.out << replay.err;
  expect_clean(raw);
  EXPECT_EQ(file_in_image(raw, "/root/kept"), "flushed\n");
}

TEST(Image, IsSoundAfterKill9DuringWrites) { expect_sound_after_kill(900); }

TEST(Image, IsSoundAfterKill9TwentyTimesLong) {
  for (int delay_ms = 0; delay_ms < 3000; delay_ms += 150) {
    SCOPED_TRACE(delay_ms);
    expect_sound_after_kill(delay_ms);
  }
}

TEST(Image, GivesBackWhatTheGuestTrims) {
  const TempDir dir;
  const std::string disk = dir / "disk.qcow2";
  expect_done({"convert", "-O", "qcow2", alpine_disk(dir), disk});
  Process vm = boot(disk);
  log_in(vm.console());
  (void)run_in_guest(vm.console(), "dd if=/dev/urandom of=/root/large bs=1M count=48; sync");
  const uint64_t full = allocated_bytes(disk);
  EXPECT_GT(full, 48u << 20);
  (void)run_in_guest(vm.console(), "rm /root/large; sync; fstrim /");
  EXPECT_LT(allocated_bytes(disk), full - (40u << 20));
  power_off(vm);
  EXPECT_EQ(finish({"qemu-img", "check", disk}).status, 0);
}

TEST(Image, InUseIsRefused) {
  const TempDir dir;
  const std::string disk = dir / "disk.qcow2";
  expect_done({"convert", "-O", "qcow2", alpine_disk(dir), disk});
  Process vm = boot(disk);
  log_in(vm.console());
  const std::vector<std::vector<std::string>> commands = {
      {"resize", disk, "+1M"}, {"snapshot", "-c", "s", disk}, {"check", "-r", "all", disk}};
  for (const auto& command : commands) {
    const Finished refused = image_tool(command);
    EXPECT_NE(refused.status, 0) << command.front();
    EXPECT_THAT(refused.err, testing::HasSubstr("writes to it")) << command.front();
  }
  EXPECT_NE(finish({"qemu-img", "snapshot", "-c", "s", disk}).status, 0);
  power_off(vm);
  expect_done({"resize", disk, "+1M"});
}

TEST(Image, ThatGrowsIsSeenByARunningGuest) {
  const TempDir dir;
  const std::string data = dir / "data.img";
  expect_done({"create", data, "16M"});
  Process vm = boot(alpine_disk(dir), {"-d", data + ",format=raw"});
  log_in(vm.console());
  EXPECT_EQ(run_in_guest(vm.console(), "cat /sys/block/vdb/size"), "32768");
  std::filesystem::resize_file(data, 64 << 20);
  vm.signal(SIGUSR1);
  EXPECT_EQ(
      run_in_guest(vm.console(),
                   "for i in $(seq 100); do [ $(cat /sys/block/vdb/size) = 131072 ] && break; "
                   "sleep 0.1; done; cat /sys/block/vdb/size"),
      "131072");
  (void)run_in_guest(vm.console(),
                     "echo the-end | dd of=/dev/vdb bs=512 seek=131071 conv=sync,fsync");
  power_off(vm);
  EXPECT_TRUE(read_file(data, (64 << 20) - 512).starts_with("the-end\n"));
}

}  // namespace
}  // namespace wick::lab

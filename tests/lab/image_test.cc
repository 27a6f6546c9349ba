// Images made by wick's own tools and used by running guests; QEMU's tools check them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
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

// Boots from `disk`, checks that the layers below have the files of `below`, and adds one file.
void add_file_in_guest(const std::string& disk, const std::vector<std::string>& kernel,
                       const std::string& below, const std::string& file) {
  std::vector<std::string> words = {"-d", disk, "-a", "root=/dev/vda rw quiet"};
  words.insert(words.end(), kernel.begin(), kernel.end());
  Process vm(wick_run(words));
  log_in(vm.console());
  EXPECT_EQ(run_in_guest(vm.console(), "cd /root; echo *"), below);
  (void)run_in_guest(vm.console(), "echo of-" + file + " >/root/" + file);
  power_off(vm);
  EXPECT_EQ(finish({"qemu-img", "check", disk}).status, 0);
}

void expect_chain_of_three_works(const std::vector<std::string>& kernel) {
  const TempDir dir;
  const std::string base = dir / "base.qcow2";
  const std::string middle = dir / "middle.qcow2";
  const std::string top = dir / "top.qcow2";
  expect_done({"convert", "-O", "qcow2", "-c", alpine_disk(dir), base});
  expect_done({"create", "-f", "qcow2", "-b", base, "-F", "qcow2", middle});
  add_file_in_guest(middle, kernel, "*", "one");
  const std::string base_before = read_file(base);
  const std::string middle_before = read_file(middle);
  expect_done({"create", "-f", "qcow2", "-b", middle, "-F", "qcow2", top});
  add_file_in_guest(top, kernel, "one", "two");
  EXPECT_TRUE(read_file(base) == base_before);
  EXPECT_TRUE(read_file(middle) == middle_before);
  const std::string raw = dir / "all.raw";
  ASSERT_EQ(finish({"qemu-img", "convert", "-O", "raw", top, raw}).status, 0);
  expect_clean(raw);
  EXPECT_EQ(file_in_image(raw, "/root/one"), "of-one\n");
  EXPECT_EQ(file_in_image(raw, "/root/two"), "of-two\n");
}

// Copies a program of this system and its libraries into a disk's file system. Returns the
// command that runs it in the guest.
std::string lend_program(const std::string& disk, const std::string& program) {
  const Finished copied = finish({"sh", "-c",
                                  R"({ echo mkdir /lent; echo cd /lent
            for file in "$1" $(ldd "$1" | grep -o '/[^ ]*'); do
              echo "write $(readlink -f "$file") ${file##*/}"
              echo "set_inode_field ${file##*/} mode 0100755"
            done; } | debugfs -w -f - "$0")",
                                  disk, program});
  EXPECT_EQ(copied.status, 0) << copied.out << copied.err;
  return "/lent/ld-linux-x86-64.so.2 --library-path /lent /lent/" +
         std::filesystem::path(program).filename().string();
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

TEST(Image, ChainOfThreeWorksLong) { expect_chain_of_three_works({"-k", image("bzImage")}); }

TEST(Image, ChainOfThreeWorksUnderAStockKernelLong) {
  expect_chain_of_three_works({"-k", image("debian-cloud/vmlinuz"), "-i", "auto"});
}

TEST(Image, IsTheBaseOfTwoMachinesAtOnceLong) {
  const TempDir dir;
  const std::string base = alpine_disk(dir);
  const std::string before = read_file(base);
  const std::array overlays = {dir / "one", dir / "two"};
  for (const std::string& overlay : overlays)
    expect_done({"create", "-f", "qcow2", "-b", base, "-F", "raw", overlay});
  std::array<Process, 2> machines = {boot(overlays[0]), boot(overlays[1])};
  for (size_t i = 0; i < machines.size(); ++i) {
    log_in(machines[i].console());
    (void)run_in_guest(machines[i].console(), "echo " + overlays[i] + " >/root/mine; sync");
  }
  for (size_t i = 0; i < machines.size(); ++i) {
    EXPECT_EQ(run_in_guest(machines[i].console(), "cat /root/mine"), overlays[i]);
    power_off(machines[i]);
    EXPECT_EQ(finish({"qemu-img", "check", overlays[i]}).status, 0);
  }
  EXPECT_TRUE(read_file(base) == before);
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

// With the driver of a stock kernel.
void expect_grows_in_use(const std::string& format) {
  const TempDir dir;
  const std::string data = dir / ("data." + format);
  expect_done({"create", "-f", format, data, "16M"});
  // The L1 table is too small for the new size.
  const std::string large = format == "raw" ? "64M" : "2G";
  const std::string sectors = format == "raw" ? "131072" : "4194304";
  Process vm(
      wick_run({"-k", image("debian-cloud/vmlinuz"), "-i", "auto", "-a", "root=/dev/vda rw quiet",
                "-d", alpine_disk(dir), "-d", data + ",format=" + format}));
  log_in(vm.console());
  EXPECT_EQ(run_in_guest(vm.console(), "cat /sys/block/vdb/size"), "32768");
  (void)run_in_guest(vm.console(),
                     "echo the-start | dd of=/dev/vdb bs=512 conv=sync,fsync 2>/dev/null");
  expect_done({"resize", "--in-use", data, large});
  vm.signal(SIGUSR1);
  EXPECT_EQ(run_in_guest(vm.console(),
                         "for i in $(seq 100); do [ $(cat /sys/block/vdb/size) = " + sectors +
                             " ] && break; sleep 0.1; done; " + "cat /sys/block/vdb/size"),
            sectors);
  (void)run_in_guest(vm.console(), "echo the-end | dd of=/dev/vdb bs=512 seek=$((" + sectors +
                                       " - 1)) conv=sync,fsync");
  power_off(vm);
  const Finished ends =
      finish({"sh", "-c",
              R"(qemu-img dd -U -f "$1" -O raw bs=512 count=1 if="$0" of="$0.start" &&
          qemu-img dd -U -f "$1" -O raw bs=512 skip=$(($2 - 1)) if="$0" of="$0.end" &&
          head -n 1 "$0.start" && head -n 1 "$0.end")",
              data, format, sectors});
  EXPECT_EQ(ends.status, 0) << ends.err;
  EXPECT_EQ(ends.out, "the-start\nthe-end\n");
  if (format == "qcow2") {
    EXPECT_EQ(finish({"qemu-img", "check", data}).status, 0);
  }
}

TEST(Image, OfQcow2GrowsUnderARunningGuestByResizeInUse) { expect_grows_in_use("qcow2"); }

TEST(Image, OfRawGrowsUnderARunningGuestByResizeInUse) { expect_grows_in_use("raw"); }

TEST(Image, ThatGrowsUnderAMountedFileSystemGrowsItToo) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  const std::string resize2fs = lend_program(disk, "/sbin/resize2fs");
  const std::string data = dir / "data.img";
  ASSERT_EQ(finish({"mke2fs", "-q", "-t", "ext4", data, "16M"}).status, 0);
  Process vm = boot(disk, {"-d", data + ",format=raw"});
  log_in(vm.console());
  (void)run_in_guest(vm.console(), "mount /dev/vdb /mnt; echo kept >/mnt/note");
  std::filesystem::resize_file(data, 96 << 20);
  vm.signal(SIGUSR1);
  (void)run_in_guest(vm.console(),
                     "until [ $(cat /sys/block/vdb/size) = 196608 ]; do sleep 0.1; done; " +
                         resize2fs + " /dev/vdb");
  (void)run_in_guest(vm.console(), "dd if=/dev/urandom of=/mnt/large bs=1M count=64; umount /mnt");
  power_off(vm);
  expect_clean(data);
  EXPECT_EQ(file_in_image(data, "/note"), "kept\n");
}

}  // namespace
}  // namespace wick::lab

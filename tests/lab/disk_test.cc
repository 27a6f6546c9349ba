// A guest's writes on the host, after each kind of ending.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

Process boot(const std::string& disk) {
  return Process(wick_run({"-k", image("bzImage"), "-a", "quiet", "-d", disk}));
}

// Writes a file in the guest and powers off; the file must be in the image.
void expect_writes_arrive(const std::string& path, const std::string& options) {
  Process vm(wick_run({"-k", image("bzImage"), "-a", "quiet", "-d", path + options}));
  log_in(vm.console());
  (void)run_in_guest(vm.console(),
                     "echo written-by-the-guest >/root/note; "
                     "dd if=/dev/urandom of=/root/large bs=1M count=8");
  const std::string sum = run_in_guest(vm.console(), "md5sum </root/large");
  power_off(vm);
  expect_clean(path);
  EXPECT_EQ(file_in_image(path, "/root/note"), "written-by-the-guest\n");
  const TempDir dir;
  EXPECT_EQ(finish({"debugfs", "-R", "dump /root/large " + (dir / "large"), path}).status, 0);
  EXPECT_EQ(finish({"sh", "-c", "md5sum <" + (dir / "large")}).out, sum + "\n");
}

TEST(Disk, HasTheGuestsFilesAfterAPowerOff) {
  const TempDir dir;
  expect_writes_arrive(alpine_disk(dir), "");
}

TEST(Disk, HasTheGuestsFilesWithoutTheHostsCache) {
  const TempDir dir(folder_on_disk());
  expect_writes_arrive(alpine_disk(dir), ",cache=none");
}

TEST(Disk, HasTheGuestsFilesWithoutFlushesLong) {
  const TempDir dir;
  expect_writes_arrive(alpine_disk(dir), ",cache=unsafe");
}

TEST(Disk, ThatIsEphemeralServesTwoMachinesAndStaysAsItWas) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  const std::string before = read_file(disk);
  Process one = boot(disk + ",ephemeral=on");
  Process two = boot(disk + ",ephemeral=on");
  for (Process* const vm : {&one, &two}) {
    log_in(vm->console());
    EXPECT_EQ(
        run_in_guest(vm->console(), "ls /root/note; echo mine >/root/note; sync; cat /root/note"),
        "ls: /root/note: No such file or directory\nmine");
  }
  power_off(one);
  power_off(two);
  EXPECT_TRUE(read_file(disk) == before);
}

TEST(Disk, OnQcow2HasTheGuestsFilesAndLeavesItsBaseAlone) {
  const TempDir dir;
  const std::string base = alpine_disk(dir);
  const std::string disk = dir / "overlay.qcow2";
  const auto qemu_img = [](std::vector<std::string> words) {
    words.insert(words.begin(), "qemu-img");
    const Finished run = finish(words);
    EXPECT_EQ(run.status, 0) << run.out << run.err;
  };
  qemu_img({"create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", dir / "middle.qcow2"});
  qemu_img({"create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", disk});
  Process vm = boot(disk);
  log_in(vm.console());
  const std::string sum = run_in_guest(
      vm.console(),
      "dd if=/dev/urandom of=/root/large bs=1M count=8 2>/dev/null; md5sum </root/large");
  power_off(vm);
  qemu_img({"check", "-q", disk});
  const std::string raw = dir / "all.raw";
  qemu_img({"convert", "-O", "raw", disk, raw});
  expect_clean(raw);
  EXPECT_EQ(finish({"debugfs", "-R", "dump /root/large " + (dir / "large"), raw}).status, 0);
  EXPECT_EQ(finish({"sh", "-c", "md5sum <" + (dir / "large")}).out, sum + "\n");
  EXPECT_EQ(finish({"cmp", base, alpine_disk(dir, "before")}).status, 0);
}

TEST(Disk, CanBeAReadOnlyRoot) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm(wick_run({"-k", image("bzImage"), "-a", "quiet", "-d", disk + ",readonly=on"}));
  log_in(vm.console());
  EXPECT_THAT(run_in_guest(vm.console(), "cat /proc/cmdline"), HasSubstr(" root=/dev/vda ro "));
  EXPECT_EQ(run_in_guest(vm.console(), "cat /sys/block/vda/ro"), "1");
  EXPECT_NE(ask(vm.console(), "touch /root/new").status, 0);
  EXPECT_NE(ask(vm.console(), "mount -o remount,rw /").status, 0);
  EXPECT_NE(ask(vm.console(), "dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync").status, 0);
  power_off(vm);
  const Finished compared = finish({"cmp", disk, alpine_disk(dir, "before")});
  EXPECT_EQ(compared.status, 0) << compared.out << compared.err;
}

TEST(Disk, OfAnotherUserCanBeReadOnly) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  std::filesystem::permissions(disk, std::filesystem::perms(0444));
  Process vm(wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh",
                       "-d", disk + ",readonly=on"}));
  vm.console().expect("# ");
  EXPECT_EQ(run_in_guest(vm.console(), "mount -r /dev/vda /root && cat /root/etc/hostname"),
            "alpine");
}

// SIGTERM during writes: the journal can be replayed, and flushed data is there.
void expect_sound_after_sigterm(int delay_ms) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm = boot(disk);
  log_in(vm.console());
  (void)run_in_guest(vm.console(), "echo flushed >/root/kept && sync");
  (void)run_in_guest(vm.console(),
                     "{ while :; do dd if=/dev/urandom of=/root/$RANDOM bs=64k count=32; "
                     "rm -f /root/*1* /root/*3*; sync; done & } 2>/dev/null");
  std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
  vm.signal(SIGTERM);
  expect_ending(vm, 143, "wick: ended by signal 15 (SIGTERM)");

  const Finished replay = finish({"e2fsck", "-p", disk});
  EXPECT_THAT(replay.status, AnyOf(0, 1)) << replay.out << replay.err;
  expect_clean(disk);
  EXPECT_EQ(file_in_image(disk, "/root/kept"), "flushed\n");
}

TEST(Disk, IsSoundAfterSigtermDuringWrites) { expect_sound_after_sigterm(700); }

TEST(Disk, IsSoundAfterSigtermAtManyMomentsLong) {
  for (int delay_ms = 0; delay_ms < 2000; delay_ms += 130) {
    SCOPED_TRACE(delay_ms);
    expect_sound_after_sigterm(delay_ms);
  }
}

TEST(Disk, WithoutRoomOnTheHostIsAnErrorInTheGuestAndNotTheEnd) {
  const TempDir dir;
  const std::string script =
      fmt::format("mount -t tmpfs -o size=8M none {0} && truncate -s 64M {0}/disk", dir.path());
  const TempDir root;
  Process vm(in_own_mounts(script, wick_run({"-k", image("bzImage"), "-a", "quiet", "-d",
                                             alpine_disk(root), "-d", dir / "disk"})));
  log_in(vm.console());
  const Answer filling =
      ask(vm.console(), "dd if=/dev/zero of=/dev/vdb bs=1M count=32 conv=fsync 2>&1");
  EXPECT_NE(filling.status, 0);
  EXPECT_THAT(filling.output, HasSubstr("I/O error"));
  EXPECT_THAT(run_in_guest(vm.console(), "dmesg | grep vdb"), HasSubstr("I/O error, dev vdb"));
  EXPECT_THAT(vm.errors(), HasSubstr("No space left on device"));
  // The data that had room is there, and both disks still work.
  EXPECT_EQ(run_in_guest(vm.console(), "dd if=/dev/vdb bs=1M count=4 2>/dev/null | wc -c"),
            std::to_string(4 * kMiB));
  EXPECT_EQ(run_in_guest(vm.console(), "echo still here >/root/a && sync && cat /root/a"),
            "still here");
  power_off(vm);
}

TEST(Disk, CanBeABlockDeviceOfTheHost) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root makes loop devices";
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  (void)finish({"modprobe", "loop"});
  const Finished loop = finish({"losetup", "--find", "--show", disk});
  if (loop.status != 0) GTEST_SKIP() << "no loop devices here: " << loop.err;
  const std::string device = loop.out.substr(0, loop.out.find('\n'));
  {
    Process vm = boot(device);
    log_in(vm.console());
    (void)run_in_guest(vm.console(), "echo through-the-loop >/root/note");
    power_off(vm);
  }
  EXPECT_EQ(finish({"losetup", "-d", device}).status, 0);
  expect_clean(disk);
  EXPECT_EQ(file_in_image(disk, "/root/note"), "through-the-loop\n");
}

}  // namespace
}  // namespace wick::lab

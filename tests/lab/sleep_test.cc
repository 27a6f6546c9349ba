// Sleep: S3 with everything that wakes a machine, and S4. The guest is Debian's kernel for clouds,
// which has both.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <string>
#include <thread>

#include "tests/display/rfb_client.h"
#include "tests/lab/qmp.h"
#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::HasSubstr;

constexpr size_t kDataBytes = 8 << 20;

std::vector<std::string> in_background(const TempDir& dir, const std::vector<std::string>& words) {
  std::vector<std::string> argv = {"env", "WICK_RUNTIME_DIR=" + dir / "run"};
  const auto command = wick(words);
  argv.insert(argv.end(), command.begin(), command.end());
  return argv;
}

// The times in a kernel's log, which never go backwards: "[    1.250000] message".
bool times_grow(const std::string& dmesg) {
  double last = 0;
  for (const std::string& line : lines(dmesg)) {
    double time = 0;
    if (std::sscanf(line.c_str(), "[%lf]", &time) != 1) continue;
    if (time < last || time > 1e6) return false;
    last = time;
  }
  return true;
}

class Sleep : public testing::Test {
 protected:
  enum class Start { kKernel, kCdrom };

  // A machine with a shell, a disk with data and a user network.
  void start(Start how = Start::kKernel, const std::vector<std::string>& options = {}) {
    if (finish({"sh", "-c", fmt::format("head -c {} /dev/urandom >{}", kDataBytes, dir_ / "data")})
            .status != 0)
      give_up("no data");
    sum_ = finish({"md5sum", dir_ / "data"}).out.substr(0, 32);
    std::vector<std::string> words = {"run",
                                      "--name",
                                      "sleeper",
                                      "-m",
                                      "192M",
                                      "-d",
                                      dir_ / "data,format=raw",
                                      "-n",
                                      "user",
                                      "--qmp",
                                      "unix:" + dir_ / "qmp"};
    if (how == Start::kKernel) {
      words.insert(words.end(), {"-k", image("debian-cloud/vmlinuz"), "-i",
                                 image("debian-cloud/initrd.img"), "-a", "quiet wick.sh"});
    } else {
      // With a screen the firmware does not write to the serial port between the menu's letters.
      words.insert(words.end(), {"--boot", "cdrom", "--cdrom", image("isolinux.iso"), "--display",
                                 "vnc=unix:" + dir_ / "vnc"});
    }
    words.insert(words.end(), options.begin(), options.end());
    vm_.emplace(in_background(dir_, words));
    qmp_.emplace(dir_ / "qmp");
    if (how == Start::kCdrom) {
      shell().expect("eport and power off");
      shell().send("s");
    }
    shell().expect("# ");
    (void)run_in_guest(shell(), "dmesg -n 1");  // no messages in the output of commands
    EXPECT_EQ(run_in_guest(shell(), "cat /sys/power/mem_sleep"), "s2idle [deep]");
    (void)run_in_guest(shell(), "ifconfig eth0 10.0.2.15 up");
    EXPECT_EQ(faults_of_the_guest(), "");
  }
  Dialogue& shell() { return vm_->console(); }
  Finished command(const std::vector<std::string>& words) const {
    return finish(in_background(dir_, words));
  }

  // What does not work in the guest; empty if all is well. After S4, Linux 6.1 adds its old offset
  // to a kvmclock that has begun anew, under every VMM, so `same_clock` is false then.
  std::string faults_of_the_guest(bool same_clock = true) {
    std::string faults;
    const auto check = [&](bool good, const std::string& what) {
      if (!good) faults += what + "\n";
    };
    const std::string dmesg = run_in_guest(shell(), "dmesg");
    check(complaints(dmesg).empty(), complaints(dmesg));
    check(!same_clock || times_grow(dmesg), "the times of the kernel's log go backwards");
    const long long now = std::stoll(run_in_guest(shell(), "date +%s"));
    const auto difference = now - static_cast<long long>(std::time(nullptr));
    check(difference >= -2 && difference <= 2, fmt::format("the clock is {} s off", difference));
    const std::string sum =
        run_in_guest(shell(), "echo 3 >/proc/sys/vm/drop_caches; md5sum </dev/vda | cut -c1-32");
    check(sum == sum_, "the disk has other data");
    const Answer ping = ask(shell(), "ping -c 1 -W 10 10.0.2.2");
    check(ping.status == 0, "no answer from the network: " + ping.output);
    const double uptime = std::stod(run_in_guest(shell(), "cat /proc/uptime"));
    check(uptime > uptime_, fmt::format("the uptime is {}, was {}", uptime, uptime_));
    uptime_ = uptime;
    return faults;
  }

  // Returns as soon as the guest sleeps. `before` is executed in the guest just before.
  void fall_asleep(const std::string& before = "true") {
    shell().send(before + "; echo mem >/sys/power/state; echo awake-$((times += 1))\n");
    (void)qmp_->await_event("SUSPEND");
  }
  void expect_awake() {
    (void)qmp_->await_event("WAKEUP");
    shell().expect(fmt::format("awake-{}\r\n", ++times_awake_));
    EXPECT_EQ(qmp_->status(), "running");
    EXPECT_EQ(faults_of_the_guest(), "");
  }

  const TempDir dir_;
  std::optional<Process> vm_;
  std::optional<Qmp> qmp_;
  std::string sum_;
  double uptime_ = 0;
  int times_awake_ = 0;
};

TEST_F(Sleep, IsEndedByTheHostTheButtonTheClockAndAKey) {
  start(Start::kKernel, {"--display", "vnc=unix:" + dir_ / "vnc"});
  constexpr uint64_t kLessMemory = 170 << 20;
  (void)qmp_->execute("balloon", {{"value", kLessMemory}});
  fall_asleep();
  EXPECT_EQ(qmp_->status(), "suspended");
  EXPECT_EQ(qmp_->execute("query-current-machine")["wakeup-suspend-support"], true);
  std::this_thread::sleep_for(std::chrono::seconds(3));
  EXPECT_EQ(qmp_->status(), "suspended");
  (void)qmp_->execute("system_wakeup");
  expect_awake();
  // Linux empties the balloon before it sleeps, and fills it again.
  uint64_t memory = 0;
  for (int i = 0; i < 300 && memory != kLessMemory; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    memory = qmp_->execute("query-balloon")["actual"];
  }
  EXPECT_EQ(memory, kLessMemory);

  fall_asleep();
  EXPECT_EQ(command({"shutdown", "sleeper"}).status, 0);  // the power button
  expect_awake();

  fall_asleep("echo +4 >/sys/class/rtc/rtc0/wakealarm");
  expect_awake();

  fall_asleep();
  display::RfbClient client("unix:" + dir_ / "vnc");
  ASSERT_TRUE(client.log_in());
  client.key(' ', true);
  client.key(' ', false);
  expect_awake();
  EXPECT_EQ(run_in_guest(shell(), "cat /sys/power/suspend_stats/success"), "4");
  shell().send("poweroff -f\n");
  expect_ending(*vm_, 0, "wick: the guest powered off");
}

TEST_F(Sleep, TenTimesInARowLong) {
  start();
  for (int i = 0; i < 10; ++i) {
    SCOPED_TRACE(i);
    fall_asleep();
    (void)qmp_->execute("system_wakeup");
    expect_awake();
  }
}

// The disk and the network are busy whenever the machine falls asleep.
TEST_F(Sleep, AHundredTimesInARowUnderLoadLong) {
  start();
  shell().send(
      "(while true; do echo 1 >/proc/sys/vm/drop_caches; md5sum </dev/vda; done) >/dev/null 2>&1 & "
      "(while true; do ping -c 1 -W 1 10.0.2.2; done) >/dev/null 2>&1 &\n");
  for (int i = 0; i < 100; ++i) {
    SCOPED_TRACE(i);
    fall_asleep(i % 10 == 0 ? "echo +2 >/sys/class/rtc/rtc0/wakealarm" : "true");
    if (i % 10 != 0) (void)qmp_->execute("system_wakeup");
    expect_awake();
  }
}

TEST_F(Sleep, OfAMachineWithABiosLong) {
  start(Start::kCdrom);
  for (int i = 0; i < 2; ++i) {
    fall_asleep();
    (void)qmp_->execute("system_wakeup");
    expect_awake();
  }
  fall_asleep("echo +3 >/sys/class/rtc/rtc0/wakealarm");
  expect_awake();
  shell().send("poweroff -f\n");
  expect_ending(*vm_, 0, "wick: the guest powered off");
}

TEST_F(Sleep, OfAMachineThatIsReset) {
  start();
  fall_asleep();
  EXPECT_EQ(command({"reset", "sleeper"}).status, 0);
  shell().expect("wick-initrd: Linux ");
  shell().expect("# ");
  EXPECT_EQ(run_in_guest(shell(), "cat /sys/power/suspend_stats/success"), "0");
  // The next sleep ends by a signal.
  fall_asleep();
  vm_->signal(SIGTERM);
  expect_ending(*vm_, 143, "wick: ended by signal 15 (SIGTERM)");
}

TEST_F(Sleep, OfAMachineThatIsDestroyed) {
  start();
  fall_asleep();
  EXPECT_EQ(command({"destroy", "sleeper"}).status, 0);
  EXPECT_EQ(vm_->wait(), 0);
}

TEST_F(Sleep, OfAMachineWithATimeoutLong) {
  start(Start::kKernel, {"--timeout", "45"});
  fall_asleep();
  EXPECT_EQ(vm_->wait(), 5) << vm_->errors();
  EXPECT_THAT(vm_->errors(), HasSubstr("the guest was asleep (S3)"));
}

// S4 ends the run. The initramfs does not look for an image, so the shell of the next run does.
TEST_F(Sleep, ToTheDiskIsAnEndAndGoesOnInTheNextRunLong) {
  const std::string swap = blank_disk(dir_, "swap", 256 << 20);
  start(Start::kKernel, {"-d", swap + ",format=raw"});
  (void)run_in_guest(shell(), "mkswap /dev/vdb && swapon /dev/vdb");
  EXPECT_THAT(run_in_guest(shell(), "cat /sys/power/disk"), HasSubstr("[platform]"));
  shell().send("remembered=$((6 * 7)); echo disk >/sys/power/state; echo still-$remembered\n");
  (void)qmp_->await_event("SUSPEND_DISK");
  expect_ending(*vm_, 0, "wick: the guest powered off");
  qmp_.reset();
  vm_.reset();

  vm_.emplace(
      in_background(dir_, {"run", "--name", "sleeper", "-m", "192M", "-d", dir_ / "data,format=raw",
                           "-n", "user", "--qmp", "unix:" + dir_ / "qmp", "-d",
                           swap + ",format=raw", "-k", image("debian-cloud/vmlinuz"), "-i",
                           image("debian-cloud/initrd.img"), "-a", "quiet wick.sh"}));
  shell().expect("# ");
  shell().send("cat /sys/block/vdb/dev >/sys/power/resume\n");
  shell().expect("still-42");
  EXPECT_EQ(run_in_guest(shell(), "echo $remembered"), "42");
  EXPECT_EQ(faults_of_the_guest(false), "");
  shell().send("poweroff -f\n");
  expect_ending(*vm_, 0, "wick: the guest powered off");
}

}  // namespace
}  // namespace wick::lab

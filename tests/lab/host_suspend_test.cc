// A host that sleeps or is stopped under a running guest. SIGSTOP takes the place of the host's
// sleep, for which KVM itself does what wick does for a stop.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/time.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <string>
#include <thread>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

// Longer than the guest's watchdogs allow, which is twice their threshold.
constexpr Seconds kStop{12};
constexpr const char* kShortThreshold = "echo 2 >/proc/sys/kernel/watchdog_thresh";

class HostSuspend : public testing::TestWithParam<int> {
 protected:
  void start(int cpus) {
    vm_.emplace(
        wick_run({"-k", image("debian-cloud/vmlinuz"), "-i", image("debian-cloud/initrd.img"), "-a",
                  "quiet wick.sh", "-m", "192M", "-c", std::to_string(cpus)}));
    shell().expect("# ");
    (void)run_in_guest(shell(), std::string("dmesg -n 1; ") + kShortThreshold);
  }
  Dialogue& shell() { return vm_->console(); }

  // In seconds.
  long long guest_clock() { return std::stoll(run_in_guest(shell(), "date +%s")); }
  double uptime() { return std::stod(run_in_guest(shell(), "cut -d' ' -f1 /proc/uptime")); }

  void stop_and_continue() {
    const double before = uptime();
    vm_->signal(SIGSTOP);
    std::this_thread::sleep_for(kStop);
    vm_->signal(SIGCONT);
    EXPECT_NEAR(static_cast<double>(guest_clock() - std::time(nullptr)), 0, 2);
    EXPECT_GT(uptime(), before + static_cast<double>(kStop.count()) - 1);
    // The watchdogs look five times in their threshold.
    EXPECT_EQ(complaints(run_in_guest(shell(), "sleep 2; dmesg")), "");
  }

  std::optional<Process> vm_;
};

TEST_P(HostSuspend, LeavesTheClockRightAndTheWatchdogsQuiet) {
  start(GetParam());
  stop_and_continue();
  // A guest that computes, without exits.
  shell().send("(while :; do :; done) &\n");
  stop_and_continue();
  // The watchdogs still find a CPU that does nothing else, since wick does not silence them.
  EXPECT_EQ(run_in_guest(shell(), "cat /proc/sys/kernel/soft_watchdog"), "1");
  shell().send("poweroff -f\n");
  expect_ending(*vm_, 0, "wick: the guest powered off");
}

INSTANTIATE_TEST_SUITE_P(CpusLong, HostSuspend, testing::Values(1, 2));

// What NTP does on the host, or a user. The guest keeps its own time, and finds the host's in its
// RTC. Only in the lab, whose clock nobody else needs.
TEST_F(HostSuspend, AStepOfTheHostsClockIsSeenInTheRtcAlone) {
  if (std::getenv("WICK_IN_LAB") == nullptr) GTEST_SKIP() << "would step this host's clock";
  constexpr time_t kStep = 3600;
  start(1);
  const long long before = guest_clock();
  const auto step = [](time_t seconds) {
    timeval now{};
    ::gettimeofday(&now, nullptr);
    now.tv_sec += seconds;
    ASSERT_EQ(::settimeofday(&now, nullptr), 0);
  };
  step(kStep);
  const long long after = guest_clock();
  EXPECT_LT(after - before, 120);
  const std::string faults = complaints(run_in_guest(shell(), "sleep 3; dmesg"));
  (void)run_in_guest(shell(), "hwclock -s -u");
  const auto difference = guest_clock() - std::time(nullptr);
  step(-kStep);
  EXPECT_EQ(faults, "");
  EXPECT_NEAR(static_cast<double>(difference), 0, 2);
}

}  // namespace
}  // namespace wick::lab

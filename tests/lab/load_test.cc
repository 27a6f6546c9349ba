// Long load: nothing is lost, stalls or drifts.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The guest's /proc/uptime, and the host's time of that reading since `start`, in seconds.
std::pair<double, double> uptime_s(Dialogue& shell, Clock::time_point start) {
  const double uptime = std::stod(run_in_guest(shell, "cut -d' ' -f1 /proc/uptime"));
  return {uptime, seconds_since(start)};
}

// Short processes, pipes and disk I/O on both CPUs, console output.
constexpr const char* kLoad = R"(
for n in 1 2 3; do
  (while [ ! -e /tmp/stop ]; do head -c 300k /dev/urandom | sha256sum; done >/dev/null) &
done
(while [ ! -e /tmp/stop ]; do dd if=/dev/zero of=/root/f bs=64k count=64 conv=fsync; done 2>/dev/null) &
(while [ ! -e /tmp/stop ]; do dd if=/dev/vda of=/dev/null bs=4k count=500 iflag=direct; done 2>/dev/null) &
(while [ ! -e /tmp/stop ]; do sleep 0.01; done) &
)";

// A lab with Debian's own QEMU loses timer interrupts (tests/lab/lab), so the guest uses periodic
// timers. Interrupts of devices must not get lost.
TEST(Load, TwoCpusForFiveMinutesLong) {
  constexpr double kSeconds = 300;
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm(wick_run({"-k", image("bzImage"), "-d", disk, "-c", "2", "-a",
                       "loglevel=4 nohz=off highres=off", "--rng", "on", "--console",
                       "unix:" + (dir / "hvc0")}));
  Dialogue& shell = vm.console();
  log_in(shell);
  for (const std::string& line : lines(kLoad))
    if (!line.empty()) shell.send(line + "\n");
  (void)run_in_guest(shell, "true");

  const auto start = Clock::now();
  const auto [guest_before, host_before] = uptime_s(shell, start);
  while (seconds_since(start) < kSeconds) (void)run_in_guest(shell, "sleep 5");
  const auto [guest_after, host_after] = uptime_s(shell, start);
  const double guest = guest_after - guest_before;
  const double host = host_after - host_before;
  EXPECT_NEAR(guest / host, 1, 0.001) << guest << " s in the guest, " << host << " s outside";
  std::printf("clock: %.2f s in the guest, %.2f s outside\n", guest, host);

  (void)run_in_guest(shell, "touch /tmp/stop; wait");
  EXPECT_EQ(run_in_guest(shell, "cat /sys/devices/system/clocksource/*/current_clocksource"),
            "kvm-clock");
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  power_off(vm);
  expect_clean(disk);
}

}  // namespace
}  // namespace wick::lab

// Kernels that wick unpacks, randomizes and caches run as those that unpack themselves.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

constexpr uint64_t kLinkedStart = 0xffff'ffff'8100'0000;
constexpr uint64_t kAlignment = 2 << 20;

struct Place {
  uint64_t virtual_start = 0;
  uint64_t physical_start = 0;
  auto operator<=>(const Place&) const = default;
};

class UnpackedKernel : public testing::TestWithParam<const char*> {
 protected:
  std::vector<std::string> command(const std::vector<std::string>& more,
                                   const std::string& append = {}) const {
    std::vector<std::string> options = {"-k", image(std::string(GetParam()) + "/vmlinuz"),
                                        "-i", image("initrd.gz"),
                                        "-a", "quiet wick.sh " + append};
    options.insert(options.end(), more.begin(), more.end());
    return wick_run(options);
  }
  // Boots to a shell, and finds out where the kernel is.
  Place boot(const std::vector<std::string>& more, const std::string& append = {}) const {
    Process vm(command(more, append));
    Dialogue& shell = vm.console();
    shell.expect("# ");
    const std::string symbol = run_in_guest(shell, "grep ' [Tt] _text$' /proc/kallsyms");
    const std::string code = run_in_guest(shell, "grep 'Kernel code' /proc/iomem");
    EXPECT_THAT(run_in_guest(shell, "cat /proc/cmdline"), HasSubstr("wick.sh"));
    EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
    shell.send("poweroff -f\n");
    expect_ending(vm, 0, "wick: the guest powered off");
    return {std::stoull(symbol, nullptr, 16), std::stoull(code, nullptr, 16)};
  }

  const TempDir cache_;
};

TEST_P(UnpackedKernel, LiesAtRandomPlaces) {
  std::set<uint64_t> virtual_starts;
  std::set<uint64_t> physical_starts;
  constexpr size_t kBoots = 2;
  for (size_t i = 0; i < kBoots; ++i) {
    const Place place = boot({"--kernel-cache", cache_ / "kernels"});
    EXPECT_EQ((place.virtual_start - kLinkedStart) % kAlignment, 0u);
    EXPECT_EQ(place.physical_start % kAlignment, 0u);
    virtual_starts.insert(place.virtual_start);
    physical_starts.insert(place.physical_start);
  }
  // There are some 490 and 200 places.
  EXPECT_GT(virtual_starts.size() + physical_starts.size(), 2u);
}

TEST_P(UnpackedKernel, LiesAtItsOwnPlaceWithNokaslr) {
  const Place usual{kLinkedStart, 16 << 20};
  EXPECT_EQ(boot({"--kernel-cache", cache_ / "kernels"}, "nokaslr"), usual);
  EXPECT_EQ(boot({"--kernel-cache", "off"}, "nokaslr"), usual);
}

std::string name_of(const testing::TestParamInfo<const char*>& test) {
  return std::string(test.param).substr(7);  // after "debian-"
}

// lz4; then xz and zstd.
INSTANTIATE_TEST_SUITE_P(Lz4, UnpackedKernel, testing::Values("debian-cloud"), name_of);
INSTANTIATE_TEST_SUITE_P(OthersLong, UnpackedKernel,
                         testing::Values("debian-generic", "debian-new"), name_of);

class UnpackedKernelLong : public UnpackedKernel {};

TEST_P(UnpackedKernelLong, LiesAtFiftyPlaces) {
  std::set<Place> places;
  for (int i = 0; i < 50; ++i) places.insert(boot({"--kernel-cache", cache_ / "kernels"}));
  EXPECT_EQ(places.size(), 50u);
}

INSTANTIATE_TEST_SUITE_P(Lz4Long, UnpackedKernelLong, testing::Values("debian-cloud"), name_of);

}  // namespace
}  // namespace wick::lab

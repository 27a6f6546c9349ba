// wick doctor on hosts that can run guests and on hosts that cannot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(Doctor, FindsThatThisHostRunsGuests) {
  const Finished run = finish(wick({"doctor"}));
  EXPECT_EQ(run.status, 0) << run.out;
  EXPECT_EQ(run.err, "");
  EXPECT_THAT(run.out, AllOf(StartsWith("ok    /dev/kvm: open to you\nok    KVM: API version 12\n"),
                             HasSubstr("ok    KVM_CAP_SIGNAL_MSI\n"),
                             HasSubstr("ok    hardware virtualization"), Not(HasSubstr("fail"))));
}

TEST(Doctor, FailsWithoutKvmAndSaysWhatToDo) {
  const Finished run = finish(in_own_mounts("mount -t tmpfs none /dev", wick({"doctor"})));
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.out,
              AllOf(StartsWith("fail  /dev/kvm: No such file or directory; load kvm_intel"),
                    HasSubstr("warn  /dev/net/tun: No such file")));
}

TEST(Doctor, KnowsAKvmThatOnlyEmulates) {
  const TempDir dir;
  write_file(dir / "cpuinfo", "processor\t: 0\nflags\t\t: fpu vme lm\n");
  const Finished run = finish(
      in_own_mounts("mount --bind " + (dir / "cpuinfo") + " /proc/cpuinfo", wick({"doctor"})));
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.out,
              AllOf(HasSubstr("ok    KVM: can create machines\n"),
                    HasSubstr("fail  hardware virtualization"), HasSubstr("only emulates")));
}

}  // namespace
}  // namespace wick::lab

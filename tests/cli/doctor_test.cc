#include "cli/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace wick::cli {
namespace {

using testing::Contains;
using testing::Each;
using testing::Field;
using testing::HasSubstr;
using testing::Not;
using Level = Finding::Level;

HostFacts good_host() {
  HostFacts facts;
  facts.kvm.api_version = 12;
  facts.kvm.capabilities = {{"KVM_CAP_IRQFD", nullptr, true}, {"KVM_CAP_NICE", "less nice", true}};
  facts.has_virtualization = true;
  facts.huge_pages = "madvise";
  return facts;
}

auto Says(Level level, const std::string& text) {
  return Contains(
      testing::AllOf(Field(&Finding::level, level), Field(&Finding::text, HasSubstr(text))));
}
auto Fails() { return Contains(Field(&Finding::level, Level::kFail)); }

TEST(Diagnosis, GoodHostIsOkThroughout) {
  EXPECT_THAT(diagnose(good_host()), Each(Field(&Finding::level, Level::kOk)));
}

TEST(Diagnosis, NoKvmIsAFailureWithTheRightFix) {
  HostFacts facts = good_host();
  facts.kvm = vmm::KvmFacts();
  facts.kvm.open_error = EACCES;
  EXPECT_THAT(diagnose(facts), Says(Level::kFail, "kvm group"));
  facts.kvm.open_error = ENOENT;
  EXPECT_THAT(diagnose(facts), Says(Level::kFail, "modprobe"));
  facts.has_virtualization = false;
  EXPECT_THAT(diagnose(facts), Says(Level::kFail, "firmware"));
}

TEST(Diagnosis, KvmThatIsUnusableIsAFailure) {
  HostFacts facts = good_host();
  facts.kvm.api_version = -1;
  EXPECT_THAT(diagnose(facts), Says(Level::kFail, "is not KVM"));
  facts = good_host();
  facts.kvm.machine_error = EBUSY;
  EXPECT_THAT(diagnose(facts), Says(Level::kFail, "other hypervisor"));
  facts = good_host();
  facts.kvm.capabilities[0].present = false;
  EXPECT_THAT(diagnose(facts), Says(Level::kFail, "KVM_CAP_IRQFD: missing"));
}

TEST(Diagnosis, KvmThatOnlyEmulatesIsAFailure) {
  HostFacts facts = good_host();
  facts.has_virtualization = false;
  EXPECT_THAT(diagnose(facts), Says(Level::kFail, "only emulates"));
  EXPECT_THAT(diagnose(facts), Says(Level::kOk, "/dev/kvm: open to you"));
}

TEST(Diagnosis, MissingPartsThatOnlySomeRunsNeedAreWarnings) {
  HostFacts facts = good_host();
  facts.tun_error = ENOENT;
  facts.vhost_net_error = EACCES;
  facts.io_uring_error = EPERM;
  facts.huge_pages = "never";
  facts.kvm.capabilities[1].present = false;
  const auto findings = diagnose(facts);
  EXPECT_THAT(findings, Not(Fails()));
  EXPECT_THAT(findings, Says(Level::kWarn, "modprobe tun"));
  EXPECT_THAT(findings, Says(Level::kWarn, "/dev/vhost-net: Permission denied"));
  EXPECT_THAT(findings, Says(Level::kWarn, "kernel.io_uring_disabled=0"));
  EXPECT_THAT(findings, Says(Level::kWarn, "huge pages: off"));
  EXPECT_THAT(findings, Says(Level::kWarn, "KVM_CAP_NICE: missing, less nice"));
}

TEST(Diagnosis, NetworkThatIsUpIsCheckedForItsUser) {
  HostFacts facts = good_host();
  facts.net.user = "bob";
  EXPECT_THAT(diagnose(facts), Says(Level::kOk, "sudo wick net up --user bob"));
  auto& network = facts.net.network.emplace();
  network.name = "wick0";
  EXPECT_THAT(diagnose(facts), Says(Level::kWarn, "the bridge wick0 is gone"));
  facts.net.bridge_exists = true;
  EXPECT_THAT(diagnose(facts), Says(Level::kWarn, "sudo wick net up wick0 --user bob"));
  network.user = "alice";
  network.taps = {"wick0-t0"};
  EXPECT_THAT(diagnose(facts), Says(Level::kWarn, "its TAPs are for alice"));
  facts.net.user = "alice";
  EXPECT_THAT(diagnose(facts), Says(Level::kOk, "wick0 is up, with 1 TAP for you"));
  facts.net.user = "root";
  facts.net.root = true;
  EXPECT_THAT(diagnose(facts), Says(Level::kOk, "wick0 is up"));
  facts.net.error = "state.json: damaged";
  EXPECT_THAT(diagnose(facts), Says(Level::kWarn, "wick net: state.json: damaged"));
}

}  // namespace
}  // namespace wick::cli

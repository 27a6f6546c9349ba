#include "devices/acpi_hotplug.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/bytes.h"

namespace wick::devices {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kUp = 0;
constexpr uint64_t kDown = 4;
constexpr uint64_t kEject = 8;
constexpr uint32_t kPluggable = 0xffffff00;  // slots 8 to 31

class AcpiHotplugTest : public testing::Test {
 protected:
  uint32_t in(uint64_t offset) {
    std::array<std::byte, 4> data{};
    hotplug_.read(offset, data);
    return load_le<uint32_t>(data);
  }
  void eject(uint32_t slots) { hotplug_.write(kEject, as_bytes(&slots, sizeof(slots))); }

  int events_ = 0;
  std::vector<uint32_t> ejected_;
  AcpiHotplug hotplug_{kPluggable,
                       {.raise = [this] { ++events_; },
                        .eject = [this](uint32_t slots) { ejected_.push_back(slots); }}};
};

// S3: the guest has not read what happened just before it slept, or while it did.
TEST_F(AcpiHotplugTest, ContinuesFromAnotherAfterASleep) {
  AcpiHotplug before(kPluggable, {.raise = [] {}, .eject = [](uint32_t) {}});
  before.occupy(9);
  before.plugged(8);
  before.request_removal(9);
  before.plugged(10);
  hotplug_.occupy(8);
  hotplug_.occupy(9);  // slot 10 is empty again
  hotplug_.continue_from(before.state());
  EXPECT_EQ(events_, 1);
  EXPECT_EQ(in(kUp), 1u << 8);
  EXPECT_EQ(in(kDown), 1u << 9);
  EXPECT_EQ(hotplug_.state().requested, 1u << 9);
  hotplug_.continue_from({});
  EXPECT_EQ(events_, 1) << "nothing has happened";
}

// Hostile writes come first.
TEST_F(AcpiHotplugTest, AnEmptyOrBuiltInSlotCannotBeEjected) {
  hotplug_.occupy(1);
  hotplug_.plugged(0);
  eject(~0u);
  EXPECT_THAT(ejected_, IsEmpty());
  EXPECT_EQ(hotplug_.state(), AcpiHotplug::State{});
  EXPECT_EQ(events_, 0);
}

TEST_F(AcpiHotplugTest, AnEjectionIsReportedOnceUntilItIsDone) {
  hotplug_.occupy(8);
  hotplug_.occupy(31);
  for (int i = 0; i < 1000; ++i) eject(~0u);
  EXPECT_THAT(ejected_, ElementsAre(1u << 31 | 1u << 8));
  hotplug_.removed(8);
  eject(~0u);
  EXPECT_EQ(ejected_.size(), 1u) << "slot 8 is empty, 31 not done yet";
  hotplug_.plugged(8);
  eject(~0u);
  EXPECT_THAT(ejected_, ElementsAre(1u << 31 | 1u << 8, 1u << 8));
}

TEST_F(AcpiHotplugTest, SurvivesEveryWidthAtEveryOffset) {
  hotplug_.plugged(8);
  hotplug_.request_removal(8);
  const auto before = hotplug_.state();
  for (uint64_t offset = 0; offset < AcpiHotplug::kPorts; ++offset)
    for (size_t size = 1; size <= 8 && offset + size <= AcpiHotplug::kPorts; ++size) {
      if (size == 4 && offset % 4 == 0) continue;
      std::array<std::byte, 8> data{};
      data.fill(std::byte{0xff});
      hotplug_.write(offset, std::span(data).first(size));
      hotplug_.read(offset, std::span(data).first(size));
      EXPECT_TRUE(std::ranges::all_of(std::span(data).first(size),
                                      [](std::byte byte) { return byte == std::byte{0}; }));
    }
  EXPECT_EQ(hotplug_.state(), before);
  EXPECT_THAT(ejected_, IsEmpty());
}

TEST_F(AcpiHotplugTest, TheOtherRegistersCannotBeWritten) {
  hotplug_.plugged(9);
  for (const uint64_t offset : {kUp, kDown}) {
    const uint32_t ones = ~0u;
    hotplug_.write(offset, as_bytes(&ones, sizeof(ones)));
  }
  EXPECT_EQ(in(kUp), 1u << 9);
  EXPECT_EQ(in(kDown), 0u);
  EXPECT_EQ(in(kEject), 0u);
}

TEST_F(AcpiHotplugTest, TheGuestLearnsOfANewDeviceOnce) {
  hotplug_.plugged(8);
  hotplug_.plugged(24);
  EXPECT_EQ(events_, 2);
  EXPECT_EQ(in(kUp), 1u << 24 | 1u << 8);
  EXPECT_EQ(in(kUp), 0u);
  EXPECT_EQ(in(kDown), 0u);
}

TEST_F(AcpiHotplugTest, ADeviceOfTheStartIsNoNews) {
  hotplug_.occupy(8);
  EXPECT_EQ(events_, 0);
  EXPECT_EQ(in(kUp), 0u);
}

TEST_F(AcpiHotplugTest, ARequestMayBeRepeatedUntilTheGuestEjects) {
  hotplug_.occupy(8);
  for (int i = 1; i <= 3; ++i) {
    hotplug_.request_removal(8);
    EXPECT_EQ(events_, i);
    EXPECT_EQ(in(kDown), 1u << 8);
    EXPECT_EQ(in(kDown), 0u);
    EXPECT_EQ(hotplug_.state().requested, 1u << 8);
  }
  eject(1u << 8);
  hotplug_.request_removal(8);
  EXPECT_EQ(events_, 3) << "it has ejected";
  EXPECT_EQ(in(kDown), 0u);
  hotplug_.removed(8);
  EXPECT_EQ(hotplug_.state(), AcpiHotplug::State{});
}

TEST_F(AcpiHotplugTest, ARequestForAnEmptySlotIsIgnored) {
  hotplug_.request_removal(8);
  hotplug_.request_removal(1);
  hotplug_.request_removal(200);
  EXPECT_EQ(events_, 0);
  EXPECT_EQ(hotplug_.state(), AcpiHotplug::State{});
}

}  // namespace
}  // namespace wick::devices

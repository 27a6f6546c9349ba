// Test fixture: a device behind virtio-mmio or virtio-pci, with a driver.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/plugged_device.h"
#include "tests/fakes/remembering_device.h"
#include "virtio/transport.h"

namespace wick::virtio {

using fakes::FakeDriver;
using fakes::memory_of;
using fakes::RememberingDevice;
using fakes::TransportDriver;

constexpr uint64_t kRamBytes = 4 << 20;

enum class Kind { kMmio, kPci };

class TransportTest : public testing::TestWithParam<Kind> {
 protected:
  TransportTest() : memory_(memory_of(kRamBytes)) {
    if (GetParam() == Kind::kMmio)
      plugged_ = std::make_unique<fakes::OnMmio>(device_, memory_);
    else
      plugged_ = std::make_unique<fakes::OnPci>(device_, memory_);
  }

  const TransportDriver& regs() const { return plugged_->driver(); }
  Transport& transport() { return plugged_->transport(); }
  QueueLayout layout() const { return driver_.layout(); }

  // Brings the device to FEATURES_OK.
  void negotiate() {
    ASSERT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1)), TransportDriver::kFeaturesOk);
  }
  void start() {
    negotiate();
    regs().set_queue(0, layout());
    regs().set_status(TransportDriver::kDriverOk);
    ASSERT_EQ(regs().status(), TransportDriver::kDriverOk);
    ASSERT_EQ(device_.activations, 1);
  }
  // Starts the device with both queues and VIRTIO_F_RING_RESET.
  void start_two() {
    ASSERT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1) | feature_bit(VIRTIO_F_RING_RESET)),
              TransportDriver::kFeaturesOk);
    regs().set_queue(0, layout());
    regs().set_queue(1, layout());
    regs().set_status(TransportDriver::kDriverOk);
    ASSERT_EQ(regs().status(), TransportDriver::kDriverOk);
  }
  // Expects that DRIVER_OK with this queue 0 results in DEVICE_NEEDS_RESET, and that the
  // device is not activated.
  void expect_unusable(const QueueLayout& bad) {
    device_.activations = 0;
    negotiate();
    regs().set_queue(0, bad);
    regs().set_status(TransportDriver::kDriverOk);
    EXPECT_EQ(regs().status(), TransportDriver::kDriverOk | TransportDriver::kNeedsReset);
    EXPECT_EQ(device_.activations, 0);
    // 2.1.2: a configuration change notifies the driver.
    EXPECT_EQ(regs().take_causes(), TransportDriver::kConfigCause);
  }

  GuestMemory memory_;
  FakeDriver driver_{memory_, {.size = 16}};
  RememberingDevice device_;
  std::unique_ptr<fakes::PluggedDevice> plugged_;
};

}  // namespace wick::virtio

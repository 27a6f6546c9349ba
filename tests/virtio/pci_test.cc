// Tests virtio-pci: capabilities, and registers behind BARs and the configuration space. The state
// behind the registers is tested in transport_test.cc.
#include "virtio/pci.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <thread>

#include "tests/virtio/pci_fixture.h"

namespace wick::virtio {
namespace {

using fakes::kWidths;
using testing::ElementsAre;
using testing::Pair;

// 4.1.4.3: the width of the register at each offset.
const std::map<uint64_t, size_t> kCommonRegisters = {
    {0x00, 4}, {0x04, 4}, {0x08, 4}, {0x0c, 4}, {0x10, 2}, {0x12, 2}, {0x14, 1},
    {0x15, 1}, {0x16, 2}, {0x18, 2}, {0x1a, 2}, {0x1c, 2}, {0x1e, 2}, {0x20, 4},
    {0x24, 4}, {0x28, 4}, {0x2c, 4}, {0x30, 4}, {0x34, 4}, {0x3a, 2}};

// --- identity and capabilities (4.1.2, 4.1.4) ---

TEST_F(PciTest, NamesItsRegistersAsTheSpecificationDoes) {
  EXPECT_EQ(transport().name_of(0x14, true).reg, "device_status");
  EXPECT_EQ(transport().name_of(0x02, true).reg, "");
  EXPECT_EQ(transport().name_of(0x2000, false).reg, "device config");
  EXPECT_EQ(transport().name_of(0x3004, true).reg, "notify");
  EXPECT_EQ(plugged_.host().window().name_of(0x1014 % 0x1000, false).device, "test");
}

TEST_F(PciTest, IsAModernDevice) {
  EXPECT_EQ(regs().space(0, 4), 0x1040u << 16 | 42u << 16 | 0x1af4u);
  EXPECT_EQ(regs().space(8, 1), 1u) << "revision";
  EXPECT_GE(regs().space(0x2e, 2), 0x40u) << "no subsystem ID of a transitional device";
  EXPECT_EQ(regs().space(0x3d, 1), 1u) << "INTA";
}

TEST_F(PciTest, PointsToEachStructureOnceAndInsideItsBar) {
  std::map<uint8_t, PciDriver::Structure> found;
  for (const auto& structure : regs().structures()) {
    EXPECT_TRUE(found.emplace(structure.type, structure).second) << "one of each type";
    EXPECT_EQ(
        regs().space(structure.capability + 2u, 1),
        structure.type == VIRTIO_PCI_CAP_NOTIFY_CFG || structure.type == VIRTIO_PCI_CAP_PCI_CFG
            ? 20u
            : 16u);
    EXPECT_EQ(structure.bar, 0);
    EXPECT_EQ(structure.offset % 4, 0u);
    EXPECT_LE(structure.offset + uint64_t{structure.length_bytes}, PciTransport::kBarBytes);
  }
  ASSERT_EQ(found.size(), 5u);
  EXPECT_GE(found.at(VIRTIO_PCI_CAP_COMMON_CFG).length_bytes, 0x38u);
  EXPECT_GE(found.at(VIRTIO_PCI_CAP_ISR_CFG).length_bytes, 1u);
  EXPECT_GE(found.at(VIRTIO_PCI_CAP_DEVICE_CFG).length_bytes, 6u);
  // 4.1.4.4.1: the notification address of the last queue is inside the structure.
  EXPECT_GE(found.at(VIRTIO_PCI_CAP_NOTIFY_CFG).length_bytes, regs().notify_stride() + 2);
  // The four structures do not overlap.
  for (const auto& [type, one] : found) {
    for (const auto& [other_type, other] : found) {
      if (type >= other_type || other_type == VIRTIO_PCI_CAP_PCI_CFG) continue;
      EXPECT_TRUE(one.offset + one.length_bytes <= other.offset ||
                  other.offset + other.length_bytes <= one.offset)
          << int{type} << " and " << int{other_type};
    }
  }
}

TEST_F(PciTest, SaysWhereItsRegistersAre) {
  const uint64_t start = regs().bar(0);
  EXPECT_THAT(moves_, ElementsAre(Pair(0, start)));
  regs().set_space(PciDriver::kBars, start + 0x8'0000, 4);
  EXPECT_THAT(moves_, ElementsAre(Pair(0, start), Pair(start, start + 0x8'0000)));
  const uint64_t queues = regs().common_address() - start + VIRTIO_PCI_COMMON_NUMQ;
  EXPECT_EQ(regs().read(start + queues, 2), 0xffffu);
  EXPECT_EQ(regs().read(start + 0x8'0000 + queues, 2), 2u);
}

// --- registers ---

TEST_F(PciTest, TellsHowManyQueuesThereAreAndWhereToKickThem) {
  EXPECT_EQ(regs().common(VIRTIO_PCI_COMMON_NUMQ, 2), 2u);
  for (const uint32_t queue : {0u, 1u}) {
    regs().select(queue);
    EXPECT_EQ(regs().common(VIRTIO_PCI_COMMON_Q_NOFF, 2), queue);
  }
}

TEST_F(PciTest, RegistersTakeTheirOwnWidthOnly) {
  start();
  for (const size_t width : kWidths) {
    for (uint64_t offset = 0; offset <= 0x1000 - width; ++offset) {
      const auto found = kCommonRegisters.find(offset);
      if (found != kCommonRegisters.end() && found->second == width) continue;
      regs().set_common(offset, ~0ull, width);
      regs().set_common(offset, 0, width);
      ASSERT_EQ(regs().common(offset, width), 0u) << offset << " by " << width;
    }
  }
  EXPECT_EQ(regs().status(), PciDriver::kDriverOk);
  EXPECT_EQ(device_.resets, 1);
  EXPECT_EQ(regs().common(VIRTIO_PCI_COMMON_Q_SELECT, 2), 1u);
}

TEST_F(PciTest, SurvivesEveryRegisterInEveryState) {
  const auto stages = std::to_array<uint32_t>({0, 1, 3, 11, 15});
  for (const uint32_t stage : stages) {
    for (const uint64_t value : {0ull, 1ull, 2ull, 0x7fffull, ~0ull}) {
      for (const auto& [offset, width] : kCommonRegisters) {
        regs().reset();
        for (const uint32_t step : stages) {
          if (step == 0 || step > stage) continue;
          if (step == PciDriver::kFeaturesOk)
            regs().set_driver_features(feature_bit(VIRTIO_F_VERSION_1));
          regs().set_status(step);
        }
        regs().set_common(offset, value, width);
        for (const auto& [look, its_width] : kCommonRegisters) (void)regs().common(look, its_width);
      }
    }
  }
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
}

TEST_F(PciTest, SurvivesEveryAccessToItsBars) {
  for (const uint64_t value : {~0ull, 0ull, 0x0101'0101'0101'0101ull}) {
    for (const size_t width : kWidths) {
      for (uint64_t at = 0; at < PciTransport::kBarBytes; ++at) {
        regs().write(regs().bar(0) + at, value, width);
        (void)regs().read(regs().bar(0) + at, width);
      }
      for (uint64_t at = 0; at < 0x1000; ++at) {
        regs().write(regs().bar(1) + at, value, width);
        (void)regs().read(regs().bar(1) + at, width);
      }
    }
  }
  regs().reset();
  start();
}

// 4.1.3.1: 64-bit registers are written as two halves, in any order.
TEST_F(PciTest, RingAddressesAreTwoHalves) {
  negotiate();
  for (const uint64_t low :
       {VIRTIO_PCI_COMMON_Q_DESCLO, VIRTIO_PCI_COMMON_Q_AVAILLO, VIRTIO_PCI_COMMON_Q_USEDLO}) {
    regs().select(0);
    regs().set_common(low + 4, 0x11223344, 4);
    EXPECT_EQ(regs().common(low, 4), 0u);
    regs().set_common(low, 0x55667788, 4);
    EXPECT_EQ(regs().common(low + 4, 4), 0x11223344u);
    EXPECT_EQ(regs().common(low, 4), 0x55667788u);
    regs().set_common(low + 4, 0, 4);
    EXPECT_EQ(regs().common(low, 4), 0x55667788u);
    regs().select(1);
    EXPECT_EQ(regs().common(low, 4), 0u) << "each queue has its own";
  }
}

TEST_F(PciTest, QueueSizeSaysTheLargestUntilItIsSet) {
  negotiate();
  regs().select(0);
  regs().set_common(VIRTIO_PCI_COMMON_Q_SIZE, 8, 2);
  EXPECT_EQ(regs().common(VIRTIO_PCI_COMMON_Q_SIZE, 2), 8u);
  EXPECT_EQ(regs().queue_max_size(1), 16u);
  regs().reset();
  EXPECT_EQ(regs().queue_max_size(0), 64u);
}

// 4.1.4.3.2: a driver writes 1 to queue_enable, once; no other value disables the queue.
TEST_F(PciTest, OnlyAOneEnablesAQueue) {
  negotiate();
  regs().set_queue_registers(0, layout());
  for (const uint32_t value : {0u, 2u, 3u, 0x100u, 0xffffu}) {
    regs().set_common(VIRTIO_PCI_COMMON_Q_ENABLE, value, 2);
    EXPECT_FALSE(regs().queue_ready(0)) << value;
  }
  regs().enable_queue(0);
  EXPECT_TRUE(regs().queue_ready(0));
  regs().set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
  EXPECT_TRUE(regs().queue_ready(0));
  regs().set_status(PciDriver::kDriverOk);
  regs().set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
  EXPECT_TRUE(regs().queue_ready(0));
  EXPECT_THAT(device_.queue_indices, ElementsAre(0));
}

// --- kicks (4.1.4.4) ---

TEST_F(PciTest, AWriteOfAnyWidthAndValueKicks) {
  start();
  for (const size_t width : kWidths) {
    for (size_t queue = 0; queue < 2; ++queue) {
      regs().write(regs().notify_address() + queue * regs().notify_stride(), 0x1234, width);
      EXPECT_TRUE(transport().kicks()[queue].consume());
      EXPECT_FALSE(transport().kicks()[1 - queue].consume());
    }
  }
}

TEST_F(PciTest, APlaceOfNoQueueKicksNobody) {
  start();
  for (uint64_t at = 2 * regs().notify_stride(); at < 0x1000; at += 2)
    regs().write(regs().notify_address() + at, 0, 2);
  EXPECT_EQ(regs().read(regs().notify_address(), 2), 0u) << "and reading is no kick";
  for (const EventFd& kick : transport().kicks()) EXPECT_FALSE(kick.consume());
}

// --- access through the configuration space (4.1.4.9) ---

TEST_F(PciTest, CanBeDrivenThroughItsConfigurationSpaceAlone) {
  regs().set_space(PciDriver::kCommand, 0, 2);
  const auto write = [&](uint32_t offset, uint32_t value, uint32_t length) {
    regs().set_space(regs().aim(offset, length), value, length);
  };
  const auto read = [&](uint32_t offset, uint32_t length) {
    return regs().space(regs().aim(offset, length), length);
  };
  const uint32_t common = regs().find(VIRTIO_PCI_CAP_COMMON_CFG).offset;
  const uint32_t status = common + VIRTIO_PCI_COMMON_STATUS;
  for (const uint32_t step : {1u, 3u}) write(status, step, 1);
  write(common + VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
  write(common + VIRTIO_PCI_COMMON_GF, 1, 4);
  write(status, PciDriver::kFeaturesOk, 1);
  write(status, PciDriver::kDriverOk, 1);
  EXPECT_EQ(read(status, 1), PciDriver::kDriverOk);
  EXPECT_EQ(read(common + VIRTIO_PCI_COMMON_NUMQ, 2), 2u);
  // Kicks the queue, then reads the ISR status and the device configuration.
  write(regs().find(VIRTIO_PCI_CAP_NOTIFY_CFG).offset, 0, 2);
  EXPECT_TRUE(transport().kicks()[0].consume());
  transport().queue_interrupt(0);
  EXPECT_EQ(read(regs().find(VIRTIO_PCI_CAP_ISR_CFG).offset, 1), 1u);
  EXPECT_FALSE(plugged_.line().level());
  write(regs().find(VIRTIO_PCI_CAP_DEVICE_CFG).offset, 0x44332211, 4);
  EXPECT_EQ(device_.config[3], std::byte{0x44});
  write(status, 0, 1);
  EXPECT_EQ(read(status, 1), 0u);
}

TEST_F(PciTest, TheConfigurationAccessReadsAsTheBarDoes) {
  for (uint32_t offset = 0; offset < PciTransport::kBarBytes; offset += 2) {
    for (const uint32_t length : {1u, 2u, 4u}) {
      if (offset % length != 0) continue;
      ASSERT_EQ(regs().space(regs().aim(offset, length), 4),
                regs().read(regs().bar(0) + offset, length))
          << offset << " by " << length;
    }
  }
}

// Other accesses read as zero and write nothing.
TEST_F(PciTest, TheConfigurationAccessReachesNothingElse) {
  start();
  device_.config.fill(std::byte{0x77});
  const uint32_t config = regs().find(VIRTIO_PCI_CAP_DEVICE_CFG).offset;
  struct Aim {
    uint32_t offset, length, bar;
  };
  for (const Aim& aim : std::to_array<Aim>({{config, 0, 0},
                                            {config, 3, 0},
                                            {config, 8, 0},
                                            {config, 0xffffffff, 0},
                                            {config + 1, 2, 0},
                                            {config + 2, 4, 0},
                                            {config, 4, 1},
                                            {config, 4, 5},
                                            {config, 4, 0xff},
                                            {PciTransport::kBarBytes, 1, 0},
                                            {PciTransport::kBarBytes - 2, 4, 0},
                                            {0xfffffffc, 4, 0},
                                            {0xffffffff, 1, 0}})) {
    const uint64_t data = regs().aim(aim.offset, aim.length, aim.bar);
    for (const size_t width : kWidths) {
      EXPECT_EQ(regs().space(data, width), 0u) << aim.offset << ", " << aim.length;
      regs().set_space(data, 0, width);
    }
  }
  // The access has fewer bytes than the capability's length.
  const uint64_t data = regs().aim(config, 4);
  regs().set_space(data, 0, 1);
  regs().set_space(data, 0, 2);
  EXPECT_THAT(device_.config, testing::Each(std::byte{0x77}));
  EXPECT_EQ(regs().status(), PciDriver::kDriverOk);
  EXPECT_EQ(regs().space(data, 1), 0x77u) << "a part of what was read";
}

// --- several threads ---

// One vCPU accesses the BARs, another the configuration space, and the device's loop sends
// interrupts.
TEST_F(PciTest, ServesSeveralThreadsAtOnce) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    for (int i = 0; i < 200; ++i) {
      (void)regs().start(layout());
      (void)regs().set_queue_vector(0, static_cast<uint32_t>(i % 4));
      regs().kick(0);
      (void)regs().take_causes();
      regs().reset();
    }
    stop = true;
  });
  threads.emplace_back([&] {
    const uint32_t status =
        regs().find(VIRTIO_PCI_CAP_COMMON_CFG).offset + VIRTIO_PCI_COMMON_STATUS;
    while (!stop) {
      regs().set_msix(PciDriver::kMsixEnable);
      regs().set_vector(1, kSecond, false);
      (void)regs().space(regs().aim(status, 1), 1);
      regs().set_space(regs().aim(status, 1), 0, 1);
      regs().set_space(PciDriver::kCommand, 0x406, 2);
      regs().set_msix(PciDriver::kMsixMaskAll);
      regs().set_space(PciDriver::kCommand, 0x006, 2);
      regs().set_msix(0);
    }
  });
  threads.emplace_back([&] {
    for (int i = 0; !stop; ++i) {
      transport().queue_interrupt(0);
      if (i % 100 == 0) transport().needs_reset();
      (void)messages();
    }
  });
  for (std::thread& thread : threads) thread.join();
  regs().reset();
  EXPECT_FALSE(plugged_.line().level());
}

}  // namespace
}  // namespace wick::virtio

// Tests the interrupts of virtio-pci: INTx and MSI-X.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/virtio/pci_fixture.h"

namespace wick::virtio {
namespace {

using fakes::kWidths;
using testing::ElementsAre;
using testing::IsEmpty;

// --- INTx (4.1.4.5) ---

TEST_F(PciTest, ReadingTheIsrAcknowledgesAndLowersTheWire) {
  start();
  transport().queue_interrupt(0);
  transport().config_changed();
  EXPECT_TRUE(plugged_.line().level());
  EXPECT_TRUE(interrupt_status());
  EXPECT_EQ(regs().take_causes(), 3u);
  EXPECT_FALSE(plugged_.line().level());
  EXPECT_FALSE(interrupt_status());
  EXPECT_EQ(regs().take_causes(), 0u);
  EXPECT_EQ(plugged_.interrupts(), 1);
}

TEST_F(PciTest, OnlyReadingTheIsrItselfAcknowledges) {
  start();
  transport().queue_interrupt(0);
  for (uint64_t at = 1; at < 0x1000; ++at) EXPECT_EQ(regs().read(regs().isr_address() + at, 1), 0u);
  for (const size_t width : kWidths) regs().write(regs().isr_address(), ~0ull, width);
  EXPECT_TRUE(plugged_.line().level());
  EXPECT_EQ(regs().take_causes(), 1u);
}

TEST_F(PciTest, TheIsrAnswersAnyWidth) {
  start();
  for (const size_t width : kWidths) {
    transport().queue_interrupt(1);
    EXPECT_EQ(regs().read(regs().isr_address(), width), 1u);
    EXPECT_FALSE(plugged_.line().level());
  }
}

TEST_F(PciTest, ADisabledWireKeepsItsCauses) {
  start();
  regs().set_space(PciDriver::kCommand, 0x406, 2);
  transport().queue_interrupt(0);
  EXPECT_FALSE(plugged_.line().level());
  EXPECT_TRUE(interrupt_status());
  regs().set_space(PciDriver::kCommand, 0x006, 2);
  EXPECT_TRUE(plugged_.line().level());
  EXPECT_EQ(regs().take_causes(), 1u);
  EXPECT_FALSE(plugged_.line().level());
}

// --- MSI-X (4.1.5.1.2) ---

TEST_F(PciTest, EachQueueAndTheConfigurationHaveTheirVectors) {
  start();
  use_msix();
  transport().queue_interrupt(1);
  transport().queue_interrupt(0);
  transport().config_changed();
  EXPECT_THAT(messages(), ElementsAre(kThird, kSecond, kFirst));
  EXPECT_EQ(plugged_.line().sets(), 0);
}

TEST_F(PciTest, QueuesMayShareAVector) {
  start();
  use_msix();
  EXPECT_EQ(regs().set_queue_vector(1, 1), 1u);
  EXPECT_EQ(regs().set_config_vector(1), 1u);
  transport().queue_interrupt(1);
  transport().queue_interrupt(0);
  transport().config_changed();
  EXPECT_THAT(messages(), ElementsAre(kSecond, kSecond, kSecond));
}

TEST_F(PciTest, AVectorThatCannotBeHadReadsBackAsNone) {
  start();
  use_msix();
  for (const uint32_t vector : {3u, 4u, 128u, 0x7fffu, 0xfffeu, 0xffffu}) {
    EXPECT_EQ(regs().set_config_vector(vector), kNoVector);
    EXPECT_EQ(regs().set_queue_vector(0, vector), kNoVector);
  }
  transport().queue_interrupt(0);
  transport().config_changed();
  EXPECT_THAT(messages(), IsEmpty());
  EXPECT_EQ(regs().pending(), 0u);
  EXPECT_EQ(regs().set_queue_vector(7, 0), kNoVector) << "a queue that does not exist";
}

TEST_F(PciTest, MaskedInterruptsArePendingAndComeOnce) {
  start();
  use_msix(PciDriver::kMsixMaskAll);
  transport().queue_interrupt(0);
  transport().queue_interrupt(0);
  EXPECT_THAT(messages(), IsEmpty());
  EXPECT_EQ(regs().pending(), 0b010u);
  regs().set_msix(PciDriver::kMsixEnable);
  EXPECT_THAT(messages(), ElementsAre(kSecond));
  EXPECT_EQ(regs().pending(), 0u);
}

// 4.1.4.5.1: the configuration bit is set with MSI-X too; the queue bit only with INTx.
TEST_F(PciTest, AConfigurationChangeShowsInTheIsrWithMsixToo) {
  start();
  use_msix();
  transport().queue_interrupt(0);
  EXPECT_EQ(regs().take_causes(), 0u);
  transport().config_changed();
  EXPECT_FALSE(interrupt_status());
  EXPECT_FALSE(plugged_.line().level());
  EXPECT_EQ(regs().take_causes(), PciDriver::kConfigCause);
}

TEST_F(PciTest, SwitchingToMsixLowersTheWire) {
  start();
  transport().queue_interrupt(0);
  EXPECT_TRUE(plugged_.line().level());
  use_msix();
  EXPECT_FALSE(plugged_.line().level());
  EXPECT_THAT(messages(), IsEmpty());
  transport().queue_interrupt(0);
  EXPECT_THAT(messages(), ElementsAre(kSecond));
  regs().set_msix(0);
  EXPECT_TRUE(plugged_.line().level()) << "the first one was never acknowledged";
  EXPECT_EQ(regs().take_causes(), 1u);
}

TEST_F(PciTest, TellsOfNeedsResetByTheConfigurationVector) {
  start();
  use_msix();
  device_.notifier->needs_reset();
  EXPECT_THAT(messages(), ElementsAre(kFirst));
  EXPECT_EQ(regs().status(), PciDriver::kDriverOk | PciDriver::kNeedsReset);
}

TEST_F(PciTest, ForgetsVectorsAndPendingInterruptsAtReset) {
  start();
  use_msix(PciDriver::kMsixMaskAll);
  transport().queue_interrupt(0);
  transport().config_changed();
  EXPECT_EQ(regs().pending(), 0b011u);
  regs().reset();
  EXPECT_EQ(regs().pending(), 0u);
  EXPECT_EQ(regs().take_causes(), 0u);
  EXPECT_EQ(regs().common(VIRTIO_PCI_COMMON_MSIX, 2), kNoVector);
  for (const uint32_t queue : {0u, 1u}) {
    regs().select(queue);
    EXPECT_EQ(regs().common(VIRTIO_PCI_COMMON_Q_MSIX, 2), kNoVector);
  }
  regs().set_msix(PciDriver::kMsixEnable);
  transport().queue_interrupt(0);
  EXPECT_THAT(messages(), IsEmpty());
  // A device reset does not change the MSI-X table, so a driver need not write it again.
  EXPECT_EQ(regs().set_queue_vector(0, 1), 1u);
  transport().queue_interrupt(0);
  EXPECT_THAT(messages(), ElementsAre(kSecond));
}

TEST_F(PciTest, AResetQueueHasNoVector) {
  ASSERT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1) | feature_bit(VIRTIO_F_RING_RESET)),
            PciDriver::kFeaturesOk);
  regs().set_queue(0, layout());
  use_msix();
  regs().set_status(PciDriver::kDriverOk);
  regs().reset_queue(0);
  EXPECT_EQ(regs().common(VIRTIO_PCI_COMMON_Q_MSIX, 2), kNoVector);
  regs().set_common(VIRTIO_PCI_COMMON_Q_RESET, 0, 2);
  EXPECT_EQ(regs().set_queue_vector(0, 1), 1u);
}

}  // namespace
}  // namespace wick::virtio

// Tests virtio-pci without its Bus Master bit (PCI 3.0, 6.2.2).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/virtio/pci_fixture.h"

namespace wick::virtio {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(PciTest, TakesTheQueuesFromTheDeviceWithItsBusMasterBit) {
  start();
  const int resets = device_.resets;
  regs().set_bus_master(true);  // no change
  EXPECT_EQ(device_.resets, resets);
  EXPECT_EQ(regs().status() & PciDriver::kNeedsReset, 0);
  regs().set_bus_master(false);
  EXPECT_EQ(device_.resets, resets + 1);
  EXPECT_NE(regs().status() & PciDriver::kNeedsReset, 0);
  EXPECT_FALSE(plugged_.line().level()) << "the next driver would not know why";
  // Setting the bit does not restart the device: the driver may be that of another kernel.
  regs().set_bus_master(true);
  EXPECT_EQ(device_.activations, 1);
  EXPECT_NE(regs().status() & PciDriver::kNeedsReset, 0);
  regs().reset();
  start();
  EXPECT_EQ(device_.activations, 2);
  EXPECT_EQ(regs().status(), PciDriver::kDriverOk);
}

TEST_F(PciTest, GivesTheDeviceItsQueuesOnceItHasItsBusMasterBit) {
  regs().set_bus_master(false);
  start();
  EXPECT_EQ(regs().status(), PciDriver::kDriverOk);
  EXPECT_EQ(device_.activations, 0);
  regs().set_bus_master(true);
  EXPECT_EQ(device_.activations, 1);
  EXPECT_THAT(device_.queue_indices, Not(IsEmpty()));
  regs().set_bus_master(true);
  EXPECT_EQ(device_.activations, 1);
}

TEST_F(PciTest, DoesNotStartForADriverThatGaveUpWithoutItsBusMasterBit) {
  regs().set_bus_master(false);
  start();
  regs().set_status(PciDriver::kFailed);
  regs().set_bus_master(true);
  EXPECT_EQ(device_.activations, 0);
}

TEST_F(PciTest, AResetWithoutItsBusMasterBitForgetsTheQueues) {
  regs().set_bus_master(false);
  start();
  regs().reset();
  regs().set_bus_master(true);
  EXPECT_EQ(device_.activations, 0);
}

TEST_F(PciTest, SendsNoMessagesWithoutItsBusMasterBit) {
  start();
  use_msix();
  regs().set_bus_master(false);
  transport().queue_interrupt(0);
  transport().queue_interrupt(0);
  EXPECT_THAT(messages(), IsEmpty());
  EXPECT_EQ(regs().pending(), 2u);
  EXPECT_FALSE(plugged_.line().level());
  regs().set_bus_master(true);
  EXPECT_THAT(messages(), ElementsAre(kSecond));
  EXPECT_EQ(regs().pending(), 0u);
}

// After kexec a kernel resets the device before it sets the bit again.
TEST_F(PciTest, AResetForgetsTheMessagesThatWaitForTheBusMasterBit) {
  start();
  use_msix();
  regs().set_bus_master(false);
  transport().queue_interrupt(0);
  regs().reset();
  regs().set_bus_master(true);
  EXPECT_THAT(messages(), IsEmpty());
}

// INTx needs no access to memory, so it works without Bus Master.
TEST_F(PciTest, RaisesItsWireWithoutItsBusMasterBit) {
  start();
  regs().set_bus_master(false);
  transport().queue_interrupt(0);
  EXPECT_TRUE(plugged_.line().level());
}

TEST_F(PciTest, AnswersAtItsRegistersWithoutItsBusMasterBit) {
  regs().set_bus_master(false);
  start();
  const uint64_t at = regs().aim(VIRTIO_PCI_COMMON_STATUS, 1);
  EXPECT_EQ(regs().space(at, 1), PciDriver::kDriverOk);
}

}  // namespace
}  // namespace wick::virtio

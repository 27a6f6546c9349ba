#include "vmm/coalesced_ports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace wick::vmm {
namespace {

class RecordingDevice final : public BusDevice {
 public:
  void read(uint64_t, std::span<std::byte>) override {}
  void write(uint64_t offset, std::span<const std::byte> data) override {
    writes.push_back(
        fmt::format("{}+{}:{:#x}", offset, data.size(), std::to_integer<unsigned>(data.front())));
  }
  std::vector<std::string> writes;
};

class CoalescedPortsTest : public ::testing::Test {
 protected:
  CoalescedPortsTest() {
    EXPECT_TRUE(ports_.attach({0xcf8, 8}, device_, "device"));
    coalesced_.set_ring(ring_.get());
  }
  // As KVM does it (coalesced_mmio_write).
  void queue(uint16_t port, uint32_t size, uint8_t value) {
    kvm_coalesced_mmio& write = ring_->writes[ring_->last];
    write.phys_addr = port;
    write.len = size;
    write.data[0] = value;
    ring_->last = (ring_->last + 1) % static_cast<uint32_t>(ring_->writes.size());
  }

  RecordingDevice device_;
  Bus ports_;
  const std::unique_ptr<CoalescedPorts::Ring> ring_ = std::make_unique<CoalescedPorts::Ring>();
  CoalescedPorts coalesced_{ports_};
};

TEST_F(CoalescedPortsTest, DeliversInOrderAndOnce) {
  queue(0xcf8, 4, 1);
  queue(0xcf9, 1, 6);
  queue(0xcf8, 4, 2);
  coalesced_.deliver();
  EXPECT_THAT(device_.writes, ::testing::ElementsAre("0+4:0x1", "1+1:0x6", "0+4:0x2"));
  coalesced_.deliver();
  EXPECT_EQ(device_.writes.size(), 3u);
}

TEST_F(CoalescedPortsTest, WrapsAroundAtTheEndOfTheRing) {
  for (unsigned i = 0; i < 3 * ring_->writes.size(); i += 100) {
    for (unsigned j = 0; j < 100; ++j) queue(0xcf8, 4, static_cast<uint8_t>(j));
    coalesced_.deliver();
    EXPECT_EQ(ring_->first, ring_->last);
  }
  EXPECT_EQ(device_.writes.size(), 600u);
}

TEST_F(CoalescedPortsTest, WithoutARingDeliversNothing) {
  CoalescedPorts none(ports_);
  queue(0xcf8, 4, 1);
  none.deliver();
  EXPECT_TRUE(device_.writes.empty());
}

}  // namespace
}  // namespace wick::vmm

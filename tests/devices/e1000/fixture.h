// Test fixture: an 82540EM on a fake network, with a driver, and a loop that runs only
// when the test runs it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <vector>

#include "devices/e1000/e1000.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/e1000_driver.h"
#include "tests/fakes/fake_network.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/wait_for.h"

namespace wick::devices {

class E1000Test : public testing::Test {
 protected:
  using Driver = fakes::E1000Driver;
  using Bytes = std::vector<std::byte>;

  static constexpr uint64_t kRamBytes = 1 << 20;
  static constexpr net::MacAddress kMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

  // Runs the loop until it has nothing more to do.
  void settle(int rounds = 8) {
    for (int i = 0; i < rounds; ++i) {
      loop_->stop();
      loop_->run();
    }
  }

  static Bytes bytes(std::initializer_list<int> values) {
    Bytes result;
    for (const int value : values) result.push_back(static_cast<std::byte>(value));
    return result;
  }
  static Bytes mac(const net::MacAddress& address) {
    const auto all = std::as_bytes(std::span(address));
    return {all.begin(), all.end()};
  }
  // Makes an Ethernet frame; the bytes of its payload count up.
  static Bytes frame(size_t size_bytes, const net::MacAddress& to = kMac, uint16_t type = 0x0800) {
    Bytes result = mac(to);
    const Bytes rest = bytes({2, 0, 0, 0, 0, 1, type >> 8, type & 0xff});
    result.insert(result.end(), rest.begin(), rest.end());
    for (size_t i = result.size(); i < size_bytes; ++i) result.push_back(static_cast<std::byte>(i));
    return result;
  }
  static Bytes tagged_frame(size_t size_bytes, uint16_t tag, const net::MacAddress& to = kMac) {
    Bytes result = frame(size_bytes, to, 0x8100);
    store_be(std::span(result).subspan(14, 2), tag);
    return result;
  }
  static Bytes part(const Bytes& of, size_t start, size_t size_bytes) {
    const auto chosen = std::span(of).subspan(start, size_bytes);
    return {chosen.begin(), chosen.end()};
  }
  static uint16_t word_at(const Bytes& of, size_t offset) {
    return load_be<uint16_t>(std::span(of).subspan(offset, 2));
  }

  void arrive(Bytes frame_bytes, net::PacketHeader header = {}) {
    network_.arrive({header, std::move(frame_bytes)});
  }
  // Writes the data to send into guest memory.
  void fill(const Bytes& data, uint64_t at = Driver::kTransmitData) const {
    memory_.write_bytes({at}, data).value();
  }

  const GuestMemory memory_ = fakes::memory_of(kRamBytes);
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  fakes::FakeNetwork network_{1, {.checksum = true, .tcp4 = true}};
  fakes::CountingLine line_;
  uint64_t now_ns_ = 1'000'000'000;
  const std::unique_ptr<E1000> card_ =
      E1000::create(network_, *loop_, kMac, memory_, line_, "eth0", [this] {
        return now_ns_;
      }).value();
  Driver driver_{*card_, memory_};
};

}  // namespace wick::devices

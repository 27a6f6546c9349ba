// The guest's side of an 82540EM: its registers and rings, as a driver uses them.
#pragma once

#include <bit>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "base/guest_memory.h"
#include "devices/e1000/e1000.h"
#include "tests/fakes/registers.h"

namespace wick::fakes {

class E1000Driver {
 public:
  using Receive = devices::e1000::ReceiveDescriptor;
  using Transmit = devices::e1000::TransmitDescriptor;
  using Context = devices::e1000::ContextDescriptor;

  static constexpr uint64_t kTransmitRing = 0x10000;
  static constexpr uint64_t kReceiveRing = 0x20000;
  static constexpr uint32_t kDescriptors = 16;  // of each ring
  static constexpr uint64_t kTransmitData = 0x30000;
  static constexpr uint64_t kReceiveBuffers = 0x80000;  // 16 KiB for each
  static constexpr uint64_t kBufferStride = 0x4000;

  E1000Driver(devices::E1000& card, const GuestMemory& memory) : card_(&card), memory_(&memory) {}

  uint32_t get(uint32_t offset) const {
    return static_cast<uint32_t>(read_register(card_->memory_bar(), offset, 4));
  }
  void set(uint32_t offset, uint32_t value) const {
    write_register(card_->memory_bar(), offset, value, 4);
  }

  // Read the EEPROM in both ways.
  uint16_t eeprom_by_register(uint32_t word) const {
    using namespace devices::e1000;
    set(kEerd, word << 8 | kEerdStart);
    return static_cast<uint16_t>(get(kEerd) >> 16);
  }
  uint16_t eeprom_by_wires(uint32_t word) const {
    using namespace devices::e1000;
    set(kEecd, kRequest | kSelect);
    const uint32_t command = 6u << 6 | word;
    for (int bit = 8; bit >= 0; --bit) clock((command >> bit & 1) != 0);
    uint32_t value = 0;
    for (int bit = 0; bit < 16; ++bit) {
      clock(false);
      value = value << 1 | (get(kEecd) >> 3 & 1);
    }
    set(kEecd, 0);
    return static_cast<uint16_t>(value);
  }

  uint16_t phy(uint32_t index) const {
    using namespace devices::e1000;
    set(kMdic, kMdicRead | 1 << 21 | index << 16);
    return static_cast<uint16_t>(get(kMdic));
  }
  void set_phy(uint32_t index, uint16_t value) const {
    using namespace devices::e1000;
    set(kMdic, kMdicWrite | 1 << 21 | index << 16 | value);
  }

  // --- transmit ---

  void start_transmitter(uint32_t more = 0, uint32_t descriptors = kDescriptors) const {
    using namespace devices::e1000;
    set(kTdbal, kTransmitRing);
    set(kTdbah, 0);
    set(kTdlen, descriptors * 16);
    set(kTdh, 0);
    set(kTdt, 0);
    set(kTctl, kTransmitEnable | more);
  }
  // Writes a descriptor at the tail. send() writes TDT.
  template <typename T>
  void put(const T& descriptor) {
    memory_->write({kTransmitRing + 16 * uint64_t{tail_}}, descriptor).value();
    tail_ = (tail_ + 1) % kDescriptors;
  }
  void send() const { set(devices::e1000::kTdt, tail_); }
  Transmit transmitted(uint32_t index) const {
    return memory_->read<Transmit>({kTransmitRing + 16 * uint64_t{index}}).value();
  }
  static Transmit legacy(uint64_t address, size_t bytes, uint32_t flags) {
    return {.address = address, .lower = static_cast<uint32_t>(bytes) | flags};
  }
  static Transmit data(uint64_t address, size_t bytes, uint32_t flags, uint8_t options) {
    return {.address = address,
            .lower = static_cast<uint32_t>(bytes) | flags | Transmit::kExtended | Transmit::kData,
            .options = options};
  }

  // --- receive ---

  void start_receiver(uint32_t more, uint32_t descriptors = kDescriptors) const {
    lay_buffers(descriptors);
    enable_receiver(more, descriptors);
  }
  void lay_buffers(uint32_t descriptors = kDescriptors) const {
    for (uint32_t i = 0; i < descriptors; ++i) {
      const Receive free{.address = kReceiveBuffers + i * kBufferStride, .written = {}};
      memory_->write({kReceiveRing + 16 * uint64_t{i}}, free).value();
    }
  }
  void enable_receiver(uint32_t more, uint32_t descriptors = kDescriptors) const {
    using namespace devices::e1000;
    set(kRdbal, kReceiveRing);
    set(kRdbah, 0);
    set(kRdlen, descriptors * 16);
    set(kRdh, 0);
    set(kRdt, 0);
    set(kRctl, kReceiveEnable | more);
  }
  Receive::WriteBack received(uint32_t index) const {
    return memory_->read<Receive>({kReceiveRing + 16 * uint64_t{index}}).value().written;
  }
  std::vector<std::byte> received_bytes(uint32_t index) const {
    const auto bytes =
        memory_->slice({kReceiveBuffers + index * kBufferStride}, received(index).length).value();
    return {bytes.begin(), bytes.end()};
  }

 private:
  static constexpr uint32_t kClock = 1;
  static constexpr uint32_t kSelect = 2;
  static constexpr uint32_t kDataIn = 4;
  static constexpr uint32_t kRequest = 0x40;

  void clock(bool bit) const {
    const uint32_t pins = kRequest | kSelect | (bit ? kDataIn : 0);
    set(devices::e1000::kEecd, pins);
    set(devices::e1000::kEecd, pins | kClock);
    set(devices::e1000::kEecd, pins);
  }

  devices::E1000* card_;
  const GuestMemory* memory_;
  uint32_t tail_ = 0;
};

}  // namespace wick::fakes

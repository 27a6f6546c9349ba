// The descriptors and descriptor rings of the 82540EM, and its packet statistics.
//
// Thread rule: the loop's thread only. A Ring is a view of guest memory that is valid
// for one turn, with a copy of the ring's registers.
//
// Specification: Intel 8254x Software Developer's Manual (317453), 3.2.3 (receive),
// 3.3.3 to 3.3.7 (transmit), 13.7 (statistics).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <optional>
#include <span>

#include "base/guest_memory.h"

namespace wick::devices::e1000 {

// DD, "descriptor done", in receive and transmit descriptors.
constexpr uint8_t kDone = 1 << 0;

// The receive descriptor (3.2.3).
struct ReceiveDescriptor {
  static constexpr uint8_t kEndOfPacket = 1 << 1;
  static constexpr uint8_t kIgnoreChecksum = 1 << 2;  // IXSM: checksum bits are not valid
  static constexpr uint8_t kVlanPacket = 1 << 3;
  static constexpr uint8_t kTcpChecksum = 1 << 5;  // TCPCS: the card verified the checksum
  static constexpr uint8_t kInexact = 1 << 7;      // PIF: only the hash filter matched
  static constexpr uint8_t kDataError = 1 << 7;    // RXE, a bit of `errors`

  // The part of the descriptor that the card writes.
  struct WriteBack {
    uint16_t length = 0;
    uint16_t checksum = 0;
    uint8_t status = 0;
    uint8_t errors = 0;
    uint16_t special = 0;
  };

  uint64_t address = 0;
  WriteBack written;
};
static_assert(sizeof(ReceiveDescriptor) == 16);

// The transmit descriptor: 3.3.3 (legacy), 3.3.7 (data).
struct TransmitDescriptor {
  // Bits of `lower`.
  static constexpr uint32_t kEndOfPacket = 1 << 24;
  static constexpr uint32_t kInsertChecksum = 1 << 26;  // IC, only in a legacy descriptor
  static constexpr uint32_t kSegment = 1 << 26;         // TSE, only in a data descriptor
  static constexpr uint32_t kReportStatus = 1 << 27;
  static constexpr uint32_t kExtended = 1 << 29;
  static constexpr uint32_t kVlan = 1 << 30;
  static constexpr uint32_t kType = 0xf << 20;
  static constexpr uint32_t kData = 1 << 20;
  // Bits of `options`.
  static constexpr uint8_t kIpChecksum = 1 << 0;
  static constexpr uint8_t kTcpUdpChecksum = 1 << 1;

  bool extended() const { return (lower & kExtended) != 0; }
  bool context() const { return extended() && (lower & kType) != kData; }
  uint32_t bytes() const { return lower & (extended() ? 0xfffff : 0xffff); }
  bool has(uint32_t flag) const { return (lower & flag) != 0; }
  // CSO, the position of the checksum; only in a legacy descriptor.
  uint8_t checksum_offset() const { return static_cast<uint8_t>(lower >> 16); }

  uint64_t address = 0;
  uint32_t lower = 0;
  uint8_t status = 0;
  uint8_t options = 0;  // POPTS; CSS (checksum start) in a legacy descriptor
  uint16_t special = 0;
};
static_assert(sizeof(TransmitDescriptor) == 16);

// The context descriptor: parameters of the data descriptors that follow it (3.3.6).
struct ContextDescriptor {
  // Bits of `lower`.
  static constexpr uint32_t kTcp = 1 << 24;
  static constexpr uint32_t kIpv4 = 1 << 25;
  static constexpr uint32_t kSegment = 1 << 26;

  uint8_t ip_start = 0;
  uint8_t ip_offset = 0;
  uint16_t ip_end = 0;  // the last byte of the checksum's range; 0: the packet's end
  uint8_t tcp_start = 0;
  uint8_t tcp_offset = 0;
  uint16_t tcp_end = 0;
  uint32_t lower = 0;
  uint8_t status = 0;
  uint8_t header_bytes = 0;
  uint16_t segment_bytes = 0;
};
static_assert(sizeof(ContextDescriptor) == 16);

// The registers of a ring.
struct RingRegisters {
  uint64_t base = 0;  // the ring's address, a multiple of 16
  uint32_t bytes = 0;
  uint32_t head = 0;
  uint32_t tail = 0;
};

class Ring {
 public:
  static constexpr uint32_t kDescriptorBytes = 16;

  // Returns nullopt if the ring is not in RAM, or if head or tail is outside the ring.
  static std::optional<Ring> open(const GuestMemory& memory, const RingRegisters& registers) {
    const uint32_t count = registers.bytes / kDescriptorBytes;
    if (registers.head >= count || registers.tail >= count) return {};
    const auto bytes = memory.slice({registers.base}, size_t{count} * kDescriptorBytes);
    if (!bytes) return {};
    return Ring(*bytes, count, registers);
  }

  uint32_t count() const { return count_; }
  uint32_t head() const { return head_; }
  // The number of descriptors that the card owns, from the head on.
  uint32_t available() const { return head_ <= tail_ ? tail_ - head_ : tail_ + count_ - head_; }
  uint32_t next(uint32_t index) const { return index + 1 == count_ ? 0 : index + 1; }
  void advance(uint32_t descriptors) {
    head_ += descriptors;
    if (head_ >= count_) head_ -= count_;
  }

  // Copies the descriptor once; later changes by the guest have no effect.
  template <typename T>
  T read(uint32_t index) const {
    static_assert(sizeof(T) == kDescriptorBytes);
    const auto word = [at = at(index)](size_t offset) {
      return std::atomic_ref(*reinterpret_cast<uint64_t*>(at + offset))
          .load(std::memory_order_relaxed);
    };
    return std::bit_cast<T>(std::array{word(0), word(8)});
  }

  // set_status() and write_back() are release stores: a guest that sees DD also sees the data
  // written before.
  void set_status(uint32_t index, uint8_t status) const {
    constexpr size_t kStatus = 12;
    std::atomic_ref(*reinterpret_cast<uint8_t*>(at(index) + kStatus))
        .store(status, std::memory_order_release);
  }
  void write_back(uint32_t index, const ReceiveDescriptor::WriteBack& what) const {
    std::atomic_ref(*reinterpret_cast<uint64_t*>(at(index) + 8))
        .store(std::bit_cast<uint64_t>(what), std::memory_order_release);
  }

 private:
  Ring(std::span<std::byte> bytes, uint32_t count, const RingRegisters& registers)
      : bytes_(bytes), count_(count), head_(registers.head), tail_(registers.tail) {}
  std::byte* at(uint32_t index) const { return bytes_.data() + size_t{index} * kDescriptorBytes; }

  std::span<std::byte> bytes_;
  uint32_t count_ = 0;
  uint32_t head_ = 0;
  uint32_t tail_ = 0;
};

// Tells a turn on the rings to end early: over() is true once the guest has changed a
// register that the turn depends on.
class Epoch {
 public:
  explicit Epoch(const std::atomic<uint32_t>& now) : now_(now), began_(now) {}
  bool over() const { return now_.load(std::memory_order_acquire) != began_; }

 private:
  const std::atomic<uint32_t>& now_;
  const uint32_t began_;
};

// Statistics of the frames of a turn; sizes include the CRC of four bytes (13.7).
struct Tally {
  uint32_t frames = 0;
  uint32_t broadcasts = 0;
  uint32_t multicasts = 0;
  uint64_t octets = 0;
  std::array<uint32_t, 6> sizes{};  // frames of up to 64, 127, 255, 511, 1023 bytes, and more

  void add(uint32_t count, uint64_t frame_bytes) {
    frames += count;
    octets += count * frame_bytes;
    const auto bits = static_cast<size_t>(std::bit_width(frame_bytes));
    const size_t size_class = frame_bytes <= 64 ? 0 : std::min<size_t>(bits - 6, 5);
    sizes[size_class] += count;
  }
  // `destination` is the first six bytes of the frame.
  void add_cast(uint32_t count, std::span<const std::byte, 6> destination) {
    if ((destination[0] & std::byte{1}) == std::byte{0}) return;
    const bool all =
        std::ranges::all_of(destination, [](std::byte b) { return b == std::byte{0xff}; });
    (all ? broadcasts : multicasts) += count;
  }
};

}  // namespace wick::devices::e1000

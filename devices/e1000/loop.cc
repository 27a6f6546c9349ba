// The part of the 82540EM that runs on its loop. It processes the transmit and the receive ring
// in bounded turns, and updates the registers after each turn.
#include <algorithm>
#include <utility>

#include "devices/e1000/e1000.h"

namespace wick::devices {

using namespace e1000;

namespace {

// Offsets of a ring's registers from its base register.
constexpr uint32_t kBaseHigh = 4;
constexpr uint32_t kLength = 8;
constexpr uint32_t kHead = 0x10;
constexpr uint32_t kTail = 0x18;

// The maximum number of rounds in one call of serve(), so that one card does not keep the loop from
// its other work.
constexpr int kRounds = 4;

}  // namespace

E1000::DeferredAction E1000::wake_transmitter() {
  if (transmitting_ || !transmitter_enabled() || reg(kTdh) == reg(kTdt)) return {};
  transmitting_ = true;
  return {.wake_loop = true};
}

E1000::DeferredAction E1000::wake_receiver() {
  if (!wants_buffers_ || !receiver_enabled() || reg(kRdh) == reg(kRdt)) return {};
  wants_buffers_ = false;
  return {.wake_loop = true};
}

RingRegisters E1000::ring(uint32_t base) const {
  const auto words = std::span(state_.registers).subspan(base / 4);
  return {.base = uint64_t{words[kBaseHigh / 4]} << 32 | words[0],
          .bytes = words[kLength / 4],
          .head = words[kHead / 4],
          .tail = words[kTail / 4]};
}

void E1000::serve() {
  for (int round = 0; round < kRounds; ++round) {
    const MutexLock dma(dma_mutex_);
    const bool more_to_send = transmit();
    const bool more_to_receive = receive();
    if (!more_to_send && !more_to_receive) return;
  }
  wake_.signal();
}

// Returns true if the ring needs another turn.
bool E1000::transmit() {
  MutexLock lock(mutex_);
  if (!transmitting_) return false;
  const RingRegisters registers = ring(kTdbal);
  const auto ring = Ring::open(memory_, registers);
  if (!transmitter_enabled() || registers.head == registers.tail || !ring) {
    transmitting_ = false;
    if (registers.head != registers.tail && !ring)
      warnings_.warn("{}: the transmit ring is not in RAM, or its head or tail is outside it",
                     name_);
    return false;
  }
  const TransmitSettings settings{.pad_short = (reg(kTctl) & kPadShortPackets) != 0,
                                  .vlan = (reg(kCtrl) & kVlanMode) != 0,
                                  .vlan_type = static_cast<uint16_t>(reg(kVet))};
  const Epoch epoch(sending_.epoch);
  const uint32_t generation = sending_.generation;
  lock.unlock();
  if (std::exchange(sending_.served_generation, generation) != generation) transmitter_.reset();
  const Transmitter::Outcome outcome = transmitter_.run(*ring, settings, epoch);
  lock.lock();
  if (sending_.generation == generation) finish_transmit(outcome);
  if (epoch.over()) return true;
  // If the turn made no progress, the ring ends in the middle of a packet. The driver will write
  // TDT when it has added the rest of the packet.
  const bool more = reg(kTdt) != registers.tail || (outcome.progress && reg(kTdh) != reg(kTdt));
  transmitting_ = more;
  return more;
}

void E1000::finish_transmit(const Transmitter::Outcome& outcome) {
  reg(kTdh) = outcome.head;
  const Tally& tally = outcome.tally;
  if (tally.frames > 0) {
    count(kGptc, tally.frames);
    count(kTpt, tally.frames);
    count(kBptc, tally.broadcasts);
    count(kMptc, tally.multicasts);
    count_octets(kGotcl, tally.octets);
    count_octets(kTotl, tally.octets);
    for (uint32_t i = 0; i < tally.sizes.size(); ++i) count(kPtc64 + 4 * i, tally.sizes[i]);
    count(kTsctc, outcome.segmentations);
  }
  count(kTsctfc, outcome.failed_segmentations);
  if (!outcome.progress) return;
  raise((outcome.reported ? kTxdw : 0) | (reg(kTdh) == reg(kTdt) ? kTxqe : 0));
}

bool E1000::receive() {
  if (!packets_waiting_ && !receiver_.holds_packet()) return false;
  MutexLock lock(mutex_);
  const RingRegisters registers = ring(kRdbal);
  const bool enabled = receiver_enabled();
  const auto ring = Ring::open(memory_, registers);
  if (!enabled || registers.head == registers.tail || !ring) {
    if (!wants_buffers_ && enabled) count(kRnbc, 1);
    wants_buffers_ = true;
    if (enabled && registers.head != registers.tail && !ring)
      warnings_.warn("{}: the receive ring is not in RAM, or its head or tail is outside it",
                     name_);
    return false;
  }
  wants_buffers_ = false;
  update_receive_settings();
  const Epoch epoch(receiving_.epoch);
  const uint32_t generation = receiving_.generation;
  lock.unlock();
  if (std::exchange(receiving_.served_generation, generation) != generation) receiver_.reset();
  const Receiver::Outcome outcome = receiver_.run(*ring, settings_, epoch);
  if (outcome.drained) packets_waiting_ = false;
  lock.lock();
  if (receiving_.generation == generation) finish_receive(outcome);
  if (epoch.over()) return true;
  if (outcome.wants_buffers && reg(kRdt) == registers.tail) {
    count(kRnbc, 1);
    wants_buffers_ = true;
    return false;
  }
  return packets_waiting_ || receiver_.holds_packet();
}

void E1000::update_receive_settings() {
  if (settings_version_ == filters_version_) return;
  settings_version_ = filters_version_;
  settings_.rctl = reg(kRctl);
  settings_.rxcsum = reg(kRxcsum);
  settings_.strip_vlan = (reg(kCtrl) & kVlanMode) != 0;
  settings_.vlan_type = static_cast<uint16_t>(reg(kVet));
  const auto copy = [](const uint32_t* from, auto& to) {
    std::copy_n(from, to.size(), to.begin());
  };
  copy(&reg(kRa), settings_.addresses);
  copy(&reg(kMta), settings_.multicasts);
  copy(&reg(kVfta), settings_.vlans);
}

void E1000::finish_receive(const Receiver::Outcome& outcome) {
  const Tally& tally = outcome.tally;
  count(kRoc, outcome.oversized);
  count(kMpc, outcome.missed);
  if (tally.frames > 0) {
    count(kGprc, tally.frames);
    count(kTpr, tally.frames);
    count(kBprc, tally.broadcasts);
    count(kMprc, tally.multicasts);
    count_octets(kGorcl, tally.octets);
    count_octets(kTorl, tally.octets);
    for (uint32_t i = 0; i < tally.sizes.size(); ++i) count(kPrc64 + 4 * i, tally.sizes[i]);
  }
  uint32_t causes = outcome.overrun ? kRxo : 0;
  if (reg(kRdh) != outcome.head) {
    reg(kRdh) = outcome.head;
    causes |= kRxt0;
    const uint32_t descriptors = reg(kRdlen) / Ring::kDescriptorBytes;
    const uint32_t left = (reg(kRdt) + descriptors - outcome.head) % descriptors;
    if (left <= descriptors >> (1 + minimum_threshold(reg(kRctl)))) causes |= kRxdmt0;
  }
  raise(causes);
}

void E1000::update_link() {
  const bool cable = backend_.link_up();
  const MutexLock lock(mutex_);
  const bool was_up = link_up();
  state_.cable = cable;
  set_link(was_up);
}

// 13.7: counters stay at their maximum.
void E1000::count(uint32_t offset, uint64_t amount) {
  uint32_t& counter = reg(offset);
  counter = static_cast<uint32_t>(std::min<uint64_t>(UINT32_MAX, counter + amount));
}

void E1000::count_octets(uint32_t offset, uint64_t amount) {
  const uint64_t value = (uint64_t{reg(offset + 4)} << 32 | reg(offset)) + amount;
  reg(offset) = static_cast<uint32_t>(value);
  reg(offset + 4) = static_cast<uint32_t>(value >> 32);
}

}  // namespace wick::devices

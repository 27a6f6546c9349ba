#include "devices/e1000/e1000.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/bytes.h"

namespace wick::devices {

using namespace e1000;

namespace {

constexpr PciFunction::Identity kIdentity{.vendor = kIntel,
                                          .device = k82540em,
                                          .subsystem_vendor = kIntel,
                                          .subsystem = kDesktopAdapter,
                                          .class_code = 0x020000,
                                          .revision = 2};

// The I/O BAR follows directly: without flash memory, the card has no flash BAR.
constexpr size_t kMemoryBarIndex = 0;
constexpr size_t kIoBarIndex = 1;

constexpr bool within(uint32_t offset, uint32_t start, size_t words) {
  return offset - start < 4 * words;
}

}  // namespace

uint64_t E1000::steady_clock() {
  return static_cast<uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

Result<std::unique_ptr<E1000>> E1000::create(net::Backend& backend, EventLoop& loop,
                                             const net::MacAddress& address,
                                             const GuestMemory& memory, InterruptLine& line,
                                             std::string name, Clock clock) {
  EventFd wake = TRY(EventFd::create());
  std::unique_ptr<E1000> card(new E1000(backend, loop, address, memory, line, std::move(name),
                                        std::move(clock), std::move(wake)));
  TRY(card->start());
  return card;
}

E1000::E1000(net::Backend& backend, EventLoop& loop, const net::MacAddress& address,
             const GuestMemory& memory, InterruptLine& line, std::string name, Clock clock,
             EventFd wake)
    : backend_(backend),
      loop_(loop),
      memory_(memory),
      name_(std::move(name)),
      clock_(std::move(clock)),
      interrupts_(1, line, no_messages_),
      function_(kIdentity, &interrupts_),
      wake_(std::move(wake)),
      transmitter_(memory, backend, name_),
      receiver_(memory, backend),
      state_(address) {
  function_.add_bar(kMemoryBarIndex, kMemoryBytes, memory_bar_);
  function_.add_io_bar(kIoBarIndex, kIoPorts, io_bar_);
  function_.on_bus_master([this](bool enabled) { enable_dma(enabled); });
  state_.registers = reset_values();
  load_address();
}

Result<void> E1000::start() {
  return loop_.call([&]() -> Result<void> {
    wake_watch_ = TRY(loop_.watch(wake_.fd(), EPOLLIN | EPOLLET, [this](uint32_t) { serve(); }));
    throttle_timer_ = TRY(loop_.timer([this] {
      const MutexLock lock(mutex_);
      timer_armed_ = false;
      update_interrupt();
    }));
    TRY(backend_.attach(loop_, {.readable =
                                    [this](uint16_t) {
                                      packets_waiting_ = true;
                                      serve();
                                    },
                                .link_changed = [this] { update_link(); }}));
    attached_ = true;
    // The receiver does in software what the back end offloads.
    backend_.set_offloads(backend_.supported_offloads());
    update_link();
    return {};
  });
}

E1000::~E1000() {
  loop_.call([this] {
    if (attached_) backend_.detach();
    wake_watch_.reset();
    throttle_timer_.reset();
  });
}

E1000::State E1000::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

void E1000::reset() {
  DeferredAction action;
  {
    const MutexLock lock(mutex_);
    action = reset_registers();
    state_.phy.reset();
    state_.eeprom.set_control(0);
    state_.io_address = 0;
  }
  run(action);
}

// --- access ---

// 13.1: registers are 32-bit words. A read may be of any part of a register; a write of
// a part has no effect.
void E1000::MemoryBar::read(uint64_t offset, std::span<std::byte> data) {
  if (data.size() == 4 && offset % 4 == 0) {
    const uint32_t value = card.read_register(offset);
    std::memcpy(data.data(), &value, 4);
    return;
  }
  while (!data.empty()) {
    const uint64_t in_word = offset % 4;
    const uint32_t value = card.read_register(offset - in_word);
    const size_t bytes = std::min<size_t>(4 - in_word, data.size());
    store_le(data.first(bytes), value >> 8 * in_word);
    data = data.subspan(bytes);
    offset += bytes;
  }
}

void E1000::MemoryBar::write(uint64_t offset, std::span<const std::byte> data) {
  if (offset % 4 != 0) return;
  for (; data.size() >= 4; data = data.subspan(4), offset += 4) {
    uint32_t value = 0;
    std::memcpy(&value, data.data(), 4);
    card.write_register(offset, value);
  }
}

BusDevice::Name E1000::MemoryBar::name_of(uint64_t offset, bool /*write*/) const {
  const Register* known = find_register(offset);
  return {known == nullptr ? std::string_view() : known->name, card.name_};
}

// 13.2: IOADDR selects the register that IODATA accesses.
void E1000::IoBar::read(uint64_t offset, std::span<std::byte> data) {
  uint32_t value = 0;
  const uint64_t port = offset - offset % 4;
  if (port <= kIoData) {
    MutexLock lock(card.mutex_);
    value = card.state_.io_address;
    lock.unlock();
    if (port == kIoData) value = card.read_register(value);
  }
  store_le(data, offset % 4 + data.size() <= 4 ? value >> 8 * (offset % 4) : 0);
}

void E1000::IoBar::write(uint64_t offset, std::span<const std::byte> data) {
  if (data.size() != 4) return;
  const auto value = load_le<uint32_t>(data);
  MutexLock lock(card.mutex_);
  if (offset == kIoAddress) card.state_.io_address = value;
  if (offset != kIoData) return;
  const uint32_t address = card.state_.io_address;
  lock.unlock();
  if (address % 4 == 0) card.write_register(address, value);
}

BusDevice::Name E1000::IoBar::name_of(uint64_t offset, bool /*write*/) const {
  constexpr std::array<std::string_view, 2> kNames = {"IOADDR", "IODATA"};
  return {offset < 8 ? kNames[offset / 4] : std::string_view(), card.name_};
}

// --- registers ---

uint32_t E1000::read_register(uint64_t offset) {
  const Register* known = find_register(offset & ~uint64_t{3});
  if (known == nullptr || known->access == Access::kWriteOnly) return 0;
  const auto at = static_cast<uint32_t>(offset & ~uint64_t{3});
  const MutexLock lock(mutex_);
  uint32_t value = reg(at);
  switch (at) {
    case kCtrlCopy:
      return reg(kCtrl);
    case kStatus:
      return kStatusAlways | (link_up() ? kStatusUp : 0);
    case kEecd:
      return state_.eeprom.control();
    case kIcr:
      reg(kIcr) = 0;
      update_interrupt();
      return value;
    // 13.7: reading the upper half of a 64-bit counter clears both halves.
    case kGorcl:
    case kGotcl:
    case kTorl:
    case kTotl:
      return value;
    case kGorcl + 4:
    case kGotcl + 4:
    case kTorl + 4:
    case kTotl + 4:
      reg(at - 4) = 0;
      break;
    default:
      break;
  }
  if (known->access == Access::kReadClear) reg(at) = 0;
  return value;
}

void E1000::write_register(uint64_t offset, uint32_t value) {
  if (find_register(offset) == nullptr) return;
  DeferredAction action;
  {
    const MutexLock lock(mutex_);
    action = store(static_cast<uint32_t>(offset), value);
  }
  run(action);
}

void E1000::run(const DeferredAction& action) {
  // Locking dma_mutex_ waits for the end of the loop's turn. That is soon, because the
  // caller has changed the epoch.
  if (action.stop_dma) const MutexLock wait(dma_mutex_);
  if (action.wake_loop) wake_.signal();
}

void E1000::enable_dma(bool enabled) {
  DeferredAction action;
  {
    const MutexLock lock(mutex_);
    dma_enabled_ = enabled;
    action.stop_dma = !enabled;
    if (enabled) {
      const DeferredAction transmit = wake_transmitter();
      const DeferredAction receive = wake_receiver();
      action.wake_loop = transmit.wake_loop || receive.wake_loop;
    } else {
      ++sending_.epoch;
      ++receiving_.epoch;
    }
  }
  run(action);
}

E1000::DeferredAction E1000::store(uint32_t offset, uint32_t value) {
  const Register& known = *find_register(offset);
  switch (offset) {
    case kTdt:
      reg(kTdt) = value & known.writable;
      return wake_transmitter();
    case kRdt:
      reg(kRdt) = value & known.writable;
      return wake_receiver();
    case kIcr:
    case kIcs:
    case kIms:
    case kImc:
    case kItr:
      store_interrupt(offset, value, known.writable);
      return {};
    case kCtrl:
    case kCtrlCopy:
      return store_control(value);
    case kRctl:
      ++filters_version_;
      return store_enable(kRctl, kReceiveEnable, value & known.writable);
    case kTctl:
      return store_enable(kTctl, kTransmitEnable, value & known.writable);
    case kEecd:
      state_.eeprom.set_control(value);
      return {};
    case kEerd:
      read_eeprom(value);
      return {};
    case kCtrlExt:
      if ((value & kEepromReset) != 0) load_address();
      break;
    case kMdic:
      access_phy(value);
      return {};
    case kRdbal:
    case kRdbah:
    case kRdlen:
    case kRdh:
      change_ring(receiving_);
      break;
    case kTdbal:
    case kTdbah:
    case kTdlen:
    case kTdh:
      change_ring(sending_);
      break;
    case kVet:
    case kRxcsum:
      ++filters_version_;
      break;
    default:
      if (within(offset, kMta, kVfta + 4 * kVlanWords - kMta)) ++filters_version_;
      break;
  }
  if (known.access != Access::kReadWrite) return {};
  reg(offset) = (reg(offset) & ~known.writable) | (value & known.writable);
  return {};
}

void E1000::store_interrupt(uint32_t offset, uint32_t value, uint32_t writable) {
  switch (offset) {
    case kIcr:
      reg(kIcr) &= ~value;
      break;
    case kIcs:
      return raise(value & kCauses);
    case kIms:
      reg(kIms) |= value & writable;
      break;
    case kImc:
      reg(kIms) &= ~value;
      break;
    default:  // kItr
      reg(kItr) = value & writable;
      timer_armed_ = false;  // the timer was armed for the old interval
      break;
  }
  update_interrupt();
}

void E1000::read_eeprom(uint32_t value) {
  const uint16_t word = state_.eeprom.word(value >> 8 & 0xff);
  reg(kEerd) =
      (value & 0xff00) | ((value & kEerdStart) != 0 ? uint32_t{word} << 16 | kEerdDone : 0);
}

E1000::DeferredAction E1000::store_control(uint32_t value) {
  if ((value & kReset) != 0) return reset_registers();
  const bool was_up = link_up();
  if ((value & kPhyReset) != 0) state_.phy.reset();
  reg(kCtrl) = value & find_register(kCtrl)->writable;
  ++filters_version_;  // VME, a bit of CTRL, is one of the settings
  set_link(was_up);
  return {};
}

// Writes RCTL or TCTL; `enable` is its enable bit.
E1000::DeferredAction E1000::store_enable(uint32_t offset, uint32_t enable, uint32_t value) {
  const bool was_enabled = (reg(offset) & enable) != 0;
  const bool enabled = (value & enable) != 0;
  reg(offset) = value;
  if (enabled) return offset == kTctl ? wake_transmitter() : wake_receiver();
  if (was_enabled) ++(offset == kTctl ? sending_ : receiving_).epoch;
  return {.stop_dma = was_enabled};
}

// 13.4.1, RST: resets everything except the PHY.
E1000::DeferredAction E1000::reset_registers() {
  state_.registers = reset_values();
  load_address();
  change_ring(sending_);
  change_ring(receiving_);
  ++filters_version_;
  last_interrupt_ns_.reset();
  timer_armed_ = false;
  update_interrupt();
  return {.stop_dma = true};
}

void E1000::change_ring(Direction& direction) {
  ++direction.generation;
  ++direction.epoch;
}

void E1000::load_address() {
  const Eeprom& eeprom = state_.eeprom;
  reg(kRa) = eeprom.word(0) | uint32_t{eeprom.word(1)} << 16;
  reg(kRa + 4) = eeprom.word(2) | kAddressValid;
  ++filters_version_;
}

void E1000::access_phy(uint32_t value) {
  const size_t index = value >> 16 & 0x1f;
  const uint32_t address = value >> 21 & 0x1f;
  const uint32_t operation = value & kMdicOperation;
  uint32_t result = value & ~(kMdicReady | kMdicError);
  const bool was_up = link_up();
  bool negotiated = false;
  const bool read = operation == kMdicRead;
  if (address != Phy::kAddress || (!read && operation != kMdicWrite))
    result |= kMdicError;
  else if (read)
    result = (result & ~0xffffu) | state_.phy.read(index, state_.cable);
  else
    negotiated = state_.phy.write(index, static_cast<uint16_t>(value));
  reg(kMdic) = result | kMdicReady;
  if ((value & kMdicInterrupt) != 0) raise(kMdac);
  if (negotiated && link_up())
    raise(kLsc);
  else
    set_link(was_up);
}

void E1000::set_link(bool was_up) {
  if (link_up() != was_up) raise(kLsc);
}

// --- interrupts ---

void E1000::raise(uint32_t causes) {
  reg(kIcr) |= causes;
  update_interrupt();
}

void E1000::update_interrupt() {
  const bool wanted = (reg(kIcr) & reg(kIms)) != 0;
  if (wanted == asserted_ || (wanted && throttled())) return;
  asserted_ = wanted;
  interrupts_.set_intx(wanted);
}

// Returns true if an interrupt must wait, because ITR is the minimum interval between two
// interrupts (13.4.18). The timer is then armed for the end of the interval.
bool E1000::throttled() {
  const uint64_t interval_ns = uint64_t{reg(kItr)} * kItrUnitNs;
  if (interval_ns == 0) return false;
  if (timer_armed_) return true;
  const uint64_t now = clock_();
  const uint64_t since = now - last_interrupt_ns_.value_or(now - interval_ns);
  if (since >= interval_ns) {
    last_interrupt_ns_ = now;
    return false;
  }
  timer_armed_ = true;
  throttle_timer_->arm(std::chrono::microseconds((interval_ns - since) / 1000 + 1));
  return true;
}

}  // namespace wick::devices

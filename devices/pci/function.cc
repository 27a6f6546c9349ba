#include "devices/pci/function.h"

#include <bit>
#include <cassert>
#include <utility>

#include "base/bytes.h"

namespace wick::devices {

namespace {

// Configuration registers (6.1, figure 6-1).
constexpr uint64_t kVendorId = 0x00;
constexpr uint64_t kDeviceId = 0x02;
constexpr uint64_t kCommand = 0x04;
constexpr uint64_t kStatus = 0x06;
constexpr uint64_t kRevision = 0x08;
constexpr uint64_t kClassCode = 0x09;
constexpr uint64_t kCacheLineSize = 0x0c;
constexpr uint64_t kBars = 0x10;
constexpr uint64_t kSubsystemVendor = 0x2c;
constexpr uint64_t kSubsystem = 0x2e;
constexpr uint64_t kInterruptLine = 0x3c;
constexpr uint64_t kInterruptPin = 0x3d;

// Command (6.2.2) and status (6.2.3).
constexpr uint16_t kIoSpace = 1 << 0;
constexpr uint16_t kMemorySpace = 1 << 1;
constexpr uint16_t kBusMaster = 1 << 2;
constexpr uint16_t kInterruptDisable = 1 << 10;
constexpr uint16_t kInterruptStatus = 1 << 3;
constexpr uint16_t kCapabilitiesList = 1 << 4;

// 6.2.5.1: bit 0 marks a BAR in I/O space.
constexpr uint32_t kIoBar = 1 << 0;
constexpr uint32_t kIoPorts = 0xffff;

constexpr uint8_t kMsixId = 0x11;
constexpr uint64_t kMsixControl = 2;  // offset in the capability

}  // namespace

template <typename T>
T PciFunction::get(uint64_t offset) const {
  return load_le<T>(std::span(config_).subspan(offset, sizeof(T)));
}

template <typename T>
void PciFunction::set(uint64_t offset, T value, T writable) {
  store_le(std::span(config_).subspan(offset, sizeof(T)), value);
  store_le(std::span(writable_).subspan(offset, sizeof(T)), writable);
}

PciFunction::PciFunction(const Identity& identity, PciInterrupts* interrupts)
    : interrupts_(interrupts) {
  set(kVendorId, identity.vendor);
  set(kDeviceId, identity.device);
  // Bus Master is set because firmware leaves it set on devices that it has used, and kernels
  // without a PCI subsystem rely on that.
  set<uint16_t>(kCommand, kBusMaster, kMemorySpace | kBusMaster | kInterruptDisable);
  set<uint32_t>(kRevision, identity.class_code << 8 | identity.revision);
  static_assert(kClassCode == kRevision + 1);
  set<uint8_t>(kCacheLineSize, 0, 0xff);
  set(kSubsystemVendor, identity.subsystem_vendor);
  set(kSubsystem, identity.subsystem);
  set<uint8_t>(kInterruptLine, 0, 0xff);
  if (interrupts != nullptr) set<uint8_t>(kInterruptPin, 1);  // INTA
}

void PciFunction::add_bar(size_t index, uint32_t size_bytes, BusDevice& device, Moved moved) {
  assert(std::has_single_bit(size_bytes) && size_bytes >= 4096);
  Bar& bar = bars_.at(index);
  bar.size_bytes = size_bytes;
  bar.device = &device;
  bar.moved = std::move(moved);
  // 6.2.5.1: the bits below the size read as zero, which encodes the size. The low four
  // bits are 0: 32-bit memory, not prefetchable.
  set<uint32_t>(kBars + 4 * index, 0, ~(size_bytes - 1));
}

void PciFunction::add_io_bar(size_t index, uint32_t ports, BusDevice& device) {
  assert(std::has_single_bit(ports) && ports >= 4);
  Bar& bar = bars_.at(index);
  bar.space = Space::kIo;
  bar.size_bytes = ports;
  bar.device = &device;
  set<uint32_t>(kBars + 4 * index, kIoBar, ~(ports - 1) & kIoPorts);
  writable_[kCommand] |= std::byte{kIoSpace};
}

void PciFunction::add_register(uint8_t offset, uint32_t value, uint32_t writable) {
  set(offset, value, writable);
}

void PciFunction::add_msix(size_t bar_index) {
  add_bar(bar_index, PciInterrupts::kBarBytes, *interrupts_);
  struct [[gnu::packed]] {
    uint16_t control;
    uint32_t table;
    uint32_t pending;
  } const body = {static_cast<uint16_t>(interrupts_->vectors() - 1),
                  static_cast<uint32_t>(bar_index),
                  PciInterrupts::kPendingOffset | static_cast<uint32_t>(bar_index)},
          writable = {PciInterrupts::kMsixEnable | PciInterrupts::kMsixMaskAll, 0, 0};
  msix_ =
      add_capability(kMsixId, as_bytes(&body, sizeof(body)), as_bytes(&writable, sizeof(writable)));
}

uint8_t PciFunction::add_capability(uint8_t id, std::span<const std::byte> body,
                                    std::span<const std::byte> writable) {
  const uint8_t offset = next_capability_;
  assert(offset + 2 + body.size() <= kConfigBytes);
  set(last_capability_, offset);
  set(offset, id);
  std::ranges::copy(body, config_.begin() + offset + 2);
  std::ranges::copy(writable, writable_.begin() + offset + 2);
  set<uint16_t>(kStatus, kCapabilitiesList);
  last_capability_ = static_cast<uint8_t>(offset + 1);
  next_capability_ = static_cast<uint8_t>(align_up(offset + 2 + body.size(), 4));
  return offset;
}

void PciFunction::set_window(uint8_t offset, BusDevice& device) {
  access_window_ = offset;
  access_device_ = &device;
}

// Leaves the function as firmware would: BARs have addresses and are decoded, so an
// operating system need not assign any.
void PciFunction::place_bars(const Bus::Range& window, uint64_t& next, uint8_t interrupt_line) {
  window_ = window;
  place(Space::kMemory, next);
  config_[kCommand] |= std::byte{kMemorySpace};
  store_le(std::span(config_).subspan(kInterruptLine, 1), interrupt_line);
  apply();
}

void PciFunction::place_io_bars(const Bus::Range& window, uint64_t& next) {
  io_window_ = window;
  place(Space::kIo, next);
  config_[kCommand] |= writable_[kCommand] & std::byte{kIoSpace};
  apply();
}

void PciFunction::place(Space space, uint64_t& next) {
  for (size_t i = 0; i < bars_.size(); ++i) {
    const uint32_t size_bytes = bars_[i].size_bytes;
    if (size_bytes == 0 || bars_[i].space != space) continue;
    next = align_up(next, size_bytes);
    const auto bar = std::span(config_).subspan(kBars + 4 * i, 4);
    store_le(bar, static_cast<uint32_t>(next) | (load_le<uint32_t>(bar) & (size_bytes - 1)));
    next += size_bytes;
  }
}

void PciFunction::read_config(uint64_t offset, std::span<std::byte> data) {
  std::ranges::fill(data, std::byte{0});
  if (offset + data.size() > kConfigBytes) return;
  if (access_device_ != nullptr && offset - access_window_ < 4) {
    access_device_->read(offset - access_window_, data);
    return;
  }
  std::ranges::copy(std::span(config_).subspan(offset, data.size()), data.begin());
  if (interrupts_ != nullptr && interrupts_->intx_pending() && offset <= kStatus &&
      kStatus < offset + data.size())
    data[kStatus - offset] |= std::byte{kInterruptStatus};
}

void PciFunction::write_config(uint64_t offset, std::span<const std::byte> data) {
  if (offset + data.size() > kConfigBytes) return;
  if (access_device_ != nullptr && offset - access_window_ < 4) {
    access_device_->write(offset - access_window_, data);
    return;
  }
  for (size_t i = 0; i < data.size(); ++i) {
    const std::byte writable = writable_[offset + i];
    config_[offset + i] = (config_[offset + i] & ~writable) | (data[i] & writable);
  }
  apply();
}

// Makes the values of the registers take effect.
void PciFunction::apply() {
  const auto command = get<uint16_t>(kCommand);
  const bool bus_master = (command & kBusMaster) != 0;
  // The device is stopped before the interrupts are: it still sends interrupts for
  // requests that were in flight.
  if (std::exchange(bus_master_, bus_master) != bus_master && bus_master_changed_)
    bus_master_changed_(bus_master);
  if (interrupts_ != nullptr)
    interrupts_->configure(
        {.intx_disabled = (command & kInterruptDisable) != 0,
         .bus_master = bus_master,
         .msix_control = msix_ == 0 ? uint16_t{0} : get<uint16_t>(msix_ + kMsixControl)});
  for (size_t i = 0; i < bars_.size(); ++i) {
    Bar& bar = bars_[i];
    if (bar.device == nullptr) continue;
    const bool io = bar.space == Space::kIo;
    const Bus::Range& window = io ? io_window_ : window_;
    const uint64_t wanted = get<uint32_t>(kBars + 4 * i) & ~(bar.size_bytes - 1);
    const uint64_t in_window = wanted - window.start;
    const bool decoded = (command & (io ? kIoSpace : kMemorySpace)) != 0 &&
                         in_window < window.size && bar.size_bytes <= window.size - in_window;
    const uint64_t to = decoded ? wanted : 0;
    const uint64_t from = bar.base.exchange(to);
    if (from != to && bar.moved) bar.moved(from, to);
  }
}

BusDevice* PciFunction::find(uint64_t address, size_t size, uint64_t& offset, Space space) const {
  for (const Bar& bar : bars_) {
    if (bar.space != space) continue;
    const uint64_t base = bar.base.load(std::memory_order_relaxed);
    if (base == 0 || address - base >= bar.size_bytes) continue;
    offset = address - base;
    return size <= bar.size_bytes - offset ? bar.device : nullptr;
  }
  return nullptr;
}

}  // namespace wick::devices

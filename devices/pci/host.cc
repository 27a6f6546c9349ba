#include "devices/pci/host.h"

#include <algorithm>

#include "base/bytes.h"

namespace wick::devices {

namespace {

// Offsets from 0xcf8.
constexpr uint64_t kAddress = 0;
constexpr uint64_t kResetControl = 1;
constexpr uint64_t kData = 4;

constexpr uint32_t kAddressEnable = 1u << 31;
constexpr uint32_t kAddressBits = 0x80fffffc;  // the other bits read as 0
// RST_CPU in the reset control register of Intel's bridges (0xcf9).
constexpr uint8_t kResetCpu = 1 << 2;

// An identity for which no operating system has quirks.
constexpr PciFunction::Identity kBridge{.vendor = 0x8086,
                                        .device = 0x0d57,
                                        .subsystem_vendor = 0,
                                        .subsystem = 0,
                                        .class_code = 0x060000};

// QEMU's subsystem IDs; SeaBIOS looks for them (src/fw/paravirt.c, qemu_detect).
constexpr PciFunction::Identity kI440fxBridge{.vendor = 0x8086,
                                              .device = 0x1237,
                                              .subsystem_vendor = 0x1af4,
                                              .subsystem = 0x1100,
                                              .class_code = 0x060000,
                                              .revision = 2};
constexpr uint8_t kPam = 0x59;  // the first of the seven PAM registers

}  // namespace

PciHost::PciHost(const Bus::Range& window, std::function<void()> reset, const Bus::Range& io_window,
                 Identity identity)
    : reset_(std::move(reset)),
      bridge_(identity == Identity::kI440fx ? kI440fxBridge : kBridge, nullptr),
      next_bar_(window.start),
      next_io_bar_(io_window.start),
      window_(*this, PciFunction::Space::kMemory, window),
      io_window_(*this, PciFunction::Space::kIo, io_window) {
  functions_[0] = &bridge_;
  if (identity == Identity::kGeneric) return;
  bridge_.add_register(kPam - 1, 0, 0xffff'ff00);
  bridge_.add_register(kPam + 3, 0, 0xffff'ffff);
}

Result<void> PciHost::attach(uint8_t slot, PciFunction& function, uint8_t interrupt_line) {
  if (slot >= kSlots || functions_[slot] != nullptr)
    return fail("pci: slot {} is in use or does not exist", slot);
  const Bus::Range& window = window_.range;
  const Bus::Range& io_window = io_window_.range;
  function.place_bars(window, next_bar_, interrupt_line);
  function.place_io_bars(io_window, next_io_bar_);
  if (next_bar_ - window.start > window.size || next_io_bar_ - io_window.start > io_window.size)
    return fail("pci: the BARs of the function in slot {} do not fit into the window", slot);
  functions_[slot] = &function;
  return {};
}

Result<void> PciHost::attach_further(uint8_t slot, uint8_t number, PciFunction& function) {
  constexpr uint8_t kFunctions = 8;
  const uint32_t device_function = uint32_t{slot} << 3 | number;
  if (slot >= kSlots || number == 0 || number >= kFunctions ||
      std::ranges::find(further_, device_function, &Further::device_function) != further_.end())
    return fail("pci: function {} of slot {} is in use or cannot be added", number, slot);
  further_.push_back({device_function, &function});
  return {};
}

Result<void> PciHost::plug(uint8_t slot, PciFunction& function, uint8_t interrupt_line) {
  if (slot >= kSlots || functions_[slot] != nullptr)
    return fail("pci: slot {} is in use or does not exist", slot);
  function.leave_unplaced(window_.range, io_window_.range, interrupt_line);
  functions_[slot] = &function;
  return {};
}

void PciHost::unplug(uint8_t slot) {
  if (slot == 0 || slot >= kSlots || functions_[slot] == nullptr) return;
  functions_[slot]->stop_decoding();
  functions_[slot] = nullptr;
}

std::vector<PciHost::Slot> PciHost::list() {
  if (!mutex_.try_lock()) return listed_;
  listed_.clear();
  for (uint8_t slot = 0; slot < kSlots; ++slot)
    if (functions_[slot] != nullptr) listed_.push_back({slot, functions_[slot]->describe()});
  mutex_.unlock();
  return listed_;
}

PciFunction* PciHost::at(uint32_t bus_device_function) {
  // A number on another bus gives a slot that does not exist.
  const uint32_t slot = bus_device_function >> 3;
  if (slot >= kSlots) return nullptr;
  if ((bus_device_function & 7) == 0) return functions_[slot];
  const auto found = std::ranges::find(further_, bus_device_function, &Further::device_function);
  return found == further_.end() ? nullptr : found->function;
}

void PciHost::read_config(PciFunction* function, uint64_t offset, std::span<std::byte> data) {
  if (function != nullptr)
    function->read_config(offset, data);
  else
    std::ranges::fill(data, std::byte{0xff});
}

void PciHost::Ports::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(host.mutex_);
  std::ranges::fill(data, std::byte{0xff});
  if (offset == kAddress && data.size() == 4) {
    store_le(data, address);
  } else if (offset >= kData && (address & kAddressEnable) != 0) {
    host.read_config(host.at(address >> 8 & 0xffff), (address & 0xfc) + offset - kData, data);
  }
}

void PciHost::Ports::write(uint64_t offset, std::span<const std::byte> data) {
  if (offset == kResetControl && data.size() == 1) {
    if ((load_le<uint8_t>(data) & kResetCpu) != 0) host.reset_();
    return;
  }
  const MutexLock lock(host.mutex_);
  if (offset == kAddress && data.size() == 4) {
    address = load_le<uint32_t>(data) & kAddressBits;
  } else if (offset >= kData && (address & kAddressEnable) != 0) {
    if (PciFunction* function = host.at(address >> 8 & 0xffff))
      function->write_config((address & 0xfc) + offset - kData, data);
  }
}

BusDevice::Name PciHost::Ports::name_of(uint64_t offset, bool write) const {
  if (offset >= kData) return {"CONFIG_DATA", {}};
  return {write && offset == kResetControl ? "RESET_CONTROL" : "CONFIG_ADDRESS", {}};
}

void PciHost::Ecam::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(host.mutex_);
  host.read_config(host.at(static_cast<uint32_t>(offset >> 12)), offset & 0xfff, data);
}

void PciHost::Ecam::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(host.mutex_);
  if (PciFunction* function = host.at(static_cast<uint32_t>(offset >> 12)))
    function->write_config(offset & 0xfff, data);
}

BusDevice::Name PciHost::Ecam::name_of(uint64_t, bool) const { return {"config", {}}; }

// If the guest makes BARs overlap, the function in the lowest slot gets the access.
BusDevice* PciHost::Window::find(uint64_t offset, size_t size, uint64_t& there) const {
  for (const PciFunction* function : host.functions_)
    if (function != nullptr)
      if (BusDevice* device = function->find(range.start + offset, size, there, space))
        return device;
  return nullptr;
}

void PciHost::Window::read(uint64_t offset, std::span<std::byte> data) {
  uint64_t there = 0;
  if (BusDevice* device = find(offset, data.size(), there))
    device->read(there, data);
  else
    std::ranges::fill(data, std::byte{0xff});
}

void PciHost::Window::write(uint64_t offset, std::span<const std::byte> data) {
  uint64_t there = 0;
  if (BusDevice* device = find(offset, data.size(), there)) device->write(there, data);
}

BusDevice::Name PciHost::Window::name_of(uint64_t offset, bool write) const {
  uint64_t there = 0;
  const BusDevice* device = find(offset, 1, there);
  return device != nullptr ? device->name_of(there, write) : Name{};
}

}  // namespace wick::devices

#include "devices/pci/function.h"

#include <bit>
#include <cassert>
#include <utility>

#include "base/bytes.h"

namespace wick::devices {

namespace {

// Values of class and subclass.
constexpr uint32_t kClassVga = 0x0300;
constexpr uint32_t kClassIsaBridge = 0x0601;
constexpr uint8_t kMultifunction = 0x80;  // a bit of PCI_HEADER_TYPE

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
  set(PCI_VENDOR_ID, identity.vendor);
  set(PCI_DEVICE_ID, identity.device);
  // Bus Master is set because firmware leaves it set on devices that it has used, and kernels
  // without a PCI subsystem rely on that.
  set<uint16_t>(PCI_COMMAND, PCI_COMMAND_MASTER,
                PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
  // A VGA card has ports without a BAR. SeaBIOS runs the card's ROM only if the bits for I/O and
  // memory can both be set (src/hw/pcidevice.c and src/optionroms.c, is_pci_vga()).
  if (identity.class_code >> 8 == kClassVga) writable_[PCI_COMMAND] |= std::byte{PCI_COMMAND_IO};
  // A bridge to ISA decodes I/O and memory. OVMF looks for serial ports and a keyboard behind it
  // only if both bits are set (OvmfPkg/SioBusDxe/SioBusDxe.c).
  if (identity.class_code >> 8 == kClassIsaBridge) {
    constexpr std::byte kBoth{PCI_COMMAND_IO | PCI_COMMAND_MEMORY};
    config_[PCI_COMMAND] |= kBoth;
    writable_[PCI_COMMAND] |= kBoth;
  }
  set<uint32_t>(PCI_CLASS_REVISION, identity.class_code << 8 | identity.revision);
  set<uint8_t>(PCI_CACHE_LINE_SIZE, 0, 0xff);
  set(PCI_SUBSYSTEM_VENDOR_ID, identity.subsystem_vendor);
  set(PCI_SUBSYSTEM_ID, identity.subsystem);
  set<uint8_t>(PCI_INTERRUPT_LINE, 0, 0xff);
  if (interrupts != nullptr) set<uint8_t>(PCI_INTERRUPT_PIN, 1);  // the pin is INTA
}

void PciFunction::add_bar(size_t index, uint32_t size_bytes, BusDevice& device, Moved moved) {
  assert(std::has_single_bit(size_bytes) && size_bytes >= 4096);
  Bar& bar = bars_.at(index);
  bar.size_bytes = size_bytes;
  bar.device = &device;
  bar.moved = std::move(moved);
  // 6.2.5.1: the bits below the size read as zero, which encodes the size. The low four
  // bits are 0: 32-bit memory, not prefetchable.
  set<uint32_t>(PCI_BASE_ADDRESS_0 + 4 * index, 0, ~(size_bytes - 1));
}

void PciFunction::add_io_bar(size_t index, uint32_t ports, BusDevice& device) {
  assert(std::has_single_bit(ports) && ports >= 4);
  Bar& bar = bars_.at(index);
  bar.space = Space::kIo;
  bar.size_bytes = ports;
  bar.device = &device;
  // All 32 bits of the BAR are implemented, as in QEMU, because SeaBIOS computes the size from
  // them. An address that is no port lies outside of the window, so it is not decoded.
  set<uint32_t>(PCI_BASE_ADDRESS_0 + 4 * index, PCI_BASE_ADDRESS_SPACE_IO, ~(ports - 1));
  writable_[PCI_COMMAND] |= std::byte{PCI_COMMAND_IO};
}

void PciFunction::add_register(uint8_t offset, uint32_t value, uint32_t writable) {
  set(offset, value, writable);
}

void PciFunction::set_multifunction() { config_[PCI_HEADER_TYPE] |= std::byte{kMultifunction}; }

void PciFunction::add_msix(size_t bar_index) {
  add_bar(bar_index, PciInterrupts::kBarBytes, *interrupts_);
  struct [[gnu::packed]] {
    uint16_t control;
    uint32_t table;
    uint32_t pending;
  } const body = {static_cast<uint16_t>(interrupts_->vectors() - 1),
                  static_cast<uint32_t>(bar_index),
                  PciInterrupts::kPendingOffset | static_cast<uint32_t>(bar_index)},
          writable = {PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 0, 0};
  msix_ = add_capability(PCI_CAP_ID_MSIX, as_bytes(&body, sizeof(body)),
                         as_bytes(&writable, sizeof(writable)));
}

uint8_t PciFunction::add_capability(uint8_t id, std::span<const std::byte> body,
                                    std::span<const std::byte> writable) {
  const uint8_t offset = next_capability_;
  assert(offset + 2 + body.size() <= kConfigBytes);
  set(last_capability_, offset);
  set(offset, id);
  std::ranges::copy(body, config_.begin() + offset + 2);
  std::ranges::copy(writable, writable_.begin() + offset + 2);
  set<uint16_t>(PCI_STATUS, PCI_STATUS_CAP_LIST);
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
  config_[PCI_COMMAND] |= std::byte{PCI_COMMAND_MEMORY};
  store_le(std::span(config_).subspan(PCI_INTERRUPT_LINE, 1), interrupt_line);
  apply();
}

void PciFunction::place_io_bars(const Bus::Range& window, uint64_t& next) {
  io_window_ = window;
  place(Space::kIo, next);
  config_[PCI_COMMAND] |= writable_[PCI_COMMAND] & std::byte{PCI_COMMAND_IO};
  apply();
}

void PciFunction::place(Space space, uint64_t& next) {
  for (size_t i = 0; i < bars_.size(); ++i) {
    const uint32_t size_bytes = bars_[i].size_bytes;
    if (size_bytes == 0 || bars_[i].space != space) continue;
    next = align_up(next, size_bytes);
    const auto bar = std::span(config_).subspan(PCI_BASE_ADDRESS_0 + 4 * i, 4);
    store_le(bar, static_cast<uint32_t>(next) | (load_le<uint32_t>(bar) & (size_bytes - 1)));
    next += size_bytes;
  }
}

void PciFunction::leave_unplaced(const Bus::Range& window, const Bus::Range& io_window,
                                 uint8_t interrupt_line) {
  window_ = window;
  io_window_ = io_window;
  store_le(std::span(config_).subspan(PCI_INTERRUPT_LINE, 1), interrupt_line);
  apply();
}

void PciFunction::stop_decoding() {
  config_[PCI_COMMAND] &= ~std::byte{PCI_COMMAND_MEMORY | PCI_COMMAND_IO};
  apply();
}

void PciFunction::read_config(uint64_t offset, std::span<std::byte> data) {
  std::ranges::fill(data, std::byte{0});
  if (offset + data.size() > kConfigBytes) return;
  if (access_device_ != nullptr && offset - access_window_ < 4) {
    access_device_->read(offset - access_window_, data);
    return;
  }
  std::ranges::copy(std::span(config_).subspan(offset, data.size()), data.begin());
  if (interrupts_ != nullptr && interrupts_->intx_pending() && offset <= PCI_STATUS &&
      PCI_STATUS < offset + data.size())
    data[PCI_STATUS - offset] |= std::byte{PCI_STATUS_INTERRUPT};
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
  const auto command = get<uint16_t>(PCI_COMMAND);
  const bool bus_master = (command & PCI_COMMAND_MASTER) != 0;
  // The device is stopped before the interrupts are: it still sends interrupts for
  // requests that were in flight.
  if (std::exchange(bus_master_, bus_master) != bus_master && bus_master_changed_)
    bus_master_changed_(bus_master);
  if (interrupts_ != nullptr)
    interrupts_->configure(
        {.intx_disabled = (command & PCI_COMMAND_INTX_DISABLE) != 0,
         .bus_master = bus_master,
         .msix_control = msix_ == 0 ? uint16_t{0} : get<uint16_t>(msix_ + PCI_MSIX_FLAGS)});
  for (size_t i = 0; i < bars_.size(); ++i) {
    Bar& bar = bars_[i];
    if (bar.device == nullptr) continue;
    const bool io = bar.space == Space::kIo;
    const Bus::Range& window = io ? io_window_ : window_;
    const uint64_t wanted = get<uint32_t>(PCI_BASE_ADDRESS_0 + 4 * i) & ~(bar.size_bytes - 1);
    const uint64_t in_window = wanted - window.start;
    const bool decoded = (command & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) != 0 &&
                         in_window < window.size && bar.size_bytes <= window.size - in_window;
    const uint64_t to = decoded ? wanted : 0;
    const uint64_t from = bar.base.exchange(to);
    if (from != to && bar.moved) bar.moved(from, to);
  }
}

PciFunction::Description PciFunction::describe() const {
  Description found{.identity = {.vendor = get<uint16_t>(PCI_VENDOR_ID),
                                 .device = get<uint16_t>(PCI_DEVICE_ID),
                                 .subsystem_vendor = get<uint16_t>(PCI_SUBSYSTEM_VENDOR_ID),
                                 .subsystem = get<uint16_t>(PCI_SUBSYSTEM_ID),
                                 .class_code = get<uint32_t>(PCI_CLASS_REVISION) >> 8,
                                 .revision = get<uint8_t>(PCI_REVISION_ID)},
                    .interrupt_line = get<uint8_t>(PCI_INTERRUPT_LINE),
                    .interrupt_pin = get<uint8_t>(PCI_INTERRUPT_PIN),
                    .bars = {}};
  for (size_t i = 0; i < bars_.size(); ++i)
    if (bars_[i].device != nullptr)
      found.bars.push_back({i, bars_[i].space, bars_[i].base, bars_[i].size_bytes});
  return found;
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

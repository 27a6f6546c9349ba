#include "virtio/pci.h"

#include <linux/pci_regs.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/bytes.h"

namespace wick::virtio {

namespace {

// The offsets in BAR 0, which has one page for each structure of registers.
constexpr uint64_t kCommon = 0x0000;
constexpr uint64_t kIsr = 0x1000;
constexpr uint64_t kConfig = 0x2000;
constexpr uint64_t kNotify = PciTransport::kNotifyOffset;
constexpr uint64_t kPageBytes = 0x1000;
constexpr size_t kRegisterBar = 0;
constexpr size_t kMsixBar = 1;

constexpr uint16_t kVendor = 0x1af4;         // 4.1.2
constexpr uint16_t kFirstDeviceId = 0x1040;  // the PCI device ID is this plus the virtio device ID
constexpr uint8_t kModernRevision = 1;

constexpr uint8_t kIsrQueue = 1;  // bit of the ISR status (4.1.4.5) that Linux's header lacks

// 4.1.4.3: the registers with the specification's names and their widths. Accesses of any other
// width are ignored.
struct Register {
  uint8_t offset;
  uint8_t size_bytes;
  const char* name;
};
constexpr std::array kCommonRegisters = {
    Register{VIRTIO_PCI_COMMON_DFSELECT, 4, "device_feature_select"},
    Register{VIRTIO_PCI_COMMON_DF, 4, "device_feature"},
    Register{VIRTIO_PCI_COMMON_GFSELECT, 4, "driver_feature_select"},
    Register{VIRTIO_PCI_COMMON_GF, 4, "driver_feature"},
    Register{VIRTIO_PCI_COMMON_MSIX, 2, "config_msix_vector"},
    Register{VIRTIO_PCI_COMMON_NUMQ, 2, "num_queues"},
    Register{VIRTIO_PCI_COMMON_STATUS, 1, "device_status"},
    Register{VIRTIO_PCI_COMMON_CFGGENERATION, 1, "config_generation"},
    Register{VIRTIO_PCI_COMMON_Q_SELECT, 2, "queue_select"},
    Register{VIRTIO_PCI_COMMON_Q_SIZE, 2, "queue_size"},
    Register{VIRTIO_PCI_COMMON_Q_MSIX, 2, "queue_msix_vector"},
    Register{VIRTIO_PCI_COMMON_Q_ENABLE, 2, "queue_enable"},
    Register{VIRTIO_PCI_COMMON_Q_NOFF, 2, "queue_notify_off"},
    Register{VIRTIO_PCI_COMMON_Q_DESCLO, 4, "queue_desc"},
    Register{VIRTIO_PCI_COMMON_Q_DESCHI, 4, "queue_desc"},
    Register{VIRTIO_PCI_COMMON_Q_AVAILLO, 4, "queue_driver"},
    Register{VIRTIO_PCI_COMMON_Q_AVAILHI, 4, "queue_driver"},
    Register{VIRTIO_PCI_COMMON_Q_USEDLO, 4, "queue_device"},
    Register{VIRTIO_PCI_COMMON_Q_USEDHI, 4, "queue_device"},
    Register{VIRTIO_PCI_COMMON_Q_RESET, 2, "queue_reset"},
};

bool is_register(uint64_t offset, size_t size_bytes) {
  return std::ranges::any_of(kCommonRegisters, [&](const Register& r) {
    return r.offset == offset && r.size_bytes == size_bytes;
  });
}

devices::PciFunction::Identity identity(const VirtioDevice& device) {
  const auto id = static_cast<uint16_t>(kFirstDeviceId + device.id());
  // Drivers match the device ID; the class code is only informative (PCI Code and ID
  // Assignment 1.11, 1.1).
  uint32_t class_code = 0xff0000;
  if (device.id() == VIRTIO_ID_NET) class_code = 0x020000;      // Ethernet controller
  if (device.id() == VIRTIO_ID_BLOCK) class_code = 0x018000;    // mass storage controller
  if (device.id() == VIRTIO_ID_CONSOLE) class_code = 0x078000;  // communication controller
  return {.vendor = kVendor,
          .device = id,
          .subsystem_vendor = kVendor,
          .subsystem = id,
          .class_code = class_code,
          .revision = kModernRevision};
}

// Returns the number of MSI-X vectors: one for each queue, and one for configuration changes.
uint16_t vector_count(const VirtioDevice& device) {
  return static_cast<uint16_t>(
      std::min<size_t>(device.queue_max_sizes().size() + 1, devices::PciInterrupts::kMaxVectors));
}

}  // namespace

Result<std::unique_ptr<PciTransport>> PciTransport::create(VirtioDevice& device,
                                                           const GuestMemory& memory,
                                                           InterruptLine& intx, MsiSink& msi,
                                                           std::string name,
                                                           devices::PciFunction::Moved moved) {
  auto kicks = TRY(make_kicks(device));
  return std::unique_ptr<PciTransport>(new PciTransport(device, memory, intx, msi, std::move(name),
                                                        std::move(moved), std::move(kicks)));
}

PciTransport::PciTransport(VirtioDevice& device, const GuestMemory& memory, InterruptLine& intx,
                           MsiSink& msi, std::string name, devices::PciFunction::Moved moved,
                           std::vector<EventFd> kicks)
    : Transport(device, memory, std::move(name), std::move(kicks)),
      interrupts_(vector_count(device), intx, msi),
      function_(identity(device), &interrupts_),
      queue_vectors_(device.queue_max_sizes().size()) {
  for (auto& vector : queue_vectors_) vector = VIRTIO_MSI_NO_VECTOR;
  function_.add_bar(kRegisterBar, kBarBytes, *this, std::move(moved));
  function_.add_msix(kMsixBar);
  function_.on_bus_master([this](bool enabled) { enable_dma(enabled); });
  add_capabilities();
}

void PciTransport::add_capabilities() {
  struct [[gnu::packed]] Body {  // virtio_pci_cap (4.1.4) without its first two bytes
    uint8_t length;
    uint8_t type;
    uint8_t bar = kRegisterBar;
    uint8_t id = 0;
    uint16_t padding = 0;
    uint32_t offset = 0;
    uint32_t length_bytes = 0;
    uint32_t extra = 0;  // notify_off_multiplier, or pci_cfg_data
  };
  static_assert(sizeof(Body) + 2 == sizeof(virtio_pci_notify_cap));
  const auto add = [this](const Body& body, const Body& writable = {0, 0, 0}) {
    return function_.add_capability(PCI_CAP_ID_VNDR, as_bytes(&body, body.length - 2u),
                                    as_bytes(&writable, body.length - 2u));
  };
  constexpr uint8_t kPlain = sizeof(virtio_pci_cap);
  constexpr uint8_t kLonger = sizeof(virtio_pci_notify_cap);
  add({.length = kPlain,
       .type = VIRTIO_PCI_CAP_COMMON_CFG,
       .offset = kCommon,
       .length_bytes = VIRTIO_PCI_COMMON_Q_RESET + 2});
  add({.length = kPlain, .type = VIRTIO_PCI_CAP_ISR_CFG, .offset = kIsr, .length_bytes = 1});
  add({.length = kPlain,
       .type = VIRTIO_PCI_CAP_DEVICE_CFG,
       .offset = kConfig,
       .length_bytes = kPageBytes});
  add({.length = kLonger,
       .type = VIRTIO_PCI_CAP_NOTIFY_CFG,
       .offset = kNotify,
       .length_bytes = kPageBytes,
       .extra = kNotifyStride});
  config_access_.capability =
      add({.length = kLonger, .type = VIRTIO_PCI_CAP_PCI_CFG}, {.length = 0,
                                                                .type = 0,
                                                                .bar = 0xff,
                                                                .offset = 0xffffffff,
                                                                .length_bytes = 0xffffffff,
                                                                .extra = 0});
  function_.set_window(config_access_.capability + sizeof(virtio_pci_cap), config_access_);
}

void PciTransport::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(mutex_);
  const uint64_t in_page = offset % kPageBytes;
  switch (offset - in_page) {
    case kCommon:
      store_le(data, is_register(in_page, data.size()) ? read_common(in_page) : 0);
      break;
    case kIsr: {
      // 4.1.4.5: reading the ISR status clears it and deasserts INTx.
      const MutexLock isr_lock(isr_mutex_);
      store_le(data, in_page == 0 ? std::exchange(isr_, 0) : 0);
      interrupts_.set_intx(isr_ != 0);
      break;
    }
    case kConfig:
      device_.read_config(in_page, data);
      break;
    default:
      store_le(data, 0);
      break;
  }
}

void PciTransport::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(mutex_);
  const uint64_t in_page = offset % kPageBytes;
  switch (offset - in_page) {
    case kCommon:
      if (is_register(in_page, data.size())) write_common(in_page, load_le<uint32_t>(data));
      break;
    case kConfig:
      device_.write_config(in_page, data);
      break;
    case kNotify:
      kick(static_cast<uint32_t>(in_page / kNotifyStride));
      break;
    default:
      break;
  }
}

uint64_t PciTransport::read_common(uint64_t offset) const {
  const QueueState* queue = selected_queue();
  switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
      return device_features_select_;
    case VIRTIO_PCI_COMMON_DF:
      return device_features_word();
    case VIRTIO_PCI_COMMON_GFSELECT:
      return driver_features_select_;
    case VIRTIO_PCI_COMMON_GF:
      return driver_features_word();
    case VIRTIO_PCI_COMMON_MSIX:
      return config_vector_;
    case VIRTIO_PCI_COMMON_NUMQ:
      return queue_vectors_.size();
    case VIRTIO_PCI_COMMON_STATUS:
      return status();
    case VIRTIO_PCI_COMMON_CFGGENERATION:
      return config_generation();
    case VIRTIO_PCI_COMMON_Q_SELECT:
      return queue_select_;
    case VIRTIO_PCI_COMMON_Q_SIZE:
      return queue != nullptr ? queue->size : 0;
    case VIRTIO_PCI_COMMON_Q_MSIX:
      return selected_vector();
    case VIRTIO_PCI_COMMON_Q_ENABLE:
      return queue != nullptr && queue->ready ? 1 : 0;
    case VIRTIO_PCI_COMMON_Q_NOFF:
      return queue_select_;
    default:
      break;
  }
  if (queue == nullptr) return 0;
  switch (offset) {
    case VIRTIO_PCI_COMMON_Q_DESCLO:
      return queue->descriptors & 0xffffffff;
    case VIRTIO_PCI_COMMON_Q_DESCHI:
      return queue->descriptors >> 32;
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
      return queue->driver_area & 0xffffffff;
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
      return queue->driver_area >> 32;
    case VIRTIO_PCI_COMMON_Q_USEDLO:
      return queue->device_area & 0xffffffff;
    case VIRTIO_PCI_COMMON_Q_USEDHI:
      return queue->device_area >> 32;
    default:
      return 0;
  }
}

void PciTransport::write_common(uint64_t offset, uint32_t value) {
  switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
      device_features_select_ = value;
      break;
    case VIRTIO_PCI_COMMON_GFSELECT:
      driver_features_select_ = value;
      break;
    case VIRTIO_PCI_COMMON_GF:
      set_driver_features_word(value);
      break;
    case VIRTIO_PCI_COMMON_MSIX:
      config_vector_ = accepted_vector(value);
      break;
    case VIRTIO_PCI_COMMON_STATUS:
      set_status(static_cast<uint8_t>(value));
      break;
    case VIRTIO_PCI_COMMON_Q_SELECT:
      queue_select_ = value;
      break;
    case VIRTIO_PCI_COMMON_Q_MSIX:
      if (queue_select_ < queue_vectors_.size())
        queue_vectors_[queue_select_] = accepted_vector(value);
      break;
    case VIRTIO_PCI_COMMON_Q_ENABLE:
      // 4.1.4.3.2: a driver must not write 0.
      if (value == 1) set_queue_ready(true);
      break;
    case VIRTIO_PCI_COMMON_Q_RESET:
      // The reset is complete when the write returns, so the register always reads as 0.
      if (value == 1 && reset_queue()) queue_vectors_[queue_select_] = VIRTIO_MSI_NO_VECTOR;
      break;
    case VIRTIO_PCI_COMMON_Q_SIZE:
      if (auto* queue = configurable_queue()) queue->size = static_cast<uint16_t>(value);
      break;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
      if (auto* queue = configurable_queue()) set_low(queue->descriptors, value);
      break;
    case VIRTIO_PCI_COMMON_Q_DESCHI:
      if (auto* queue = configurable_queue()) set_high(queue->descriptors, value);
      break;
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
      if (auto* queue = configurable_queue()) set_low(queue->driver_area, value);
      break;
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
      if (auto* queue = configurable_queue()) set_high(queue->driver_area, value);
      break;
    case VIRTIO_PCI_COMMON_Q_USEDLO:
      if (auto* queue = configurable_queue()) set_low(queue->device_area, value);
      break;
    case VIRTIO_PCI_COMMON_Q_USEDHI:
      if (auto* queue = configurable_queue()) set_high(queue->device_area, value);
      break;
    default:
      break;
  }
}

BusDevice::Name PciTransport::name_of(uint64_t offset, bool /*write*/) const {
  const uint64_t in_page = offset % kPageBytes;
  switch (offset - in_page) {
    case kCommon:
      for (const Register& known : kCommonRegisters)
        if (known.offset == in_page) return {known.name, name()};
      return {{}, name()};
    case kIsr:
      return {"ISR status", name()};
    case kConfig:
      return {"device config", name()};
    default:
      return {"notify", name()};
  }
}

// Returns the vector to store for a written value. 4.1.5.1.2.1: an unsupported vector reads back as
// NO_VECTOR.
uint16_t PciTransport::accepted_vector(uint32_t value) const {
  return value < interrupts_.vectors() ? static_cast<uint16_t>(value) : VIRTIO_MSI_NO_VECTOR;
}

uint16_t PciTransport::selected_vector() const {
  return queue_select_ < queue_vectors_.size() ? queue_vectors_[queue_select_].load()
                                               : VIRTIO_MSI_NO_VECTOR;
}

void PciTransport::reset_interrupts() {
  {
    const MutexLock lock(isr_mutex_);
    isr_ = 0;
    interrupts_.clear();
  }
  config_vector_ = VIRTIO_MSI_NO_VECTOR;
  for (auto& vector : queue_vectors_) vector = VIRTIO_MSI_NO_VECTOR;
}

void PciTransport::raise(uint8_t cause, uint16_t vector) {
  const bool message = interrupts_.msix_enabled();
  // 4.1.4.5.1: a configuration change sets its ISR status bit even with MSI-X.
  if (!message || cause == VIRTIO_PCI_ISR_CONFIG) {
    const MutexLock lock(isr_mutex_);
    isr_ |= cause;
    interrupts_.set_intx(true);
  }
  if (message) interrupts_.send(vector);
}

void PciTransport::queue_interrupt(uint16_t queue) { raise(kIsrQueue, queue_vectors_[queue]); }

void PciTransport::config_interrupt() { raise(VIRTIO_PCI_ISR_CONFIG, config_vector_); }

// Reads the offset and size that the driver has written to the capability. Returns false unless
// they select 1, 2 or 4 aligned bytes of BAR 0.
bool PciTransport::ConfigAccess::locate(uint64_t& offset, size_t& size) const {
  std::array<std::byte, sizeof(virtio_pci_cap)> registers{};
  for (size_t i = 0; i < registers.size(); i += 4)
    transport.function_.read_config(capability + i, std::span(registers).subspan(i, 4));
  const auto wanted = load_le<virtio_pci_cap>(registers);
  offset = wanted.offset;
  size = wanted.length;
  return wanted.bar == kRegisterBar && (size == 1 || size == 2 || size == 4) &&
         offset % size == 0 && offset <= kBarBytes - size;
}

void PciTransport::ConfigAccess::read(uint64_t, std::span<std::byte> data) {
  uint64_t offset = 0;
  size_t size = 0;
  std::array<std::byte, 4> value{};
  if (locate(offset, size)) transport.read(offset, std::span(value).first(size));
  store_le(data, load_le<uint32_t>(value));
}

void PciTransport::ConfigAccess::write(uint64_t, std::span<const std::byte> data) {
  uint64_t offset = 0;
  size_t size = 0;
  if (locate(offset, size) && data.size() >= size) transport.write(offset, data.first(size));
}

}  // namespace wick::virtio

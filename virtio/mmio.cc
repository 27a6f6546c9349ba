#include "virtio/mmio.h"

#include "base/bytes.h"

namespace wick::virtio {

namespace {

constexpr uint64_t kQueueReset = 0x0c0;  // 4.2.2; the header of Linux 6.1 lacks it

// The registers (4.2.2, "MMIO Device Register Layout") with the specification's names.
constexpr std::pair<uint64_t, const char*> kNames[] = {
    {VIRTIO_MMIO_MAGIC_VALUE, "MagicValue"},
    {VIRTIO_MMIO_VERSION, "Version"},
    {VIRTIO_MMIO_DEVICE_ID, "DeviceID"},
    {VIRTIO_MMIO_VENDOR_ID, "VendorID"},
    {VIRTIO_MMIO_DEVICE_FEATURES, "DeviceFeatures"},
    {VIRTIO_MMIO_DEVICE_FEATURES_SEL, "DeviceFeaturesSel"},
    {VIRTIO_MMIO_DRIVER_FEATURES, "DriverFeatures"},
    {VIRTIO_MMIO_DRIVER_FEATURES_SEL, "DriverFeaturesSel"},
    {VIRTIO_MMIO_QUEUE_SEL, "QueueSel"},
    {VIRTIO_MMIO_QUEUE_NUM_MAX, "QueueNumMax"},
    {VIRTIO_MMIO_QUEUE_NUM, "QueueNum"},
    {VIRTIO_MMIO_QUEUE_READY, "QueueReady"},
    {VIRTIO_MMIO_QUEUE_NOTIFY, "QueueNotify"},
    {VIRTIO_MMIO_INTERRUPT_STATUS, "InterruptStatus"},
    {VIRTIO_MMIO_INTERRUPT_ACK, "InterruptAck"},
    {VIRTIO_MMIO_STATUS, "Status"},
    {VIRTIO_MMIO_QUEUE_DESC_LOW, "QueueDescLow"},
    {VIRTIO_MMIO_QUEUE_DESC_HIGH, "QueueDescHigh"},
    {VIRTIO_MMIO_QUEUE_AVAIL_LOW, "QueueDriverLow"},
    {VIRTIO_MMIO_QUEUE_AVAIL_HIGH, "QueueDriverHigh"},
    {VIRTIO_MMIO_QUEUE_USED_LOW, "QueueDeviceLow"},
    {VIRTIO_MMIO_QUEUE_USED_HIGH, "QueueDeviceHigh"},
    {VIRTIO_MMIO_SHM_LEN_LOW, "SHMLenLow"},
    {VIRTIO_MMIO_SHM_LEN_HIGH, "SHMLenHigh"},
    {VIRTIO_MMIO_SHM_BASE_LOW, "SHMBaseLow"},
    {VIRTIO_MMIO_SHM_BASE_HIGH, "SHMBaseHigh"},
    {kQueueReset, "QueueReset"},
    {VIRTIO_MMIO_CONFIG_GENERATION, "ConfigGeneration"},
};

constexpr uint32_t kMagic = 0x74726976;   // "virt"
constexpr uint32_t kVendor = 0x6b636977;  // "wick"

}  // namespace

Result<std::unique_ptr<MmioTransport>> MmioTransport::create(VirtioDevice& device,
                                                             const GuestMemory& memory,
                                                             InterruptLine& interrupt,
                                                             std::string name) {
  auto kicks = TRY(make_kicks(device));
  return std::unique_ptr<MmioTransport>(
      new MmioTransport(device, memory, interrupt, std::move(name), std::move(kicks)));
}

void MmioTransport::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(mutex_);
  if (offset >= VIRTIO_MMIO_CONFIG) {
    device_.read_config(offset - VIRTIO_MMIO_CONFIG, data);
    return;
  }
  // 4.2.2.2: below the configuration space only aligned 32-bit accesses are valid.
  const bool proper = data.size() == 4 && offset % 4 == 0;
  store_le(data, proper ? read_register(offset) : 0u);
}

uint32_t MmioTransport::read_register(uint64_t offset) const {
  switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
      return kMagic;
    case VIRTIO_MMIO_VERSION:
      return 2;
    case VIRTIO_MMIO_DEVICE_ID:
      return device_.id();
    case VIRTIO_MMIO_VENDOR_ID:
      return kVendor;
    case VIRTIO_MMIO_DEVICE_FEATURES:
      return device_features_word();
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
      return selected_queue_max();
    case VIRTIO_MMIO_QUEUE_READY:
      return selected_queue() != nullptr && selected_queue()->ready ? 1 : 0;
    case VIRTIO_MMIO_INTERRUPT_STATUS:
      return interrupt_status_;
    case VIRTIO_MMIO_STATUS:
      return status();
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
      return 0xffffffff;  // 4.2.2.1: no such shared memory region
    case VIRTIO_MMIO_CONFIG_GENERATION:
      return config_generation();
    default:
      return 0;
  }
}

void MmioTransport::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(mutex_);
  if (offset >= VIRTIO_MMIO_CONFIG) {
    device_.write_config(offset - VIRTIO_MMIO_CONFIG, data);
    return;
  }
  if (data.size() == 4 && offset % 4 == 0) write_register(offset, load_le<uint32_t>(data));
}

void MmioTransport::write_register(uint64_t offset, uint32_t value) {
  switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
      device_features_select_ = value;
      break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
      set_driver_features_word(value);
      break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
      driver_features_select_ = value;
      break;
    case VIRTIO_MMIO_QUEUE_SEL:
      queue_select_ = value;
      break;
    case VIRTIO_MMIO_QUEUE_NUM:
      // A value that is too large becomes 0, which is refused when the queue is opened.
      if (auto* queue = configurable_queue())
        queue->size = value <= VirtQueue::kMaxSize ? static_cast<uint16_t>(value) : uint16_t{0};
      break;
    case VIRTIO_MMIO_QUEUE_READY:
      set_queue_ready(value == 1);
      break;
    case kQueueReset:
      // The reset is complete when the write returns, so the register always reads as 0.
      if (value == 1) reset_queue();
      break;
    case VIRTIO_MMIO_QUEUE_NOTIFY:
      kick(value);
      break;
    case VIRTIO_MMIO_INTERRUPT_ACK:
      interrupt_status_.fetch_and(~value);
      break;
    case VIRTIO_MMIO_STATUS:
      set_status(static_cast<uint8_t>(value));
      break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
      if (auto* queue = configurable_queue()) set_low(queue->descriptors, value);
      break;
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
      if (auto* queue = configurable_queue()) set_high(queue->descriptors, value);
      break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
      if (auto* queue = configurable_queue()) set_low(queue->driver_area, value);
      break;
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
      if (auto* queue = configurable_queue()) set_high(queue->driver_area, value);
      break;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
      if (auto* queue = configurable_queue()) set_low(queue->device_area, value);
      break;
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
      if (auto* queue = configurable_queue()) set_high(queue->device_area, value);
      break;
    default:
      break;
  }
}

BusDevice::Name MmioTransport::name_of(uint64_t offset, bool /*write*/) const {
  if (offset >= VIRTIO_MMIO_CONFIG) return {"config", {}};
  for (const auto& [reg, name] : kNames)
    if (reg == offset) return {name, {}};
  return {};
}

// Interrupts the driver, unless the driver has not yet acknowledged the last interrupt of the same
// cause. The driver acknowledges an interrupt before it reads the rings (4.2.3.4), so it needs no
// second edge.
void MmioTransport::raise(uint32_t cause) {
  if ((interrupt_status_.fetch_or(cause) & cause) == 0) interrupt_.pulse();
}

void MmioTransport::queue_interrupt(uint16_t) { raise(VIRTIO_MMIO_INT_VRING); }

void MmioTransport::config_interrupt() { raise(VIRTIO_MMIO_INT_CONFIG); }

}  // namespace wick::virtio

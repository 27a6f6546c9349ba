#include "virtio/mmio.h"

#include "base/bytes.h"

namespace wick::virtio {

namespace {

// 4.2.2, "MMIO Device Register Layout"
enum Register : uint64_t {
  kMagicValue = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSel = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSel = 0x024,
  kQueueSel = 0x030,
  kQueueNumMax = 0x034,
  kQueueNum = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = MmioTransport::kQueueNotifyOffset,
  kInterruptStatus = 0x060,
  kInterruptAck = 0x064,
  kStatus = 0x070,
  kQueueDescLow = 0x080,
  kQueueDescHigh = 0x084,
  kQueueDriverLow = 0x090,
  kQueueDriverHigh = 0x094,
  kQueueDeviceLow = 0x0a0,
  kQueueDeviceHigh = 0x0a4,
  kShmLenLow = 0x0b0,
  kShmLenHigh = 0x0b4,
  kShmBaseLow = 0x0b8,
  kShmBaseHigh = 0x0bc,
  kQueueReset = 0x0c0,
  kConfigGeneration = 0x0fc,
  kConfig = 0x100,
};

// The names of the registers in the specification.
constexpr std::pair<uint64_t, const char*> kNames[] = {
    {kMagicValue, "MagicValue"},
    {kVersion, "Version"},
    {kDeviceId, "DeviceID"},
    {kVendorId, "VendorID"},
    {kDeviceFeatures, "DeviceFeatures"},
    {kDeviceFeaturesSel, "DeviceFeaturesSel"},
    {kDriverFeatures, "DriverFeatures"},
    {kDriverFeaturesSel, "DriverFeaturesSel"},
    {kQueueSel, "QueueSel"},
    {kQueueNumMax, "QueueNumMax"},
    {kQueueNum, "QueueNum"},
    {kQueueReady, "QueueReady"},
    {kQueueNotify, "QueueNotify"},
    {kInterruptStatus, "InterruptStatus"},
    {kInterruptAck, "InterruptAck"},
    {kStatus, "Status"},
    {kQueueDescLow, "QueueDescLow"},
    {kQueueDescHigh, "QueueDescHigh"},
    {kQueueDriverLow, "QueueDriverLow"},
    {kQueueDriverHigh, "QueueDriverHigh"},
    {kQueueDeviceLow, "QueueDeviceLow"},
    {kQueueDeviceHigh, "QueueDeviceHigh"},
    {kShmLenLow, "SHMLenLow"},
    {kShmLenHigh, "SHMLenHigh"},
    {kShmBaseLow, "SHMBaseLow"},
    {kShmBaseHigh, "SHMBaseHigh"},
    {kQueueReset, "QueueReset"},
    {kConfigGeneration, "ConfigGeneration"},
};

constexpr uint32_t kMagic = 0x74726976;   // "virt"
constexpr uint32_t kVendor = 0x6b636977;  // "wick"
constexpr uint32_t kInterruptUsed = 1;    // InterruptStatus, bit 0
constexpr uint32_t kInterruptConfig = 2;  // InterruptStatus, bit 1

void set_low(uint64_t& field, uint32_t value) { field = (field & ~0xffffffffull) | value; }
void set_high(uint64_t& field, uint32_t value) {
  field = (field & 0xffffffffull) | static_cast<uint64_t>(value) << 32;
}

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
  if (offset >= kConfig) {
    device_.read_config(offset - kConfig, data);
    return;
  }
  // 4.2.2.2: below the configuration space only aligned 32-bit accesses are valid.
  const bool proper = data.size() == 4 && offset % 4 == 0;
  store_le(data, proper ? read_register(offset) : 0u);
}

uint32_t MmioTransport::read_register(uint64_t offset) const {
  switch (offset) {
    case kMagicValue:
      return kMagic;
    case kVersion:
      return 2;
    case kDeviceId:
      return device_.id();
    case kVendorId:
      return kVendor;
    case kDeviceFeatures:
      return device_features_word();
    case kQueueNumMax:
      return selected_queue_max();
    case kQueueReady:
      return selected_queue() != nullptr && selected_queue()->ready ? 1 : 0;
    case kInterruptStatus:
      return interrupt_status_;
    case kStatus:
      return status();
    case kShmLenLow:
    case kShmLenHigh:
    case kShmBaseLow:
    case kShmBaseHigh:
      return 0xffffffff;  // 4.2.2.1: no such shared memory region
    case kConfigGeneration:
      return config_generation_;
    default:
      return 0;
  }
}

void MmioTransport::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(mutex_);
  if (offset >= kConfig) {
    device_.write_config(offset - kConfig, data);
    return;
  }
  if (data.size() == 4 && offset % 4 == 0) write_register(offset, load_le<uint32_t>(data));
}

void MmioTransport::write_register(uint64_t offset, uint32_t value) {
  switch (offset) {
    case kDeviceFeaturesSel:
      device_features_select_ = value;
      break;
    case kDriverFeatures:
      set_driver_features_word(value);
      break;
    case kDriverFeaturesSel:
      driver_features_select_ = value;
      break;
    case kQueueSel:
      queue_select_ = value;
      break;
    case kQueueNum:
      // A value that is too large becomes 0, which is refused when the queue is opened.
      if (auto* queue = configurable_queue())
        queue->size = value <= VirtQueue::kMaxSize ? static_cast<uint16_t>(value) : uint16_t{0};
      break;
    case kQueueReady:
      set_queue_ready(value == 1);
      break;
    case kQueueReset:
      // The reset is complete when the write returns, so the register always reads as 0.
      if (value == 1) reset_queue();
      break;
    case kQueueNotify:
      kick(value);
      break;
    case kInterruptAck:
      interrupt_status_.fetch_and(~value);
      break;
    case kStatus:
      set_status(static_cast<uint8_t>(value));
      break;
    case kQueueDescLow:
      if (auto* queue = configurable_queue()) set_low(queue->descriptors, value);
      break;
    case kQueueDescHigh:
      if (auto* queue = configurable_queue()) set_high(queue->descriptors, value);
      break;
    case kQueueDriverLow:
      if (auto* queue = configurable_queue()) set_low(queue->driver_area, value);
      break;
    case kQueueDriverHigh:
      if (auto* queue = configurable_queue()) set_high(queue->driver_area, value);
      break;
    case kQueueDeviceLow:
      if (auto* queue = configurable_queue()) set_low(queue->device_area, value);
      break;
    case kQueueDeviceHigh:
      if (auto* queue = configurable_queue()) set_high(queue->device_area, value);
      break;
    default:
      break;
  }
}

BusDevice::Name MmioTransport::name_of(uint64_t offset, bool /*write*/) const {
  if (offset >= kConfig) return {"config", {}};
  for (const auto& [reg, name] : kNames)
    if (reg == offset) return {name, {}};
  return {};
}

// A cause that is not acknowledged yet has had its edge and needs no other: the driver
// acknowledges first and reads the rings afterwards (4.2.3.4).
void MmioTransport::raise(uint32_t cause) {
  if ((interrupt_status_.fetch_or(cause) & cause) == 0) interrupt_.pulse();
}

void MmioTransport::queue_interrupt(uint16_t) { raise(kInterruptUsed); }

void MmioTransport::config_changed() {
  ++config_generation_;
  raise(kInterruptConfig);
}

void MmioTransport::needs_reset() {
  // 2.1.2: the device sends a configuration change notification only after DRIVER_OK.
  if ((status_.fetch_or(kStatusNeedsReset) & kStatusDriverOk) != 0) config_changed();
}

}  // namespace wick::virtio

#include "devices/ide/ide.h"

#include <algorithm>

namespace wick::devices {

namespace {

// The class code says: compatibility mode, with bus masters.
constexpr PciFunction::Identity kPiix4{.vendor = 0x8086,
                                       .device = 0x7111,
                                       .subsystem_vendor = 0,
                                       .subsystem = 0,
                                       .class_code = 0x010180,
                                       .revision = 1};

constexpr size_t kBusMasterBar = 4;
constexpr uint32_t kBusMasterBytes = Ide::kChannels * IdeChannel::kBusMasterPorts;

// 82371AB, 5.1: timing registers, which have no effect. Bit 15 of a channel's half of
// IDETIM says that its ports are decoded.
constexpr uint8_t kTimings = 0x40;       // IDETIM, 16 bits per channel
constexpr uint8_t kMoreTimings = 0x44;   // SIDETIM, timings of the second drives
constexpr uint8_t kUltraTimings = 0x48;  // UDMACTL and, from 0x4a on, UDMATIM
constexpr uint32_t kDecode = 0x8000;
constexpr uint32_t kTimingBits = 0x7fff;

}  // namespace

Ide::Ide(const GuestMemory& memory, const std::array<InterruptLine*, kChannels>& lines,
         const std::array<IdeDrive*, kDrives>& drives)
    : function_(kPiix4, nullptr) {
  uint32_t decoded = 0;
  for (size_t i = 0; i < kChannels; ++i) {
    if (drives[2 * i] == nullptr) continue;
    channels_[i].emplace(memory, *lines[i], *drives[2 * i], drives[2 * i + 1]);
    decoded |= kDecode << 16 * i;
  }
  function_.add_io_bar(kBusMasterBar, kBusMasterBytes, bus_masters_);
  function_.on_bus_master([this](bool enabled) {
    for (auto& channel : channels_)
      if (channel) channel->enable_dma(enabled);
  });
  function_.add_register(kTimings, decoded, kTimingBits << 16 | kTimingBits);
  function_.add_register(kMoreTimings, 0, 0x000000ff);
  function_.add_register(kUltraTimings, 0, 0x3333000f);
}

BusDevice* Ide::BusMasters::at(uint64_t offset) const {
  IdeChannel* channel = ide.channel(offset / IdeChannel::kBusMasterPorts);
  return channel == nullptr ? nullptr : &channel->bus_master();
}

// An access that crosses from one channel's ports to the other's has no effect.
void Ide::BusMasters::read(uint64_t offset, std::span<std::byte> data) {
  const uint64_t port = offset % IdeChannel::kBusMasterPorts;
  BusDevice* device = at(offset);
  if (device != nullptr && port + data.size() <= IdeChannel::kBusMasterPorts)
    device->read(port, data);
  else
    std::ranges::fill(data, std::byte{0xff});
}

void Ide::BusMasters::write(uint64_t offset, std::span<const std::byte> data) {
  const uint64_t port = offset % IdeChannel::kBusMasterPorts;
  BusDevice* device = at(offset);
  if (device != nullptr && port + data.size() <= IdeChannel::kBusMasterPorts)
    device->write(port, data);
}

BusDevice::Name Ide::BusMasters::name_of(uint64_t offset, bool write) const {
  const BusDevice* device = at(offset);
  if (device == nullptr) return {};
  return {device->name_of(offset % IdeChannel::kBusMasterPorts, write).reg,
          offset < IdeChannel::kBusMasterPorts ? "ide0" : "ide1"};
}

}  // namespace wick::devices

#include "control/names.h"

#include <fmt/format.h>

#include <algorithm>

namespace wick::control {

std::string_view state_name(vmm::RunState state) {
  switch (state) {
    case vmm::RunState::kRunning:
      return "running";
    case vmm::RunState::kPaused:
      return "paused";
    case vmm::RunState::kDebug:
      return "debug";
    case vmm::RunState::kIoError:
      return "io-error";
    case vmm::RunState::kPanicked:
      return "guest-panicked";
    case vmm::RunState::kSuspended:
      return "suspended";
  }
  return "running";
}

std::string uuid_text(const std::array<uint8_t, 16>& uuid) {
  std::string text;
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

std::string_view pci_class_name(uint32_t class_and_subclass) {
  struct Name {
    uint32_t code;
    std::string_view name;
  };
  constexpr Name kNames[] = {
      {0x0100, "SCSI controller"},
      {0x0101, "IDE controller"},
      {0x0106, "SATA controller"},
      {0x0180, "Storage controller"},
      {0x0200, "Ethernet controller"},
      {0x0280, "Network controller"},
      {0x0300, "VGA controller"},
      {0x0380, "Display controller"},
      {0x0500, "RAM controller"},
      {0x0600, "Host bridge"},
      {0x0601, "ISA bridge"},
      {0x0604, "PCI bridge"},
      {0x0680, "Bridge"},
      {0x0700, "Serial port"},
      {0x0780, "Communication controller"},
      {0x0c03, "USB controller"},
      {0x0c05, "SMBus"},
  };
  const auto* found = std::ranges::find(kNames, class_and_subclass, &Name::code);
  return found == std::end(kNames) ? std::string_view() : found->name;
}

std::string device_path(const vmm::DiskInfo& disk) {
  if (disk.device == vmm::DiskConfig::Device::kIde) return disk.id;
  return fmt::format("/machine/peripheral/{}/virtio-backend", disk.id);
}

std::string device_path(const vmm::CardInfo& card) {
  const bool virtio = card.device == vmm::NetConfig::Device::kVirtio;
  return fmt::format("/machine/peripheral/{}{}", card.id, virtio ? "/virtio-backend" : "");
}

std::string_view model_name(const vmm::CardInfo& card) {
  return card.device == vmm::NetConfig::Device::kVirtio ? "virtio-net-pci" : "e1000";
}

std::string device_id(std::string_view id_or_path) {
  constexpr std::string_view kFolder = "/machine/peripheral/";
  if (!id_or_path.starts_with(kFolder)) return std::string(id_or_path);
  id_or_path.remove_prefix(kFolder.size());
  return std::string(id_or_path.substr(0, id_or_path.find('/')));
}

std::optional<vmm::DiskInfo> find_disk(const vmm::Hardware& hardware, std::string_view id) {
  for (auto& disk : hardware.disks())
    if (disk.id == id) return disk;
  return std::nullopt;
}

std::optional<vmm::CardInfo> find_card(const vmm::Hardware& hardware, std::string_view id) {
  for (auto& card : hardware.cards())
    if (card.id == id) return card;
  return std::nullopt;
}

bool is_known_id(const vmm::Hardware& hardware, std::string_view id) {
  return find_disk(hardware, id).has_value() || find_card(hardware, id).has_value();
}

}  // namespace wick::control

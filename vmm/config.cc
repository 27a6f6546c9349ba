#include "vmm/config.h"

#include <fmt/format.h>

#include <algorithm>

namespace wick::vmm {

std::string MachineConfig::main_console() const {
  const auto first = std::ranges::find_if(serials, [](const SerialConfig& serial) {
    return serial.kind != SerialConfig::Kind::kNull || !serial.log_path.empty();
  });
  if (first == serials.end() && console) return "hvc0";
  if (serials.empty()) return "";
  return fmt::format("ttyS{}", first == serials.end() ? 0 : first - serials.begin());
}

const DiskConfig* MachineConfig::root_disk() const {
  const auto first = std::ranges::find(disks, DiskConfig::Media::kDisk, &DiskConfig::media);
  return first == disks.end() ? nullptr : &*first;
}

std::string MachineConfig::root_device() const {
  const DiskConfig* root = root_disk();
  if (root == nullptr) return "";
  return root->device == DiskConfig::Device::kIde ? "/dev/sda" : "/dev/vda";
}

}  // namespace wick::vmm

// The devices of a running machine as the host sees them: lists them and changes them. The ids of
// devices that exist from the start are the guest's names: "vda", "sda", "sr0", "net0". The host
// chooses the ids of devices that it adds later.
//
// Thread rule: the main loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/supervised.h"
#include "net/mac_address.h"
#include "vmm/config.h"

namespace wick::vmm {

using DiskCounters = block::Counters;

struct DiskInfo {
  std::string id = {};
  std::string path = {};
  std::string format = {};        // "raw" or "qcow2"
  std::string backing_path = {};  // empty: the image has no backing file
  uint64_t size_bytes = 0;
  DiskConfig::Device device = DiskConfig::Device::kVirtio;
  DiskConfig::Media media = DiskConfig::Media::kDisk;
  bool read_only = false;
  bool inserted = true;
  bool tray_open = false;
  bool locked = false;    // the guest has locked the tray
  bool failed = false;    // an I/O error of this disk has stopped the machine
  bool no_space = false;  // that error was ENOSPC
  DiskConfig::Cache cache = DiskConfig::Cache::kWriteback;
  std::string serial = {};
  DiskCounters counters;
};

struct CardInfo {
  std::string id = {};
  NetConfig::Kind kind = NetConfig::Kind::kTap;
  NetConfig::Device device = NetConfig::Device::kVirtio;
  std::string host_name = {};  // kTap: the name of the interface
  net::MacAddress mac{};
  bool link_up = true;
  bool vhost = false;
  // The receive filter that the guest's driver has set.
  bool promiscuous = false;
  bool all_multicast = false;
  std::vector<net::MacAddress> unicast = {}, multicast = {};
  std::vector<uint16_t> vlans = {};
};

struct PciInfo {
  uint8_t slot = 0;
  std::string id = {};  // empty for the host bridge
  uint16_t vendor = 0, device = 0, subsystem_vendor = 0, subsystem = 0;
  uint32_t class_code = 0;  // class, subclass, programming interface
  uint8_t interrupt_line = 0;
  uint8_t interrupt_pin = 0;  // 0: the function has no interrupt pin
  struct Bar {
    size_t index = 0;
    bool io = false;
    uint64_t address = 0;  // 0: the function does not decode this BAR now
    uint64_t size_bytes = 0;
  };
  std::vector<Bar> bars = {};
};

struct ConsoleInfo {
  std::string id = {};         // the guest's name, such as "ttyS0" or "hvc0"
  std::string host_name = {};  // the host's end, such as "unix:PATH" or "stdio"
  bool connected = false;
};

class Hardware {
 public:
  virtual ~Hardware() = default;

  virtual std::vector<DiskInfo> disks() const = 0;
  virtual std::vector<CardInfo> cards() const = 0;
  virtual std::vector<PciInfo> pci_functions() const = 0;  // empty without PCI
  virtual std::vector<ConsoleInfo> consoles() const = 0;
  // The ports and addresses that the machine decodes, one line each, for people.
  virtual std::string address_map() const = 0;

  // Enlarges the disk. Fails for an unknown id, a smaller size, a read-only disk, and an image that
  // cannot grow.
  virtual Result<void> resize_disk(const std::string& id, uint64_t size_bytes) = 0;
  // Creates a qcow2 overlay at `path` over the disk's image, and continues with the overlay.
  virtual Result<void> snapshot_disk(const std::string& id, const std::string& path) = 0;
  // eject() and change_medium() fail unless `id` is a CD-ROM drive. With `force` they open the tray
  // even if the guest has locked it.
  virtual Result<void> eject(const std::string& id, bool force) = 0;
  virtual Result<void> change_medium(const std::string& id, const std::string& path,
                                     bool force) = 0;

  virtual Result<void> set_link(const std::string& id, bool up) = 0;
  // Add or remove a port forward of a user network. `forward` has the format of hostfwd=.
  virtual Result<void> add_forward(const std::string& id, const std::string& forward) = 0;
  virtual Result<void> remove_forward(const std::string& id, const std::string& forward) = 0;

  // Returns the connections and forwards of a user network as libslirp lists them, for people.
  virtual std::string connections(const std::string& id) const = 0;

  // Sets how much RAM the guest should keep; the balloon takes the rest. If `guest_bytes` exceeds
  // the machine's RAM, the guest keeps all RAM.
  virtual Result<void> set_balloon(uint64_t guest_bytes) = 0;
  // Returns the machine's RAM minus what the balloon has taken; nullopt if there is no balloon.
  virtual std::optional<uint64_t> balloon_bytes() const = 0;

  virtual Result<void> send_break(const std::string& console_id) = 0;
  // Sends a text as if the console's user had typed it.
  virtual Result<void> type(const std::string& console_id, const std::string& text) = 0;

  // Presses keys of the guest's keyboard in the order of `codes` (KEY_* of
  // <linux/input-event-codes.h>), and after `hold` releases them in reverse order. Fails if the
  // machine has no keyboard.
  virtual Result<void> send_keys(const std::vector<uint16_t>& codes,
                                 std::chrono::milliseconds hold) = 0;

  // Writes what the screen shows to a file. Fails if the machine has no screen.
  enum class PictureFormat { kPng, kPpm };
  virtual Result<void> save_screen(const std::string& path, PictureFormat format) = 0;

  // Hot-plug, only with PCI. No device may have the id yet.
  virtual Result<void> add_disk(const DiskConfig& config, const std::string& id) = 0;
  virtual Result<void> add_card(const NetConfig& config, const std::string& id) = 0;
  // Asks the guest to release the device. When the guest has done so, the device is destroyed and
  // MachineEvent::Kind::kDeviceDeleted is published.
  virtual Result<void> remove_device(const std::string& id) = 0;
};

}  // namespace wick::vmm

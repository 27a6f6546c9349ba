// What the user asked for: plain values, already checked for form, by whoever
// read them (cli/, tests). The machine checks them against the host.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "net/mac_address.h"
#include "net/user.h"

namespace wick {

// -d PATH[,key=value...]
struct DiskConfig {
  enum class Format { kProbe, kRaw, kQcow2 };
  enum class Cache { kWriteback, kNone, kUnsafe };
  enum class Device { kVirtio, kIde };
  enum class Media { kDisk, kCdrom };
  static constexpr uint16_t kMostQueues = 16;

  std::string path;
  Format format = Format::kProbe;
  bool read_only = false;
  bool ephemeral = false;  // what the guest writes is gone when the run ends
  Cache cache = Cache::kWriteback;
  uint16_t queues = 1;       // of virtio
  uint64_t cache_bytes = 0;  // of qcow2 tables; 0: the default
  std::string serial;        // at most 20 bytes; empty: none
  // The files that qcow2 headers name are opened in the image's folder and below it only.
  std::string data_path;     // the data file instead of the one that the header names
  bool any_backing = false;  // backing files, which are only read, may lie anywhere
  Device device = Device::kVirtio;
  Media media = Media::kDisk;  // a CD-ROM is on IDE, and read-only
};

// -n tap|user[,key=value...]
struct NetConfig {
  enum class Kind { kTap, kUser };
  enum class Device { kVirtio, kE1000 };
  static constexpr uint16_t kMostQueues = 16;
  static constexpr uint16_t kLeastMtu = 68;  // virtio 1.2, 5.1.4.1

  Kind kind = Kind::kTap;
  Device device = Device::kVirtio;
  std::string interface;  // kTap: one that exists, or the name of the one to make
  std::string bridge;     // kTap: that it becomes a port of
  uint16_t queues = 1;    // pairs, of virtio
  bool vhost = false;     // of virtio on a TAP
  std::optional<uint16_t> mtu;
  std::vector<net::HostForward> forwards;  // kUser
  std::optional<net::MacAddress> mac;      // none until the machine's default is known
};

// -s SPEC, --console SPEC
struct SerialConfig {
  enum class Kind { kStdio, kPty, kUnix, kFile, kNull };

  Kind kind = Kind::kNull;
  std::string path;      // kUnix, kFile
  std::string log_path;  // a copy of the guest's output; empty: none
};

struct MachineConfig {
  std::string name;
  std::array<uint8_t, 16> uuid = {};  // in network byte order
  std::string kernel_path;
  std::string initrd_path;             // empty: none
  std::optional<std::string> cmdline;  // the whole command line; none: generated
  std::string append;                  // behind the generated one
  uint64_t memory_bytes = 512 << 20;
  uint32_t cpus = 1;
  std::vector<DiskConfig> disks;
  std::vector<NetConfig> nets;
  std::vector<SerialConfig> serials;    // ttyS0 first, at most four
  std::optional<SerialConfig> console;  // hvc0
  // The one for the kernel's command line: the first that leads anywhere. Empty:
  // there is none.
  std::string main_console() const;
  // The disk that the kernel finds its root on, unless told otherwise: the first
  // that is no CD-ROM; nullptr: there is none. And what Linux calls it.
  const DiskConfig* root_disk() const;
  std::string root_device() const;  // "/dev/vda"; empty: there is none
  // The entropy device's file; empty: getrandom(2); none: no device.
  std::optional<std::string> rng = "";
  // How virtio devices are found. PCI needs ACPI, which tells its interrupts.
  enum class Transport { kPci, kMmio };
  std::optional<Transport> transport;  // none: PCI, and MMIO without ACPI
  bool on_pci() const {
    return transport.value_or(acpi ? Transport::kPci : Transport::kMmio) == Transport::kPci;
  }
  // Only what the kernel does not find through ACPI is put on the command line.
  bool acpi = true;
  bool reset_on_reboot = false;  // or else a reboot ends the run
  bool stats = false;            // count and time every exit
};

}  // namespace wick

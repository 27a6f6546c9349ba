// The configuration of a machine, as plain values. The parsers in cli/ have checked the form of
// the values; the machine checks the values against the host.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/supervised.h"
#include "console/backend.h"
#include "display/vnc_config.h"
#include "net/mac_address.h"
#include "net/user.h"
#include "share/tree_types.h"

namespace wick::vmm {

// -d PATH[,key=value...]
struct DiskConfig {
  enum class Format { kProbe, kRaw, kQcow2 };
  enum class Cache { kWriteback, kNone, kUnsafe };
  enum class Device { kVirtio, kIde };
  enum class Media { kDisk, kCdrom };
  static constexpr uint16_t kMaxQueues = 16;
  static constexpr size_t kSerialBytes = 20;  // virtio 1.2, 5.2.6, VIRTIO_BLK_T_GET_ID

  std::string path;
  Format format = Format::kProbe;
  bool read_only = false;
  bool ephemeral = false;  // the guest's writes are lost when the run ends
  Cache cache = Cache::kWriteback;
  uint16_t queues = 1;       // more than 1 only with kVirtio
  uint64_t cache_bytes = 0;  // size of the cache of qcow2 tables; 0: the default
  std::string serial;        // at most 20 bytes; empty: the disk has no serial number
  // By default the files that a qcow2 header names must be in the image's folder or below it.
  std::string data_path;     // a data file to use in place of the one that the header names
  bool any_backing = false;  // allow backing files, which are only read, in any folder
  block::Supervised::Policies errors;  // what happens after an I/O error: rerror=, werror=
  Device device = Device::kVirtio;
  Media media = Media::kDisk;  // kCdrom requires kIde and read_only
};

// -n tap|user[,key=value...]
struct NetConfig {
  enum class Kind { kTap, kUser };
  enum class Device { kVirtio, kE1000 };
  static constexpr uint16_t kMaxQueues = 16;
  static constexpr uint16_t kMinMtu = 68;  // virtio 1.2, 5.1.4.1

  Kind kind = Kind::kTap;
  Device device = Device::kVirtio;
  std::string interface;  // kTap: an existing interface, or the name of a new one
  std::string bridge;     // kTap: the bridge to add the interface to
  uint16_t queues = 1;    // queue pairs; more than 1 only with kVirtio
  bool vhost = false;     // the kernel moves the packets; only with kVirtio and kTap
  std::optional<uint16_t> mtu;
  std::vector<net::HostForward> forwards;  // kUser: the forwards from the host to the guest
  std::optional<net::MacAddress> mac;      // nullopt until the default is derived
};

// --share DIR,tag=TAG[,key=value...]
struct ShareConfig {
  enum class Device { kVirtioFs, k9p };
  // How much the guest caches (virtio::FuseCache). Only for kVirtioFs: a 9P client decides this by
  // itself.
  enum class Cache { kAuto, kAlways, kNever };
  static constexpr size_t kTagBytes = 36;  // virtio 1.2, 5.11.4

  std::string path;
  std::string tag;
  Device device = Device::kVirtioFs;
  bool read_only = false;
  Cache cache = Cache::kAuto;
  share::Security security = share::Security::kSquash;
  // With kSquash, the owner that the guest sees for the files of wick's user.
  uint32_t squash_uid = 0;
  uint32_t squash_gid = 0;
  // With kPassthrough, maps the guest's user and group ids to those of the host; empty: guest and
  // host have the same ids.
  std::vector<share::IdRange> uids = {};
  std::vector<share::IdRange> gids = {};
};

// -s SPEC, --console SPEC[,name=NAME]
struct SerialConfig {
  enum class Kind { kStdio, kPty, kUnix, kFile, kNull, kStderr };  // kStderr: output only

  Kind kind = Kind::kNull;
  std::string path;              // kUnix, kFile: the path of the socket or file
  std::string log_path;          // the file for a copy of the guest's output; empty: no copy
  uint64_t log_limit_bytes = 0;  // see console/log_file.h; 0: the log has no limit
  // If set, this is not a console but a port of the virtio console device:
  // /dev/virtio-ports/NAME in the guest.
  std::string port_name = {};
};

// A port of the virtio console device whose host end is in this process. The guest sees it not as
// a console but as /dev/virtio-ports/NAME.
struct PortConfig {
  std::string name;
  console::Backend* backend = nullptr;  // must outlive the machine
};

// --fw-cfg name=NAME,file=PATH|string=TEXT
struct FwCfgFile {
  std::string name;
  std::string path;  // empty: the content is `text`
  std::string text;
};

struct MachineConfig {
  std::string name;
  std::array<uint8_t, 16> uuid = {};  // in network byte order
  // A firmware image to start in place of a kernel. Empty: there is no firmware.
  std::string firmware_path;
  // With UEFI: the file with the initial variables of a new machine, and the file in which this
  // machine keeps its variables. If the first path is empty, the machine has no flash memory. If
  // the second path is empty, the guest's changes are lost when the run ends.
  std::string uefi_template_path = {};
  std::string uefi_variables_path = {};
  // What the firmware boots first. kMenu: the firmware shows a menu.
  enum class Boot { kDisk, kCdrom, kMenu };
  Boot boot = Boot::kDisk;
  std::string kernel_path;
  std::string initrd_path;             // or the modules of a Multiboot kernel; empty: no initrd
  std::string kernel_cache;            // the folder of unpacked kernels; empty: no cache
  std::optional<std::string> cmdline;  // the whole command line; nullopt: generated
  std::string append;                  // appended to the generated command line
  bool kaslr = true;                   // false: the generated command line has nokaslr
  uint64_t memory_bytes = 512 << 20;
  uint32_t cpus = 1;
  std::vector<DiskConfig> disks;
  std::vector<NetConfig> nets;
  std::vector<ShareConfig> shares;     // in PCI slots from layout::kLastShareSlot downwards
  std::vector<SerialConfig> serials;   // ttyS0 first, at most four
  std::vector<SerialConfig> consoles;  // ports of the virtio console; the first is hvc0
  // Returns the id of consoles[index]: "hvc0", or the name of a named port.
  std::string console_id(size_t index) const;
  // Returns the console for the kernel's command line: the first serial port that is not kNull or
  // has a log; else hvc0; else ttyS0; empty if the machine has none of these.
  std::string main_console() const;
  // Returns the disk for the default root=: the first that is not a CD-ROM; nullptr if there is no
  // such disk.
  const DiskConfig* root_disk() const;
  // Returns Linux's name of root_disk(), such as "/dev/vda"; empty if there is no such disk.
  std::string root_device() const;
  // The file that the entropy device reads; empty: getrandom(2) instead; nullopt: no device.
  std::optional<std::string> rng = "";
  // The context identifier of the guest on the virtio socket device; nullopt: no device.
  std::optional<uint32_t> vsock_cid = {};
  // The transport of virtio devices. PCI needs ACPI, which describes its interrupts.
  enum class Transport { kPci, kMmio };
  std::optional<Transport> transport;  // nullopt: PCI, or MMIO without ACPI
  bool on_pci() const {
    return transport.value_or(acpi ? Transport::kPci : Transport::kMmio) == Transport::kPci;
  }
  // Without ACPI tables, virtio-mmio devices are described on the command line.
  bool acpi = true;
  // The PCI slots whose devices can be added and removed at run time: none, a few that are free at
  // the start, or all slots of virtio disks and of network cards. kAll is not the default, because
  // each hot-plug slot lengthens the boot of Linux by 0.1 %, and some guests name the network cards
  // in such slots differently (ens24 in place of enp0s24).
  enum class Hotplug { kOff, kSpare, kAll };
  Hotplug hotplug = Hotplug::kSpare;
  uint32_t hotplug_slots() const;         // a bit per slot; 0 without PCI
  uint8_t disk_slots_end() const;         // the slot after the last one for virtio disks
  bool reset_on_reboot = false;           // false: a reboot ends the run
  std::vector<FwCfgFile> fw_cfg = {};     // the user's files of the firmware configuration device
  std::optional<display::VncConfig> vnc;  // nullopt: no screen, no keyboard and no pointer
  bool stats = false;                     // count and time every exit
  bool start_paused = false;              // the vCPUs wait for Machine::resume()
  // The first port of the device by which the guest ends the run (devices/debug_exit.h).
  std::optional<uint16_t> debug_exit_port = {};
  std::vector<PortConfig> ports = {};  // further ports of the virtio console, after `consoles`
};

// Checks all rules of a configuration that do not depend on the host: the keys that a device
// may have, the numbers of devices, the options that exclude each other. Errors name the option
// as a user writes it.
Result<void> check(const DiskConfig& disk);
Result<void> check(const NetConfig& net);
Result<void> check(const ShareConfig& share);
// Checks the whole machine, with all its disks and cards.
Result<void> check(const MachineConfig& machine);

}  // namespace wick::vmm

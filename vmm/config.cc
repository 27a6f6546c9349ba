#include "vmm/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "devices/debug_exit.h"
#include "devices/ide/ide.h"
#include "devices/pci/host.h"
#include "virtio/vsock.h"
#include "vmm/layout.h"

namespace wick::vmm {

namespace {

constexpr size_t kMaxCards = devices::PciHost::kSlots - layout::kFirstNetSlot;

}  // namespace

std::string MachineConfig::console_id(size_t index) const {
  if (!consoles[index].port_name.empty()) return consoles[index].port_name;
  const auto before = std::span(consoles).first(index);
  return fmt::format("hvc{}", std::ranges::count(before, "", &SerialConfig::port_name));
}

std::string MachineConfig::main_console() const {
  const auto first = std::ranges::find_if(serials, [](const SerialConfig& serial) {
    return serial.kind != SerialConfig::Kind::kNull || !serial.log_path.empty();
  });
  if (first == serials.end() && !consoles.empty()) return "hvc0";
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

// Depends only on the configuration, so a reset does not change the result, even if devices were
// added at run time.
uint32_t MachineConfig::hotplug_slots() const {
  constexpr size_t kSpareDisks = 4;
  constexpr size_t kSpareCards = 2;
  if (!on_pci() || hotplug == Hotplug::kOff) return 0;
  const uint32_t fixed = vsock_cid ? 1u << layout::kVsockSlot : 0;
  const size_t cards_end = devices::PciHost::kSlots - std::min(shares.size(), kMaxCards);
  const auto range = [](size_t first, size_t end) {
    uint32_t slots = 0;
    for (size_t slot = first; slot < end; ++slot) slots |= 1u << slot;
    return slots;
  };
  if (hotplug == Hotplug::kAll) return layout::kHotplugSlots & range(0, cards_end) & ~fixed;
  const auto used = static_cast<size_t>(
      std::ranges::count(disks, DiskConfig::Device::kVirtio, &DiskConfig::device));
  const size_t disk = layout::kFirstDiskSlot + used;
  const size_t card = layout::kFirstNetSlot + nets.size();
  return range(disk, std::min<size_t>(disk + kSpareDisks, disk_slots_end())) |
         range(card, std::min<size_t>(card + kSpareCards, cards_end));
}

uint8_t MachineConfig::disk_slots_end() const {
  return vsock_cid ? layout::kVsockSlot : layout::kFirstNetSlot;
}

Result<void> check(const DiskConfig& disk) {
  const bool ide = disk.device == DiskConfig::Device::kIde;
  const bool raw = disk.format == DiskConfig::Format::kRaw;
  if (disk.queues < 1 || disk.queues > DiskConfig::kMaxQueues)
    return fail("queues={}: must be 1 to {}", disk.queues, DiskConfig::kMaxQueues);
  if (disk.serial.size() > DiskConfig::kSerialBytes)
    return fail("serial={}: longer than {} bytes", disk.serial, DiskConfig::kSerialBytes);
  if (disk.media == DiskConfig::Media::kCdrom && !ide)
    return with_hint(fail("media=cdrom: CD-ROM drives exist only on IDE"),
                     "add device=ide, or use --cdrom FILE");
  if (disk.media == DiskConfig::Media::kCdrom && !disk.read_only)
    return with_hint(fail("media=cdrom,readonly=off: a CD-ROM cannot be written"),
                     "leave readonly out");
  if (disk.queues > 1 && ide)
    return with_hint(fail("queues={}: an IDE drive takes one request at a time", disk.queues),
                     "leave out queues");
  // An ephemeral disk has qcow2 tables even if its image is raw, because it writes to a qcow2
  // overlay.
  if (disk.cache_bytes != 0 && raw && !disk.ephemeral)
    return with_hint(fail("cache-size={}: a raw disk has no tables to cache", disk.cache_bytes),
                     "leave out cache-size");
  if (raw && (disk.any_backing || !disk.data_path.empty()))
    return with_hint(fail("format=raw: a raw disk has neither a data file nor backing files"),
                     "leave out data-file and backing");
  if (disk.read_only && disk.ephemeral)
    return with_hint(fail("ephemeral=on: this disk is read-only"),
                     "leave out ephemeral, or the key that makes it read-only");
  return {};
}

Result<void> check(const NetConfig& net) {
  const bool tap = net.kind == NetConfig::Kind::kTap;
  const bool e1000 = net.device == NetConfig::Device::kE1000;
  if (!tap && (net.vhost || net.queues > 1 || !net.interface.empty() || !net.bridge.empty()))
    return with_hint(fail("ifname, bridge, vhost, queues: only for a TAP"),
                     "use tap, or leave them out");
  if (tap && !net.forwards.empty())
    return with_hint(fail("hostfwd: only for a user network"), "use user, or leave it out");
  if (net.queues < 1 || net.queues > NetConfig::kMaxQueues)
    return fail("queues={}: must be 1 to {}", net.queues, NetConfig::kMaxQueues);
  if (net.mtu && *net.mtu < NetConfig::kMinMtu)
    return fail("mtu={}: must be {} to {}", *net.mtu, NetConfig::kMinMtu, UINT16_MAX);
  if (e1000 && net.vhost)
    return with_hint(fail("device=e1000: vhost supports only virtio"), "leave vhost or device out");
  if (e1000 && net.queues > 1)
    return with_hint(fail("device=e1000: it has one queue"), "leave queues or device out");
  return {};
}

namespace {

// Checks one map of IDs. The ID 2^32 - 1 is not allowed: for Linux it means "no user".
Result<void> check_ids(const char* key, const std::vector<share::IdRange>& ranges) {
  const auto overlap = [](uint64_t a, uint64_t a_count, uint64_t b, uint64_t b_count) {
    return a < b + b_count && b < a + a_count;
  };
  for (size_t i = 0; i < ranges.size(); ++i) {
    const share::IdRange& range = ranges[i];
    if (range.count == 0) return fail("{}: the number of IDs is 0", key);
    if (uint64_t{range.guest} + range.count > UINT32_MAX ||
        uint64_t{range.host} + range.count > UINT32_MAX)
      return fail("{}: an ID is larger than {}", key, UINT32_MAX - 1);
    for (const share::IdRange& other : std::span(ranges).first(i))
      if (overlap(range.guest, range.count, other.guest, other.count) ||
          overlap(range.host, range.count, other.host, other.count))
        return fail("{}: two ranges have an ID in common", key);
  }
  return {};
}

}  // namespace

Result<void> check(const ShareConfig& share) {
  if (share.path.empty()) return fail("the folder is missing");
  if (share.tag.empty())
    return with_hint(fail("{}: tag=TAG is missing", share.path),
                     "it is the name by which the guest mounts the folder");
  if (share.tag.size() > ShareConfig::kTagBytes)
    return fail("tag={}: longer than {} bytes", share.tag, ShareConfig::kTagBytes);
  if (share.device == ShareConfig::Device::k9p && share.cache != ShareConfig::Cache::kAuto)
    return with_hint(fail("cache: not with device=9p"), "the guest chooses, by mount -o cache=");
  if ((!share.uids.empty() || !share.gids.empty()) &&
      share.security != share::Security::kPassthrough)
    return with_hint(fail("uid-map, gid-map: only with security=passthrough"),
                     "with the others the host has one owner for all");
  TRY(check_ids("uid-map", share.uids));
  TRY(check_ids("gid-map", share.gids));
  return {};
}

namespace {

constexpr size_t kMaxConsoles = 8;
constexpr size_t kMaxSerials = 4;

Result<void> check_disks(const MachineConfig& machine) {
  const size_t most = machine.disk_slots_end() - layout::kFirstDiskSlot;
  size_t on_virtio = 0;
  size_t on_ide = 0;
  for (const DiskConfig& disk : machine.disks) {
    TRY(check(disk));
    if (disk.device == DiskConfig::Device::kVirtio && ++on_virtio > most)
      return with_hint(fail("--disk: no room for {}: a machine has at most {} virtio disks{}",
                            disk.path, most, machine.vsock_cid ? " beside --vsock" : ""),
                       "give fewer disks");
    if (disk.device == DiskConfig::Device::kIde && ++on_ide > devices::Ide::kDrives)
      return with_hint(fail("--disk, --cdrom: no room for {}: a machine has at most {} IDE drives",
                            disk.path, devices::Ide::kDrives),
                       "use device=virtio for the others");
  }
  if (on_ide > 0 && !machine.on_pci())
    return with_hint(fail("--disk, --cdrom: IDE drives need PCI, but this machine has no PCI bus"),
                     "leave --transport mmio and --acpi off out, or device=ide");
  return {};
}

Result<void> check_cards(const MachineConfig& machine) {
  if (machine.nets.size() > kMaxCards)
    return with_hint(fail("--net: {} given; a machine has at most {} network cards",
                          machine.nets.size(), kMaxCards),
                     "give --net less often");
  for (size_t i = 0; i < machine.nets.size(); ++i) {
    const NetConfig& net = machine.nets[i];
    TRY(check(net));
    if (net.device == NetConfig::Device::kE1000 && !machine.on_pci())
      return with_hint(fail("--net: an e1000 needs PCI, but this machine has no PCI bus"),
                       "leave --transport mmio and --acpi off out, or device=e1000");
    const auto others = std::span(machine.nets).first(i);
    if (net.mac && std::ranges::find(others, net.mac, &NetConfig::mac) != others.end())
      return with_hint(fail("--net: two cards with mac={}", net::to_text(*net.mac)),
                       "leave mac out, and wick gives each card a different one");
  }
  return {};
}

Result<void> check_shares(const MachineConfig& machine) {
  for (size_t i = 0; i < machine.shares.size(); ++i) {
    const ShareConfig& share = machine.shares[i];
    TRY(check(share));
    const auto others = std::span(machine.shares).first(i);
    if (std::ranges::find(others, share.tag, &ShareConfig::tag) != others.end())
      return fail("--share: two shares with tag={}", share.tag);
  }
  if (machine.nets.size() + machine.shares.size() > kMaxCards)
    return with_hint(
        fail("--share: no room; a machine has at most {} network cards and shares", kMaxCards),
        "give fewer --net and --share; wick exec makes a share of each folder that it is given");
  return {};
}

Result<void> check_consoles(const MachineConfig& machine) {
  if (machine.serials.size() > kMaxSerials)
    return fail("--serial: {} given; a machine has four, ttyS0 to ttyS3", machine.serials.size());
  const auto on_stdio = [](const SerialConfig& s) { return s.kind == SerialConfig::Kind::kStdio; };
  if (std::ranges::count_if(machine.serials, on_stdio) +
          std::ranges::count_if(machine.consoles, on_stdio) >
      1)
    return fail("--serial, --console: only one port can be on stdio");
  if (machine.consoles.size() > kMaxConsoles)
    return fail("--console: {} given; a machine has at most {}", machine.consoles.size(),
                kMaxConsoles);
  // The first port of the virtio console device must be a console (virtio 1.2, 5.3.6.2).
  if (!machine.consoles.empty() && !machine.consoles.front().port_name.empty())
    return with_hint(fail("--console: the first one is hvc0 and has no name="),
                     "put --console null before it");
  for (size_t i = 0; i < machine.consoles.size(); ++i) {
    const std::string& name = machine.consoles[i].port_name;
    const auto others = std::span(machine.consoles).first(i);
    if (!name.empty() && std::ranges::find(others, name, &SerialConfig::port_name) != others.end())
      return fail("--console: two ports with name={}", name);
  }
  for (const PortConfig& port : machine.ports)
    if (std::ranges::find(machine.consoles, port.name, &SerialConfig::port_name) !=
        machine.consoles.end())
      return fail("--console: name={} is the port of wick exec", port.name);
  return {};
}

}  // namespace

Result<void> check(const MachineConfig& machine) {
  if (machine.cmdline && !machine.append.empty())
    return with_hint(fail("--append and --cmdline exclude each other"),
                     "put the whole command line into --cmdline");
  if (!machine.acpi && machine.transport == MachineConfig::Transport::kPci)
    return with_hint(fail("--transport pci and --acpi off exclude each other: ACPI describes the "
                          "interrupts of PCI devices"),
                     "leave --transport out, or use mmio");
  if (!machine.acpi && machine.cpus > 1)
    return with_hint(fail("--cpus {} and --acpi off exclude each other: a kernel finds its CPUs by "
                          "ACPI",
                          machine.cpus),
                     "leave --acpi out");
  if (machine.vnc && !machine.on_pci())
    return with_hint(fail("--display: a screen needs PCI, but this machine has no PCI bus"),
                     "leave --transport mmio and --acpi off out");
  if (!machine.firmware_path.empty() && !machine.on_pci())
    return with_hint(
        fail("--firmware, --boot: firmware needs PCI, but this machine has no PCI bus"),
        "leave --transport mmio and --acpi off out, or boot a kernel");
  if (!machine.firmware_path.empty() &&
      (machine.cmdline || !machine.append.empty() || !machine.initrd_path.empty()))
    return with_hint(
        fail("--append, --cmdline and --initrd are for a kernel, but the machine boots "
             "by firmware"),
        "give a kernel, or --kernel latest, or leave them out");
  constexpr uint16_t kLastDebugExit = 0x1'0000 - devices::DebugExit::kPorts;
  if (machine.debug_exit_port && *machine.debug_exit_port > kLastDebugExit)
    return fail("--debug-exit {:#x}: the device has {} ports, so the last is {:#x}",
                *machine.debug_exit_port, devices::DebugExit::kPorts, kLastDebugExit);
  if (machine.vsock_cid &&
      (*machine.vsock_cid < virtio::Vsock::kMinCid || *machine.vsock_cid > virtio::Vsock::kMaxCid))
    return fail("--vsock {}: a guest's CID is {} to {}", *machine.vsock_cid, virtio::Vsock::kMinCid,
                virtio::Vsock::kMaxCid);
  TRY(check_disks(machine));
  TRY(check_cards(machine));
  TRY(check_shares(machine));
  return check_consoles(machine);
}

}  // namespace wick::vmm

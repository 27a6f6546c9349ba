#include "vmm/machine_hardware.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "base/printable.h"
#include "devices/pci/host.h"
#include "display/png.h"
#include "vmm/layout.h"

namespace wick::vmm {

namespace {

constexpr size_t kMaxIdBytes = 64;
constexpr const char* kIdCharacters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";

std::string console_id(const Peripherals& peripherals, size_t index) {
  return index < peripherals.serial_count()
             ? fmt::format("ttyS{}", index)
             : fmt::format("hvc{}", index - peripherals.serial_count());
}

}  // namespace

Result<Disk*> MachineHardware::find_disk(const std::string& id) const {
  for (const auto& disk : peripherals_->disks())
    if (disk->id() == id) return disk.get();
  return fail_errno(ENODEV, "disk {}", id);
}

Result<NetworkCard*> MachineHardware::find_card(const std::string& id) const {
  for (const auto& card : peripherals_->cards())
    if (card->id() == id) return card.get();
  return fail_errno(ENODEV, "network card {}", id);
}

void MachineHardware::publish_trays() {
  for (const auto& disk : peripherals_->disks()) {
    const auto drive = find_cdrom(disk->id());
    if (!drive || board_ == nullptr) continue;
    const bool open = board_->ide()->cdrom(drive->position).tray_open;
    if (std::exchange(trays_[disk->id()], open) == open) continue;
    publish_({.kind = MachineEvent::Kind::kTrayMoved,
              .device = disk->id(),
              .guest = true,
              .value = open ? 1u : 0u});
  }
}

void MachineHardware::disk_failed(const std::string& id, bool no_space, bool stopped) {
  if (stopped) failed_[id] = no_space;
}

std::vector<DiskInfo> MachineHardware::disks() const {
  std::vector<DiskInfo> infos;
  for (const auto& disk : peripherals_->disks()) {
    DiskInfo& info = infos.emplace_back(disk->info());
    if (const auto drive = find_cdrom(info.id)) {
      const devices::atapi::Cdrom cdrom = board_->ide()->cdrom(drive->position);
      info.inserted = disk->has_medium();
      info.tray_open = cdrom.tray_open;
      info.locked = cdrom.locked;
    }
    if (const auto failed = failed_.find(info.id); failed != failed_.end()) {
      info.failed = true;
      info.no_space = failed->second;
    }
  }
  return infos;
}

std::vector<CardInfo> MachineHardware::cards() const {
  std::vector<CardInfo> infos;
  for (const auto& card : peripherals_->cards()) infos.push_back(card->info());
  return infos;
}

std::vector<PciInfo> MachineHardware::pci_functions() const {
  return board_ == nullptr ? std::vector<PciInfo>() : board_->pci_functions();
}

std::vector<ConsoleInfo> MachineHardware::consoles() const {
  std::vector<ConsoleInfo> infos;
  for (const auto& port : peripherals_->consoles())
    infos.push_back({.id = console_id(*peripherals_, infos.size()),
                     .host_name = port->name(),
                     .connected = port->attached()});
  for (const auto& [name, port] : peripherals_->named_ports())
    infos.push_back({.id = name, .host_name = port->name(), .connected = port->attached()});
  return infos;
}

std::string MachineHardware::address_map() const {
  return board_ == nullptr ? std::string() : board_->address_map();
}

Result<void> MachineHardware::resize_disk(const std::string& id, uint64_t size_bytes) {
  return TRY(find_disk(id))->resize(size_bytes);
}

Result<void> MachineHardware::snapshot_disk(const std::string& id, const std::string& path) {
  Disk& disk = *TRY(find_disk(id));
  // The disk holds its requests during the change. In a paused machine it also holds them
  // afterwards.
  disk.pause();
  auto made = disk.snapshot(path);
  if (!paused_) disk.resume();
  return made;
}

Result<MachineHardware::CdromDrive> MachineHardware::find_cdrom(const std::string& id) const {
  Disk* const disk = TRY(find_disk(id));
  const auto& drives = peripherals_->ide_drives();
  const auto drive = std::ranges::find(drives, disk->drive());
  if (disk->config().media != DiskConfig::Media::kCdrom || drive == drives.end() ||
      board_ == nullptr || board_->ide() == nullptr)
    return with_hint(fail("{}: has no removable medium", id),
                     "only the medium of a CD-ROM drive can be ejected or changed");
  return CdromDrive{disk, static_cast<size_t>(drive - drives.begin())};
}

Result<void> MachineHardware::open_tray(const CdromDrive& drive, bool force) {
  const bool was_open = board_->ide()->cdrom(drive.position).tray_open;
  const std::string& id = drive.disk->id();
  if (!board_->ide()->open_tray(drive.position, force))
    return with_hint(fail("{}: the guest has locked the tray", id),
                     "wait until the guest has unmounted the disc, or force it");
  if (was_open) return {};
  trays_[id] = true;
  publish_({.kind = MachineEvent::Kind::kTrayMoved, .device = id, .reason = {}, .value = 1});
  return {};
}

Result<void> MachineHardware::eject(const std::string& id, bool force) {
  const CdromDrive drive = TRY(find_cdrom(id));
  TRY(open_tray(drive, force));
  drive.disk->replace_medium(nullptr, "");
  return {};
}

Result<void> MachineHardware::change_medium(const std::string& id, const std::string& path,
                                            bool force) {
  const CdromDrive drive = TRY(find_cdrom(id));
  auto image = TRY(drive.disk->open_medium(path));
  TRY(open_tray(drive, force));
  const uint64_t size_bytes = drive.disk->replace_medium(std::move(image), path);
  board_->ide()->insert_disc(drive.position, size_bytes);
  trays_[id] = false;
  publish_({.kind = MachineEvent::Kind::kTrayMoved, .device = id, .reason = {}, .value = 0});
  return {};
}

Result<void> MachineHardware::set_link(const std::string& id, bool up) {
  TRY(find_card(id))->set_link(up);
  return {};
}

Result<void> MachineHardware::add_forward(const std::string& id, const std::string& forward) {
  return TRY(find_card(id))->forward(TRY(net::HostForward::parse(forward)), true);
}

Result<void> MachineHardware::remove_forward(const std::string& id, const std::string& forward) {
  return TRY(find_card(id))->forward(TRY(net::HostForward::parse(forward)), false);
}

std::string MachineHardware::connections(const std::string& id) const {
  const auto card = find_card(id);
  return card ? (*card)->connections() : std::string();
}

void MachineHardware::set_board(Board* board) {
  board_ = board;
  if (board_ != nullptr && balloon_target_bytes_ != 0)
    board_->balloon().set_target(balloon_target_bytes_);
}

Result<void> MachineHardware::set_balloon(uint64_t guest_bytes) {
  if (!config_.acpi)
    return with_hint(fail("the machine has no balloon"), "start it without --acpi off");
  if (guest_bytes > config_.memory_bytes) guest_bytes = config_.memory_bytes;
  balloon_target_bytes_ = config_.memory_bytes - guest_bytes;
  board_->balloon().set_target(balloon_target_bytes_);
  return {};
}

std::optional<uint64_t> MachineHardware::balloon_bytes() const {
  if (board_ == nullptr || !config_.acpi) return std::nullopt;
  return config_.memory_bytes - std::min(config_.memory_bytes, board_->balloon().actual_bytes());
}

Result<console::Port*> MachineHardware::find_console(const std::string& id) const {
  for (size_t i = 0; i < peripherals_->consoles().size(); ++i)
    if (console_id(*peripherals_, i) == id) return peripherals_->consoles()[i].get();
  for (const auto& [name, port] : peripherals_->named_ports())
    if (name == id) return port.get();
  return fail_errno(ENODEV, "console {}", id);
}

Result<void> MachineHardware::send_break(const std::string& id) {
  TRY(find_console(id))->push_break();
  return {};
}

Result<void> MachineHardware::type(const std::string& id, const std::string& text) {
  TRY(find_console(id))->push_input(std::as_bytes(std::span(text)));
  return {};
}

Result<void> MachineHardware::send_keys(const std::vector<uint16_t>& codes,
                                        std::chrono::milliseconds hold) {
  Screen* const screen = peripherals_->screen();
  if (screen == nullptr)
    return with_hint(fail("the machine has no keyboard"), "start it with --display vnc=:1");
  screen->type(codes, hold);
  return {};
}

Result<void> MachineHardware::save_screen(const std::string& path, PictureFormat format) {
  Screen* const screen = peripherals_->screen();
  if (screen == nullptr)
    return with_hint(fail("the machine has no screen"), "start it with --display vnc=:1");
  const display::Picture picture = screen->picture();
  return format == PictureFormat::kPng ? display::write_png(picture, path)
                                       : display::write_ppm(picture, path);
}

Result<uint8_t> MachineHardware::slot_for(const std::string& id, uint8_t first, uint8_t end) const {
  if (board_ == nullptr || !board_->has_pci())
    return with_hint(fail("{}: this machine has no PCI bus, so devices cannot be added to it", id),
                     "start it without --transport mmio and --acpi off");
  if (id.empty() || id.size() > kMaxIdBytes || id.find_first_not_of(kIdCharacters) != id.npos)
    return with_hint(fail("\"{}\" is not a valid id", printable(id.substr(0, kMaxIdBytes))),
                     "use letters, digits and -_. (at most 64)");
  // "balloon" and "ide" are devices of the board, which find_disk() and slot_of() do not know.
  if (find_disk(id) || find_card(id) || peripherals_->slot_of(id) || id == "balloon" || id == "ide")
    return with_hint(fail("{}: there is already a device of this id", id), "choose another id");
  for (uint8_t slot = first; slot < end; ++slot)
    if (board_->can_plug(slot) && !peripherals_->id_in(slot)) return slot;
  return with_hint(fail("{}: no free slot for such a device", id),
                   "remove one that was added, or start the machine with --hotplug all");
}

// Stops the vCPUs to plug a device in, because they look up BARs without a lock.
void MachineHardware::plug(uint8_t slot) {
  with_stopped_vcpus_([this, slot] { board_->plug(slot); });
}

Result<void> MachineHardware::add_disk(const DiskConfig& config, const std::string& id) {
  const uint8_t slot = TRY(slot_for(id, layout::kFirstDiskSlot, config_.disk_slots_end()));
  TRY(check(config));
  if (config.device != DiskConfig::Device::kVirtio)
    return with_hint(fail("{}: an IDE drive cannot be added to a running machine", id),
                     "use device=virtio");
  if (auto made = board_->make(TRY(peripherals_->add_disk(config, id, slot))); !made) {
    peripherals_->remove(id);
    return made;
  }
  plug(slot);
  return {};
}

Result<void> MachineHardware::add_card(const NetConfig& wanted, const std::string& id) {
  const uint8_t slot = TRY(slot_for(id, layout::kFirstNetSlot, devices::PciHost::kSlots));
  TRY(check(wanted));
  NetConfig config = wanted;
  if (!config.mac)
    config.mac = net::derive_mac(
        fmt::format("{}\n{:02x}\n{}", config_.name, fmt::join(config_.uuid, ""), id));
  for (const auto& card : peripherals_->cards())
    if (card->mac() == *config.mac)
      return with_hint(
          fail("{}: {} has the address {}, too", id, card->id(), net::to_text(*config.mac)),
          "choose another mac, or another id if none was given");
  NetworkCard* const card = TRY(peripherals_->add_card(config, id, config_.name, slot));
  auto made = card->virtio() != nullptr ? board_->make(Peripherals::Slot{card->virtio(), id, slot})
                                        : board_->make(Peripherals::EmulatedCard{card, id, slot});
  if (!made) {
    peripherals_->remove(id);
    return made;
  }
  plug(slot);
  return {};
}

Result<void> MachineHardware::remove_device(const std::string& id) {
  const std::optional<uint8_t> slot = peripherals_->slot_of(id);
  if (!slot) {
    if (const auto disk = find_disk(id))
      return with_hint(fail("{}: an IDE drive cannot be removed from a running machine", id),
                       "its medium can be ejected if it is a CD-ROM drive");
    return fail_errno(ENODEV, "device {}", id);
  }
  if (board_ == nullptr || !board_->can_plug(*slot))
    return with_hint(
        fail("{}: this device cannot be removed from a running machine", id),
        "only what is in a slot for hot-plug can be; with --hotplug all these are all virtio disks "
        "and all network cards");
  board_->request_removal(*slot);
  return {};
}

void MachineHardware::ejected(uint32_t slots) {
  for (uint8_t slot = 0; slot < devices::PciHost::kSlots; ++slot)
    if ((slots >> slot & 1) != 0) with_stopped_vcpus_([this, slot] { remove(slot); });
}

void MachineHardware::complete_removals(uint32_t slots) {
  for (uint8_t slot = 0; slot < devices::PciHost::kSlots; ++slot)
    if ((slots >> slot & 1) != 0) remove(slot);
}

void MachineHardware::remove(uint8_t slot) {
  const std::optional<std::string> id = peripherals_->id_in(slot);
  if (!id) return;
  // Finish the requests in flight first: unplug() waits for them, and in a pause, when the disk
  // holds its requests, they would never complete.
  if (const auto disk = find_disk(*id))
    if (const auto finished = (*disk)->finish(); !finished)
      spdlog::error("{}", finished.error().message());
  if (board_ != nullptr) board_->unplug(slot);
  peripherals_->remove(*id);
  failed_.erase(*id);
  publish_({.kind = MachineEvent::Kind::kDeviceDeleted, .device = *id});
}

}  // namespace wick::vmm

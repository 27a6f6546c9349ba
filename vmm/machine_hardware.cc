#include "vmm/machine_hardware.h"

namespace wick::vmm {

namespace {

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

void MachineHardware::disk_failed(const std::string& id, bool no_space, bool stopped) {
  if (stopped) failed_[id] = no_space;
}

std::vector<DiskInfo> MachineHardware::disks() const {
  std::vector<DiskInfo> infos;
  for (const auto& disk : peripherals_->disks()) {
    DiskInfo& info = infos.emplace_back(disk->info());
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
  // Requests are held for the moment of the change. During a pause they are already.
  disk.pause();
  auto made = disk.snapshot(path);
  if (!paused_) disk.resume();
  return made;
}

Result<void> MachineHardware::eject(const std::string& id, bool) {
  if (const auto disk = find_disk(id); !disk) return std::unexpected(disk.error());
  return fail("{}: its medium cannot be removed", id);
}

Result<void> MachineHardware::change_medium(const std::string& id, const std::string&, bool) {
  if (const auto disk = find_disk(id); !disk) return std::unexpected(disk.error());
  return fail("{}: its medium cannot be changed", id);
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

Result<void> MachineHardware::set_balloon(uint64_t guest_bytes) {
  if (!config_.acpi)
    return with_hint(fail("the machine has no balloon"), "start it without --acpi off");
  if (guest_bytes > config_.memory_bytes) guest_bytes = config_.memory_bytes;
  board_->balloon().set_target(config_.memory_bytes - guest_bytes);
  return {};
}

std::optional<uint64_t> MachineHardware::balloon_bytes() const {
  if (board_ == nullptr || !config_.acpi || !board_->balloon().has_driver()) return std::nullopt;
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

Result<void> MachineHardware::add_disk(const DiskConfig&, const std::string& id) {
  return fail("{}: devices cannot be added to a running machine yet", id);
}

Result<void> MachineHardware::add_card(const NetConfig&, const std::string& id) {
  return fail("{}: devices cannot be added to a running machine yet", id);
}

Result<void> MachineHardware::remove_device(const std::string& id) {
  return fail("{}: devices cannot be removed from a running machine yet", id);
}

}  // namespace wick::vmm

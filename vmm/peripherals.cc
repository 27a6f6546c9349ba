#include "vmm/peripherals.h"

#include <spdlog/spdlog.h>

#include "devices/ide/ide.h"
#include "devices/pci/host.h"
#include "virtio/vhost_vsock.h"
#include "vmm/layout.h"

namespace wick::vmm {

namespace {

Result<std::unique_ptr<console::Port>> open_console(const SerialConfig& config,
                                                    const std::string& name, EventLoop& loop,
                                                    const console::TerminalKeys& keys) {
  const console::LogFile log(config.log_path, config.log_limit_bytes);
  switch (config.kind) {
    case SerialConfig::Kind::kStdio:
      return console::open_stdio(loop, keys, log);
    case SerialConfig::Kind::kStderr:
      return console::open_stderr(loop, log);
    case SerialConfig::Kind::kPty: {
      auto port = TRY(console::open_pty(loop, log));
      // Printed at every log level, because otherwise the user could not find the pty.
      fmt::print(stderr, "wick: {} is at {}\n", name, port->name());
      return port;
    }
    case SerialConfig::Kind::kUnix:
      return console::open_unix(loop, config.path, log);
    case SerialConfig::Kind::kFile:
      return console::open_file(loop, config.path, log);
    case SerialConfig::Kind::kNull:
      break;
  }
  return console::open_null(loop, log);
}

}  // namespace

Result<Peripherals> Peripherals::create(const MachineConfig& config, EventLoop& main_loop,
                                        const console::TerminalKeys& keys,
                                        OnDiskError on_disk_error, std::function<void()> on_key) {
  Peripherals made;
  made.on_disk_error_ = std::move(on_disk_error);
  for (const SerialConfig& serial : config.serials)
    made.consoles_.push_back(
        TRY(open_console(serial, fmt::format("ttyS{}", made.consoles_.size()), main_loop, keys)));
  made.serial_count_ = made.consoles_.size();
  TRY(made.add_disks(config));
  TRY(made.add_cards(config));
  TRY(made.add_shares(config));
  if (config.rng) {
    made.rng_ = TRY(virtio::Rng::create(main_loop, *config.rng));
    made.slots_.push_back({made.rng_.get(), "rng", layout::kRngSlot});
  }
  TRY(made.add_consoles(config, main_loop, keys));
  if (config.vsock_cid) {
    made.vsock_ = std::make_unique<virtio::Vsock>(
        main_loop, *config.vsock_cid,
        TRY(virtio::VhostVsock::open(main_loop, *config.vsock_cid, "vsock")));
    made.slots_.push_back({made.vsock_.get(), "vsock", layout::kVsockSlot});
  }
  if (!config.vnc) return made;
  made.screen_ = TRY(Screen::create(*config.vnc, config.name, main_loop, std::move(on_key)));
  made.slots_.push_back({&made.screen_->keyboard(), "keyboard", layout::kKeyboardSlot});
  made.slots_.push_back({&made.screen_->tablet(), "tablet", layout::kTabletSlot});
  return made;
}

Result<void> Peripherals::add_consoles(const MachineConfig& config, EventLoop& main_loop,
                                       const console::TerminalKeys& keys) {
  if (config.consoles.empty() && config.ports.empty()) return {};
  std::vector<virtio::Console::PortConfig> ports;
  if (config.consoles.empty()) {
    // The first port of the device must be a console (virtio 1.2, 5.3.6.2).
    ports.push_back({.backend = *consoles_.emplace_back(TRY(console::open_null(main_loop, {})))});
  }
  for (size_t i = 0; i < config.consoles.size(); ++i) {
    const SerialConfig& wanted = config.consoles[i];
    const std::string id = config.console_id(i);
    auto port = TRY(open_console(wanted, id, main_loop, keys));
    ports.push_back({.backend = *port, .name = wanted.port_name});
    if (!wanted.port_name.empty()) {
      named_ports_.push_back({id, std::move(port)});
      continue;
    }
    consoles_.push_back(std::move(port));
  }
  for (const PortConfig& port : config.ports) {
    ports.push_back({.backend = *port.backend, .name = port.name});
    foreign_ports_.push_back(port.backend);
  }
  hvc_ = std::make_unique<virtio::Console>(main_loop, std::move(ports));
  slots_.push_back({hvc_.get(), "hvc0", layout::kConsoleSlot});
  return {};
}

// Numbers each kind of disk separately, as Linux does: adding or removing a disk of one kind then
// does not change the name or the slot of a disk of another kind.
Result<void> Peripherals::add_disks(const MachineConfig& config) {
  size_t virtio_count = 0;
  size_t ide_disk_count = 0;
  size_t cdrom_count = 0;
  for (const DiskConfig& disk : config.disks) {
    if (disk.device == DiskConfig::Device::kVirtio) {
      const std::string id = fmt::format("vd{:c}", 'a' + virtio_count);
      TRY(add_disk(disk, id, static_cast<uint8_t>(layout::kFirstDiskSlot + virtio_count++)));
      continue;
    }
    const std::string id = disk.media == DiskConfig::Media::kCdrom
                               ? fmt::format("sr{}", cdrom_count++)
                               : fmt::format("sd{:c}", 'a' + ide_disk_count++);
    ide_drives_.push_back(TRY(create_disk(disk, id))->drive());
  }
  return {};
}

Result<Disk*> Peripherals::create_disk(const DiskConfig& config, const std::string& id) {
  const auto failed = [id, on_error = on_disk_error_](const block::Supervised::Failure& failure) {
    on_error(id, failure);
  };
  return disks_.emplace_back(TRY(Disk::create(config, id, failed))).get();
}

Result<Peripherals::Slot> Peripherals::add_disk(const DiskConfig& config, const std::string& id,
                                                uint8_t pci_slot) {
  return slots_.emplace_back(TRY(create_disk(config, id))->virtio(), id, pci_slot);
}

Result<void> Peripherals::add_cards(const MachineConfig& config) {
  for (const NetConfig& net : config.nets) {
    const size_t index = cards_.size();
    const std::string id = fmt::format("net{}", index);
    const auto slot = static_cast<uint8_t>(layout::kFirstNetSlot + index);
    if (const auto added = add_card(net, id, config.name, slot); !added)
      return std::unexpected(added.error());
  }
  return {};
}

Result<void> Peripherals::add_shares(const MachineConfig& config) {
  for (const ShareConfig& share : config.shares) {
    const auto slot = static_cast<uint8_t>(layout::kLastShareSlot - shares_.size());
    const auto& folder =
        shares_.emplace_back(TRY(SharedFolder::create(share, config.shares.size())));
    slots_.push_back({folder->virtio(), "share-" + share.tag, slot});
  }
  return {};
}

Result<NetworkCard*> Peripherals::add_card(const NetConfig& config, const std::string& id,
                                           const std::string& machine, uint8_t pci_slot) {
  auto& card = *cards_.emplace_back(TRY(NetworkCard::create(config, id, machine)));
  if (card.virtio() != nullptr)
    slots_.push_back({card.virtio(), id, pci_slot});
  else
    emulated_cards_.push_back({&card, id, pci_slot});
  return &card;
}

void Peripherals::remove(const std::string& id) {
  std::erase_if(slots_, [&](const Slot& slot) { return slot.name == id; });
  std::erase_if(emulated_cards_, [&](const EmulatedCard& card) { return card.name == id; });
  std::erase_if(disks_, [&](const auto& disk) { return disk->id() == id; });
  std::erase_if(cards_, [&](const auto& card) { return card->id() == id; });
}

std::optional<std::string> Peripherals::id_in(uint8_t pci_slot) const {
  for (const Slot& slot : slots_)
    if (slot.pci_slot == pci_slot) return slot.name;
  for (const EmulatedCard& card : emulated_cards_)
    if (card.pci_slot == pci_slot) return card.name;
  return std::nullopt;
}

std::optional<uint8_t> Peripherals::slot_of(const std::string& id) const {
  for (const Slot& slot : slots_)
    if (slot.name == id) return slot.pci_slot;
  for (const EmulatedCard& card : emulated_cards_)
    if (card.name == id) return card.pci_slot;
  return std::nullopt;
}

void Peripherals::update_disk_sizes() {
  for (const auto& disk : disks_)
    if (auto updated = disk->update_size(); !updated)
      spdlog::error("{}", updated.error().message());
}

// Console input must be held explicitly, because the main loop, which reads it, runs on during a
// pause.
void Peripherals::pause() {
  for (const auto& card : cards_) card->pause();
  for (const auto& share : shares_) share->pause();
  for (const auto& disk : disks_) disk->pause();
  if (vsock_) vsock_->hold(true);
  hold_input(true);
}

void Peripherals::resume() {
  hold_input(false);
  if (vsock_) vsock_->hold(false);
  for (const auto& disk : disks_) disk->resume();
  for (const auto& share : shares_) share->resume();
  for (const auto& card : cards_) card->resume();
}

void Peripherals::hold_input(bool held) {
  if (screen_) screen_->hold_input(held);
  for (const auto& port : consoles_) port->hold_guest_input(held);
  for (const NamedPort& named : named_ports_) named.port->hold_guest_input(held);
  for (console::Backend* const port : foreign_ports_) port->hold_guest_input(held);
}

Result<void> Peripherals::finish() {
  resume();
  Result<void> result;
  for (const auto& disk : disks_) {
    if (auto finished = disk->finish(); !finished && result) result = std::move(finished);
  }
  for (const auto& port : consoles_) port->flush();
  for (const NamedPort& named : named_ports_) named.port->flush();
  for (console::Backend* const port : foreign_ports_) port->flush();
  return result;
}

}  // namespace wick::vmm

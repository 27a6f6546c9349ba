// The PCI slots of the board: adds and removes e1000 cards and virtio functions.
#include "vmm/board.h"

#include <spdlog/spdlog.h>

#include <vector>

#include "vmm/layout.h"

namespace wick::vmm {

Result<void> Board::add_card(const Peripherals::EmulatedCard& wanted) {
  TRY(make_card(wanted));
  return attach_made(wanted.pci_slot);
}

Result<void> Board::make_card(const Peripherals::EmulatedCard& wanted) {
  const size_t pin = wanted.pci_slot % pci_pins_.size();
  EmulatedCard made;
  made.slot = wanted.pci_slot;
  made.name = wanted.name;
  made.line = pci_pins_[pin]->connect();
  made.chip = TRY(devices::E1000::create(wanted.card->backend(), wanted.card->loop(),
                                         wanted.card->mac(), memory_, *made.line, wanted.name));
  cards_.push_back(std::move(made));
  return {};
}

Result<void> Board::add_virtio(const Peripherals::Slot& wanted) {
  if (!pci_) return add_virtio_mmio(wanted);
  TRY(make_virtio_pci(wanted));
  return attach_made(wanted.pci_slot);
}

Result<void> Board::make_virtio_pci(const Peripherals::Slot& wanted) {
  auto made = std::make_unique<PciSlot>();
  PciSlot& slot = *made;
  slot.slot = wanted.pci_slot;
  slot.name = wanted.name;
  const size_t pin = slot.slot % pci_pins_.size();
  slot.line = pci_pins_[pin]->connect();
  slot.transport = TRY(virtio::PciTransport::create(
      *wanted.device, memory_, *slot.line, msi_, wanted.name,
      [&vm = vm_, &slot](uint64_t, uint64_t to) { move_kicks(vm, slot, to); }));
  pci_slots_.push_back(std::move(made));
  return {};
}

Board::Made Board::made_for(uint8_t slot) const {
  for (const auto& made : pci_slots_)
    if (made->slot == slot) return {&made->transport->function(), made->name};
  for (const EmulatedCard& card : cards_)
    if (card.slot == slot) return {&card.chip->function(), card.name};
  return {};
}

// Attaches a device before the guest starts. plug() attaches one while the guest runs.
Result<void> Board::attach_made(uint8_t slot) {
  const Made made = made_for(slot);
  hotplug_->occupy(slot);
  return attach_pci(slot, *made.function, layout::kPciIrqs[slot % pci_pins_.size()], made.name);
}

void Board::plug(uint8_t slot) {
  const Made made = made_for(slot);
  if (made.function == nullptr) return;
  const uint8_t irq = layout::kPciIrqs[slot % pci_pins_.size()];
  if (const auto plugged = pci_->plug(slot, *made.function, irq); !plugged) {
    spdlog::error("{}: {}", made.name, plugged.error().message());
    return;
  }
  pci_ids_[slot] = made.name;
  hotplug_->plugged(slot);
}

void Board::unplug(uint8_t slot) {
  pci_->unplug(slot);
  pci_ids_.erase(slot);
  for (const auto& made : pci_slots_)
    if (made->slot == slot) made->transport->power_off();
  std::erase_if(pci_slots_, [slot](const auto& made) { return made->slot == slot; });
  std::erase_if(cards_, [slot](const EmulatedCard& card) { return card.slot == slot; });
  hotplug_->removed(slot);
}

uint32_t Board::leaving_slots(bool and_requested) const {
  if (!hotplug_) return 0;
  const devices::AcpiHotplug::State state = hotplug_->state();
  return state.ejected | (and_requested ? state.requested : 0);
}

Result<void> Board::attach_pci(uint8_t slot, devices::PciFunction& function, uint8_t irq,
                               const std::string& id) {
  TRY(pci_->attach(slot, function, irq));
  pci_ids_[slot] = id;
  return {};
}

std::vector<PciInfo> Board::pci_functions() {
  std::vector<PciInfo> infos;
  if (!pci_) return infos;
  for (const auto& [slot, function] : pci_->list()) {
    PciInfo info{.slot = slot,
                 .id = pci_ids_[slot],
                 .vendor = function.identity.vendor,
                 .device = function.identity.device,
                 .subsystem_vendor = function.identity.subsystem_vendor,
                 .subsystem = function.identity.subsystem,
                 .class_code = function.identity.class_code,
                 .interrupt_line = function.interrupt_line,
                 .interrupt_pin = function.interrupt_pin,
                 .bars = {}};
    for (const auto& bar : function.bars)
      info.bars.push_back({.index = bar.index,
                           .io = bar.space == devices::PciFunction::Space::kIo,
                           .address = bar.base,
                           .size_bytes = bar.size_bytes});
    infos.push_back(std::move(info));
  }
  return infos;
}

std::string Board::address_map() const {
  std::string text;
  for (const auto& [title, bus] : {std::pair("ports", &ports_), std::pair("memory", &mmio_)}) {
    text += fmt::format("{}:\n", title);
    if (bus == &mmio_)
      for (const GuestMemory::Region& region : memory_.regions())
        text += fmt::format("  {:016x}-{:016x} ram\n", region.start.value,
                            region.start.value + region.size_bytes - 1);
    for (const Bus::Entry& entry : bus->entries())
      text += fmt::format("  {:016x}-{:016x} {}\n", entry.range.start,
                          entry.range.start + entry.range.size - 1, entry.name);
  }
  return text;
}

// Moves the ioeventfds of a slot with its BAR; `to` is the BAR's new address, 0: none. KVM refuses
// an ioeventfd if the guest moves the BAR onto another BAR's ioeventfd; kicks then cause exits to
// user space.
void Board::move_kicks(const Vm& vm, PciSlot& slot, uint64_t to) {
  for (const Vm::Ioeventfd& kick : slot.kicks) vm.remove(kick);
  slot.kicks.clear();
  if (to == 0) return;
  uint64_t address = to + virtio::PciTransport::kNotifyOffset;
  for (const EventFd& event : slot.transport->kicks()) {
    const Vm::Ioeventfd kick{.event = &event, .address = address};
    if (vm.add(kick)) slot.kicks.push_back(kick);
    address += virtio::PciTransport::kNotifyStride;
  }
}

}  // namespace wick::vmm

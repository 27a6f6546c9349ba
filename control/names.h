// Names and texts that QMP and HMP share.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/hardware.h"
#include "vmm/machine.h"

namespace wick::control {

// Returns the value of QMP's RunState.
std::string_view state_name(vmm::RunState state);
std::string uuid_text(const std::array<uint8_t, 16>& uuid);
// Returns QEMU's text for a PCI class and subclass; empty: there is none.
std::string_view pci_class_name(uint32_t class_and_subclass);
// These functions return the path of a disk's or a card's device in QEMU's object tree; for an IDE
// drive, its id.
std::string device_path(const vmm::DiskInfo& disk);
std::string device_path(const vmm::CardInfo& card);

std::string_view model_name(const vmm::CardInfo& card);
// Returns the id of a device that a client names by its id or by its path in QEMU's object tree.
std::string device_id(std::string_view id_or_path);

std::optional<vmm::DiskInfo> find_disk(const vmm::Hardware& hardware, std::string_view id);
std::optional<vmm::CardInfo> find_card(const vmm::Hardware& hardware, std::string_view id);
// Returns true if a disk or a card has this id. Used to check SpareDisk::used_by and
// SpareNet::used_by, which may name a device that has been removed.
bool is_known_id(const vmm::Hardware& hardware, std::string_view id);

}  // namespace wick::control

#include "devices/pci/interrupts.h"

#include "base/bytes.h"

namespace wick::devices {

namespace {

static_assert(PciInterrupts::kMaxVectors * PCI_MSIX_ENTRY_SIZE <= PciInterrupts::kPendingOffset);

}  // namespace

void PciInterrupts::set_intx(bool asserted) {
  const MutexLock lock(mutex_);
  state_.intx_asserted = asserted;
  update_line();
}

void PciInterrupts::send(uint16_t vector) {
  if (vector >= vectors_) return;
  const MutexLock lock(mutex_);
  const Vector& entry = state_.table[vector];
  if (masked(entry))
    state_.pending[vector / 64] |= 1ull << vector % 64;
  else
    sink_.send(entry.address, entry.data);
}

bool PciInterrupts::msix_enabled() const {
  const MutexLock lock(mutex_);
  return msix_in_use();
}

void PciInterrupts::connect(uint16_t vector, const EventFd& event) {
  if (vector >= vectors_) return;
  const MutexLock lock(mutex_);
  update(connections_.emplace_back(Connection{&event, vector, false, {}}));
}

void PciInterrupts::disconnect(const EventFd& event) {
  const MutexLock lock(mutex_);
  std::erase_if(connections_, [&](const Connection& connection) {
    if (connection.event != &event) return false;
    if (connection.in_sink) sink_.disconnect(event);
    return true;
  });
}

void PciInterrupts::update(Connection& connection) {
  const Vector& entry = state_.table[connection.vector];
  const bool wanted = !masked(entry);
  if (connection.in_sink && !wanted) sink_.disconnect(*connection.event);
  const bool same = connection.in_sink && entry.address == connection.message.address &&
                    entry.data == connection.message.data;
  connection.message = entry;
  connection.in_sink =
      wanted && (same || sink_.connect(*connection.event, entry.address, entry.data));
}

void PciInterrupts::update_connections() {
  for (Connection& connection : connections_) update(connection);
}

// 6.8.3.5: a pending bit must be cleared when its cause is gone. Otherwise unmasking
// the vector would send a spurious message.
void PciInterrupts::clear() {
  const MutexLock lock(mutex_);
  state_.intx_asserted = false;
  state_.pending = {};
  update_line();
}

// 6.2.3: Interrupt Status does not depend on Interrupt Disable. It is clear while MSI-X
// is enabled, because the wire is then not used.
bool PciInterrupts::intx_pending() const {
  const MutexLock lock(mutex_);
  return state_.intx_asserted && !msix_in_use();
}

void PciInterrupts::configure(const Control& control) {
  const MutexLock lock(mutex_);
  state_.control = control;
  update_line();
  send_pending();
  update_connections();
}

// 6.8.2: the table and the PBA support aligned accesses of 4 or 8 bytes. The result of other
// accesses is undefined; here they read zeroes and write nothing.
void PciInterrupts::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(mutex_);
  const bool proper = (data.size() == 4 || data.size() == 8) && offset % data.size() == 0;
  for (size_t i = 0; i < data.size(); i += 4)
    store_le(data.subspan(i, std::min<size_t>(4, data.size() - i)),
             proper ? read_word(offset + i) : 0u);
}

void PciInterrupts::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(mutex_);
  if ((data.size() != 4 && data.size() != 8) || offset % data.size() != 0) return;
  for (size_t i = 0; i < data.size(); i += 4)
    write_word(offset + i, load_le<uint32_t>(data.subspan(i, 4)));
  send_pending();
  update_connections();
}

uint32_t PciInterrupts::read_word(uint64_t offset) const {
  if (offset >= kPendingOffset) {
    const uint64_t word = (offset - kPendingOffset) / 8;
    if (word >= state_.pending.size()) return 0;
    return static_cast<uint32_t>(state_.pending[word] >> (offset % 8 * 8));
  }
  const uint64_t index = offset / PCI_MSIX_ENTRY_SIZE;
  if (index >= vectors_) return 0;
  const Vector& vector = state_.table[index];
  switch (offset % PCI_MSIX_ENTRY_SIZE) {
    case PCI_MSIX_ENTRY_LOWER_ADDR:
      return static_cast<uint32_t>(vector.address);
    case PCI_MSIX_ENTRY_UPPER_ADDR:
      return static_cast<uint32_t>(vector.address >> 32);
    case PCI_MSIX_ENTRY_DATA:
      return vector.data;
    default:
      return vector.control;
  }
}

void PciInterrupts::write_word(uint64_t offset, uint32_t value) {
  const uint64_t index = offset / PCI_MSIX_ENTRY_SIZE;
  if (index >= vectors_) return;  // this covers the PBA, which is read-only
  Vector& vector = state_.table[index];
  switch (offset % PCI_MSIX_ENTRY_SIZE) {
    case PCI_MSIX_ENTRY_LOWER_ADDR:
      vector.address = (vector.address & ~0xffffffffull) | (value & ~3u);
      break;
    case PCI_MSIX_ENTRY_UPPER_ADDR:
      vector.address = (vector.address & 0xffffffffull) | static_cast<uint64_t>(value) << 32;
      break;
    case PCI_MSIX_ENTRY_DATA:
      vector.data = value;
      break;
    case PCI_MSIX_ENTRY_VECTOR_CTRL:
      vector.control = value & PCI_MSIX_ENTRY_CTRL_MASKBIT;
      break;
    default:
      break;
  }
}

bool PciInterrupts::masked(const Vector& vector) const {
  return (state_.control.msix_control & (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)) !=
             PCI_MSIX_FLAGS_ENABLE ||
         !state_.control.bus_master || (vector.control & PCI_MSIX_ENTRY_CTRL_MASKBIT) != 0;
}

void PciInterrupts::send_pending() {
  for (size_t word = 0; word < state_.pending.size(); ++word) {
    for (uint64_t left = state_.pending[word]; left != 0; left &= left - 1) {
      const auto bit = static_cast<size_t>(std::countr_zero(left));
      const Vector& vector = state_.table[word * 64 + bit];
      if (masked(vector)) continue;
      state_.pending[word] &= ~(1ull << bit);
      sink_.send(vector.address, vector.data);
    }
  }
}

void PciInterrupts::update_line() {
  const bool wanted = state_.intx_asserted && !state_.control.intx_disabled && !msix_in_use();
  if (wanted == line_) return;
  line_ = wanted;
  intx_.set(wanted);
}

}  // namespace wick::devices

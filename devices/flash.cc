#include "devices/flash.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace wick::devices {

namespace {

// The commands. Any other value sets kSequenceError.
enum Command : uint8_t {
  kProgramAlternate = 0x10,
  kBlockErase = 0x20,
  kProgramByte = 0x40,
  kClearStatus = 0x50,
  kReadStatus = 0x70,
  kReadIdentifier = 0x90,
  kConfirm = 0xd0,
  kReadMemory = 0xff,
};

// The identifier of QEMU's chip.
constexpr uint8_t kManufacturer = 0x89;
constexpr uint8_t kDevice = 0x18;

constexpr std::byte kErased{0xff};

}  // namespace

Flash::Flash(std::span<std::byte> memory, Wires wires) : memory_(memory), wires_(std::move(wires)) {
  assert(!memory.empty() && memory.size() % kBlockBytes == 0);
}

Flash::~Flash() {
  const MutexLock lock(mutex_);
  report_change();
}

void Flash::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(mutex_);
  std::ranges::fill(data, std::byte{0});
  switch (state_.mode) {
    case Mode::kMemory:  // possible if another vCPU has just selected the memory
      if (offset < memory_.size() && data.size() <= memory_.size() - offset)
        std::ranges::copy(memory_.subspan(offset, data.size()), data.begin());
      return;
    case Mode::kIdentifier:
      data[0] = std::byte{(offset & 1) == 0 ? kManufacturer : kDevice};
      return;
    case Mode::kStatus:
    case Mode::kProgram:
    case Mode::kErase:
      data[0] = std::byte{state_.status};
      return;
  }
}

void Flash::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(mutex_);
  const auto code = std::to_integer<uint8_t>(data.front());
  switch (state_.mode) {
    case Mode::kProgram:
      program(offset, data);
      return enter(Mode::kStatus);
    case Mode::kErase:
      if (code == kConfirm)
        erase(offset);
      else
        state_.status |= kSequenceError;
      return enter(Mode::kStatus);
    case Mode::kMemory:
    case Mode::kStatus:
    case Mode::kIdentifier:
      return command(code);
  }
}

void Flash::command(uint8_t code) {
  switch (code) {
    case kProgramByte:
    case kProgramAlternate:
      return enter(Mode::kProgram);
    case kBlockErase:
      return enter(Mode::kErase);
    case kReadStatus:
      return enter(Mode::kStatus);
    case kReadIdentifier:
      return enter(Mode::kIdentifier);
    case kClearStatus:
      // Clears all bits and shows the memory, because OVMF tells flash memory from RAM and ROM by
      // that (QemuFlashDetected()).
      state_.status = 0;
      return enter(Mode::kMemory);
    case kReadMemory:
      return enter(Mode::kMemory);
    default:
      state_.status |= kSequenceError;
      return enter(Mode::kMemory);
  }
}

// On a real chip, a program command can only clear bits of the memory. Here it also sets bits, as
// in QEMU, because software that was tried only on QEMU may rely on that.
void Flash::program(uint64_t offset, std::span<const std::byte> data) {
  state_.status |= kReady;
  if (offset >= memory_.size() || data.size() > memory_.size() - offset) return;
  std::ranges::copy(data, memory_.begin() + static_cast<ptrdiff_t>(offset));
  note_change(offset, offset + data.size());
}

void Flash::erase(uint64_t offset) {
  state_.status |= kReady;
  if (offset >= memory_.size()) return;
  const size_t begin = offset / kBlockBytes * kBlockBytes;
  std::ranges::fill(memory_.subspan(begin, kBlockBytes), kErased);
  note_change(begin, begin + kBlockBytes);
}

void Flash::enter(Mode mode) {
  const bool readable = mode == Mode::kMemory;
  const bool was_readable = std::exchange(state_.mode, mode) == Mode::kMemory;
  if (readable != was_readable) wires_.show(readable);
  if (readable) report_change();
}

// Adds a change to the one range that will be reported. A guest that changes distant bytes makes
// the range large, but not larger than the chip.
void Flash::note_change(size_t begin, size_t end) {
  const bool first = state_.changed_begin == state_.changed_end;
  state_.changed_begin = first ? begin : std::min(state_.changed_begin, begin);
  state_.changed_end = first ? end : std::max(state_.changed_end, end);
}

void Flash::report_change() {
  const size_t begin = std::exchange(state_.changed_begin, 0);
  const size_t end = std::exchange(state_.changed_end, 0);
  if (begin != end) wires_.changed(begin, end - begin);
}

BusDevice::Name Flash::name_of(uint64_t, bool write) const {
  return {write ? "command" : "status", {}};
}

Flash::State Flash::state() {
  const MutexLock lock(mutex_);
  return state_;
}

}  // namespace wick::devices

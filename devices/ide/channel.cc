#include "devices/ide/channel.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"

namespace wick::devices {

namespace {

// Ports of the bus master (82371AB, 5.2). The address of the table takes four ports.
constexpr uint64_t kMasterCommand = 0;
constexpr uint64_t kMasterStatus = 2;
constexpr uint64_t kMasterTable = 4;

constexpr uint8_t kStart = 1 << 0;
constexpr uint8_t kToMemory = 1 << 3;
constexpr uint8_t kActive = 1 << 0;
constexpr uint8_t kMasterError = 1 << 1;
constexpr uint8_t kInterrupt = 1 << 2;
constexpr uint8_t kDriveCapable = 3 << 5;  // firmware notes here which drives can do DMA

// A physical region descriptor (PRD).
struct Descriptor {
  uint32_t address;
  uint16_t size_bytes;
  uint16_t flags;
};
static_assert(sizeof(Descriptor) == 8);
constexpr uint16_t kLastRegion = 1 << 15;
constexpr uint32_t kMaxRegionBytes = 0x10000;

}  // namespace

IdeChannel::IdeChannel(const GuestMemory& memory, InterruptLine& line, IdeDrive& drive0,
                       IdeDrive* drive1)
    : memory_(memory), line_(line), drives_{&drive0, drive1} {
  for (IdeDrive* drive : drives_) {
    if (drive == nullptr) continue;
    drive->connect(drive == drive1,
                   [this, drive](const Result<void>& result) { finish_io(*drive, result); });
    state_.bus_master_status |= static_cast<uint8_t>(drive == drive1 ? 1 << 6 : 1 << 5);
  }
}

IdeChannel::~IdeChannel() {
  {
    const MutexLock lock(mutex_);
    for (IdeDrive* drive : drives_)
      if (drive != nullptr) drive->hold_reset();  // a drive in reset starts no I/O
  }
  for (IdeDrive* drive : drives_)
    if (drive != nullptr) drive->drain();
}

IdeChannel::State IdeChannel::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

IdeDrive::State IdeChannel::drive_state(size_t index) const {
  const MutexLock lock(mutex_);
  return drives_.at(index)->state();
}

bool IdeChannel::open_tray(size_t index, bool force) {
  const MutexLock lock(mutex_);
  return drives_.at(index)->open_tray(force);
}

void IdeChannel::insert_disc(size_t index, uint64_t size_bytes) {
  const MutexLock lock(mutex_);
  drives_.at(index)->insert(size_bytes);
}

// --- the command block ---

void IdeChannel::CommandBlock::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(channel.mutex_);
  if (offset == ata::kData) {
    std::ranges::fill(data, std::byte{0xff});
    if (IdeDrive* drive = channel.selected()) drive->read_data(data);
  } else {
    for (std::byte& byte : data) byte = std::byte{channel.read_register(offset++)};
  }
  channel.update_line();
}

void IdeChannel::CommandBlock::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(channel.mutex_);
  if (offset == ata::kData) {
    if (IdeDrive* drive = channel.selected()) drive->write_data(data);
  } else {
    for (const std::byte byte : data)
      channel.write_register(offset++, std::to_integer<uint8_t>(byte));
  }
  channel.update_line();
}

BusDevice::Name IdeChannel::CommandBlock::name_of(uint64_t offset, bool write) const {
  constexpr std::array<std::string_view, kCommandPorts> kRead = {
      "data", "error", "sector count", "LBA low", "LBA mid", "LBA high", "device", "status"};
  if (write && offset == ata::kErrorOrFeatures) return {"features", {}};
  if (write && offset == ata::kStatusOrCommand) return {"command", {}};
  return {offset < kRead.size() ? kRead[offset] : std::string_view(), {}};
}

// "Single device configurations": drive 0 responds for a missing drive 1, with a status
// of 0.
uint8_t IdeChannel::status() const {
  const IdeDrive* drive = selected();
  return drive == nullptr ? uint8_t{0} : drive->status();
}

uint8_t IdeChannel::read_register(uint64_t port) {
  IdeDrive* drive = selected();
  if (port == ata::kStatusOrCommand) {
    const uint8_t value = status();
    if (drive != nullptr) drive->acknowledge();
    return value;
  }
  if (drive == nullptr) drive = drives_[0];
  const uint8_t value =
      drive->read(static_cast<ata::Port>(port), (state_.control & ata::kHighOrderByte) != 0);
  if (port != ata::kDevice) return value;
  return static_cast<uint8_t>((value & ~ata::kSecondDevice) | (state_.device & ata::kSecondDevice));
}

// A write goes to the registers of both drives. Only the selected drive executes a
// command.
void IdeChannel::write_register(uint64_t port, uint8_t value) {
  state_.control &= static_cast<uint8_t>(~ata::kHighOrderByte);
  if (port == ata::kStatusOrCommand) return write_command(value);
  if ((status() & ata::kBusy) != 0) return;
  if (port == ata::kDevice) state_.device = value & ata::kSecondDevice;
  for (IdeDrive* drive : drives_)
    if (drive != nullptr) drive->write(static_cast<ata::Port>(port), value);
}

void IdeChannel::write_command(uint8_t opcode) {
  IdeDrive* drive = selected();
  if (opcode == ata::kDiagnostic) {
    if ((status() & ata::kBusy) != 0) return;
    state_.device = 0;
    for (IdeDrive* each : drives_)
      if (each != nullptr) each->diagnose();
  } else if (drive != nullptr) {
    drive->command(opcode);
    run_bus_master();
  }
}

// --- the control block ---

void IdeChannel::ControlBlock::read(uint64_t, std::span<std::byte> data) {
  const MutexLock lock(channel.mutex_);
  std::ranges::fill(data, std::byte{channel.status()});
}

void IdeChannel::ControlBlock::write(uint64_t, std::span<const std::byte> data) {
  const MutexLock lock(channel.mutex_);
  if (!data.empty()) channel.write_control(std::to_integer<uint8_t>(data[0]));
  channel.update_line();
}

BusDevice::Name IdeChannel::ControlBlock::name_of(uint64_t, bool write) const {
  return {write ? "device control" : "alternate status", {}};
}

// Writes the device control register. A change of SRST begins or ends a reset ("Software reset").
void IdeChannel::write_control(uint8_t value) {
  const bool was_held = (state_.control & ata::kSoftwareReset) != 0;
  const bool held = (value & ata::kSoftwareReset) != 0;
  state_.control = value;
  if (held == was_held) return;
  state_.device = 0;
  for (IdeDrive* drive : drives_) {
    if (drive == nullptr) continue;
    if (held)
      drive->hold_reset();
    else
      drive->release_reset();
  }
}

// --- the bus master ---

void IdeChannel::BusMaster::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(channel.mutex_);
  std::array<std::byte, kBusMasterPorts> ports{};
  ports[kMasterCommand] = std::byte{channel.state_.bus_master_command};
  ports[kMasterStatus] = std::byte{channel.state_.bus_master_status};
  store_le(std::span(ports).subspan(kMasterTable), channel.state_.table);
  for (std::byte& byte : data) byte = ports[offset++];
}

void IdeChannel::BusMaster::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(channel.mutex_);
  for (const std::byte byte : data)
    channel.write_bus_master(offset++, std::to_integer<uint8_t>(byte));
  channel.update_line();
}

BusDevice::Name IdeChannel::BusMaster::name_of(uint64_t offset, bool /*write*/) const {
  if (offset == kMasterCommand) return {"bus master command", {}};
  if (offset == kMasterStatus) return {"bus master status", {}};
  return {offset >= kMasterTable ? "descriptor table" : std::string_view(), {}};
}

void IdeChannel::write_bus_master(uint64_t port, uint8_t value) {
  State& s = state_;
  if (port >= kMasterTable) {
    const auto shift = static_cast<uint32_t>(8 * (port - kMasterTable));
    s.table = (s.table & ~(0xffu << shift)) | uint32_t{value} << shift;
    s.table &= ~3u;
  } else if (port == kMasterStatus) {
    const uint8_t cleared = value & (kInterrupt | kMasterError);
    s.bus_master_status = static_cast<uint8_t>((s.bus_master_status & ~(cleared | kDriveCapable)) |
                                               (value & kDriveCapable));
  } else if (port == kMasterCommand) {
    const bool was_started = (s.bus_master_command & kStart) != 0;
    const bool started = (value & kStart) != 0;
    // The direction cannot change during a transfer.
    const uint8_t direction =
        ((s.bus_master_status & kActive) != 0 ? s.bus_master_command : value) & kToMemory;
    s.bus_master_command = static_cast<uint8_t>((value & kStart) | direction);
    if (!started) return stop_bus_master(false);
    if (was_started) return;
    s.engine = {.next_descriptor = s.table};
    s.bus_master_status |= kActive;
    run_bus_master();
  }
}

// Only run_bus_master() accesses RAM, with the mutex held, so there is nothing to wait
// for here.
void IdeChannel::enable_dma(bool enabled) {
  const MutexLock lock(mutex_);
  dma_enabled_ = enabled;
  run_bus_master();
  update_line();
}

void IdeChannel::stop_bus_master(bool error) {
  state_.bus_master_status &= static_cast<uint8_t>(~kActive);
  if (error) state_.bus_master_status |= kMasterError;
}

// Transfers data until the drives have none left or the table ends. The loop is bounded: each turn
// moves at least one byte of a drive's buffer.
void IdeChannel::run_bus_master() {
  State& s = state_;
  while (dma_enabled_ && (s.bus_master_status & kActive) != 0) {
    IdeDrive* drive = nullptr;
    IdeDrive::Dma wanted;
    for (IdeDrive* each : drives_) {
      if (each == nullptr || !wanted.bytes.empty()) continue;
      wanted = each->dma();
      drive = each;
    }
    // If the direction is wrong, the drive waits until the host resets it.
    if (wanted.bytes.empty() || wanted.to_memory != ((s.bus_master_command & kToMemory) != 0))
      return;
    if (s.engine.left_bytes == 0 && !next_region()) return stop_bus_master(true);
    const size_t size_bytes = std::min<size_t>(wanted.bytes.size(), s.engine.left_bytes);
    const auto memory = memory_.slice({s.engine.address}, size_bytes);
    if (!memory) return stop_bus_master(true);
    if (wanted.to_memory)
      std::memcpy(memory->data(), wanted.bytes.data(), size_bytes);
    else
      std::memcpy(wanted.bytes.data(), memory->data(), size_bytes);
    s.engine.address += static_cast<uint32_t>(size_bytes);
    s.engine.left_bytes -= static_cast<uint32_t>(size_bytes);
    // The bus master stops before the drive completes, so that it is inactive when the
    // drive's interrupt is raised.
    if (s.engine.left_bytes == 0 && s.engine.last) stop_bus_master(false);
    drive->dma_moved(size_bytes);
  }
}

// Reads the next descriptor. Bit 0 of address and count is 0, a count of 0 means 64 KiB, and the
// table does not cross a 64 KiB boundary, so its address wraps there (82371AB, figure 8).
bool IdeChannel::next_region() {
  Engine& engine = state_.engine;
  const auto descriptor = memory_.read<Descriptor>({engine.next_descriptor});
  if (!descriptor) return false;
  const uint32_t size_bytes = descriptor->size_bytes & ~1u;
  engine.address = descriptor->address & ~1u;
  engine.left_bytes = size_bytes == 0 ? kMaxRegionBytes : size_bytes;
  engine.last = (descriptor->flags & kLastRegion) != 0;
  engine.next_descriptor = (engine.next_descriptor & 0xffff0000) |
                           ((engine.next_descriptor + sizeof(Descriptor)) & 0xffff);
  return true;
}

// --- completion and interrupt ---

void IdeChannel::finish_io(IdeDrive& drive, const Result<void>& result) {
  const MutexLock lock(mutex_);
  drive.finish_io(result);
  run_bus_master();
  update_line();
}

void IdeChannel::update_line() {
  const IdeDrive* drive = selected();
  const bool asserted =
      drive != nullptr && drive->interrupt() && (state_.control & ata::kInterruptsOff) == 0;
  if (asserted == asserted_) return;
  asserted_ = asserted;
  // 82371AB, 5.2.2: the rising edge of the line sets the interrupt bit, the line's level does not.
  if (asserted) state_.bus_master_status |= kInterrupt;
  line_.set(asserted);
}

}  // namespace wick::devices

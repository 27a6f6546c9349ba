// The commands of IdeDrive (ATA/ATAPI-6, clauses 8 and 9).
#include <algorithm>
#include <cstring>

#include "devices/ide/drive.h"

namespace wick::devices {

namespace {

using ata::kSectorBytes;

// Results of CHECK POWER MODE.
constexpr uint8_t kPowerStandby = 0x00;
constexpr uint8_t kPowerActive = 0xff;

// "PACKET", features: OVL permits overlapped execution, which is not supported.
constexpr uint8_t kPacketOverlap = 1 << 1;

using enum IdeDrive::Transfer::Kind;

// The commands of a disk that transfer sectors.
struct Access {
  uint8_t opcode;
  IdeDrive::Transfer::Kind kind;
  bool ext;
  bool dma;
  bool multiple = false;
};
constexpr uint8_t kWithoutRetry = 1;  // added to the opcode by "without retry" variants
constexpr Access kAccesses[] = {
    // opcode, kind, 48-bit, DMA, in blocks of SET MULTIPLE MODE
    {ata::kReadSectors, kRead, false, false},
    {ata::kReadSectors + kWithoutRetry, kRead, false, false},
    {ata::kReadSectorsExt, kRead, true, false},
    {ata::kReadMultiple, kRead, false, false, true},
    {ata::kReadMultipleExt, kRead, true, false, true},
    {ata::kReadDma, kRead, false, true},
    {ata::kReadDma + kWithoutRetry, kRead, false, true},
    {ata::kReadDmaExt, kRead, true, true},
    {ata::kWriteSectors, kWrite, false, false},
    {ata::kWriteSectors + kWithoutRetry, kWrite, false, false},
    {ata::kWriteSectorsExt, kWrite, true, false},
    {ata::kWriteMultiple, kWrite, false, false, true},
    {ata::kWriteMultipleExt, kWrite, true, false, true},
    {ata::kWriteDma, kWrite, false, true},
    {ata::kWriteDma + kWithoutRetry, kWrite, false, true},
    {ata::kWriteDmaExt, kWrite, true, true},
    {ata::kVerify, kVerify, false, false},
    {ata::kVerify + kWithoutRetry, kVerify, false, false},
    {ata::kVerifyExt, kVerify, true, false},
};

}  // namespace

void IdeDrive::command(uint8_t opcode) {
  State& s = state_;
  const bool device_reset = opcode == ata::kDeviceReset && kind_ == Kind::kCdrom;
  if (device_reset && !s.reset_held) return release_reset();
  if ((s.status & ata::kBusy) != 0) return;
  s.interrupt = false;
  s.error = 0;
  s.phase = Phase::kIdle;
  s.transfer = {};
  s.packet_command = false;
  const bool done = execute_for_both(opcode) ||
                    (kind_ == Kind::kDisk ? execute_for_disk(opcode) : execute_for_cdrom(opcode));
  if (!done) fail_with(ata::kAborted);
}

bool IdeDrive::execute_for_both(uint8_t opcode) {
  switch (opcode) {
    case ata::kCheckPowerMode:
      state_.count.now = state_.standby ? kPowerStandby : kPowerActive;
      succeed();
      return true;
    case ata::kStandby:
    case ata::kStandbyImmediate:
    case ata::kSleep:
      state_.standby = true;
      succeed();
      return true;
    case ata::kIdle:
    case ata::kIdleImmediate:
      state_.standby = false;
      succeed();
      return true;
    case ata::kSetFeatures:
      set_features();
      return true;
    default:
      return false;
  }
}

bool IdeDrive::execute_for_disk(uint8_t opcode) {
  for (const Access& known : kAccesses) {
    if (known.opcode != opcode) continue;
    access(known.kind, known.ext, known.dma, known.multiple ? state_.multiple : uint8_t{1});
    return true;
  }
  switch (opcode) {
    case ata::kReadNativeMax:
    case ata::kReadNativeMaxExt: {
      const bool ext = opcode == ata::kReadNativeMaxExt;
      const uint64_t last = capacity_sectors_ - 1;
      set_address(ext ? last : std::min<uint64_t>(last, 0x0fff'ffff), ext);
      succeed();
      return true;
    }
    case ata::kFlushCache:
    case ata::kFlushCacheExt:
      submit({});
      return true;
    case ata::kSetMultiple:
      set_multiple();
      return true;
    case ata::kInitializeParameters:
      initialize_parameters();
      return true;
    case ata::kIdentifyDevice:
      identify();
      return true;
    case ata::kRecalibrate:
    case ata::kSeek:
      succeed();
      return true;
    default:
      return false;
  }
}

bool IdeDrive::execute_for_cdrom(uint8_t opcode) {
  switch (opcode) {
    case ata::kPacket:
      take_packet();
      return true;
    case ata::kIdentifyPacketDevice:
      identify();
      return true;
    // A packet device aborts these commands and sets the signature, by which the host recognises
    // it.
    case ata::kIdentifyDevice:
    case ata::kReadSectors:
      set_signature();
      return false;
    default:
      return false;
  }
}

void IdeDrive::access(Transfer::Kind kind, bool ext, bool dma, uint32_t block_sectors) {
  const bool writes = kind == Transfer::Kind::kWrite;
  // Aborts a MULTIPLE command while SET MULTIPLE MODE is off, and a write to a read-only
  // disk.
  if (block_sectors == 0 || (writes && backend_.read_only())) return fail_with(ata::kAborted);
  const std::optional<uint64_t> first = address(ext);
  const uint32_t count = sector_count(ext);
  if (!first || *first >= capacity_sectors_) return fail_with(ata::kIdNotFound);
  if (count > capacity_sectors_ - *first) {
    set_address(capacity_sectors_, ext);  // the first invalid sector
    return fail_with(ata::kIdNotFound);
  }
  const bool pieces = !dma && kind != Transfer::Kind::kVerify;
  const uint32_t block_bytes = block_sectors * kSectorBytes;
  state_.standby = false;
  state_.transfer = {.kind = kind,
                     .dma = dma,
                     .ext = ext,
                     .offset_bytes = *first * kSectorBytes,
                     .left_bytes = uint64_t{count} * kSectorBytes,
                     .chunk_bytes = pieces ? block_bytes : uint32_t{kBufferBytes},
                     .block_bytes = block_bytes};
  if (!writes) return fetch();
  wait_for_data();
  // "PIO data-out command protocol": there is no interrupt before the first block.
  state_.interrupt = false;
}

void IdeDrive::set_features() {
  State& s = state_;
  const bool disk = kind_ == Kind::kDisk;
  switch (s.features.now) {
    case ata::kSetTransferMode:
      if (!ata::is_transfer_mode(s.count.now)) return fail_with(ata::kAborted);
      s.transfer_mode = s.count.now;
      return succeed();
    case ata::kEnableWriteCache:
    case ata::kDisableWriteCache:
      if (!disk) return fail_with(ata::kAborted);
      s.write_cache = s.features.now == ata::kEnableWriteCache;
      // Disabling the cache writes its contents to the medium. If that fails, the cache is off all
      // the same, and the error says that data may be lost.
      return s.write_cache ? succeed() : submit({});
    case ata::kEnableLookAhead:
    case ata::kDisableLookAhead:
      if (!disk) return fail_with(ata::kAborted);
      s.look_ahead = s.features.now == ata::kEnableLookAhead;
      return succeed();
    case ata::kKeepFeaturesAtReset:
    case ata::kRevertFeaturesAtReset:
      return succeed();
    default:
      return fail_with(ata::kAborted);
  }
}

// INITIALIZE DEVICE PARAMETERS of ATA/ATAPI-5, for hosts that use CHS addresses.
void IdeDrive::initialize_parameters() {
  const auto heads = static_cast<uint8_t>((state_.device & ata::kHeadBits) + 1);
  if (state_.count.now == 0) return fail_with(ata::kAborted);
  state_.translation = ata::geometry(capacity_sectors_, heads, state_.count.now);
  succeed();
}

void IdeDrive::set_multiple() {
  const uint8_t count = state_.count.now;
  const bool possible = count <= ata::kMaxMultiple && (count & (count - 1)) == 0;
  if (!possible) return fail_with(ata::kAborted);
  state_.multiple = count;  // 0 disables the MULTIPLE commands
  succeed();
}

void IdeDrive::identify() {
  const bool disk = kind_ == Kind::kDisk;
  const ata::Identity identity{.serial = serial_,
                               .model = disk ? "wick disk" : "wick CD-ROM",
                               .capacity_sectors = capacity_sectors_,
                               .translation = state_.translation,
                               .multiple = state_.multiple,
                               .transfer_mode = state_.transfer_mode,
                               .write_cache = state_.write_cache,
                               .look_ahead = state_.look_ahead,
                               .second_device = second_device_};
  const ata::IdentityWords words =
      disk ? ata::identify_disk(identity) : ata::identify_cdrom(identity);
  static_assert(sizeof(words) == ata::kIdentityBytes);
  reply(std::as_bytes(std::span(words)), ata::kIdentityBytes);
}

// --- packet commands ("PACKET command protocol") ---

void IdeDrive::take_packet() {
  State& s = state_;
  if ((s.features.now & kPacketOverlap) != 0) return fail_with(ata::kAborted);
  s.packet_command = true;
  s.transfer = {.dma = (s.features.now & ata::kPacketDma) != 0,
                .block_bytes = uint32_t{s.lba_high.now} << 8 | s.lba_mid.now,
                .filled = atapi::kPacketBytes,
                .block_end = atapi::kPacketBytes};
  s.phase = Phase::kPacket;
  s.count.now = ata::kReasonCommand;
  s.status = ata::kIdleStatus | ata::kDataRequest;
}

void IdeDrive::execute_packet() {
  State& s = state_;
  std::array<std::byte, atapi::kPacketBytes> packet;
  std::copy_n(buffer_.begin(), packet.size(), packet.begin());
  const bool was_open = s.cdrom.tray_open;
  const atapi::Reply answer = atapi::execute(packet, s.cdrom);
  if (s.cdrom.tray_open != was_open && tray_moved_) tray_moved_(s.cdrom.tray_open);
  const bool has_data =
      answer.kind == atapi::Reply::Kind::kData || answer.kind == atapi::Reply::Kind::kRead;
  // The byte count limit is the maximum size of a DRQ block. It must be even, and may be
  // 0 only if there is no PIO data.
  const bool dma = s.transfer.dma;
  const uint32_t limit = std::min<uint32_t>(s.transfer.block_bytes, 0xfffe);
  if (has_data && !dma && limit == 0) return fail_with(ata::kAborted);
  const uint32_t block_bytes = std::max<uint32_t>(limit & ~1u, 2);
  switch (answer.kind) {
    case atapi::Reply::Kind::kDone:
      return succeed();
    case atapi::Reply::Kind::kFailed:
      return fail_packet();
    case atapi::Reply::Kind::kData:
      return reply(std::span(answer.data).first(answer.size), block_bytes);
    case atapi::Reply::Kind::kRead:
      s.standby = false;
      s.transfer = {.kind = Transfer::Kind::kRead,
                    .dma = dma,
                    .offset_bytes = uint64_t{answer.first_block} * atapi::kBlockBytes,
                    .left_bytes = uint64_t{answer.blocks} * atapi::kBlockBytes,
                    .chunk_bytes = kBufferBytes,
                    .block_bytes = block_bytes};
      return fetch();
  }
}

}  // namespace wick::devices

#include "devices/ide/drive.h"

#include <algorithm>
#include <cstring>

namespace wick::devices {

namespace {

using ata::kSectorBytes;

// "Signature and persistence": a host recognises the kind of a drive by these values.
constexpr uint8_t kCdromSignatureMid = 0x14;
constexpr uint8_t kCdromSignatureHigh = 0xeb;

uint32_t blocks_on_disc(uint64_t size_bytes) {
  return static_cast<uint32_t>(std::min<uint64_t>(size_bytes / atapi::kBlockBytes, UINT32_MAX));
}

}  // namespace

IdeDrive::IdeDrive(Kind kind, block::Backend& backend, EventLoop& loop, std::string serial,
                   std::string name)
    : kind_(kind),
      backend_(backend),
      loop_(loop),
      serial_(serial.empty() ? name : std::move(serial)),
      name_(std::move(name)),
      capacity_sectors_(backend.size_bytes() / kSectorBytes),
      buffer_(kBufferBytes) {}

void IdeDrive::connect(bool second_device, std::function<void(Result<void>)> completed) {
  second_device_ = second_device;
  completed_ = std::move(completed);
  state_ = {};
  state_.translation =
      ata::geometry(capacity_sectors_, ata::Geometry().heads, ata::Geometry().sectors);
  state_.cdrom.blocks = blocks_on_disc(backend_.size_bytes());
  set_signature();
}

void IdeDrive::drain() {
  std::binary_semaphore idle(0);
  loop_.call([&] {
    idle_ = &idle;
    backend_.drain(true);
    if (!in_flight_) idle.release();
  });
  idle.acquire();
  // The second call makes sure that the loop has left the callback that released `idle`.
  loop_.call([&] {
    backend_.drain(false);
    idle_ = nullptr;
  });
}

// --- the tray ---

bool IdeDrive::open_tray(bool force) {
  if (!atapi::open_tray(state_.cdrom, force)) return false;
  if (state_.packet_command && state_.transfer.kind == Transfer::Kind::kRead)
    state_.transfer.disc_gone = true;
  return true;
}

void IdeDrive::insert(uint64_t size_bytes) {
  atapi::insert(state_.cdrom, blocks_on_disc(size_bytes));
}

// --- registers ---

uint8_t IdeDrive::read(ata::Port port, bool high_order_byte) const {
  const auto pick = [&](const Register& r) { return high_order_byte ? r.before : r.now; };
  switch (port) {
    case ata::kErrorOrFeatures:
      return state_.error;
    case ata::kSectorCount:
      return pick(state_.count);
    case ata::kLbaLow:
      return pick(state_.lba_low);
    case ata::kLbaMid:
      return pick(state_.lba_mid);
    case ata::kLbaHigh:
      return pick(state_.lba_high);
    case ata::kDevice:
      return state_.device | ata::kDeviceOnes;
    default:
      return state_.status;
  }
}

// "Status register": while BSY is set, the host cannot write the registers.
void IdeDrive::write(ata::Port port, uint8_t value) {
  if ((state_.status & ata::kBusy) != 0) return;
  const auto push = [value](Register& r) { r = {value, r.now}; };
  switch (port) {
    case ata::kErrorOrFeatures:
      return push(state_.features);
    case ata::kSectorCount:
      return push(state_.count);
    case ata::kLbaLow:
      return push(state_.lba_low);
    case ata::kLbaMid:
      return push(state_.lba_mid);
    case ata::kLbaHigh:
      return push(state_.lba_high);
    case ata::kDevice:
      state_.device = value;
      return;
    default:
      return;
  }
}

// "Device addressing considerations" refers to older standards for CHS addresses, where
// sector numbers start at 1.
std::optional<uint64_t> IdeDrive::address(bool ext) const {
  const State& s = state_;
  const uint32_t low24 = uint32_t{s.lba_high.now} << 16 | s.lba_mid.now << 8 | s.lba_low.now;
  if (ext) {
    const uint64_t high24 =
        uint32_t{s.lba_high.before} << 16 | s.lba_mid.before << 8 | s.lba_low.before;
    return high24 << 24 | low24;
  }
  const uint32_t head = s.device & ata::kHeadBits;
  if ((s.device & ata::kUseLba) != 0) return head << 24 | low24;
  const uint32_t cylinder = low24 >> 8;
  const uint32_t sector = s.lba_low.now;
  if (sector == 0 || sector > s.translation.sectors || head >= s.translation.heads)
    return std::nullopt;
  return (uint64_t{cylinder} * s.translation.heads + head) * s.translation.sectors + sector - 1;
}

uint32_t IdeDrive::sector_count(bool ext) const {
  const uint32_t count = ext ? state_.count.before << 8 | state_.count.now : state_.count.now;
  if (count != 0) return count;
  return ext ? 0x10000 : 0x100;
}

void IdeDrive::set_address(uint64_t sector, bool ext) {
  State& s = state_;
  const auto byte = [&](int index) { return static_cast<uint8_t>(sector >> 8 * index); };
  const auto set_head = [&](uint32_t head) {
    s.device = static_cast<uint8_t>((s.device & ~ata::kHeadBits) | (head & ata::kHeadBits));
  };
  if (!ext && (s.device & ata::kUseLba) == 0) {
    const uint64_t track = sector / s.translation.sectors;
    const uint64_t cylinder = track / s.translation.heads;
    s.lba_low.now = static_cast<uint8_t>(sector % s.translation.sectors + 1);
    s.lba_mid.now = static_cast<uint8_t>(cylinder);
    s.lba_high.now = static_cast<uint8_t>(cylinder >> 8);
    set_head(static_cast<uint32_t>(track % s.translation.heads));
    return;
  }
  s.lba_low = {byte(0), ext ? byte(3) : s.lba_low.before};
  s.lba_mid = {byte(1), ext ? byte(4) : s.lba_mid.before};
  s.lba_high = {byte(2), ext ? byte(5) : s.lba_high.before};
  if (!ext) set_head(byte(3));
}

void IdeDrive::set_signature() {
  State& s = state_;
  const bool cdrom = kind_ == Kind::kCdrom;
  s.error = ata::kDiagnosticPassed;
  s.count = s.lba_low = {1, 0};
  s.lba_mid = {cdrom ? kCdromSignatureMid : uint8_t{0}, 0};
  s.lba_high = {cdrom ? kCdromSignatureHigh : uint8_t{0}, 0};
  s.device = 0;
  // A packet device clears DRDY until its first command.
  s.status = cdrom ? uint8_t{0} : ata::kIdleStatus;
  s.phase = Phase::kIdle;
}

// --- resets ---

void IdeDrive::hold_reset() {
  state_.reset_held = true;
  state_.phase = Phase::kReset;
  state_.status = ata::kBusy;
  state_.interrupt = false;
  state_.packet_command = false;
  state_.transfer = {};
}

void IdeDrive::release_reset() {
  hold_reset();
  state_.reset_held = false;
  if (!state_.io) set_signature();
}

// "EXECUTE DEVICE DIAGNOSTIC": only device 0 asserts INTRQ, for both devices.
void IdeDrive::diagnose() {
  release_reset();
  state_.interrupt = !second_device_;
}

// --- data to the host ---

void IdeDrive::reply(std::span<const std::byte> data, uint32_t block_bytes) {
  std::ranges::copy(data, buffer_.begin());
  state_.transfer = {.dma = state_.transfer.dma,
                     .block_bytes = block_bytes,
                     .filled = static_cast<uint32_t>(data.size())};
  start_data_in();
}

void IdeDrive::fetch() {
  Transfer& t = state_.transfer;
  if (t.disc_gone) return fail_io();
  t.filled = static_cast<uint32_t>(std::min<uint64_t>(t.left_bytes, t.chunk_bytes));
  submit({Io::Kind::kRead, t.offset_bytes, t.filled});
}

// Starts the transfer of the buffer's contents to the host.
void IdeDrive::start_data_in() {
  State& s = state_;
  s.transfer.position = 0;
  if (s.transfer.filled == 0) return succeed();
  if (!s.transfer.dma) return next_block();
  s.phase = Phase::kDmaIn;
  s.status = ata::kBusy;
}

void IdeDrive::next_block() {
  State& s = state_;
  Transfer& t = s.transfer;
  const uint32_t size_bytes = std::min(t.block_bytes, t.filled - t.position);
  t.block_end = t.position + size_bytes;
  s.phase = Phase::kDataIn;
  s.status = ata::kIdleStatus | ata::kDataRequest;
  s.interrupt = true;
  if (!s.packet_command) return;
  s.count.now = ata::kReasonToHost;
  s.lba_mid.now = static_cast<uint8_t>(size_bytes);
  s.lba_high.now = static_cast<uint8_t>(size_bytes >> 8);
}

void IdeDrive::read_data(std::span<std::byte> data) {
  std::ranges::fill(data, std::byte{0xff});
  if (state_.phase != Phase::kDataIn) return;
  Transfer& t = state_.transfer;
  const size_t size_bytes = std::min<size_t>(data.size(), t.block_end - t.position);
  std::copy_n(buffer_.begin() + t.position, size_bytes, data.begin());
  t.position += static_cast<uint32_t>(size_bytes);
  if (t.position == t.block_end) finish_block();
}

// Called when the host has read a whole block, or the bus master the whole buffer.
void IdeDrive::finish_block() {
  State& s = state_;
  if (s.transfer.position < s.transfer.filled) return next_block();
  if (s.transfer.left_bytes > 0) return fetch();
  const bool quiet = !s.transfer.dma && !s.packet_command;
  succeed();
  // "PIO data-in command protocol": there is no interrupt after the last block.
  if (quiet) s.interrupt = false;
}

// --- data from the host ---

void IdeDrive::wait_for_data() {
  State& s = state_;
  Transfer& t = s.transfer;
  t.filled = static_cast<uint32_t>(std::min<uint64_t>(t.left_bytes, t.chunk_bytes));
  t.position = 0;
  t.block_end = t.filled;
  s.phase = t.dma ? Phase::kDmaOut : Phase::kDataOut;
  s.status = t.dma ? ata::kBusy : uint8_t{ata::kIdleStatus | ata::kDataRequest};
  s.interrupt = !t.dma;
}

void IdeDrive::write_data(std::span<const std::byte> data) {
  if (state_.phase != Phase::kDataOut && state_.phase != Phase::kPacket) return;
  Transfer& t = state_.transfer;
  const size_t size_bytes = std::min<size_t>(data.size(), t.block_end - t.position);
  std::copy_n(data.begin(), size_bytes, buffer_.begin() + t.position);
  t.position += static_cast<uint32_t>(size_bytes);
  if (t.position < t.block_end) return;
  if (state_.phase == Phase::kPacket)
    execute_packet();
  else
    store();
}

void IdeDrive::store() {
  submit({Io::Kind::kWrite, state_.transfer.offset_bytes, state_.transfer.filled});
}

// --- the bus master ---

IdeDrive::Dma IdeDrive::dma() {
  const bool to_memory = state_.phase == Phase::kDmaIn;
  if (!to_memory && state_.phase != Phase::kDmaOut) return {};
  const Transfer& t = state_.transfer;
  return {std::span(buffer_).subspan(t.position, t.filled - t.position), to_memory};
}

void IdeDrive::dma_moved(size_t size_bytes) {
  Transfer& t = state_.transfer;
  t.position += static_cast<uint32_t>(size_bytes);
  if (t.position < t.filled) return;
  if (state_.phase == Phase::kDmaIn)
    finish_block();
  else
    store();
}

// --- the back end ---

void IdeDrive::submit(const Io& io) {
  state_.phase = Phase::kMedium;
  state_.status = ata::kBusy;
  state_.io = true;
  loop_.post([this, io] {
    in_flight_ = true;
    spawn(execute(io));
  });
}

Task<void> IdeDrive::execute(Io io) {
  const iovec buffer{buffer_.data(), io.size_bytes};
  Result<void> result;
  switch (io.kind) {
    case Io::Kind::kRead:
      result = co_await backend_.read(io.offset_bytes, std::span(&buffer, 1));
      break;
    case Io::Kind::kWrite:
      result = co_await backend_.write(io.offset_bytes, std::span(&buffer, 1));
      break;
    case Io::Kind::kFlush:
      result = co_await backend_.flush();
      break;
  }
  if (!result) warnings_.warn("{}: {}", name_, result.error().message());
  completed_(std::move(result));
  in_flight_ = false;
  if (idle_ != nullptr) idle_->release();
}

void IdeDrive::finish_io(const Result<void>& result) {
  State& s = state_;
  s.io = false;
  if (s.phase == Phase::kReset) {
    if (!s.reset_held) set_signature();
    return;
  }
  Transfer& t = s.transfer;
  if (!result || t.disc_gone) return fail_io();
  // This was a flush: FLUSH CACHE, a SET FEATURES that disables the write cache, or the end of a
  // write without a write cache.
  if (t.kind == Transfer::Kind::kReply) return succeed();
  t.offset_bytes += t.filled;
  t.left_bytes -= t.filled;
  switch (t.kind) {
    case Transfer::Kind::kRead:
      return start_data_in();
    case Transfer::Kind::kVerify:
      return t.left_bytes > 0 ? fetch() : succeed();
    case Transfer::Kind::kWrite:
      if (t.left_bytes > 0) return wait_for_data();
      if (s.write_cache) return succeed();
      t = {};
      return submit({});
    case Transfer::Kind::kReply:
      return;
  }
}

// --- completion of a command ---

void IdeDrive::succeed() {
  if (state_.packet_command) state_.count.now = ata::kReasonCommand | ata::kReasonToHost;
  end(ata::kIdleStatus);
}

void IdeDrive::fail_with(uint8_t error) {
  state_.error = error;
  end(ata::kIdleStatus | ata::kError);
}

// "PACKET", error outputs: the upper half of the error register has the sense key.
void IdeDrive::fail_packet() {
  state_.error = static_cast<uint8_t>(state_.cdrom.sense.key << 4);
  state_.count.now = ata::kReasonCommand | ata::kReasonToHost;
  end(ata::kIdleStatus | ata::kError);
}

// A failed read reports UNC (uncorrectable data). ATA has no such error for a write or a
// flush, so these report DF (device fault).
void IdeDrive::fail_io() {
  const Transfer& t = state_.transfer;
  if (state_.packet_command) {
    state_.cdrom.sense = t.disc_gone ? atapi::kNoMedium : atapi::kReadError;
    return fail_packet();
  }
  if (t.kind != Transfer::Kind::kReply) set_address(t.offset_bytes / kSectorBytes, t.ext);
  if (t.kind == Transfer::Kind::kRead || t.kind == Transfer::Kind::kVerify)
    return fail_with(ata::kUncorrectable);
  end(ata::kIdleStatus | ata::kFault);
}

void IdeDrive::end(uint8_t status) {
  state_.status = status;
  state_.phase = Phase::kIdle;
  state_.transfer = {};
  state_.interrupt = true;
}

}  // namespace wick::devices

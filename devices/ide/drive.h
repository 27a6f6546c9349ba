// A drive on an IDE cable: a disk, or a CD-ROM drive with an ISO image. It has the
// registers, executes ATA and packet commands, and moves data between its buffer and a
// block::Backend on the disk's own loop.
//
// Data goes through the drive's buffer, never directly into guest memory. So a reset or a stop of
// the bus master need not wait: an operation that the host still executes changes nothing that the
// guest can see. The drive is busy until that operation has ended; the standard allows 31 seconds
// for a reset.
//
// Thread rule: a drive has no lock of its own. All functions are called with the channel's mutex
// held, except the constructor, connect() and drain(). I/O runs on the loop, at most one operation
// at a time; meanwhile only the loop accesses the buffer. When the operation ends, the loop calls
// `completed`.
//
// Specification: ATA/ATAPI-6, clauses 6, 8 and 9.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <semaphore>
#include <span>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
#include "block/backend.h"
#include "devices/ide/ata.h"
#include "devices/ide/atapi.h"

namespace wick::devices {

class IdeDrive {
 public:
  enum class Kind { kDisk, kCdrom };

  static constexpr size_t kBufferBytes = 128 << 10;

  // A register of the command block. It keeps its last two values, because 48-bit
  // commands use both.
  struct Register {
    uint8_t now = 0;
    uint8_t before = 0;  // the value before `now`
    bool operator==(const Register&) const = default;
  };

  // The event that the drive waits for.
  enum class Phase : uint8_t {
    kIdle,
    kPacket,   // the host writes a packet
    kDataIn,   // the host reads the data port
    kDataOut,  // the host writes the data port
    kDmaIn,    // the bus master takes data from the drive
    kDmaOut,   // the bus master brings data to the drive
    kMedium,   // the back end completes an operation
    kReset,    // the host ends the reset, and the back end completes its operation
  };

  // The data transfer of a command.
  struct Transfer {
    enum class Kind : uint8_t { kReply, kRead, kWrite, kVerify };
    Kind kind = Kind::kReply;
    bool dma = false;
    bool ext = false;           // a 48-bit command
    bool disc_gone = false;     // the disc was taken out during the transfer
    uint64_t offset_bytes = 0;  // position on the medium
    uint64_t left_bytes = 0;    // still to be transferred, from offset_bytes on
    uint32_t chunk_bytes = 0;   // maximum per operation of the back end
    uint32_t block_bytes = 0;   // maximum per data request (DRQ block)
    uint32_t filled = 0;        // number of valid bytes in the buffer
    uint32_t position = 0;      // where the host or the bus master is in the buffer
    uint32_t block_end = 0;     // where the current DRQ block ends in the buffer
    bool operator==(const Transfer&) const = default;
  };

  // The guest-visible state.
  struct State {
    uint8_t status = 0;
    uint8_t error = 0;
    Register features;
    Register count;
    Register lba_low;
    Register lba_mid;
    Register lba_high;
    uint8_t device = 0;
    bool interrupt = false;  // an interrupt is pending; asserts INTRQ if the drive is selected
    Phase phase = Phase::kIdle;
    Transfer transfer;
    bool packet_command = false;  // a packet command is being executed
    bool io = false;              // the back end executes an operation
    bool reset_held = false;      // SRST is set
    ata::Geometry translation;
    uint8_t multiple = ata::kMaxMultiple;  // the value that firmware leaves
    uint8_t transfer_mode = 0;
    bool write_cache = true;
    bool look_ahead = true;
    bool standby = false;
    atapi::Cdrom cdrom;
    bool operator==(const State&) const = default;
  };

  // `backend` belongs to `loop`; both must outlive the drive. The first 20 characters of `serial`
  // are the serial number; if `serial` is empty, `name` is used. `name` is also used in messages.
  IdeDrive(Kind kind, block::Backend& backend, EventLoop& loop, std::string serial,
           std::string name);

  Kind kind() const { return kind_; }
  const std::string& name() const { return name_; }

  // Connects the drive to a channel, with a hardware reset. `completed` is called on the
  // loop and must call finish_io() with its argument, with the channel's mutex held.
  void connect(bool second_device, std::function<void(Result<void>)> completed);
  // Waits for the end of the operation that the loop executes, if there is one. The drive must be
  // in reset, so that it starts no other operation. Must not be called with the channel's mutex
  // held.
  void drain();

  // Access the registers other than data and command. The channel handles DEV of the device
  // register.
  uint8_t read(ata::Port port, bool high_order_byte) const;
  void write(ata::Port port, uint8_t value);
  uint8_t status() const { return state_.status; }
  void command(uint8_t opcode);
  // Access the data port. Without a data request, or beyond the end of the current DRQ block, reads
  // return ones and writes are ignored.
  void read_data(std::span<std::byte> data);
  void write_data(std::span<const std::byte> data);

  bool interrupt() const { return state_.interrupt; }
  void acknowledge() { state_.interrupt = false; }

  // hold_reset() is called when SRST is set, release_reset() when SRST is cleared.
  void hold_reset();
  void release_reset();
  // Executes EXECUTE DEVICE DIAGNOSTIC, which both drives of a channel execute.
  void diagnose();

  // The part of the buffer that the bus master must read or fill; empty if there is no
  // DMA transfer now.
  struct Dma {
    std::span<std::byte> bytes;
    bool to_memory = false;
  };
  Dma dma();
  // Called when the bus master has moved the first `size_bytes` bytes of dma().
  void dma_moved(size_t size_bytes);

  void finish_io(const Result<void>& result);

  // For a CD-ROM drive; see atapi::open_tray() and atapi::insert(). open_tray() also ends a
  // transfer from the disc with an error, after the data that the drive has already read.
  bool open_tray(bool force);
  void insert(uint64_t size_bytes);
  // Sets the function that is called, with the channel's mutex held, when the guest opens or closes
  // the tray. Must be called before connect().
  void on_tray_moved(std::function<void(bool open)> moved) { tray_moved_ = std::move(moved); }

  const State& state() const { return state_; }

 private:
  struct Io {
    enum class Kind : uint8_t { kRead, kWrite, kFlush };
    Kind kind = Kind::kFlush;
    uint64_t offset_bytes = 0;
    uint32_t size_bytes = 0;
  };

  // Each executes the command with this opcode; returns false if its set of commands lacks the
  // opcode.
  bool execute_for_disk(uint8_t opcode);
  bool execute_for_cdrom(uint8_t opcode);
  bool execute_for_both(uint8_t opcode);
  void access(Transfer::Kind kind, bool ext, bool dma, uint32_t block_sectors);
  void set_features();
  void initialize_parameters();
  void set_multiple();
  void identify();
  void take_packet();
  void execute_packet();

  // Returns the sector that the registers address; nullopt if the registers contain an invalid CHS
  // address.
  std::optional<uint64_t> address(bool ext) const;
  uint32_t sector_count(bool ext) const;
  void set_address(uint64_t sector, bool ext);
  void set_signature();

  // Data from the medium to the host.
  void reply(std::span<const std::byte> data, uint32_t block_bytes);
  void fetch();
  void start_data_in();
  void next_block();
  void finish_block();
  // Data from the host to the medium.
  void wait_for_data();
  void store();

  void submit(const Io& io);
  Task<void> execute(Io io);

  // Completion of a command.
  void succeed();
  void fail_with(uint8_t error);
  void fail_packet();
  void fail_io();
  void end(uint8_t status);

  // Constant after construction.
  const Kind kind_;
  block::Backend& backend_;
  EventLoop& loop_;
  const std::string serial_;
  const std::string name_;
  const uint64_t capacity_sectors_;  // only for a disk
  std::function<void(bool open)> tray_moved_;

  // Guarded by the channel's mutex. While state_.io is set, buffer_ belongs to the loop.
  State state_;
  bool second_device_ = false;
  std::function<void(Result<void>)> completed_;
  std::vector<std::byte> buffer_;
  RateLimit warnings_;

  // Owned by the loop's thread.
  bool in_flight_ = false;
  std::binary_semaphore* idle_ = nullptr;  // drain() waits for in_flight_ to be false
};

}  // namespace wick::devices

// A drive on an IDE cable: a disk, or a CD-ROM drive with an ISO in it. It has
// the registers, executes ATA and packet commands, and moves data between its
// buffer and a block::Backend on the disk's own loop.
//
// The data goes through the drive's buffer, never straight into the guest's
// memory: so a reset or a stopped bus master has nothing to wait for, and what
// the host is still doing then changes nothing that the guest can see. The drive
// is busy meanwhile, which the standard allows for 31 seconds.
//
// Thread rule: a drive has no lock of its own. It is called with its channel's
// mutex held, except for connect(), drain() and the construction; the I/O is on
// the loop, with one operation at most at a time, and nobody else touches the
// buffer until its end has been told to the channel, on the loop.
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

  // A register with what was in it before: the 48-bit commands write each twice,
  // and mean both.
  struct Register {
    uint8_t now = 0;
    uint8_t before = 0;
    bool operator==(const Register&) const = default;
  };

  // Whom the drive waits for.
  enum class Phase : uint8_t {
    kIdle,
    kPacket,   // the host, to write a packet
    kDataIn,   // the host, to read the data port
    kDataOut,  // the host, to write the data port
    kDmaIn,    // the bus master, to take data
    kDmaOut,   // the bus master, to bring data
    kMedium,   // the back end
    kReset,    // the host to end the reset, or the back end
  };

  // A command's data, on its way.
  struct Transfer {
    enum class Kind : uint8_t { kReply, kRead, kWrite, kVerify };
    Kind kind = Kind::kReply;
    bool dma = false;
    bool ext = false;           // a 48-bit command
    uint64_t offset_bytes = 0;  // on the medium
    uint64_t left_bytes = 0;    // from there on
    uint32_t chunk_bytes = 0;   // the most that is in the buffer at a time
    uint32_t block_bytes = 0;   // the most that the host gets by one data request
    uint32_t filled = 0;        // of the buffer
    uint32_t position = 0;      // in it, of the host
    uint32_t block_end = 0;
    bool operator==(const Transfer&) const = default;
  };

  // What the guest can see.
  struct State {
    uint8_t status = 0;
    uint8_t error = 0;
    Register features;
    Register count;
    Register lba_low;
    Register lba_mid;
    Register lba_high;
    uint8_t device = 0;
    bool interrupt = false;  // INTRQ, were the drive selected
    Phase phase = Phase::kIdle;
    Transfer transfer;
    bool packet_command = false;  // the one that is executed
    bool io = false;              // the back end has something to do for us
    bool reset_held = false;      // SRST is set
    ata::Geometry translation;
    uint8_t multiple = ata::kMostMultiple;  // as firmware leaves it
    uint8_t transfer_mode = 0;
    bool write_cache = true;
    bool look_ahead = true;
    bool standby = false;
    atapi::Cdrom cdrom;
    bool operator==(const State&) const = default;
  };

  // `backend` belongs to `loop`; both must outlive the drive. `serial`: the first
  // 20 characters are told; empty: `name` is. `name` is also for messages.
  IdeDrive(Kind kind, block::Backend& backend, EventLoop& loop, std::string serial,
           std::string name);

  Kind kind() const { return kind_; }
  const std::string& name() const { return name_; }

  // Plugged into a channel whose power comes on: a hardware reset. `completed` is
  // called on the loop; it is to call finish_io() with what it gets.
  void connect(bool second_device, std::function<void(Result<void>)> completed);
  // Waits for the operation on the loop, if there is one, but starts none: for
  // when the drive is in reset. Not with the channel's mutex held.
  void drain();

  // The registers but data and command; `device` is the channel's.
  uint8_t read(ata::Port port, bool high_order_byte) const;
  void write(ata::Port port, uint8_t value);
  uint8_t status() const { return state_.status; }
  void command(uint8_t opcode);
  // The data port. Without a data request it reads as ones and takes nothing; so
  // does what goes over the end of the request.
  void read_data(std::span<std::byte> data);
  void write_data(std::span<const std::byte> data);

  bool interrupt() const { return state_.interrupt; }
  void acknowledge() { state_.interrupt = false; }

  // SRST, set and cleared; and EXECUTE DEVICE DIAGNOSTIC, which concerns both
  // drives of a channel.
  void hold_reset();
  void release_reset();
  void diagnose();

  // What the drive has for the bus master, or wants from it; empty: nothing now.
  struct Dma {
    std::span<std::byte> bytes;
    bool to_memory = false;
  };
  Dma dma();
  // So many of them have been moved.
  void dma_moved(size_t size_bytes);

  void finish_io(const Result<void>& result);

  const State& state() const { return state_; }

 private:
  struct Io {
    enum class Kind : uint8_t { kRead, kWrite, kFlush };
    Kind kind = Kind::kFlush;
    uint64_t offset_bytes = 0;
    uint32_t size_bytes = 0;
  };

  // Commands. False: it is none of these.
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

  // The address in the registers; none: a sector that cannot be.
  std::optional<uint64_t> address(bool ext) const;
  uint32_t sector_count(bool ext) const;
  void set_address(uint64_t sector, bool ext);
  void set_signature();

  // Data, from the medium to the host…
  void reply(std::span<const std::byte> data, uint32_t block_bytes);
  void fetch();
  void offer();
  void next_block();
  void taken();
  // …and from the host to the medium.
  void wait_for_data();
  void store();

  void submit(const Io& io);
  Task<void> carry_out(Io io);

  // Ends of a command.
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
  const uint64_t capacity_sectors_;

  // Guarded by the channel's mutex; the buffer is the loop's while state_.io.
  State state_;
  bool second_device_ = false;
  std::function<void(Result<void>)> completed_;
  std::vector<std::byte> buffer_;
  RateLimit complaints_;

  // Owned by the loop's thread.
  bool in_flight_ = false;
  std::binary_semaphore* idle_ = nullptr;  // someone waits for it to be false
};

}  // namespace wick::devices

// The packet commands of a CD-ROM drive. execute() decodes a packet and returns what
// the drive must do; the I/O itself is in devices/ide/drive.*.
//
// Pure functions of their arguments; no thread rule.
//
// Specification: MMC-3 (T10/1363-D) for the commands of CD-ROM drives, SPC-2
// (T10/1236-D) for those of all devices. The code cites commands by name.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace wick::devices::atapi {

constexpr size_t kPacketBytes = 12;
constexpr uint32_t kBlockBytes = 2048;
constexpr size_t kMaxReplyBytes = 256;

// The reason why a command failed (SPC-2, "Sense data").
struct Sense {
  uint8_t key = 0;
  uint8_t code = 0;
  uint8_t qualifier = 0;
  bool operator==(const Sense&) const = default;
};

constexpr Sense kNoSense{};
constexpr Sense kNoMedium{0x02, 0x3a, 0x00};
constexpr Sense kTrayOpen{0x02, 0x3a, 0x02};
constexpr Sense kReadError{0x03, 0x11, 0x00};
constexpr Sense kInvalidCommand{0x05, 0x20, 0x00};
constexpr Sense kOutOfRange{0x05, 0x21, 0x00};
constexpr Sense kInvalidField{0x05, 0x24, 0x00};
constexpr Sense kRemovalPrevented{0x05, 0x53, 0x02};
constexpr Sense kMediumChanged{0x06, 0x28, 0x00};
constexpr Sense kWasReset{0x06, 0x29, 0x00};

// MMC-3, "GET EVENT STATUS NOTIFICATION": the media events.
enum class MediaEvent : uint8_t { kNone = 0, kEjectRequest = 1, kNewMedia = 2, kMediaRemoval = 3 };

// The guest-visible state of the drive and of its disc.
struct Cdrom {
  uint32_t blocks = 0;          // on the disc; 0: no disc, or less than a block
  Sense sense = kNoSense;       // the result of the last command, for REQUEST SENSE
  Sense attention = kWasReset;  // the pending unit attention, or kNoSense
  bool locked = false;
  bool tray_open = false;
  MediaEvent event = MediaEvent::kNone;  // the last event, until it is reported
  bool operator==(const Cdrom&) const = default;
};

struct Reply {
  enum class Kind {
    kDone,    // the command succeeded and has no data
    kData,    // return the first `size` bytes of `data`
    kRead,    // read `blocks` blocks from `first_block`; all of them are on the disc
    kFailed,  // the command failed; Cdrom::sense has the reason
  };

  Kind kind = Kind::kDone;
  std::array<std::byte, kMaxReplyBytes> data{};
  size_t size = 0;
  uint32_t first_block = 0;
  uint32_t blocks = 0;
};

Reply execute(std::span<const std::byte, kPacketBytes> packet, Cdrom& cdrom);

// Functions for the host. open_tray() opens the tray and takes the disc out. If the guest has
// locked the tray, open_tray() without `force` returns false and only tells the guest that the
// eject button was pressed. insert() puts in a disc of `blocks` blocks and closes the tray.
bool open_tray(Cdrom& cdrom, bool force);
void insert(Cdrom& cdrom, uint32_t blocks);

}  // namespace wick::devices::atapi

// A CD-ROM drive's commands: twelve bytes in, and out comes what the drive is to
// do about them. It holds no data and does no I/O; devices/ide/drive.* does.
//
// Pure functions of their arguments; no thread rule.
//
// Specification: MMC-3 (T10/1363-D) for the commands of CD-ROM drives, SPC-2
// (T10/1236-D) for those of all devices; cited by name.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace wick::devices::atapi {

constexpr size_t kPacketBytes = 12;
constexpr uint32_t kBlockBytes = 2048;
constexpr size_t kMostReplyBytes = 256;

// Why a command failed (SPC-2, "Sense data").
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

// What the guest can see of the drive and of the disc in it.
struct Cdrom {
  uint32_t blocks = 0;          // of the disc; 0: it is too short to be one
  Sense sense = kNoSense;       // of the last command, for REQUEST SENSE
  Sense attention = kWasReset;  // a unit attention that was not told yet, or kNoSense
  bool locked = false;
  bool tray_open = false;
  bool operator==(const Cdrom&) const = default;
};

struct Reply {
  enum class Kind {
    kDone,    // and there is no data
    kData,    // the first `size` bytes of `data`
    kRead,    // `blocks` blocks from `first_block`, all of them on the disc
    kFailed,  // the sense says why
  };

  Kind kind = Kind::kDone;
  std::array<std::byte, kMostReplyBytes> data{};
  size_t size = 0;
  uint32_t first_block = 0;
  uint32_t blocks = 0;
};

Reply execute(std::span<const std::byte, kPacketBytes> packet, Cdrom& cdrom);

}  // namespace wick::devices::atapi

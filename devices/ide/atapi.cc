#include "devices/ide/atapi.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <string_view>
#include <utility>

namespace wick::devices::atapi {

namespace {

enum Opcode : uint8_t {
  kTestUnitReady = 0x00,
  kRequestSense = 0x03,
  kInquiry = 0x12,
  kStartStopUnit = 0x1b,
  kPreventAllowRemoval = 0x1e,
  kReadCapacity = 0x25,
  kRead10 = 0x28,
  kSeek10 = 0x2b,
  kReadToc = 0x43,
  kGetConfiguration = 0x46,
  kGetEventStatus = 0x4a,
  kReadDiscInformation = 0x51,
  kModeSense10 = 0x5a,
  kRead12 = 0xa8,
  kSetCdSpeed = 0xbb,
};

// The capacity of a CD of 80 minutes; a larger disc is a DVD.
constexpr uint32_t kMaxCdBlocks = 80 * 60 * 75;
constexpr uint16_t kProfileCdRom = 0x0008;
constexpr uint16_t kProfileDvdRom = 0x0010;

constexpr uint8_t kLeadOut = 0xaa;
constexpr uint8_t kDataTrack = 0x14;     // ADR 1, a data track without copy permission
constexpr uint16_t kSpeedKBytes = 8467;  // 48 times the speed of an audio CD

using Packet = std::span<const std::byte, kPacketBytes>;

uint8_t byte_at(Packet packet, size_t at) { return std::to_integer<uint8_t>(packet[at]); }
uint16_t word_at(Packet packet, size_t at) {
  return static_cast<uint16_t>(byte_at(packet, at) << 8 | byte_at(packet, at + 1));
}
uint32_t long_at(Packet packet, size_t at) {
  return uint32_t{word_at(packet, at)} << 16 | word_at(packet, at + 2);
}

// Builds a reply; numbers are big-endian, as everywhere in SCSI. All replies are shorter
// than the array.
class Writer {
 public:
  Writer& bytes(std::initializer_list<int> values) {
    for (const int value : values) put(static_cast<uint8_t>(value));
    return *this;
  }
  Writer& word(uint32_t value) {
    return bytes({static_cast<int>(value >> 8 & 0xff), static_cast<int>(value & 0xff)});
  }
  Writer& number(uint32_t value) { return word(value >> 16).word(value & 0xffff); }
  // Appends a text, padded with blanks to `length`.
  Writer& text(std::string_view text, size_t length) {
    for (size_t i = 0; i < length; ++i) put(static_cast<uint8_t>(i < text.size() ? text[i] : ' '));
    return *this;
  }
  // Writes a length field at `at`: the number of bytes after the field.
  Writer& length_word(size_t at) {
    const size_t length = reply_.size - at - 2;
    reply_.data[at] = static_cast<std::byte>(length >> 8);
    reply_.data[at + 1] = static_cast<std::byte>(length);
    return *this;
  }
  Writer& length_number(size_t at) { return length_word(at + 2); }
  size_t size() const { return reply_.size; }

  // Truncates the reply to the host's allocation length.
  Reply reply(size_t allocated) const {
    Reply result = reply_;
    result.kind = Reply::Kind::kData;
    result.size = std::min(result.size, allocated);
    return result;
  }

 private:
  void put(uint8_t value) {
    if (reply_.size < kMaxReplyBytes) reply_.data[reply_.size++] = std::byte{value};
  }
  Reply reply_;
};

Reply failed(Cdrom& cdrom, const Sense& sense) {
  cdrom.sense = sense;
  Reply reply;
  reply.kind = Reply::Kind::kFailed;
  return reply;
}

bool is_dvd(const Cdrom& cdrom) { return cdrom.blocks > kMaxCdBlocks; }
bool has_disc(const Cdrom& cdrom) { return cdrom.blocks > 0 && !cdrom.tray_open; }
Sense not_ready(const Cdrom& cdrom) { return cdrom.tray_open ? kTrayOpen : kNoMedium; }

// SPC-2, "REQUEST SENSE", in fixed format.
Reply request_sense(Packet packet, Cdrom& cdrom) {
  // Without sense data, a pending unit attention is reported.
  if (cdrom.sense == kNoSense) std::swap(cdrom.sense, cdrom.attention);
  Writer writer;
  writer.bytes({0x70, 0, cdrom.sense.key, 0, 0, 0, 0, 10, 0, 0, 0, 0, cdrom.sense.code,
                cdrom.sense.qualifier, 0, 0, 0, 0});
  cdrom.sense = kNoSense;
  return writer.reply(byte_at(packet, 4));
}

// SPC-2, "INQUIRY".
Reply inquiry(Packet packet, Cdrom& cdrom) {
  // There are no vital product data (VPD) pages.
  if ((byte_at(packet, 1) & 1) != 0 || byte_at(packet, 2) != 0) return failed(cdrom, kInvalidField);
  Writer writer;
  writer
      .bytes({0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0})  // a CD-ROM drive, removable, ATAPI
      .text("wick", 8)
      .text("CD-ROM", 16)
      .text("1", 4);
  return writer.reply(word_at(packet, 3));
}

// MMC-3, "START STOP UNIT".
Reply start_stop(Packet packet, Cdrom& cdrom) {
  const bool start = (byte_at(packet, 4) & 1) != 0;
  const bool load_or_eject = (byte_at(packet, 4) & 2) != 0;
  if (!load_or_eject) return {};
  if (!start && cdrom.locked) return failed(cdrom, kRemovalPrevented);
  if (start && cdrom.tray_open) cdrom.attention = kMediumChanged;
  cdrom.tray_open = !start;
  return {};
}

// MMC-3, "READ TOC/PMA/ATIP": one session with one data track.
Reply read_toc(Packet packet, Cdrom& cdrom) {
  const bool as_time = (byte_at(packet, 1) & 2) != 0;
  // SFF-8020 has the format in the upper bits of byte 9, and Linux still uses it.
  const int format =
      (byte_at(packet, 2) & 0x0f) != 0 ? byte_at(packet, 2) & 0x0f : byte_at(packet, 9) >> 6;
  const int first_track = byte_at(packet, 6);
  Writer writer;
  const auto address = [&](uint32_t block) {
    const uint32_t frames = block + 150;  // block 0 is at 2 seconds
    if (as_time)
      writer.bytes({0, static_cast<int>(frames / 75 / 60 & 0xff),
                    static_cast<int>(frames / 75 % 60), static_cast<int>(frames % 75)});
    else
      writer.number(block);
  };
  switch (format) {
    case 0:
      if (first_track > 1 && first_track != kLeadOut) return failed(cdrom, kInvalidField);
      writer.word(0).bytes({1, 1});
      if (first_track <= 1) {
        writer.bytes({0, kDataTrack, 1, 0});
        address(0);
      }
      writer.bytes({0, kDataTrack, kLeadOut, 0});
      address(cdrom.blocks);
      break;
    case 1:
      writer.word(0).bytes({1, 1}).bytes({0, kDataTrack, 1, 0});
      address(0);
      break;
    default:
      return failed(cdrom, kInvalidField);
  }
  return writer.length_word(0).reply(word_at(packet, 7));
}

// MMC-3, "GET CONFIGURATION": the features, from the starting feature number on.
Reply get_configuration(Packet packet, Cdrom& cdrom) {
  // RT: 0 asks for all features, 1 for the current features, 2 for one feature.
  const int which = byte_at(packet, 1) & 3;
  const uint16_t from = word_at(packet, 2);
  const bool disc = has_disc(cdrom);
  const bool dvd = disc && is_dvd(cdrom);
  const bool cd = disc && !dvd;
  if (which == 3) return failed(cdrom, kInvalidField);
  Writer writer;
  writer.number(0).word(0).word(!disc ? 0 : dvd ? kProfileDvdRom : kProfileCdRom);
  const auto wanted = [&](uint16_t feature, bool in_effect) {
    return which == 2 ? feature == from : feature >= from && (which == 0 || in_effect);
  };
  // A feature begins with its number. Then come a byte with the version and the bits "persistent"
  // and "current", and a byte with the length of the rest.
  if (wanted(0x0000, true))  // feature: profile list
    writer.word(0x0000)
        .bytes({0x03, 8})
        .word(kProfileDvdRom)
        .bytes({dvd, 0})
        .word(kProfileCdRom)
        .bytes({cd, 0});
  // Feature: core; 2 is ATAPI.
  if (wanted(0x0001, true)) writer.word(0x0001).bytes({0x03, 4}).number(2);
  if (wanted(0x0003, true))  // feature: removable medium; a tray, eject, lock
    writer.word(0x0003).bytes({0x03, 4, 0x29, 0, 0, 0});
  if (wanted(0x0010, disc))  // feature: random readable, in single blocks
    writer.word(0x0010).bytes({disc, 8}).number(kBlockBytes).word(1).bytes({0, 0});
  if (wanted(0x001e, cd)) writer.word(0x001e).bytes({cd, 0});    // feature: CD read
  if (wanted(0x001f, dvd)) writer.word(0x001f).bytes({dvd, 0});  // feature: DVD read
  return writer.length_number(0).reply(word_at(packet, 7));
}

// MMC-3, "GET EVENT STATUS NOTIFICATION": only media events are reported, and only if the guest
// polls.
Reply get_event_status(Packet packet, Cdrom& cdrom) {
  constexpr int kMediaClass = 4;
  if ((byte_at(packet, 1) & 1) == 0) return failed(cdrom, kInvalidField);
  Writer writer;
  writer.word(0);
  if ((byte_at(packet, 4) & 1 << kMediaClass) != 0)
    writer.bytes({kMediaClass, 1 << kMediaClass})
        .bytes({static_cast<int>(std::exchange(cdrom.event, MediaEvent::kNone)),
                (has_disc(cdrom) ? 2 : 0) | (cdrom.tray_open ? 1 : 0), 0, 0});
  else
    writer.bytes({0x80, 1 << kMediaClass});
  return writer.length_word(0).reply(word_at(packet, 7));
}

// MMC-3, "READ DISC INFORMATION": the disc and its only session are complete.
Reply read_disc_information(Packet packet) {
  Writer writer;
  writer.word(0)
      .bytes({0x0e, 1, 1, 1, 1, 0x20, 0, 0, 0, 0})
      .number(0)
      .number(0)
      .number(~0u)
      .number(~0u);
  writer.number(0).number(0).bytes({0, 0});
  return writer.length_word(0).reply(word_at(packet, 7));
}

// SPC-2, "MODE SENSE(10)"; MMC-3, "Mode parameters for CD/DVD devices".
Reply mode_sense(Packet packet, Cdrom& cdrom) {
  constexpr int kAllPages = 0x3f;
  constexpr int kErrorRecovery = 0x01;
  constexpr int kCapabilities = 0x2a;
  const int page = byte_at(packet, 2) & 0x3f;
  // PC 1 asks which values can be changed: none.
  const bool changeable = byte_at(packet, 2) >> 6 == 1;
  const auto unless_changeable = [&](int value) { return changeable ? 0 : value; };
  Writer writer;
  writer.word(0).bytes({0, 0, 0, 0, 0, 0});
  const size_t header_bytes = writer.size();
  if (page == kErrorRecovery || page == kAllPages)
    writer.bytes({kErrorRecovery, 6, 0, unless_changeable(5), 0, 0, 0, 0});
  if (page == kCapabilities || page == kAllPages) {
    const auto speed = static_cast<uint32_t>(unless_changeable(kSpeedKBytes));
    // The drive reads CD-R, CD-RW, DVD-ROM, mode 2 and multiple sessions. Its tray can
    // lock and eject; bit 1 (0x2b) says that it is locked now.
    writer
        .bytes({kCapabilities, 20, unless_changeable(0x0b), 0, unless_changeable(0x70), 0,
                unless_changeable(cdrom.locked ? 0x2b : 0x29), 0})
        .word(speed)
        .word(0)
        .word(static_cast<uint32_t>(unless_changeable(128)))
        .word(speed)
        .number(0)
        .word(0);
  }
  if (writer.size() == header_bytes) return failed(cdrom, kInvalidField);
  return writer.length_word(0).reply(word_at(packet, 7));
}

Reply read_blocks(uint32_t first, uint32_t count, Cdrom& cdrom) {
  if (first > cdrom.blocks || count > cdrom.blocks - first) return failed(cdrom, kOutOfRange);
  Reply reply;
  reply.kind = count == 0 ? Reply::Kind::kDone : Reply::Kind::kRead;
  reply.first_block = first;
  reply.blocks = count;
  return reply;
}

// Returns true for the commands that fail without a disc.
bool needs_disc(uint8_t opcode) {
  switch (opcode) {
    case kTestUnitReady:
    case kReadCapacity:
    case kRead10:
    case kRead12:
    case kSeek10:
    case kReadToc:
    case kReadDiscInformation:
      return true;
    default:
      return false;
  }
}

// Returns true for the commands that are executed despite a unit attention (SPC-2, "Unit attention
// condition").
bool ignores_attention(uint8_t opcode) {
  return opcode == kInquiry || opcode == kRequestSense || opcode == kGetConfiguration ||
         opcode == kGetEventStatus;
}

}  // namespace

bool open_tray(Cdrom& cdrom, bool force) {
  if (cdrom.locked && !cdrom.tray_open && !force) {
    cdrom.event = MediaEvent::kEjectRequest;
    return false;
  }
  if (has_disc(cdrom)) cdrom.event = MediaEvent::kMediaRemoval;
  cdrom.tray_open = true;
  cdrom.blocks = 0;
  return true;
}

void insert(Cdrom& cdrom, uint32_t blocks) {
  cdrom.blocks = blocks;
  cdrom.tray_open = false;
  cdrom.event = MediaEvent::kNewMedia;
  cdrom.attention = kMediumChanged;
}

Reply execute(Packet packet, Cdrom& cdrom) {
  const uint8_t opcode = byte_at(packet, 0);
  if (opcode == kRequestSense) return request_sense(packet, cdrom);
  cdrom.sense = kNoSense;
  if (cdrom.attention != kNoSense && !ignores_attention(opcode)) {
    const Sense attention = cdrom.attention;
    cdrom.attention = kNoSense;
    return failed(cdrom, attention);
  }
  if (needs_disc(opcode) && !has_disc(cdrom)) return failed(cdrom, not_ready(cdrom));
  switch (opcode) {
    case kTestUnitReady:
    case kSetCdSpeed:
      return {};
    case kInquiry:
      return inquiry(packet, cdrom);
    case kStartStopUnit:
      return start_stop(packet, cdrom);
    case kPreventAllowRemoval:
      cdrom.locked = (byte_at(packet, 4) & 1) != 0;
      return {};
    case kReadCapacity:
      return Writer().number(cdrom.blocks - 1).number(kBlockBytes).reply(kMaxReplyBytes);
    case kRead10:
      return read_blocks(long_at(packet, 2), word_at(packet, 7), cdrom);
    case kRead12:
      return read_blocks(long_at(packet, 2), long_at(packet, 6), cdrom);
    case kSeek10:
      return long_at(packet, 2) < cdrom.blocks ? Reply{} : failed(cdrom, kOutOfRange);
    case kReadToc:
      return read_toc(packet, cdrom);
    case kGetConfiguration:
      return get_configuration(packet, cdrom);
    case kGetEventStatus:
      return get_event_status(packet, cdrom);
    case kReadDiscInformation:
      return read_disc_information(packet);
    case kModeSense10:
      return mode_sense(packet, cdrom);
    default:
      return failed(cdrom, kInvalidCommand);
  }
}

}  // namespace wick::devices::atapi

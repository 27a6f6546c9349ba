#include "devices/e1000/receive.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "net/vlan.h"

namespace wick::devices::e1000 {

namespace {

constexpr size_t kEthernetBytes = 14;
constexpr size_t kTypeOffset = 12;
constexpr size_t kTagBytes = 4;
constexpr size_t kMinFrameBytes = 60;  // the minimum on the wire, without the CRC
constexpr size_t kCrcBytes = 4;
constexpr size_t kMaxShortBytes = 1522;  // with CRC and tag; larger packets need LPE
constexpr size_t kMaxLongBytes = 16384;

bool bit(std::span<const uint32_t> table, uint32_t index) {
  return (table[index / 32] >> index % 32 & 1) != 0;
}

}  // namespace

ReceiveSettings::Match ReceiveSettings::match(std::span<const std::byte> frame) const {
  // 9.3: a tagged packet must also pass the VLAN filter.
  const auto type = load_be<uint16_t>(frame.subspan(kTypeOffset));
  if (type == vlan_type && (rctl & kVlanFilter) != 0) {
    const auto tag = load_be<uint16_t>(frame.subspan(kEthernetBytes));
    if (!bit(vlans, tag & 0xfff)) return Match::kNone;
    const bool canonical = (tag & 0x1000) != 0;
    if ((rctl & kCanonicalFilter) != 0 && canonical != ((rctl & kCanonical) != 0))
      return Match::kNone;
  }
  const auto low = load_le<uint32_t>(frame);
  const auto high = load_le<uint16_t>(frame.subspan(4));
  for (size_t i = 0; i < addresses.size(); i += 2)
    if (addresses[i] == low && (addresses[i + 1] & 0xffff) == high &&
        (addresses[i + 1] & (kAddressValid | kAddressSelect)) == kAddressValid)
      return Match::kExact;
  const bool multicast = (low & 1) != 0;
  if (!multicast) return (rctl & kUnicastPromiscuous) != 0 ? Match::kExact : Match::kNone;
  if ((rctl & kMulticastPromiscuous) != 0) return Match::kExact;
  if (low == 0xffffffff && high == 0xffff && (rctl & kBroadcastAccept) != 0) return Match::kExact;
  // 13.5.1: the index is twelve of the upper sixteen bits of the address; MO selects them.
  constexpr std::array<uint32_t, 4> kShifts = {4, 3, 2, 0};
  const uint32_t hash = high >> kShifts[multicast_offset(rctl)] & 0xfff;
  return bit(multicasts, hash) ? Match::kInexact : Match::kNone;
}

Receiver::Receiver(const GuestMemory& memory, net::Backend& backend)
    : memory_(memory),
      backend_(backend),
      packet_(std::make_unique<std::byte[]>(net::kMaxPacketBytes)) {}

Receiver::Outcome Receiver::run(Ring ring, const ReceiveSettings& settings, const Epoch& epoch) {
  Outcome outcome;
  for (uint32_t packets = 0; packets < kMaxPackets && !epoch.over(); ++packets) {
    if (ring.available() == 0) {
      outcome.wants_buffers = true;
      break;
    }
    if (!holds_packet() && !fetch(settings, outcome)) {
      if (outcome.drained) break;
      continue;
    }
    const Room room = find_room(ring, buffer_bytes(settings.rctl));
    if (room == Room::kLater) {
      outcome.wants_buffers = true;
      break;
    }
    if (room == Room::kNever) {
      outcome.overrun = true;
      ++outcome.missed;
    } else {
      deliver(ring);
      ring.advance(static_cast<uint32_t>(buffer_count_));
    }
    left_bytes_ = 0;
  }
  outcome.head = ring.head();
  return outcome;
}

// Returns false if there is no frame or if the filters rejected it.
bool Receiver::fetch(const ReceiveSettings& settings, Outcome& outcome) {
  auto frame = frames_.next();
  if (frame.empty()) {
    const iovec buffer{packet_.get(), net::kMaxPacketBytes};
    const size_t bytes = backend_.receive(0, std::span(&buffer, 1));
    outcome.drained = bytes == 0;
    auto frames = net::Segmenter::create({packet_.get(), bytes});
    if (!frames) return false;
    // The back end leaves a checksum undone only if it knows that the data is good.
    const auto flags = load_le<net::PacketHeader>({packet_.get(), bytes}).flags;
    checksums_good_ =
        (flags & (net::PacketHeader::kChecksumValid | net::PacketHeader::kNeedsChecksum)) != 0;
    frames_ = *frames;
    frame = frames_.next();
  }
  if (frame.size() < kEthernetBytes) return false;
  // Pads a short frame, as on the wire, up to the end of a possible tag. The padding cannot
  // overwrite a later segment, because no segment of a larger packet is that short.
  constexpr size_t kMinBytes = kEthernetBytes + kTagBytes;
  if (frame.size() < kMinBytes) {
    std::memset(frame.data() + frame.size(), 0, kMinBytes - frame.size());
    frame = {frame.data(), kMinBytes};
  }
  return admit(settings, frame, outcome);
}

bool Receiver::admit(const ReceiveSettings& settings, std::span<std::byte> frame,
                     Outcome& outcome) {
  const auto match = settings.match(frame);
  if (match == ReceiveSettings::Match::kNone) return false;
  // The host's packets may be shorter than the minimum of the wire, so they are padded.
  const size_t padded_bytes = std::max(frame.size(), kMinFrameBytes);
  const size_t wire_bytes = padded_bytes + kCrcBytes;
  // The real chip drops a full frame with two tags as too long. We accept it, because Linux's
  // driver has room for it but clears LPE at the usual MTU.
  const size_t max_short_bytes = kMaxShortBytes + (net::has_two_tags(frame) ? kTagBytes : 0);
  if (wire_bytes > ((settings.rctl & kLongPackets) != 0 ? kMaxLongBytes : max_short_bytes)) {
    ++outcome.oversized;
    return false;
  }
  outcome.tally.add(1, wire_bytes);
  outcome.tally.add_cast(1, std::span<const std::byte, 6>(frame.first(6)));

  written_ = {};
  if (match == ReceiveSettings::Match::kInexact) written_.status |= ReceiveDescriptor::kInexact;
  // IXSM makes the guest verify the checksum itself.
  const bool good = checksums_good_ && (settings.rxcsum & kReportTcpUdp) != 0;
  written_.status |= good ? ReceiveDescriptor::kTcpChecksum : ReceiveDescriptor::kIgnoreChecksum;
  // The CRC is four zeroes: no driver checks it, but most expect it to be present.
  left_bytes_ = (settings.rctl & kStripCrc) != 0 ? padded_bytes : wire_bytes;
  if (settings.strip_vlan && load_be<uint16_t>(frame.subspan(kTypeOffset)) == settings.vlan_type) {
    written_.status |= ReceiveDescriptor::kVlanPacket;
    written_.special = load_be<uint16_t>(frame.subspan(kEthernetBytes));
    std::memmove(frame.data() + kTagBytes, frame.data(), kTypeOffset);
    frame = frame.subspan(kTagBytes);
    left_bytes_ -= kTagBytes;
  }
  frame_ = frame;
  return true;
}

// Finds buffers for the frame. A null descriptor, which has an address of zero, gets no data
// (3.2.4).
Receiver::Room Receiver::find_room(const Ring& ring, size_t buffer_bytes) {
  buffer_count_ = 0;
  size_t found = 0;
  uint32_t index = ring.head();
  while (found < left_bytes_) {
    if (buffer_count_ == kMaxBuffers || buffer_count_ + 1 >= ring.count()) return Room::kNever;
    if (buffer_count_ == ring.available()) return Room::kLater;
    const auto descriptor = ring.read<ReceiveDescriptor>(index);
    Buffer& buffer = buffers_[buffer_count_++];
    buffer = {.index = index, .null = descriptor.address == 0, .bytes = {}, .filled = 0};
    if (!buffer.null) {
      buffer.filled = std::min(buffer_bytes, left_bytes_ - found);
      if (const auto bytes = memory_.slice({descriptor.address}, buffer.filled))
        buffer.bytes = *bytes;
      found += buffer.filled;
    }
    index = ring.next(index);
  }
  return Room::kEnough;
}

// Copies bytes of the frame as on the wire, with padding and CRC, from `offset` on.
void Receiver::copy_out(size_t offset, std::span<std::byte> to) const {
  const auto data = frame_.subspan(std::min(offset, frame_.size()));
  const size_t bytes = std::min(data.size(), to.size());
  std::memcpy(to.data(), data.data(), bytes);
  std::memset(to.data() + bytes, 0, to.size() - bytes);
}

void Receiver::deliver(const Ring& ring) {
  size_t copied = 0;
  uint8_t errors = 0;
  for (const Buffer& buffer : std::span(buffers_).first(buffer_count_)) {
    if (buffer.null) {
      ring.set_status(buffer.index, kDone);
      continue;
    }
    if (buffer.bytes.empty())
      errors = ReceiveDescriptor::kDataError;
    else
      copy_out(copied, buffer.bytes);
    copied += buffer.filled;
    ReceiveDescriptor::WriteBack what = written_;
    what.length = static_cast<uint16_t>(buffer.filled);
    what.status |= kDone;
    what.errors = errors;
    if (copied == left_bytes_) what.status |= ReceiveDescriptor::kEndOfPacket;
    ring.write_back(buffer.index, what);
  }
}

}  // namespace wick::devices::e1000

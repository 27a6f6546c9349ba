#include "devices/e1000/transmit.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <string>

#include "base/bytes.h"

namespace wick::devices::e1000 {

namespace {

using net::PacketHeader;

constexpr size_t kEthernetBytes = 14;
constexpr size_t kMinFrameBytes = 60;  // the minimum on the wire, without the CRC
constexpr size_t kCrcBytes = 4;
constexpr size_t kTagBytes = 4;
constexpr size_t kMinIpv4Bytes = 20;
constexpr size_t kIpv6Bytes = 40;
constexpr size_t kMinTcpBytes = 20;

// Offsets of the length fields in the IP headers.
constexpr size_t kIpv4Length = 2;
constexpr size_t kIpv6Length = 4;

constexpr std::array<std::byte, kMinFrameBytes> kPadding{};

uint16_t fold(uint64_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// Returns the Internet checksum (RFC 1071), before its complement is taken.
uint16_t sum_of(std::span<const std::byte> bytes) {
  uint64_t sum = 0;
  for (; bytes.size() >= 2; bytes = bytes.subspan(2)) sum += load_be<uint16_t>(bytes);
  if (!bytes.empty()) sum += std::to_integer<uint64_t>(bytes[0]) << 8;
  return fold(sum);
}

}  // namespace

Transmitter::Transmitter(const GuestMemory& memory, net::Backend& backend, const std::string& name)
    : memory_(memory),
      backend_(backend),
      name_(name),
      head_(std::make_unique<std::byte[]>(net::kMaxFrameBytes)) {}

void Transmitter::reset() {
  checksum_context_ = {};
  segmentation_context_ = {};
  dropping_ = false;
}

Transmitter::Outcome Transmitter::run(Ring ring, const TransmitSettings& settings,
                                      const Epoch& epoch) {
  Outcome outcome;
  for (uint32_t packets = 0;
       packets < kMaxPackets && outcome.tally.frames < kMaxFrames && !epoch.over(); ++packets) {
    const uint32_t taken = gather(ring);
    if (taken == 0) break;
    send(settings, outcome);
    for (size_t i = 0; i < report_count_; ++i) ring.set_status(reports_[i], kDone);
    if (report_count_ > 0) outcome.reported = true;
    ring.advance(taken);
    outcome.progress = true;
  }
  outcome.head = ring.head();
  return outcome;
}

// --- from descriptors to a packet ---

uint32_t Transmitter::gather(const Ring& ring) {
  frame_ = {};
  head_bytes_ = 0;
  first_part_ = end_part_ = kPartsInFront;
  report_count_ = 0;
  uint32_t index = ring.head();
  for (uint32_t taken = 1; taken <= ring.available(); ++taken, index = ring.next(index)) {
    const auto descriptor = ring.read<TransmitDescriptor>(index);
    if (descriptor.has(TransmitDescriptor::kReportStatus)) reports_[report_count_++] = index;
    const bool end = descriptor.has(TransmitDescriptor::kEndOfPacket);
    if (descriptor.context()) {
      const auto context = std::bit_cast<ContextDescriptor>(descriptor);
      const bool segment = (context.lower & ContextDescriptor::kSegment) != 0;
      (segment ? segmentation_context_ : checksum_context_) = context;
      if (!frame_.first) return taken;
    } else if (dropping_) {
      dropping_ = !end;
      return taken;
    } else {
      add_data(descriptor);
      if (end) return taken;
    }
    if (taken == kMaxDescriptors) {
      dropping_ = true;
      frame_.broken = true;
      return taken;
    }
  }
  return 0;
}

void Transmitter::add_data(const TransmitDescriptor& descriptor) {
  if (!frame_.first) frame_.first = descriptor;
  frame_.last = descriptor;
  const size_t bytes = descriptor.bytes();
  if (bytes == 0 || frame_.broken) return;
  const auto data = memory_.slice({descriptor.address}, bytes);
  if (!data || bytes > net::kMaxFrameBytes - frame_.bytes) {
    frame_.broken = true;
    return;
  }
  frame_.bytes += bytes;
  // Joins adjacent parts: drivers split a buffer because a real card limits the bytes per
  // descriptor.
  iovec& before = parts_[end_part_ - 1];
  if (end_part_ > first_part_ &&
      static_cast<std::byte*>(before.iov_base) + before.iov_len == data->data())
    before.iov_len += bytes;
  else
    parts_[end_part_++] = {data->data(), bytes};
}

// --- from a packet to the network ---

void Transmitter::send(const TransmitSettings& settings, Outcome& outcome) {
  if (!frame_.first) return;
  if (frame_.broken) {
    warnings_.warn(
        "{}: dropped a packet to send that is not in RAM, is too large, or has too many "
        "descriptors",
        name_);
    return;
  }
  if (frame_.bytes < kEthernetBytes) return;
  header_ = {};
  const bool segment = frame_.first->extended() && frame_.first->has(TransmitDescriptor::kSegment);
  if (!segment) {
    prepare_checksums();
  } else if (prepare_segmentation()) {
    ++outcome.segmentations;
  } else {
    ++outcome.failed_segmentations;
    warnings_.warn("{}: dropped a packet to segment, because its headers are not valid", name_);
    return;
  }
  // 3.3.7.1: the VLAN fields are valid in the first descriptor of a packet to segment,
  // and in the last descriptor of any other packet.
  const TransmitDescriptor& tagged = segment ? *frame_.first : frame_.last;
  const bool tag = settings.vlan && tagged.has(TransmitDescriptor::kVlan);
  const size_t bytes = frame_.bytes + (tag ? kTagBytes : 0);
  if (bytes > net::kMaxFrameBytes) {
    warnings_.warn("{}: dropped a packet to send that is too large with its VLAN tag", name_);
    return;
  }
  const size_t padding = settings.pad_short && bytes < kMinFrameBytes ? kMinFrameBytes - bytes : 0;
  count((tag ? kTagBytes : 0) + padding, outcome.tally);
  if (tag)
    insert_tag(settings.vlan_type, tagged.special);
  else if (head_bytes_ > 0)
    prepend(head(0), head_bytes_);
  prepend(&header_, sizeof(header_));
  if (padding > 0) parts_[end_part_++] = {const_cast<std::byte*>(kPadding.data()), padding};
  backend_.send(0, std::span(parts_).subspan(first_part_, end_part_ - first_part_));
}

void Transmitter::prepend(const void* data, size_t bytes) {
  assert(first_part_ > 0);
  parts_[--first_part_] = {const_cast<void*>(data), bytes};
}

// Moves bytes of the frame into head_ until head_ contains the frame's first `bytes` bytes. The
// frame must have at least `bytes` bytes.
void Transmitter::pull(size_t bytes) {
  assert(bytes <= frame_.bytes);
  while (head_bytes_ < bytes) {
    iovec& part = parts_[first_part_];
    const size_t taken = std::min(part.iov_len, bytes - head_bytes_);
    std::memcpy(head(head_bytes_), part.iov_base, taken);
    head_bytes_ += taken;
    part.iov_base = static_cast<std::byte*>(part.iov_base) + taken;
    part.iov_len -= taken;
    if (part.iov_len == 0) ++first_part_;
  }
  // Keeps the compiler from reading the guest's memory again instead of the copy.
  asm volatile("" ::: "memory");
}

// Inserts or requests the checksums that the descriptors ask for (3.3.7.3; 3.3.3 for legacy
// descriptors).
void Transmitter::prepare_checksums() {
  const TransmitDescriptor& first = *frame_.first;
  if (!first.extended()) {
    const TransmitDescriptor& last = frame_.last;
    if (last.has(TransmitDescriptor::kInsertChecksum))
      request_checksum(last.options, last.checksum_offset(), 0);
    return;
  }
  const ContextDescriptor& context = checksum_context_;
  if ((first.options & TransmitDescriptor::kIpChecksum) != 0) {
    const size_t end = context.ip_end == 0 ? frame_.bytes : context.ip_end + size_t{1};
    insert_checksum(context.ip_start, context.ip_offset, std::min(end, frame_.bytes));
  }
  if ((first.options & TransmitDescriptor::kTcpUdpChecksum) != 0)
    request_checksum(context.tcp_start, context.tcp_offset, context.tcp_end);
}

// Leaves the checksum to the back end if the checksum covers the frame from `start` to the frame's
// end; otherwise computes it here. `last` is the last byte that the checksum covers; 0 means the
// frame's end.
void Transmitter::request_checksum(size_t start, size_t offset, size_t last) {
  if (start >= frame_.bytes || offset + 2 > frame_.bytes) return;
  const bool to_the_end = last == 0 || last + 1 >= frame_.bytes;
  if (!to_the_end || offset < start)
    return insert_checksum(start, offset, to_the_end ? frame_.bytes : last + 1);
  header_.flags = PacketHeader::kNeedsChecksum;
  header_.checksum_start = static_cast<uint16_t>(start);
  header_.checksum_offset = static_cast<uint16_t>(offset - start);
}

void Transmitter::insert_checksum(size_t start, size_t offset, size_t end) {
  if (start >= end || offset + 2 > frame_.bytes) return;
  pull(std::max(end, offset + 2));
  const auto sum = static_cast<uint16_t>(~sum_of({head(start), end - start}));
  store_be(std::span(head(offset), 2), sum);
}

// 3.5: the driver does not fill in the header fields that differ from segment to segment. The back
// end makes the segments, and expects the headers as for one large packet: the IP header has the
// length of the whole packet, and the TCP checksum field has the sum of a pseudo header with that
// length. The offsets and sizes of the headers are taken only from the context, as on the real
// card, and not from the headers themselves.
bool Transmitter::prepare_segmentation() {
  const ContextDescriptor& context = segmentation_context_;
  const bool ipv4 = (context.lower & ContextDescriptor::kIpv4) != 0;
  const size_t ip = context.ip_start;
  const size_t tcp = context.tcp_start;
  const size_t headers = context.header_bytes;
  if ((context.lower & ContextDescriptor::kTcp) == 0 || context.segment_bytes == 0) return false;
  if (ip < kEthernetBytes || tcp < ip + (ipv4 ? kMinIpv4Bytes : kIpv6Bytes) ||
      headers < tcp + kMinTcpBytes || headers > frame_.bytes)
    return false;
  if (context.tcp_offset < tcp || context.tcp_offset + size_t{2} > headers) return false;
  const size_t ip_payload = frame_.bytes - ip - (ipv4 ? 0 : kIpv6Bytes);
  if (ip_payload > UINT16_MAX) return false;

  pull(headers);
  const auto put = [&](size_t offset, size_t value) {
    store_be(std::span(head(offset), 2), static_cast<uint16_t>(value));
  };
  put(ip + (ipv4 ? kIpv4Length : kIpv6Length), ip_payload);
  if (ipv4 && (frame_.first->options & TransmitDescriptor::kIpChecksum) != 0) {
    const size_t offset = context.ip_offset;
    if (offset < ip || offset + 2 > headers) return false;
    put(offset, 0);
    const bool given = context.ip_end > ip && context.ip_end < headers;
    insert_checksum(ip, offset, given ? context.ip_end + size_t{1} : tcp);
  }
  const auto pseudo = load_be<uint16_t>(std::span(head(context.tcp_offset), 2));
  put(context.tcp_offset, fold(uint64_t{pseudo} + (frame_.bytes - tcp)));

  header_.flags = PacketHeader::kNeedsChecksum;
  header_.checksum_start = static_cast<uint16_t>(tcp);
  header_.checksum_offset = static_cast<uint16_t>(context.tcp_offset - tcp);
  header_.header_bytes = static_cast<uint16_t>(headers);
  if (frame_.bytes - headers > context.segment_bytes) {
    header_.segmentation = ipv4 ? PacketHeader::kTcp4 : PacketHeader::kTcp6;
    header_.segment_bytes = context.segment_bytes;
  }
  return true;
}

void Transmitter::insert_tag(uint16_t type, uint16_t tag) {
  pull(std::max(head_bytes_, kTagOffset));
  store_be(std::span(tag_).first(2), type);
  store_be(std::span(tag_).last(2), tag);
  if (head_bytes_ > kTagOffset) prepend(head(kTagOffset), head_bytes_ - kTagOffset);
  prepend(tag_.data(), tag_.size());
  prepend(head(0), kTagOffset);
  if ((header_.flags & PacketHeader::kNeedsChecksum) != 0) {
    if (header_.checksum_start >= kTagOffset) header_.checksum_start += kTagBytes;
  }
  if (header_.header_bytes > 0) header_.header_bytes += kTagBytes;
}

// Counts each segment as a frame. Tag and padding add `added_bytes` to each frame.
void Transmitter::count(size_t added_bytes, Tally& tally) {
  added_bytes += kCrcBytes;
  uint32_t frames = 1;
  size_t last_bytes = frame_.bytes + added_bytes;
  if (header_.segmentation != PacketHeader::kNone) {
    const size_t payload = frame_.bytes - header_.header_bytes;
    const size_t before = (payload - 1) / header_.segment_bytes;
    frames += static_cast<uint32_t>(before);
    last_bytes -= before * header_.segment_bytes;
    tally.add(frames - 1, header_.header_bytes + header_.segment_bytes + added_bytes);
  }
  tally.add(1, last_bytes);
  if (head_bytes_ == 0 && parts_[first_part_].iov_len < 6) pull(6);
  const void* start = head_bytes_ > 0 ? head(0) : parts_[first_part_].iov_base;
  if (head_bytes_ > 0) pull(std::max<size_t>(head_bytes_, 6));
  std::array<std::byte, 6> destination;
  std::memcpy(destination.data(), start, destination.size());
  tally.add_cast(frames, destination);
}

}  // namespace wick::devices::e1000

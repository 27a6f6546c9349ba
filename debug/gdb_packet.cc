#include "debug/gdb_packet.h"

namespace wick::debug {

namespace {

constexpr char kDigits[] = "0123456789abcdef";

std::optional<uint8_t> digit(unsigned char c) {
  if (c >= '0' && c <= '9') return static_cast<uint8_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<uint8_t>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<uint8_t>(c - 'A' + 10);
  return std::nullopt;
}

}  // namespace

void PacketReader::start() {
  state_ = State::kData;
  payload_.clear();
  frame_bytes_ = 0;
  sum_ = 0;
}

std::optional<PacketReader::Item> PacketReader::next() {
  while (position_ < input_.size()) {
    if (auto item = take(static_cast<unsigned char>(input_[position_++]))) return item;
  }
  input_.clear();
  position_ = 0;
  return std::nullopt;
}

std::optional<PacketReader::Item> PacketReader::take(unsigned char byte) {
  using Kind = Item::Kind;
  if (state_ == State::kOutside) {
    if (byte == '$') start();
    if (byte == 0x03) return Item{.kind = Kind::kInterrupt};
    if (byte == '-') return Item{.kind = Kind::kRepeat};
    return std::nullopt;  // '+' and garbage are skipped
  }
  if (state_ == State::kChecksumHigh) {
    checksum_high_ = byte;
    state_ = State::kChecksumLow;
    return std::nullopt;
  }
  if (state_ == State::kChecksumLow) {
    state_ = State::kOutside;
    const auto high = digit(checksum_high_);
    const auto low = digit(byte);
    const bool right = high && low && (*high << 4 | *low) == sum_;
    return Item{.kind = right ? Kind::kPacket : Kind::kDamaged, .payload = std::move(payload_)};
  }
  // '$' and '#' are never part of the data, not even after an escape (E.1).
  if (byte == '$') {
    start();
    return std::nullopt;
  }
  if (byte == '#') {
    state_ = state_ == State::kTooLong ? State::kOutside : State::kChecksumHigh;
    return std::nullopt;
  }
  if (state_ == State::kTooLong) return std::nullopt;
  if (++frame_bytes_ > kPacketBytes) {
    state_ = State::kTooLong;
    payload_.clear();
    return std::nullopt;
  }
  sum_ = static_cast<uint8_t>(sum_ + byte);
  if (state_ == State::kEscape) {
    payload_ += static_cast<char>(byte ^ 0x20);
    state_ = State::kData;
  } else if (byte == '}') {
    state_ = State::kEscape;
  } else {
    payload_ += static_cast<char>(byte);
  }
  return std::nullopt;
}

std::string frame_packet(std::string_view payload) {
  std::string frame = "$";
  frame.reserve(payload.size() + 4);
  uint8_t sum = 0;
  const auto put = [&](char c) {
    frame += c;
    sum = static_cast<uint8_t>(sum + static_cast<unsigned char>(c));
  };
  for (const char c : payload) {
    // An unescaped '*' would begin a run-length code.
    if (c == '$' || c == '#' || c == '}' || c == '*') {
      put('}');
      put(static_cast<char>(c ^ 0x20));
    } else {
      put(c);
    }
  }
  frame += '#';
  frame += kDigits[sum >> 4];
  frame += kDigits[sum & 15];
  return frame;
}

std::string to_hex(std::string_view bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::optional<std::string> from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    const auto high = digit(static_cast<unsigned char>(hex[i]));
    const auto low = digit(static_cast<unsigned char>(hex[i + 1]));
    if (!high || !low) return std::nullopt;
    bytes += static_cast<char>(*high << 4 | *low);
  }
  return bytes;
}

std::optional<uint64_t> take_hex(std::string_view& text) {
  uint64_t value = 0;
  size_t used = 0;
  for (; used < text.size(); ++used) {
    const auto next = digit(static_cast<unsigned char>(text[used]));
    if (!next) break;
    if (value >> 60 != 0) return std::nullopt;
    value = value << 4 | *next;
  }
  if (used == 0) return std::nullopt;
  text.remove_prefix(used);
  return value;
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace wick::debug

// The packets of gdb's remote protocol: "$data#checksum" (Debugging with GDB, appendix E.1).
// What arrives is foreign: garbage between packets is skipped, and a packet that is too long is
// dropped.
//
// Thread rule: none; one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace wick::debug {

// What qSupported promises: the longest packet, with its frame, in either direction.
inline constexpr size_t kPacketBytes = 0x4000;

class PacketReader {
 public:
  struct Item {
    enum class Kind {
      kPacket,     // `payload`, without escapes
      kDamaged,    // a packet whose checksum is wrong
      kInterrupt,  // the byte 0x03 outside a packet: Ctrl-C
      kRepeat,     // '-': the client did not understand the last answer
    };
    Kind kind = Kind::kPacket;
    std::string payload = {};
  };

  void feed(std::string_view bytes) { input_ += bytes; }
  // The next item of what was fed; nullopt if it is not complete.
  std::optional<Item> next();
  // The bytes that were fed and not parsed. The caller bounds them: it stops feeding.
  size_t waiting_bytes() const { return input_.size() - position_; }

 private:
  enum class State { kOutside, kData, kEscape, kTooLong, kChecksumHigh, kChecksumLow };

  std::optional<Item> take(unsigned char byte);
  void start();

  std::string input_;
  size_t position_ = 0;
  State state_ = State::kOutside;
  std::string payload_;
  size_t frame_bytes_ = 0;
  uint8_t sum_ = 0;
  unsigned char checksum_high_ = 0;
};

// `payload` in its frame, with escapes where needed.
std::string frame_packet(std::string_view payload);

std::string to_hex(std::string_view bytes);
// nullopt unless `hex` is pairs of hexadecimal digits.
std::optional<std::string> from_hex(std::string_view hex);

// Removes a hexadecimal number of at most 64 bits from the start of `text`.
std::optional<uint64_t> take_hex(std::string_view& text);
// Removes `prefix` from the start of `text`; false if it does not start with it.
bool take_prefix(std::string_view& text, std::string_view prefix);

}  // namespace wick::debug

// The packets of gdb's remote protocol: "$data#checksum" (Debugging with GDB, appendix E.1).
// The input is not trusted: garbage between packets is skipped, and a packet that is too long is
// dropped.
//
// Thread rule: any thread, but only one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace wick::debug {

// The maximum size of a packet in either direction, with its frame. Told to gdb in the answer to
// qSupported.
inline constexpr size_t kPacketBytes = 0x4000;

class PacketReader {
 public:
  struct Item {
    enum class Kind {
      kPacket,     // a valid packet; `payload` has no escapes any more
      kDamaged,    // a packet whose checksum is wrong
      kInterrupt,  // the byte 0x03 outside a packet: Ctrl-C
      kRepeat,     // '-': the client did not understand the last answer
    };
    Kind kind = Kind::kPacket;
    std::string payload = {};
  };

  void feed(std::string_view bytes) { input_ += bytes; }
  // Returns the next item of the input; nullopt if it is not complete yet.
  std::optional<Item> next();
  // The number of bytes that were fed and not parsed yet. The caller must limit this number by not
  // feeding more.
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

// Returns `payload` in a frame, with escapes where needed.
std::string frame_packet(std::string_view payload);

std::string to_hex(std::string_view bytes);
// Returns nullopt unless `hex` consists of pairs of hexadecimal digits.
std::optional<std::string> from_hex(std::string_view hex);

// Removes a hexadecimal number from the start of `text` and returns it; nullopt if there is none or
// it has more than 64 bits.
std::optional<uint64_t> take_hex(std::string_view& text);
// Removes `prefix` from the start of `text`. Returns false if `text` does not start with `prefix`.
bool take_prefix(std::string_view& text, std::string_view prefix);

}  // namespace wick::debug

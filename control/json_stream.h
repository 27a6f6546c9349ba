// Finds the JSON values in a client's bytes, which have no framing (QMP specification, "General
// Definitions"; RFC 8259). JsonStream only finds where a value ends; parse_json() checks its
// content. The size and the depth of an unfinished value are bounded.
//
// After a fault, bytes are skipped up to the next '{', '[' or control character; after a value that
// is too large or too deep, only a control character ends the skipping. A control character in a
// wrong place is a fault that discards the unfinished value, but skips nothing after it. 0xff,
// which QEMU's clients send to synchronize, counts as a control character.
//
// Thread rule: the owner's thread.
#pragma once

#include <array>
#include <cstddef>
#include <expected>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace wick::control {

using Json = nlohmann::json;

class JsonStream {
 public:
  static constexpr size_t kMaxValueBytes = 1 << 20;
  static constexpr size_t kMaxDepth = 64;

  // The text of one value; an error is a message for the client.
  using Value = std::expected<std::string, std::string>;

  void push(std::string_view bytes) { input_ += bytes; }
  // Returns the next value; nullopt: no further value is complete yet.
  std::optional<Value> next();

 private:
  enum class State { kBetween, kString, kWord, kNested, kSkippingToBracket, kSkippingToControl };
  Value fault(std::string message, State then = State::kSkippingToBracket);
  Value stray(char c);
  Value take();
  std::optional<Value> begin(char c);
  std::optional<Value> step(char c);
  std::optional<Value> nest(char c);

  std::string input_;
  size_t start_ = 0;  // offset of the value in input_
  size_t next_ = 0;   // offset of the next byte to examine
  State state_ = State::kBetween;
  bool in_string_ = false;  // true: inside a string, in kString or kNested
  bool escaped_ = false;
  std::array<char, kMaxDepth> open_{};  // the brackets that are open
  size_t depth_ = 0;
};

// Parses one value. An error is a message for the client. As in QEMU, a key that comes twice in one
// object is an error.
std::expected<Json, std::string> parse_json(std::string_view text);

// Returns the value as one line of ASCII. Bytes that are not UTF-8, which file names can have, are
// replaced.
std::string to_text(const Json& value);

}  // namespace wick::control

// Finds the JSON values in a client's bytes, which have no framing (QMP specification, "General
// Definitions"; RFC 8259). Only the ends of values are looked for here; parse_json() checks the
// rest. The bytes and the depth of an unfinished value are bounded.
//
// After a fault the stream is read again from the next '{' or '[' on, and after a value that was
// too large or too deep from the next control character on. A control character in a wrong place,
// or 0xff, which QEMU's clients send to synchronize, is a fault that ends there.
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

  // The text of one value, or a message for the client.
  using Value = std::expected<std::string, std::string>;

  void push(std::string_view bytes) { input_ += bytes; }
  // nullopt: the rest of the value has not come yet.
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
  size_t start_ = 0;  // of the value, in input_
  size_t next_ = 0;   // of the first byte that has not been looked at
  State state_ = State::kBetween;
  bool in_string_ = false;  // of kNested
  bool escaped_ = false;
  std::array<char, kMaxDepth> open_{};  // the brackets that are to be closed
  size_t depth_ = 0;
};

// The error is a message for the client. A key that comes twice in one object is an error, as in
// QEMU.
std::expected<Json, std::string> parse_json(std::string_view text);

// One line of ASCII. Bytes that are not UTF-8, as file names can have, are replaced.
std::string to_text(const Json& value);

}  // namespace wick::control

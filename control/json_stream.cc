#include "control/json_stream.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "base/printable.h"

namespace wick::control {

namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == '\xff'; }

// Returns true for the bytes of numbers and of true, false and null. Any other byte ends such a
// word.
bool is_of_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
         c == '+' || c == '.' || c == '_';
}

}  // namespace

JsonStream::Value JsonStream::fault(std::string message, State then) {
  state_ = then;
  depth_ = 0;
  in_string_ = escaped_ = false;
  return std::unexpected(std::move(message));
}

JsonStream::Value JsonStream::stray(char c) {
  return fault(fmt::format("JSON parse error, stray '{}'", printable({&c, 1})),
               is_control(c) ? State::kBetween : State::kSkippingToBracket);
}

JsonStream::Value JsonStream::take() {
  state_ = State::kBetween;
  return input_.substr(start_, next_ - start_);
}

std::optional<JsonStream::Value> JsonStream::begin(char c) {
  start_ = next_ - 1;
  if (c == '{' || c == '[') {
    state_ = State::kNested;
    return nest(c);
  }
  if (c == '"') {
    state_ = State::kString;
    in_string_ = true;
  } else if (is_of_word(c)) {
    state_ = State::kWord;
  } else if (c == '}' || c == ']' || c == ',' || c == ':') {
    return fault("JSON parse error, expecting value");
  } else {
    return stray(c);
  }
  return std::nullopt;
}

// Handles a bracket that is not inside a string.
std::optional<JsonStream::Value> JsonStream::nest(char c) {
  if (c == '{' || c == '[') {
    if (depth_ == kMaxDepth)
      return fault("JSON nesting depth limit exceeded", State::kSkippingToControl);
    open_[depth_++] = c;
    return std::nullopt;
  }
  if (open_[depth_ - 1] != (c == '}' ? '{' : '['))
    return fault("JSON parse error, expecting value");
  if (--depth_ > 0) return std::nullopt;
  return take();
}

// Handles one byte inside a value.
std::optional<JsonStream::Value> JsonStream::step(char c) {
  if (in_string_) {
    if (is_control(c)) return stray(c);
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      if (state_ == State::kString) return take();
    }
    return std::nullopt;
  }
  if (state_ == State::kWord) {
    if (is_of_word(c)) return std::nullopt;
    --next_;  // the byte belongs to what follows
    return take();
  }
  if (c == '"') in_string_ = true;
  if (c == '{' || c == '[' || c == '}' || c == ']') return nest(c);
  if (is_control(c) && !is_space(c)) return stray(c);
  return std::nullopt;
}

std::optional<JsonStream::Value> JsonStream::next() {
  while (next_ < input_.size()) {
    const char c = input_[next_++];
    const bool bracket = c == '{' || c == '[';
    if (state_ == State::kSkippingToBracket || state_ == State::kSkippingToControl) {
      if (!is_control(c) && !(bracket && state_ == State::kSkippingToBracket)) continue;
      state_ = State::kBetween;
      if (!bracket) continue;
    }
    std::optional<Value> found;
    if (state_ == State::kBetween) {
      if (is_space(c)) continue;
      found = begin(c);
    } else {
      found = step(c);
    }
    if (found) return found;
    if (state_ != State::kBetween && next_ - start_ > kMaxValueBytes)
      return fault("JSON token size limit exceeded", State::kSkippingToControl);
  }
  // Only an unfinished value is kept.
  const bool in_value =
      state_ == State::kString || state_ == State::kWord || state_ == State::kNested;
  input_.erase(0, in_value ? start_ : next_);
  next_ = input_.size();
  start_ = 0;
  return std::nullopt;
}

std::expected<Json, std::string> parse_json(std::string_view text) {
  std::vector<std::set<std::string>> keys;
  bool twice = false;
  const auto check = [&](int, Json::parse_event_t event, Json& value) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case Json::parse_event_t::key:
        if (!keys.back().insert(value.get_ref<const std::string&>()).second) twice = true;
        break;
      default:
        break;
    }
    return true;
  };
  Json value = Json::parse(text, check, /*allow_exceptions=*/false);
  if (value.is_discarded()) return std::unexpected("JSON parse error, invalid value");
  if (twice) return std::unexpected("JSON parse error, duplicate key");
  return value;
}

std::string to_text(const Json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

}  // namespace wick::control

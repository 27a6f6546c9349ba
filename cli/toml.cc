#include "cli/toml.h"

#include <algorithm>
#include <cstdint>

namespace wick::cli {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_key_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-' || c == '_';
}

bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; }

// [+-]digits[.digits]
bool is_number(std::string_view word) {
  if (word.starts_with('+') || word.starts_with('-')) word.remove_prefix(1);
  const size_t point = word.find('.');
  const std::string_view whole = word.substr(0, point);
  const std::string_view fraction = point == word.npos ? "0" : word.substr(point + 1);
  const auto digits = [](std::string_view part) {
    return !part.empty() && std::all_of(part.begin(), part.end(), is_digit);
  };
  return digits(whole) && digits(fraction);
}

void append_utf8(std::string& text, uint32_t code_point) {
  const auto byte = [&](uint32_t value) { text += static_cast<char>(value); };
  if (code_point < 0x80) return byte(code_point);
  if (code_point < 0x800) {
    byte(0xc0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      byte(0xe0 | code_point >> 12);
    } else {
      byte(0xf0 | code_point >> 18);
      byte(0x80 | (code_point >> 12 & 0x3f));
    }
    byte(0x80 | (code_point >> 6 & 0x3f));
  }
  byte(0x80 | (code_point & 0x3f));
}

class Parser {
 public:
  explicit Parser(std::string_view text) : rest_(text) {}

  Result<std::vector<TomlEntry>> file() {
    std::vector<TomlEntry> entries;
    for (skip_empty_lines(); !rest_.empty(); skip_empty_lines()) {
      TomlEntry entry = TRY(key_and_value());
      const auto same_key = [&](const TomlEntry& other) { return other.key == entry.key; };
      const auto earlier = std::find_if(entries.begin(), entries.end(), same_key);
      if (earlier != entries.end())
        return wrong("key '{}' was there already, on line {}", entry.key, earlier->line);
      entries.push_back(std::move(entry));
      skip_blanks();
      if (next() == '#') skip_comment();
      if (!rest_.empty() && next() != '\n') return wrong("something follows the value");
    }
    return entries;
  }

 private:
  template <typename... Args>
  std::unexpected<Error> wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return fail("line {}: {}", line_, fmt::format(format, std::forward<Args>(args)...));
  }

  char next() const { return rest_.empty() ? '\0' : rest_.front(); }

  char take() {
    const char c = next();
    if (c == '\n') ++line_;
    if (!rest_.empty()) rest_.remove_prefix(1);
    return c;
  }

  void skip_blanks() {
    while (next() == ' ' || next() == '\t' || rest_.starts_with("\r\n")) take();
  }

  void skip_comment() {
    while (!rest_.empty() && next() != '\n') take();
  }

  void skip_empty_lines() {
    for (skip_blanks(); next() == '\n' || next() == '#'; skip_blanks()) {
      if (next() == '#') skip_comment();
      if (next() == '\n') take();
    }
  }

  std::string_view take_word() {
    constexpr std::string_view kEnds = " \t\r\n,]#=";
    const std::string_view word = rest_.substr(0, rest_.find_first_of(kEnds));
    rest_.remove_prefix(word.size());
    return word;
  }

  Result<TomlEntry> key_and_value() {
    TomlEntry entry{.key = {}, .values = {}, .line = line_};
    if (next() == '[') return wrong("tables are not used here; write key = value");
    const std::string_view word = take_word();
    if (word.empty() || !std::all_of(word.begin(), word.end(), is_key_character))
      return wrong("no key here; write key = value");
    entry.key = word;
    skip_blanks();
    if (take() != '=') return wrong("'=' is missing behind '{}'", word);
    skip_blanks();
    if (next() == '[') {
      entry.values = TRY(array());
    } else {
      entry.values.push_back(TRY(scalar()));
    }
    return entry;
  }

  Result<std::vector<std::string>> array() {
    std::vector<std::string> values;
    take();
    for (skip_empty_lines(); next() != ']'; skip_empty_lines()) {
      if (rest_.empty()) return wrong("']' is missing");
      values.push_back(TRY(scalar()));
      skip_empty_lines();
      if (next() == ',') {
        take();
      } else if (next() != ']') {
        return wrong("',' or ']' is missing");
      }
    }
    take();
    return values;
  }

  Result<std::string> scalar() {
    if (next() == '"' || next() == '\'') return string();
    const std::string_view word = take_word();
    if (word != "true" && word != "false" && !is_number(word))
      return wrong("'{}' is no value; put a text in quotes", word);
    return std::string(word);
  }

  // "basic", with escapes, or 'literal'.
  Result<std::string> string() {
    if (rest_.starts_with("\"\"\"") || rest_.starts_with("'''"))
      return wrong("strings over several lines are not used here");
    const char quote = take();
    std::string text;
    while (next() != quote) {
      if (rest_.empty() || next() == '\n') return wrong("the closing {} is missing", quote);
      if (is_control(next())) return wrong("a control character is in a string");
      if (quote == '"' && next() == '\\') {
        TRY(escape(text));
      } else {
        text += take();
      }
    }
    take();
    return text;
  }

  Result<void> escape(std::string& text) {
    constexpr std::string_view kNames = "btnfr\"\\";
    constexpr std::string_view kMeanings = "\b\t\n\f\r\"\\";
    take();
    const char name = take();
    if (const size_t place = kNames.find(name); place != kNames.npos) {
      text += kMeanings[place];
      return {};
    }
    if (name != 'u' && name != 'U') return wrong("unknown escape in a string");
    uint32_t code_point = 0;
    for (int left = name == 'u' ? 4 : 8; left > 0; --left) {
      constexpr std::string_view kDigits = "0123456789abcdef0123456789ABCDEF";
      const size_t digit = kDigits.find(take());
      if (digit == kDigits.npos) return wrong("a hexadecimal digit is missing in an escape");
      code_point = code_point << 4 | static_cast<uint32_t>(digit % 16);
    }
    const bool surrogate = code_point >= 0xd800 && code_point < 0xe000;
    if (code_point == 0 || surrogate || code_point > 0x10ffff)
      return wrong("an escape names no character");
    append_utf8(text, code_point);
    return {};
  }

  std::string_view rest_;
  size_t line_ = 1;
};

}  // namespace

Result<std::vector<TomlEntry>> parse_toml(std::string_view text) { return Parser(text).file(); }

}  // namespace wick::cli

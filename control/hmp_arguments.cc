// Parses the arguments of a monitor command by their declaration.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/result.h"
#include "control/hmp_command.h"

namespace wick::control::hmp {

namespace {

using Done = std::expected<void, std::string>;

void skip_spaces(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
}

// Returns the next word of the declaration.
std::string_view next_declared(std::string_view& declared) {
  skip_spaces(declared);
  const std::string_view word = declared.substr(0, declared.find(' '));
  declared.remove_prefix(word.size());
  return word;
}

std::expected<std::string, std::string> take_word(std::string_view& line) {
  if (!line.starts_with('"')) {
    const std::string_view word = line.substr(0, line.find_first_of(" \t"));
    line.remove_prefix(word.size());
    return std::string(word);
  }
  std::string word;
  for (size_t i = 1; i < line.size(); ++i) {
    if (line[i] == '"') {
      line.remove_prefix(i + 1);
      return word;
    }
    if (line[i] == '\\' && i + 1 < line.size()) ++i;
    word += line[i];
  }
  return std::unexpected("unterminated string");
}

std::expected<Format, std::string> take_format(std::string_view& line) {
  Format format;
  if (!line.starts_with('/')) return format;
  line.remove_prefix(1);
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), format.count);
  if (error == std::errc::result_out_of_range) return std::unexpected("the count is too large");
  if (error == std::errc()) line.remove_prefix(static_cast<size_t>(end - line.data()));
  for (; !line.empty() && line[0] != ' '; line.remove_prefix(1)) {
    switch (line[0]) {
      case 'o':
      case 'd':
      case 'u':
      case 'x':
      case 'i':
      case 'c':
        format.format = line[0];
        break;
      case 'b':
        format.size_bytes = 1;
        break;
      case 'h':
        format.size_bytes = 2;
        break;
      case 'w':
        format.size_bytes = 4;
        break;
      case 'g':
        format.size_bytes = 8;
        break;
      default:
        return std::unexpected(fmt::format("invalid char in format: '{}'", line[0]));
    }
  }
  return format;
}

// Parses a size: an expression in MiB, or an expression followed by one of the suffixes B, K, M, G
// and T.
std::expected<int64_t, std::string> take_size(std::string_view& line,
                                              const RegisterReader& read_register) {
  const int64_t value = TRY(parse_expression(line, read_register));
  int shift = 20;
  if (!line.empty() && line[0] != ' ') {
    constexpr std::string_view kSuffixes = "bkmgt";
    const size_t index = kSuffixes.find(static_cast<char>(line[0] | 0x20));
    if (index == kSuffixes.npos)
      return std::unexpected(fmt::format("invalid char '{}' in expression", line[0]));
    shift = static_cast<int>(index) * 10;
    line.remove_prefix(1);
  }
  if (value < 0 || value > INT64_MAX >> shift) return std::unexpected("invalid size");
  return value << shift;
}

Done take_number(Arguments& arguments, std::string_view name, char kind, std::string_view& line,
                 const RegisterReader& read_register) {
  if (kind == 'M') {
    arguments.numbers[name] = TRY(take_size(line, read_register));
  } else if (kind == 'i') {
    arguments.numbers[name] = TRY(parse_expression(line, read_register));
  } else {
    const std::string word = TRY(take_word(line));
    if (word != "on" && word != "off") return std::unexpected("Expected 'on' or 'off'");
    arguments.numbers[name] = word == "on" ? 1 : 0;
  }
  return {};
}

// Takes the flags that stand before an argument. Flags may stand before any argument.
void take_flags(Arguments& arguments, std::string_view declared, std::string_view& line) {
  while (line.size() >= 2 && line[0] == '-' && (line.size() == 2 || line[2] == ' ') &&
         declared.find(fmt::format(":-{}", line[1])) != declared.npos) {
    arguments.flags.insert(line[1]);
    line.remove_prefix(2);
    skip_spaces(line);
  }
}

}  // namespace

std::expected<Arguments, std::string> parse_arguments(std::string_view declared,
                                                      std::string_view command,
                                                      std::string_view line,
                                                      const RegisterReader& read_register) {
  Arguments arguments;
  const std::string_view all = declared;
  while (true) {
    const std::string_view word = next_declared(declared);
    if (word.empty()) break;
    const size_t colon = word.find(':');
    const std::string_view name = word.substr(0, colon);
    const char kind = word[colon + 1];
    skip_spaces(line);
    take_flags(arguments, all, line);
    if (kind == '-') continue;
    if (kind == '/') {
      arguments.format = TRY(take_format(line));
      continue;
    }
    if (line.empty() && word.ends_with('?')) continue;
    if (line.empty() && (kind == 's' || kind == 'S'))
      return std::unexpected(fmt::format("{}: {} expected", command, name));
    if (kind == 'S') {
      arguments.words[name] = line;
      line = {};
    } else if (kind == 's') {
      arguments.words[name] = TRY(take_word(line));
    } else {
      TRY(take_number(arguments, name, kind, line, read_register));
    }
  }
  skip_spaces(line);
  if (!line.empty())
    return std::unexpected(fmt::format("{}: extraneous characters at the end of line", command));
  return arguments;
}

}  // namespace wick::control::hmp

#include "cli/toml.h"

#include <algorithm>
#include <sstream>
#include <toml.hpp>

namespace wick::cli {
namespace {

size_t line_of(const toml::value& value) { return value.location().line(); }

// Reduces a message of toml11 to one line. The message has several lines, begins with "[error]
// toml::FUNCTION: WHAT" and marks places with "^--- DETAIL".
std::string summary(std::string_view what) {
  constexpr std::string_view kPrefix = "[error] ";
  constexpr std::string_view kPointer = "^--- ";
  std::string_view head = what.substr(0, what.find('\n'));
  if (head.starts_with(kPrefix)) head.remove_prefix(kPrefix.size());
  if (head.starts_with("toml::")) head.remove_prefix(std::min(head.find(": ") + 2, head.size()));
  std::string_view detail;
  if (const size_t pointer = what.rfind(kPointer); pointer != what.npos)
    detail = what.substr(pointer + kPointer.size());
  detail = detail.substr(0, detail.find('\n'));
  for (std::string_view* part : {&head, &detail})
    if (part->ends_with('.')) part->remove_suffix(1);
  return detail.empty() || detail == "here" ? std::string(head)
                                            : fmt::format("{} ({})", head, detail);
}

Result<std::string> scalar(const toml::value& value) {
  switch (value.type()) {
    case toml::value_t::boolean:
      return value.as_boolean() ? "true" : "false";
    case toml::value_t::integer:
      return fmt::to_string(value.as_integer());
    case toml::value_t::floating:
      return fmt::to_string(value.as_floating());
    case toml::value_t::string:
      // A NUL would cut off a path or a command line.
      if (value.as_string().str.find('\0') != std::string::npos)
        return fail("line {}: a string contains a NUL", line_of(value));
      return value.as_string().str;
    case toml::value_t::table:
      return with_hint(fail("line {}: tables are not supported", line_of(value)),
                       "write key = value");
    case toml::value_t::array:
      return fail("line {}: arrays in arrays are not supported", line_of(value));
    default:
      return fail("line {}: dates and times are not supported", line_of(value));
  }
}

Result<TomlEntry> entry_of(const std::string& key, const toml::value& value) {
  TomlEntry entry{.key = key, .values = {}, .line = line_of(value)};
  if (value.is_array()) {
    for (const toml::value& element : value.as_array())
      entry.values.push_back(TRY(scalar(element)));
  } else {
    entry.values.push_back(TRY(scalar(value)));
  }
  return entry;
}

}  // namespace

// toml11 throws exceptions; none of them leaves this function.
Result<std::vector<TomlEntry>> parse_toml(std::string_view text) try {
  // toml11 parses nested values by recursion, so their depth must be bounded.
  constexpr auto kMaxBrackets = 256;
  if (std::ranges::count_if(text, [](char c) { return c == '[' || c == '{'; }) > kMaxBrackets)
    return fail("line 1: more than {} brackets in the file", kMaxBrackets);
  // toml11 3.7.1 reads beyond its buffer when it reports a literal string that is not UTF-8, so the
  // text is checked first.
  if (const ptrdiff_t valid = toml::detail::check_utf8_validity(std::string(text)); valid >= 0) {
    const auto before = text.substr(0, static_cast<size_t>(valid));
    return fail("line {}: not UTF-8", 1 + std::ranges::count(before, '\n'));
  }
  std::istringstream stream{std::string(text)};
  const toml::value file = toml::parse(stream);
  std::vector<TomlEntry> entries;
  for (const auto& [key, value] : file.as_table()) entries.push_back(TRY(entry_of(key, value)));
  std::ranges::sort(entries, {}, &TomlEntry::line);
  return entries;
} catch (const toml::exception& error) {
  return with_hint(fail("line {}: {}", error.location().line(), summary(error.what())),
                   "write key = value, with strings in quotes");
} catch (const std::exception& error) {
  return fail("line 1: {}", summary(error.what()));
}

}  // namespace wick::cli

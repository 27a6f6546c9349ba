#include "cli/form.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <span>
#include <utility>

namespace wick::cli {

namespace {

// Names for forms that are too long for the first column of the help.
constexpr std::pair<std::string_view, std::string_view> kNamedForms[] = {
    {"CACHE", "none|writeback|writethrough|directsync|unsafe"},
    {"LEVEL", "trace|debug|info|warning|error|critical|off"},
};

}  // namespace

std::vector<std::string_view> alternatives(std::string_view form) {
  for (const auto& [name, meaning] : kNamedForms)
    if (form == name) form = meaning;
  form = form.substr(0, form.find('['));
  std::vector<std::string_view> parts;
  while (!form.empty()) {
    const size_t end = std::min(form.find('|'), form.size());
    parts.push_back(form.substr(0, end));
    form.remove_prefix(std::min(end + 1, form.size()));
  }
  return parts;
}

bool is_word(std::string_view alternative) {
  return std::ranges::none_of(alternative,
                              [](char c) { return (c >= 'A' && c <= 'Z') || c == '='; });
}

Result<size_t> choose(std::string_view form, std::string_view value) {
  const auto words = alternatives(form);
  const auto found = std::ranges::find(words, value);
  if (found != words.end()) return static_cast<size_t>(found - words.begin());
  const auto but_last = std::span(words).first(words.size() - 1);
  return fail("must be {} or {}", fmt::join(but_last, ", "), words.back());
}

Result<void> check_form(std::string_view form, std::string_view value) {
  const auto parts = alternatives(form);
  if (parts.size() < 2 || !std::ranges::all_of(parts, is_word)) return {};
  const auto found = choose(form, value);
  return found ? Result<void>() : std::unexpected(found.error());
}

std::vector<SpecKey> spec_keys(std::string_view form) {
  constexpr std::string_view kStart = "[,";
  std::vector<SpecKey> keys;
  for (size_t start = form.find(kStart); start != form.npos; start = form.find(kStart)) {
    form.remove_prefix(start + kStart.size());
    const size_t end = form.find(']');
    const size_t equals = form.find('=');
    keys.push_back({form.substr(0, equals), form.substr(equals + 1, end - equals - 1),
                    form.substr(end).starts_with("]...")});
  }
  return keys;
}

}  // namespace wick::cli

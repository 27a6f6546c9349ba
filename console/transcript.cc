#include "console/transcript.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace wick::console {

namespace {

constexpr std::string_view kPanic = "Kernel panic - not syncing";
// So a mismatch can only be the beginning of another match.
static_assert(kPanic.rfind('K') == 0);

// The escape sequence at the start of `text` (ECMA-48): its length.
size_t escape_length(std::string_view text) {
  constexpr char kBell = 0x07;
  if (text.size() < 2) return text.size();
  if (text[1] == '[') {
    size_t end = 2;
    while (end < text.size() && text[end] >= 0x20 && text[end] <= 0x3f) ++end;
    return std::min(end + 1, text.size());
  }
  if (std::string_view("]PX^_").contains(text[1])) {
    const size_t end = text.find_first_of(std::string_view("\x07\x1b", 2), 2);
    if (end == std::string_view::npos) return text.size();
    return text[end] == kBell ? end + 1 : std::min(end + 2, text.size());
  }
  size_t end = 1;
  while (end < text.size() && text[end] >= 0x20 && text[end] <= 0x2f) ++end;
  return std::min(end + 1, text.size());
}

}  // namespace

// Not zeroed: a page that the guest never fills is never touched.
Transcript::Transcript() : kept_(new std::array<std::byte, kKeptBytes>) {}

bool Transcript::append(std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  for (const std::byte byte : bytes) {
    (*kept_)[end_++ % kKeptBytes] = byte;
    const char character = static_cast<char>(byte);
    if (character != kPanic[panic_matched_]) {
      panic_matched_ = character == kPanic[0] ? 1 : 0;
    } else if (++panic_matched_ == kPanic.size()) {
      panicked_ = true;
      panic_matched_ = 0;
    }
  }
  return std::exchange(listening_, false);
}

void Transcript::listen(bool on) {
  const std::lock_guard lock(mutex_);
  listening_ = on;
}

Transcript::Extent Transcript::read(uint64_t position, std::span<std::byte> to) const {
  const std::lock_guard lock(mutex_);
  const uint64_t start = std::max(position, oldest_locked());
  const size_t size = std::min<uint64_t>(to.size(), end_ - start);
  const size_t offset = start % kKeptBytes;
  const size_t until_wrap = std::min(size, kKeptBytes - offset);
  std::memcpy(to.data(), kept_->data() + offset, until_wrap);
  std::memcpy(to.data() + until_wrap, kept_->data(), size - until_wrap);
  return {start, size};
}

uint64_t Transcript::oldest() const {
  const std::lock_guard lock(mutex_);
  return oldest_locked();
}

uint64_t Transcript::end() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

bool Transcript::panicked() const {
  const std::lock_guard lock(mutex_);
  return panicked_;
}

std::vector<std::string> Transcript::last_lines(size_t count) const {
  std::string text(kKeptBytes, '\0');
  const Extent kept = read(0, std::as_writable_bytes(std::span(text)));
  text.resize(kept.size_bytes);

  std::vector<std::string> lines;
  std::string_view rest = text;
  if (rest.ends_with('\n')) rest.remove_suffix(1);
  while (lines.size() < count && !rest.empty()) {
    const size_t newline = rest.rfind('\n');
    // The start of the oldest line has been overwritten.
    if (newline == std::string_view::npos && kept.position > 0) break;
    const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
    lines.push_back(printable(rest.substr(start)));
    rest = rest.substr(0, start == 0 ? 0 : newline);
  }
  std::ranges::reverse(lines);
  return lines;
}

std::string printable(std::string_view line) {
  constexpr char kEscape = 0x1b;
  constexpr char kDelete = 0x7f;
  std::string clean;
  bool overwrite = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char character = line[i];
    const auto byte = static_cast<unsigned char>(character);
    if (character == kEscape) {
      i += escape_length(line.substr(i)) - 1;
    } else if (character == '\r') {
      overwrite = true;
    } else if (character == '\b') {
      if (!clean.empty()) clean.pop_back();
    } else if ((byte >= 0x20 && character != kDelete) || character == '\t') {
      if (std::exchange(overwrite, false)) clean.clear();
      clean.push_back(character);
      // A C1 control character in UTF-8; some terminals obey them.
      if (byte >= 0x80 && byte < 0xa0 && clean.ends_with(std::string{'\xc2', character}))
        clean.resize(clean.size() - 2);
    }
  }
  return clean;
}

}  // namespace wick::console

#include "console/transcript.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace wick::console {

namespace {

// Messages of panic(), of an exception before the handlers are installed
// (arch/x86/kernel/head64.c), and of the decompressor
// (arch/x86/boot/compressed/error.c).
constexpr std::string_view kPanicMessages[] = {"Kernel panic - not syncing",
                                               "PANIC: early exception", " -- System halted"};
// Messages of kernel/reboot.c, printed at a level that no console filters out.
constexpr std::string_view kShutdownMessages[] = {"reboot: Restarting system",
                                                  "reboot: System halted", "reboot: Power down"};
constexpr std::string_view kBootMessage = "Linux version ";

bool ends_with_printk_prefix(std::string_view text) {
  if (text.ends_with(' ')) text.remove_suffix(1);
  if (text.ends_with('>')) return text.size() == 3 && text[0] == '<';
  const size_t bracket = text.rfind('[');
  return text.ends_with(']') && bracket != std::string_view::npos &&
         text.find_first_not_of("0123456789. TC", bracket + 1) == text.size() - 1;
}

// Returns the length of the escape sequence (ECMA-48) at the start of `text`.
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

bool has_message(std::string_view line, std::span<const std::string_view> messages) {
  return std::ranges::any_of(
      messages, [&](std::string_view message) { return after_message(line, message).has_value(); });
}

}  // namespace

// The array is not zeroed, so that pages that the guest never fills are not allocated.
Transcript::Transcript() : kept_(new std::array<std::byte, kKeptBytes>) {}

bool Transcript::append(std::span<const std::byte> bytes) {
  const MutexLock lock(mutex_);
  for (const std::byte byte : bytes) {
    (*kept_)[end_++ % kKeptBytes] = byte;
    const char character = static_cast<char>(byte);
    if (character == '\n')
      end_line_locked();
    else if (character != '\r' && line_size_ < line_.size())
      line_[line_size_++] = character;
  }
  return std::exchange(listening_, false);
}

void Transcript::end_line_locked() {
  const std::string_view line = line_locked();
  line_size_ = 0;
  if (has_message(line, kPanicMessages)) panicked_ = true;
  if (!panicked_) return;
  if (after_message(line, kBootMessage)) crash_kernel_ = true;
  // A kernel that has panicked never shuts down in good order, so after such a shutdown the panic
  // message must have come from a user. But after a real panic, a crash kernel (kdump) may have
  // started, which does shut down in good order.
  if (has_message(line, kShutdownMessages) && !crash_kernel_) panicked_ = false;
}

void Transcript::listen(bool on) {
  const MutexLock lock(mutex_);
  listening_ = on;
}

Transcript::Extent Transcript::read(uint64_t position, std::span<std::byte> to) const {
  const MutexLock lock(mutex_);
  const uint64_t start = std::max(position, oldest_locked());
  const size_t size = std::min<uint64_t>(to.size(), end_ - start);
  const size_t offset = start % kKeptBytes;
  const size_t until_wrap = std::min(size, kKeptBytes - offset);
  std::memcpy(to.data(), kept_->data() + offset, until_wrap);
  std::memcpy(to.data() + until_wrap, kept_->data(), size - until_wrap);
  return {start, size};
}

uint64_t Transcript::oldest() const {
  const MutexLock lock(mutex_);
  return oldest_locked();
}

uint64_t Transcript::end() const {
  const MutexLock lock(mutex_);
  return end_;
}

void Transcript::forget_panic() {
  const MutexLock lock(mutex_);
  panicked_ = crash_kernel_ = false;
  line_size_ = 0;
}

bool Transcript::panicked() const {
  const MutexLock lock(mutex_);
  return panicked_ || has_message(line_locked(), kPanicMessages);
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
    // The oldest line is left out if its start has been overwritten.
    if (newline == std::string_view::npos && kept.position > 0) break;
    const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
    lines.push_back(plain_text(rest.substr(start)));
    rest = rest.substr(0, start == 0 ? 0 : newline);
  }
  std::ranges::reverse(lines);
  return lines;
}

std::optional<std::string_view> after_message(std::string_view line, std::string_view message) {
  const size_t at = line.find(message);
  if (at == std::string_view::npos) return std::nullopt;
  if (at != 0 && !ends_with_printk_prefix(line.substr(0, at))) return std::nullopt;
  return line.substr(at + message.size());
}

std::string plain_text(std::string_view line) {
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
      // Drops a C1 control character in UTF-8, because some terminals act on these.
      if (byte >= 0x80 && byte < 0xa0 && clean.ends_with(std::string{'\xc2', character}))
        clean.resize(clean.size() - 2);
    }
  }
  return clean;
}

}  // namespace wick::console

#include "boot/cmdline.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/bytes.h"
#include "boot/memory_map.h"

namespace wick::boot {

namespace {

constexpr bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Returns true if a parameter in `text` begins with `prefix`. Words are split as Linux does it
// (lib/cmdline.c, next_arg): spaces inside double quotes do not split, quotes may enclose a whole
// word, and words after "--" are for init.
bool has_parameter(std::string_view text, std::string_view prefix) {
  while (true) {
    const auto* begin = std::find_if_not(text.begin(), text.end(), is_space);
    bool quoted = false;
    const auto* end = std::find_if(begin, text.end(), [&](char c) {
      if (c == '"') quoted = !quoted;
      return is_space(c) && !quoted;
    });
    std::string_view word(begin, end);
    if (word.empty() || word == "--") return false;
    if (word.front() == '"') word.remove_prefix(1);
    if (word.starts_with(prefix)) return true;
    text = std::string_view(end, text.end());
  }
}

}  // namespace

std::string make_command_line(const CommandLineParts& parts) {
  std::string line;
  const auto add = [&](std::string_view word) {
    if (word.empty()) return;
    if (!line.empty()) line += ' ';
    line += word;
  };
  // Linux makes the last console= the one behind /dev/console.
  if (parts.screen) add("console=tty0");
  if (!parts.console.empty()) add("console=" + parts.console);
  if (!parts.root_device.empty() && !parts.has_initrd && !has_parameter(parts.append, "root="))
    add(fmt::format("root={} {}", parts.root_device, parts.root_read_only ? "ro" : "rw"));
  add("panic=-1 reboot=k");
  if (!parts.kaslr) add("nokaslr");
  for (const MmioParameter& device : parts.mmio)
    add(fmt::format("virtio_mmio.device={:#x}@{:#x}:{}", device.size_bytes, device.address,
                    device.irq));
  add(parts.append);
  return line;
}

bool has_word(std::string_view line, std::string_view word) {
  bool found = false;
  for_each_word(line, [&](std::string_view candidate) { found |= candidate == word; });
  return found;
}

Result<void> write_command_line(const GuestMemory& memory, std::string_view text,
                                uint64_t limit_bytes) {
  const uint64_t limit = std::min(limit_bytes, kCommandLineBytes - 1);
  if (text.size() > limit)
    return with_hint(
        fail("command line: {} bytes, but this kernel takes {} at most", text.size(), limit),
        "shorten --append or --cmdline");
  TRY(memory.write_bytes(kCommandLine, as_bytes(text.data(), text.size())));
  return memory.write(kCommandLine + text.size(), '\0');
}

}  // namespace wick::boot

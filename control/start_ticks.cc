#include "control/start_ticks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/fd.h"

namespace wick::control {

std::optional<uint64_t> parse_start_ticks(std::string_view stat) {
  constexpr int kFieldsBetween = 20;  // spaces from the name's end to field 22
  size_t at = stat.rfind(')');
  if (at == stat.npos) return std::nullopt;
  for (int i = 0; i < kFieldsBetween; ++i) {
    at = stat.find(' ', at + 1);
    if (at == stat.npos) return std::nullopt;
  }
  stat.remove_prefix(at + 1);
  uint64_t ticks = 0;
  const auto [end, error] = std::from_chars(stat.data(), stat.data() + stat.size(), ticks);
  if (error != std::errc() || end == stat.data() + stat.size() || *end != ' ') return std::nullopt;
  return ticks;
}

std::optional<uint64_t> start_ticks(pid_t process) {
  const Fd file(::open(fmt::format("/proc/{}/stat", process).c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 1024> text;
  const ssize_t got = file.valid() ? ::read(file.get(), text.data(), text.size()) : -1;
  if (got <= 0) return std::nullopt;
  return parse_start_ticks({text.data(), static_cast<size_t>(got)});
}

}  // namespace wick::control

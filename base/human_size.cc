#include "base/human_size.h"

#include <fmt/format.h>

#include <array>

namespace wick {

std::string human_size(uint64_t bytes) {
  constexpr std::array kNames = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
  // 1000 KiB are shown as 0.977 MiB, so that three digits suffice.
  size_t power = 0;
  auto value = static_cast<double>(bytes);
  for (; value >= 1000 && power + 1 < kNames.size(); ++power) value /= 1024;
  return fmt::format("{:.3g} {}B", value, kNames[power]);
}

}  // namespace wick

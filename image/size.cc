#include "image/size.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace wick::image {

namespace {

constexpr std::string_view kUnits = "BKMGTPE";  // each 1024 times the one before

std::unexpected<Error> not_a_size() {
  return with_hint(fail("not a size"), "write a number, then K, M, G, T, P or E, such as 10G");
}

}  // namespace

Result<uint64_t> parse_image_size(std::string_view text) {
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  const char* const start = text.data() + (hex ? 2 : 0);
  const char* const end = text.data() + text.size();
  uint64_t whole = 0;
  auto [rest, error] = std::from_chars(start, end, whole, hex ? 16 : 10);
  if (error == std::errc::result_out_of_range) return fail("the size is too large");
  if (error != std::errc{}) return not_a_size();
  double fraction = 0;
  if (!hex && rest != end && *rest == '.') {
    const auto [behind, wrong] = std::from_chars(rest, end, fraction, std::chars_format::fixed);
    if (wrong != std::errc{}) return not_a_size();
    rest = behind;
  }
  unsigned power = 0;
  if (rest != end) {
    const char unit = *rest >= 'a' ? static_cast<char>(*rest - 'a' + 'A') : *rest;
    const size_t found = kUnits.find(unit);
    if (found == kUnits.npos || rest + 1 != end || hex) return not_a_size();
    power = static_cast<unsigned>(found);
  }
  if (fraction != 0 && power == 0)
    return with_hint(fail("not a whole number of bytes"), "add a unit, such as K, M or G");
  uint64_t bytes = 0;
  const uint64_t unit_bytes = uint64_t{1} << (10 * power);
  // Rounds by hand: with std::llround() every run would load libm, 256 KiB.
  const double part = fraction * static_cast<double>(unit_bytes);
  auto more = static_cast<uint64_t>(part);
  if (part - static_cast<double>(more) >= 0.5) ++more;
  if (__builtin_mul_overflow(whole, unit_bytes, &bytes) ||
      __builtin_add_overflow(bytes, more, &bytes))
    return fail("the size is too large");
  return bytes;
}

}  // namespace wick::image

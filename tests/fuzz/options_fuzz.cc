// Texts from a user, a script or a config file: SPECs, sizes and TOML. Accepted ones must have
// the properties that the parsers promise.
#include <algorithm>
#include <array>
#include <string_view>

#include "cli/spec.h"
#include "cli/toml.h"
#include "tests/fuzz/harness.h"

namespace {

using wick::fuzz::require;

void check_spec(std::string_view text) {
  constexpr std::array<std::string_view, 2> kKeys = {"format", "log"};
  const auto spec = wick::cli::parse_spec(text, "VALUE[,format=FORMAT][,log=FILE]");
  if (!spec) return;
  require(!spec->value.empty() && spec->pairs.size() <= kKeys.size());
  // Written again from its parts, the text is the same.
  const auto doubled = [](std::string_view part) {
    std::string out;
    for (const char c : part) out += c == ',' ? std::string(",,") : std::string(1, c);
    return out;
  };
  std::string again = doubled(spec->value);
  for (const auto& [key, value] : spec->pairs) {
    require(std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end() && !value.empty());
    again += "," + key + "=" + doubled(value);
  }
  require(again == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_spec(text);
  if (const auto bytes = wick::cli::parse_memory_size(text))
    require(*bytes > 0 && *bytes % 4096 == 0);
  if (const auto time = wick::cli::parse_seconds(text)) require(time->count() > 0);
  if (const auto disk = wick::cli::parse_disk(text))
    require(!disk->path.empty() && disk->serial.size() <= 20);
  if (const auto serial = wick::cli::parse_serial(text)) {
    const bool takes_path = serial->kind == wick::vmm::SerialConfig::Kind::kUnix ||
                            serial->kind == wick::vmm::SerialConfig::Kind::kFile;
    require(takes_path != serial->path.empty());
  }
  if (const auto service = wick::cli::parse_service(text); service && *service)
    require(!(*service)->path.empty() || !(*service)->host.empty());
  if (const auto address = wick::cli::parse_address(text)) {
    const auto again = wick::cli::parse_address(address->text());
    require(again && again->text() == address->text());
  }
  (void)wick::cli::parse_on_panic(text);
  if (const auto forward = wick::net::HostForward::parse(text)) {
    require(forward->host_port > 0 && forward->guest_port > 0);
    require(*wick::net::HostForward::parse(forward->text()) == *forward);
  }
  if (const auto entries = wick::cli::parse_toml(text)) {
    for (const auto& entry : *entries) {
      require(entry.line > 0);
      for (const auto& value : entry.values) require(value.find('\0') == value.npos);
    }
  }
  return 0;
}

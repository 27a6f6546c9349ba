#include "cli/spec.h"

#include <arpa/inet.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <optional>

namespace wick::cli {
namespace {

constexpr uint64_t kPageBytes = 4096;

// Splits at single commas; a doubled comma becomes a comma in a part.
std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      parts.back() += text[i];
    } else if (text.substr(i + 1).starts_with(',')) {
      parts.back() += ',';
      ++i;
    } else {
      parts.emplace_back();
    }
  }
  return parts;
}

// The index of `value` in `choices`.
Result<size_t> choose(std::string_view key, std::string_view value,
                      std::initializer_list<std::string_view> choices) {
  const auto* const found = std::find(choices.begin(), choices.end(), value);
  if (found == choices.end())
    return fail("{}={}: must be {}", key, value, fmt::join(choices, " or "));
  return static_cast<size_t>(found - choices.begin());
}

}  // namespace

Result<Spec> parse_spec(std::string_view text, std::span<const std::string_view> keys,
                        std::string_view repeats) {
  const std::vector<std::string> parts = split_at_commas(text);
  Spec spec{.value = parts.front(), .pairs = {}};
  if (spec.value.empty()) return fail("the value before the first comma is missing");

  const std::string valid = fmt::format("the keys are {}", fmt::join(keys, ", "));
  for (const std::string& part : std::span(parts).subspan(1)) {
    const size_t equals = part.find('=');
    const std::string key = part.substr(0, equals);
    if (key.empty()) return with_hint(fail("'{}' has no key", part), valid);
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      return with_hint(fail("unknown key '{}'", key), valid);
    if (equals == std::string::npos || equals + 1 == part.size())
      return with_hint(fail("key '{}' has no value", key), fmt::format("write {}=VALUE", key));
    const auto same_key = [&](const auto& pair) { return pair.first == key; };
    if (key != repeats && std::any_of(spec.pairs.begin(), spec.pairs.end(), same_key))
      return with_hint(fail("key '{}' is given twice", key), valid);
    spec.pairs.emplace_back(key, part.substr(equals + 1));
  }
  return spec;
}

Result<uint64_t> parse_size(std::string_view text, uint64_t default_unit_bytes) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [suffix, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc::result_out_of_range) return fail("too large a size");

  uint64_t unit_bytes = 0;
  const std::string_view rest(suffix, end);
  if (rest.empty()) unit_bytes = default_unit_bytes;
  if (rest == "K" || rest == "k") unit_bytes = uint64_t{1} << 10;
  if (rest == "M" || rest == "m") unit_bytes = uint64_t{1} << 20;
  if (rest == "G" || rest == "g") unit_bytes = uint64_t{1} << 30;
  if (error != std::errc{} || unit_bytes == 0)
    return with_hint(fail("not a size"), "write a whole number, then K, M or G, such as 512M");
  if (number == 0) return fail("the size is zero");
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(number, unit_bytes, &bytes)) return fail("too large a size");
  return bytes;
}

Result<uint64_t> parse_memory_size(std::string_view text) {
  const uint64_t bytes = TRY(parse_size(text, uint64_t{1} << 20));
  if (bytes % kPageBytes != 0)
    return with_hint(fail("not a whole number of pages"), "write a multiple of 4K");
  return bytes;
}

namespace {

// A number above zero, or nullopt.
std::optional<uint32_t> parse_count(std::string_view text) {
  uint32_t count = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, count);
  if (error != std::errc{} || rest != end || count == 0) return std::nullopt;
  return count;
}

}  // namespace

Result<uint32_t> parse_cpus(std::string_view text) {
  const auto count = parse_count(text);
  if (!count) return fail("not a number of virtual CPUs above zero");
  return *count;
}

Result<std::chrono::microseconds> parse_seconds(std::string_view text) {
  constexpr double kMaxSeconds = 100.0 * 365 * 24 * 3600;
  double seconds = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, seconds, std::chars_format::fixed);
  // This form is also false for NaN.
  const bool in_range = seconds >= 1e-6 && seconds <= kMaxSeconds;
  if (error != std::errc{} || rest != end || !in_range)
    return with_hint(fail("not a number of seconds above zero"), "write one such as 30 or 0.5");
  return std::chrono::microseconds(static_cast<int64_t>(seconds * 1e6));
}

Result<bool> parse_switch(std::string_view text) {
  if (text == "on") return true;
  if (text == "off") return false;
  return fail("must be on or off");
}

Result<StatsForm> parse_stats(std::string_view text) {
  using Kind = StatsForm::Kind;
  constexpr std::array<std::string_view, 1> kKeys = {"file"};
  constexpr std::pair<std::string_view, Kind> kKinds[] = {
      {"table", Kind::kTable}, {"json", Kind::kJson},  // the rest are values of a flag in a file
      {"on", Kind::kTable},    {"true", Kind::kTable}, {"1", Kind::kTable},
      {"off", Kind::kOff},     {"false", Kind::kOff},  {"0", Kind::kOff}};
  const Spec spec = TRY(parse_spec(text, kKeys));
  for (const auto& [name, kind] : kKinds) {
    if (spec.value == name)
      return StatsForm{kind, spec.pairs.empty() ? std::string() : spec.pairs.front().second};
  }
  return fail("must be table or json, optionally with ,file=FILE");
}

Result<vmm::DiskConfig> parse_disk(std::string_view text) {
  using Cache = vmm::DiskConfig::Cache;
  constexpr std::array<std::string_view, 11> kKeys = {"format", "readonly",  "ephemeral",  "device",
                                                      "media",  "cache",     "cache-size", "queues",
                                                      "serial", "data-file", "backing"};
  const Spec spec = TRY(parse_spec(text, kKeys));
  vmm::DiskConfig disk;
  disk.path = spec.value;
  std::optional<bool> read_only;
  for (const auto& [key, value] : spec.pairs) {
    if (key == "format") {
      constexpr std::array kFormats = {vmm::DiskConfig::Format::kRaw,
                                       vmm::DiskConfig::Format::kQcow2};
      disk.format = kFormats[TRY(choose(key, value, {"raw", "qcow2"}))];
    } else if (key == "cache-size") {
      disk.cache_bytes = TRY(parse_size(value, 1));
    } else if (key == "queues") {
      const auto queues = parse_count(value);
      if (!queues || *queues > vmm::DiskConfig::kMaxQueues)
        return fail("queues={}: must be 1 to {}", value, vmm::DiskConfig::kMaxQueues);
      disk.queues = static_cast<uint16_t>(*queues);
    } else if (key == "readonly") {
      read_only = TRY(choose(key, value, {"off", "on"})) == 1;
    } else if (key == "ephemeral") {
      disk.ephemeral = TRY(choose(key, value, {"off", "on"})) == 1;
    } else if (key == "data-file") {
      disk.data_path = value;
    } else if (key == "backing") {
      disk.any_backing = TRY(choose(key, value, {"folder", "any"})) == 1;
    } else if (key == "device") {
      const bool ide = TRY(choose(key, value, {"virtio", "ide"})) == 1;
      disk.device = ide ? vmm::DiskConfig::Device::kIde : vmm::DiskConfig::Device::kVirtio;
    } else if (key == "media") {
      const bool cdrom = TRY(choose(key, value, {"disk", "cdrom"})) == 1;
      disk.media = cdrom ? vmm::DiskConfig::Media::kCdrom : vmm::DiskConfig::Media::kDisk;
    } else if (key == "cache") {
      constexpr std::array kCaches = {Cache::kWriteback, Cache::kNone, Cache::kUnsafe};
      disk.cache = kCaches[TRY(choose(key, value, {"writeback", "none", "unsafe"}))];
    } else {
      disk.serial = value;
    }
  }
  disk.read_only = read_only.value_or(disk.media == vmm::DiskConfig::Media::kCdrom);
  TRY(vmm::check(disk));
  return disk;
}

Result<std::optional<vmm::NetConfig>> parse_net(std::string_view text) {
  constexpr std::array<std::string_view, 8> kKeys = {"ifname", "bridge", "hostfwd", "mac",
                                                     "device", "vhost",  "queues",  "mtu"};
  const Spec spec = TRY(parse_spec(text, kKeys, "hostfwd"));
  if (spec.value == "none" && spec.pairs.empty()) return std::nullopt;
  vmm::NetConfig net;
  if (spec.value == "user")
    net.kind = vmm::NetConfig::Kind::kUser;
  else if (spec.value != "tap")
    return with_hint(fail("'{}' is not a kind of network", spec.value), "write tap, user or none");
  for (const auto& [key, value] : spec.pairs) {
    const bool of_tap = key == "ifname" || key == "bridge" || key == "vhost" || key == "queues";
    if (of_tap && net.kind != vmm::NetConfig::Kind::kTap)
      return with_hint(fail("{}={}: only for a TAP", key, value), "use tap, or leave it out");
    if (key == "hostfwd" && net.kind != vmm::NetConfig::Kind::kUser)
      return with_hint(fail("{}={}: only for a user network", key, value),
                       "use user, or leave it out");
    if (key == "hostfwd") {
      net.forwards.push_back(TRY(parse_host_forward(value)));
    } else if (key == "ifname") {
      net.interface = value;
    } else if (key == "bridge") {
      net.bridge = value;
    } else if (key == "mac") {
      net.mac = net::parse_any_mac(value);
      if (!net.mac)
        return with_hint(fail("mac={}: not six pairs of hexadecimal digits", value),
                         "write one such as 52:54:00:12:34:56");
      if ((net.mac->front() & 1) != 0)
        return fail("mac={}: a group address, because the first byte is odd", value);
      if (*net.mac == net::MacAddress{}) return fail("mac={}: not a valid address", value);
    } else if (key == "device") {
      const bool e1000 = TRY(choose(key, value, {"virtio", "e1000"})) == 1;
      net.device = e1000 ? vmm::NetConfig::Device::kE1000 : vmm::NetConfig::Device::kVirtio;
    } else if (key == "vhost") {
      net.vhost = TRY(choose(key, value, {"off", "on"})) == 1;
    } else {
      const bool queues = key == "queues";
      const uint32_t min = queues ? 1 : vmm::NetConfig::kMinMtu;
      const uint32_t max = queues ? vmm::NetConfig::kMaxQueues : UINT16_MAX;
      const auto number = parse_count(value);
      if (!number || *number < min || *number > max)
        return fail("{}={}: must be {} to {}", key, value, min, max);
      if (queues)
        net.queues = static_cast<uint16_t>(*number);
      else
        net.mtu = static_cast<uint16_t>(*number);
    }
  }
  TRY(vmm::check(net));
  return net;
}

Result<vmm::SerialConfig> parse_serial(std::string_view text) {
  using Kind = vmm::SerialConfig::Kind;
  constexpr std::array<std::string_view, 1> kKeys = {"log"};
  const Spec spec = TRY(parse_spec(text, kKeys));
  vmm::SerialConfig serial;
  for (const auto& [key, value] : spec.pairs) serial.log_path = value;

  const size_t colon = spec.value.find(':');
  const std::string kind = spec.value.substr(0, colon);
  const bool has_path = colon != std::string::npos;
  if (has_path) serial.path = spec.value.substr(colon + 1);
  if (kind == "unix" || kind == "file") {
    if (serial.path.empty()) return fail("'{}' needs a path, as in {}:PATH", kind, kind);
    serial.kind = kind == "unix" ? Kind::kUnix : Kind::kFile;
    return serial;
  }
  if (!has_path) {
    if (kind == "stdio") serial.kind = Kind::kStdio;
    if (kind == "pty") serial.kind = Kind::kPty;
    if (kind == "stdio" || kind == "pty" || kind == "null") return serial;
  }
  return with_hint(fail("'{}' is not a kind of console", spec.value),
                   "write stdio, pty, unix:PATH, file:PATH or null");
}

namespace {

// Parses ADDRESS:PORT. An empty address leaves `address` unchanged.
Result<void> parse_end(std::string_view whose, std::string_view text, std::string& address,
                       uint16_t& port) {
  const size_t colon = text.find(':');
  const std::string host(text.substr(0, colon));
  in_addr parsed{};
  if (!host.empty() && ::inet_pton(AF_INET, host.c_str(), &parsed) != 1)
    return fail("'{}' is not an IPv4 address for the {}", host, whose);
  if (!host.empty()) address = host;
  const auto number = parse_count(colon == text.npos ? "" : text.substr(colon + 1));
  if (!number || *number > 65535) return fail("the {}'s port must be 1 to 65535", whose);
  port = static_cast<uint16_t>(*number);
  return {};
}

}  // namespace

Result<net::HostForward> parse_host_forward(std::string_view text) {
  constexpr const char* kForm = "write one such as tcp:127.0.0.1:2222-:22";
  net::HostForward forward;
  const size_t colon = text.find(':');
  const size_t dash = text.find('-');
  if (colon == text.npos || dash == text.npos || dash < colon)
    return with_hint(fail("'{}' is not a valid forward", text), kForm);
  const std::string_view protocol = text.substr(0, colon);
  if (protocol != "tcp" && protocol != "udp" && !protocol.empty())
    return with_hint(fail("'{}' is neither tcp nor udp", protocol), kForm);
  forward.udp = protocol == "udp";
  for (const auto& end :
       {parse_end("host", text.substr(colon + 1, dash - colon - 1), forward.host_address,
                  forward.host_port),
        parse_end("guest", text.substr(dash + 1), forward.guest_address, forward.guest_port)}) {
    if (!end) return with_hint(std::unexpected(end.error()), kForm);
  }
  return forward;
}

}  // namespace wick::cli

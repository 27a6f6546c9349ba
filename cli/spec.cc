#include "cli/spec.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/commas.h"
#include "cli/form.h"

namespace wick::cli {
namespace {

constexpr uint64_t kPageBytes = 4096;

}  // namespace

Result<Spec> parse_spec(std::string_view text, std::string_view form) {
  const std::vector<std::string> parts = split_at_commas(text);
  Spec spec{.value = parts.front(), .pairs = {}};
  if (spec.value.empty()) return fail("the value before the first comma is missing");

  const std::vector<SpecKey> keys = spec_keys(form);
  std::vector<std::string_view> names;
  names.reserve(keys.size());
  for (const SpecKey& key : keys) names.push_back(key.name);
  const std::string valid =
      names.empty() ? "there are none" : fmt::format("the keys are {}", fmt::join(names, ", "));
  for (const std::string& part : std::span(parts).subspan(1)) {
    const size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    if (name.empty()) return with_hint(fail("'{}' has no key", part), valid);
    const auto key = std::ranges::find(keys, name, &SpecKey::name);
    if (key == keys.end()) return with_hint(fail("unknown key '{}'", name), valid);
    if (equals == std::string::npos || equals + 1 == part.size())
      return with_hint(fail("key '{}' has no value", name), fmt::format("write {}=VALUE", name));
    const auto same_key = [&](const auto& pair) { return pair.first == name; };
    if (!key->repeats && std::ranges::any_of(spec.pairs, same_key))
      return with_hint(fail("key '{}' is given twice", name), valid);
    std::string value = part.substr(equals + 1);
    if (const auto fits = check_form(key->form, value); !fits)
      return fail("{}={}: {}", name, value, fits.error().message());
    spec.pairs.emplace_back(name, std::move(value));
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

std::optional<uint32_t> parse_count(std::string_view text) {
  uint32_t count = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, count);
  if (error != std::errc{} || rest != end || count == 0) return std::nullopt;
  return count;
}

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
  // In this form the condition is also false for NaN.
  const bool in_range = seconds >= 1e-6 && seconds <= kMaxSeconds;
  if (error != std::errc{} || rest != end || !in_range)
    return with_hint(fail("not a number of seconds above zero"), "write one such as 30 or 0.5");
  return std::chrono::microseconds(static_cast<int64_t>(seconds * 1e6));
}

Result<StatsForm> parse_stats(std::string_view text) {
  using Kind = StatsForm::Kind;
  constexpr std::pair<std::string_view, Kind> kKinds[] = {
      {"table", Kind::kTable}, {"json", Kind::kJson},  // the other words are switches
      {"on", Kind::kTable},    {"true", Kind::kTable}, {"1", Kind::kTable},
      {"off", Kind::kOff},     {"false", Kind::kOff},  {"0", Kind::kOff}};
  const Spec spec = TRY(parse_spec(text, kStatsForm));
  for (const auto& [name, kind] : kKinds) {
    if (spec.value == name)
      return StatsForm{kind, spec.pairs.empty() ? std::string() : spec.pairs.front().second};
  }
  return fail("must be table or json, optionally with ,file=FILE");
}

Result<StreamAddress> parse_address(std::string_view text) {
  auto address = StreamAddress::parse(text);
  if (!address)
    return with_hint(std::unexpected(address.error()), "write unix:PATH or tcp:HOST:PORT");
  return address;
}

Result<std::optional<StreamAddress>> parse_service(std::string_view text) {
  if (text == "stdio") return std::nullopt;
  auto address = StreamAddress::parse(text);
  if (!address)
    return with_hint(std::unexpected(address.error()), "write stdio, unix:PATH or tcp:HOST:PORT");
  return *std::move(address);
}

Result<std::optional<display::VncConfig>> parse_display(std::string_view text) {
  constexpr std::string_view kVnc = "vnc=";
  if (text == "none") return std::nullopt;
  if (!text.starts_with(kVnc))
    return with_hint(fail("'{}' is not a display", text),
                     "write none, or vnc=HOST:N, such as vnc=:1");
  return TRY(display::parse_vnc(text.substr(kVnc.size())));
}

Result<vmm::FwCfgFile> parse_fw_cfg(std::string_view text) {
  constexpr std::string_view kName = "name=";
  if (text.starts_with(kName)) text.remove_prefix(kName.size());
  const Spec spec = TRY(parse_spec(text, kFwCfgForm));
  if (spec.pairs.size() != 1)
    return with_hint(fail("{}: needs one of file= and string=", spec.value),
                     "write NAME,file=PATH or NAME,string=TEXT");
  const auto& [key, value] = spec.pairs.front();
  vmm::FwCfgFile file{.name = spec.value, .path = {}, .text = {}};
  (key == "file" ? file.path : file.text) = value;
  return file;
}

Result<std::string> parse_on_panic(std::string_view text) {
  constexpr std::string_view kCore = "core:";
  if (text == "exit") return "";
  if (text.starts_with(kCore) && text.size() > kCore.size())
    return std::string(text.substr(kCore.size()));
  return fail("must be exit or core:FILE");
}

Result<bool> parse_switch(std::string_view text) {
  constexpr std::string_view kOn[] = {"on", "true", "1"};
  constexpr std::string_view kOff[] = {"off", "false", "0"};
  if (std::ranges::find(kOn, text) != std::end(kOn)) return true;
  if (std::ranges::find(kOff, text) != std::end(kOff)) return false;
  return fail("must be on or off");
}

namespace {

// Parses a number of 16 bits; vmm::check() checks whether it is in the valid range.
Result<uint16_t> parse_small(const std::string& key, const std::string& value) {
  const auto count = value == "0" ? 0 : parse_count(value);
  if (!count || *count > UINT16_MAX)
    return fail("{}={}: not a number of at most {}", key, value, UINT16_MAX);
  return static_cast<uint16_t>(*count);
}

}  // namespace

namespace {

block::ErrorPolicy error_policy(std::string_view value) {
  using Policy = block::ErrorPolicy;
  return value == "ignore"   ? Policy::kIgnore
         : value == "stop"   ? Policy::kStop
         : value == "enospc" ? Policy::kEnospc
                             : Policy::kReport;
}

}  // namespace

Result<vmm::DiskConfig> parse_disk(std::string_view text) {
  using Disk = vmm::DiskConfig;
  const Spec spec = TRY(parse_spec(text, kDiskForm));
  Disk disk;
  disk.path = spec.value;
  std::optional<bool> read_only;
  for (const auto& [key, value] : spec.pairs) {
    if (key == "format")
      disk.format = value == "raw" ? Disk::Format::kRaw : Disk::Format::kQcow2;
    else if (key == "readonly")
      read_only = value == "on";
    else if (key == "ephemeral")
      disk.ephemeral = value == "on";
    else if (key == "device")
      disk.device = value == "ide" ? Disk::Device::kIde : Disk::Device::kVirtio;
    else if (key == "media")
      disk.media = value == "cdrom" ? Disk::Media::kCdrom : Disk::Media::kDisk;
    else if (key == "cache")
      disk.cache = value == "none"     ? Disk::Cache::kNone
                   : value == "unsafe" ? Disk::Cache::kUnsafe
                                       : Disk::Cache::kWriteback;
    else if (key == "cache-size")
      disk.cache_bytes = TRY(parse_size(value, 1));
    else if (key == "queues")
      disk.queues = TRY(parse_small(key, value));
    else if (key == "serial")
      disk.serial = value;
    else if (key == "data-file")
      disk.data_path = value;
    else if (key == "rerror")
      disk.errors.read = error_policy(value);
    else if (key == "werror")
      disk.errors.write = error_policy(value);
    else
      disk.any_backing = value == "any";
  }
  disk.read_only = read_only.value_or(disk.media == Disk::Media::kCdrom);
  TRY(vmm::check(disk));
  return disk;
}

namespace {

Result<net::MacAddress> parse_card_mac(const std::string& value) {
  const auto mac = net::parse_any_mac(value);
  if (!mac)
    return with_hint(fail("mac={}: not six pairs of hexadecimal digits", value),
                     "write one such as 52:54:00:12:34:56");
  if ((mac->front() & 1) != 0)
    return fail("mac={}: a group address, because the first byte is odd", value);
  if (*mac == net::MacAddress{}) return fail("mac={}: not a valid address", value);
  return *mac;
}

}  // namespace

Result<std::optional<vmm::NetConfig>> parse_net(std::string_view text) {
  using Net = vmm::NetConfig;
  const std::string kind = split_at_commas(text).front();
  const bool card = kind == "tap" || kind == "user";
  if (!card && kind != "none")
    return with_hint(fail("'{}' is not a kind of network", kind), "write tap, user or none");
  const std::string form =
      card ? fmt::format("{}{}", kind == "tap" ? kTapKeys : kUserKeys, kCardKeys) : "";
  const Spec spec = TRY(parse_spec(text, form));
  if (!card) return std::nullopt;
  Net net;
  net.kind = kind == "tap" ? Net::Kind::kTap : Net::Kind::kUser;
  for (const auto& [key, value] : spec.pairs) {
    if (key == "hostfwd")
      net.forwards.push_back(TRY(net::HostForward::parse(value)));
    else if (key == "ifname")
      net.interface = value;
    else if (key == "bridge")
      net.bridge = value;
    else if (key == "vhost")
      net.vhost = value == "on";
    else if (key == "queues")
      net.queues = TRY(parse_small(key, value));
    else if (key == "mac")
      net.mac = TRY(parse_card_mac(value));
    else if (key == "mtu")
      net.mtu = TRY(parse_small(key, value));
    else
      net.device = value == "e1000" ? Net::Device::kE1000 : Net::Device::kVirtio;
  }
  TRY(vmm::check(net));
  return net;
}

namespace {

// Parses GUEST:HOST[:COUNT].
Result<share::IdRange> parse_ids(const std::string& key, const std::string& text) {
  const auto wrong = [&] {
    return with_hint(fail("{}={}: not a range of IDs", key, text),
                     "write GUEST:HOST or GUEST:HOST:COUNT, such as 0:1000:1");
  };
  share::IdRange range;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (uint32_t* const number : {&range.guest, &range.host, &range.count}) {
    if (number != &range.guest && (at == end || *at++ != ':')) return wrong();
    const auto [rest, error] = std::from_chars(at, end, *number);
    if (error != std::errc()) return wrong();
    at = rest;
    if (number == &range.host && at == end) return range;
  }
  if (at != end) return wrong();
  return range;
}

}  // namespace

Result<vmm::ShareConfig> parse_share(std::string_view text) {
  using Share = vmm::ShareConfig;
  using Security = share::Security;
  const Spec spec = TRY(parse_spec(text, kShareForm));
  Share wanted;
  wanted.path = spec.value;
  for (const auto& [key, value] : spec.pairs) {
    if (key == "tag")
      wanted.tag = value;
    else if (key == "device")
      wanted.device = value == "9p" ? Share::Device::k9p : Share::Device::kVirtioFs;
    else if (key == "readonly")
      wanted.read_only = value == "on";
    else if (key == "cache")
      wanted.cache = value == "always"  ? Share::Cache::kAlways
                     : value == "never" ? Share::Cache::kNever
                                        : Share::Cache::kAuto;
    else if (key == "uid-map" || key == "gid-map")
      (key == "uid-map" ? wanted.uids : wanted.gids).push_back(TRY(parse_ids(key, value)));
    else
      wanted.security = value == "passthrough" ? Security::kPassthrough
                        : value == "mapped"    ? Security::kMapped
                                               : Security::kSquash;
  }
  TRY(vmm::check(wanted));
  return wanted;
}

namespace {

Result<vmm::SerialConfig> parse_port(std::string_view text, std::string_view form) {
  using Kind = vmm::SerialConfig::Kind;
  const Spec spec = TRY(parse_spec(text, form));
  vmm::SerialConfig serial;
  for (const auto& [key, value] : spec.pairs)
    (key == "log" ? serial.log_path : serial.port_name) = value;

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

}  // namespace

Result<vmm::SerialConfig> parse_serial(std::string_view text) {
  return parse_port(text, kSerialForm);
}

Result<vmm::SerialConfig> parse_console(std::string_view text) {
  return parse_port(text, kConsoleForm);
}

}  // namespace wick::cli

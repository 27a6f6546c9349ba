#include "hostnet/leases.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>

#include "hostnet/state.h"

namespace wick::hostnet {

namespace {

constexpr size_t kMaxBytes = 1 << 20;

// Parses a line of dnsmasq ("lease.c"): EXPIRES MAC ADDRESS NAME CLIENT-ID, with `*` for a missing
// field.
std::optional<DhcpLease> parse_line(std::string_view line) {
  std::array<std::string_view, 5> words;
  size_t count = 0;
  while (!line.empty()) {
    const size_t end = std::min(line.find(' '), line.size());
    if (end == 0 || count == words.size()) return std::nullopt;
    words[count++] = line.substr(0, end);
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  if (count < 4) return std::nullopt;
  DhcpLease lease;
  const auto [end, error] =
      std::from_chars(words[0].data(), words[0].data() + words[0].size(), lease.expires);
  if (error != std::errc() || end != words[0].data() + words[0].size() || lease.expires < 0)
    return std::nullopt;
  const auto address = net::parse_ipv4(words[2]);
  if (!address) return std::nullopt;
  lease.address = *address;
  const auto in_mac = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == ':' || c == '-';
  };
  lease.mac = words[1];
  std::ranges::transform(lease.mac, lease.mac.begin(), [](char c) {
    return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (lease.mac.size() > 64 || !std::ranges::all_of(lease.mac, in_mac)) return std::nullopt;
  if (words[3] != "*") lease.name = words[3];
  return lease;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  return std::ranges::equal(a, b, {}, lower, lower);
}

bool is_all_digits(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::vector<DhcpLease> parse_dhcp_leases(std::string_view text) {
  std::vector<DhcpLease> leases;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (auto lease = parse_line(text.substr(0, end))) leases.push_back(*std::move(lease));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  std::ranges::stable_sort(leases, {}, &DhcpLease::address);
  return leases;
}

std::string hosts_lines(const std::vector<DhcpLease>& leases, const std::string& domain,
                        std::string_view host_name) {
  // dnsmasq resolves `host` to the host and ignores `wpad` (hostnet/plan.cc).
  const std::array<std::string_view, 4> taken = {"localhost", "host", "wpad",
                                                 host_name.substr(0, host_name.find('.'))};
  std::string lines;
  for (const DhcpLease& lease : leases) {
    const std::string& name = lease.name;
    if (!is_domain_name(name) || name.find('.') != std::string::npos || is_all_digits(name) ||
        std::ranges::any_of(taken, [&](auto other) { return equal_ignoring_case(name, other); }))
      continue;
    lines += fmt::format("{} {} {}.{}\n", net::ipv4_string(lease.address), name, name, domain);
  }
  return lines;
}

std::string dhcp_leases_path(const std::string& network) {
  return network_folder(network) + "/leases";
}

Result<std::vector<DhcpLease>> read_dhcp_leases(const std::string& network) {
  const auto text = read_network_file(dhcp_leases_path(network), kMaxBytes, Trust::kAny);
  if (text) return parse_dhcp_leases(*text);
  if (text.error().code == ENOENT) return std::vector<DhcpLease>();
  return std::unexpected(text.error());
}

}  // namespace wick::hostnet

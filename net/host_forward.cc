#include "net/host_forward.h"

#include <arpa/inet.h>

#include <charconv>

namespace wick::net {

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
  const std::string_view digits = colon == text.npos ? "" : text.substr(colon + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0)
    return fail("the {}'s port must be 1 to 65535", whose);
  return {};
}

}  // namespace

Result<HostForward> HostForward::parse(std::string_view text) {
  constexpr const char* kForm = "write one such as tcp:127.0.0.1:2222-:22";
  HostForward forward;
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

std::string HostForward::text() const {
  return fmt::format("{}:{}:{}-{}:{}", udp ? "udp" : "tcp", host_address, host_port, guest_address,
                     guest_port);
}

}  // namespace wick::net

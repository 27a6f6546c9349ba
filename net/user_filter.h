// Which frames of a guest libslirp gets. It serves a guest that means well; this
// keeps from it what costs the host without bound, or breaks it (4.7):
//
// - frames longer than its MTU, and protocols it has no business with (NC-SI);
// - flows that would open more sockets than `kMostSockets`;
// - fragments of IPv4, and so datagrams longer than the MTU: it keeps those that it
//   cannot put together for 30 s, without a limit, and falls over some that it can;
// - the urgent bit of TCP: it sends memory behind its buffer as urgent data;
// - DHCP from more stations than it has addresses: it loses memory at each.
//
// Thread rule: its owner's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wick::net {

class UserFilter {
 public:
  static constexpr size_t kMostFrameBytes = 1514;
  static constexpr size_t kMostSockets = 512;
  static constexpr size_t kMostUnanswered = 1024;  // requests for an address

  enum class Verdict { kPass, kIgnore, kFragment, kTooManySockets, kTooManyAddresses };

  // May change the frame.
  Verdict judge(std::span<std::byte> frame, size_t open_sockets);
  // After a frame that passed: whether anything came back at once.
  void passed(std::span<std::byte> frame, bool answered);

 private:
  using Station = std::array<std::byte, 6>;

  std::vector<Station> known_stations_;
  size_t unanswered_ = 0;
};

}  // namespace wick::net

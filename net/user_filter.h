// Which frames of a guest libslirp gets. It serves a guest that means well; this
// keeps from it what costs the host without bound, or breaks it (4.7):
//
// - frames longer than its MTU, and protocols it has no business with (NC-SI);
// - flows that would open more sockets than `kMostSockets`;
// - fragments of IPv4, and so datagrams longer than the MTU: it keeps those that it
//   cannot put together for 30 s, without a limit, and falls over some that it can;
// - the urgent bit of TCP: it sends memory behind its buffer as urgent data;
// - more than `kMostEarly` segments of a TCP connection ahead of what it expects: it
//   keeps each in a buffer of its own, so that single bytes would cost 100 MB;
// - DHCP from more stations than it has addresses: it loses memory at each.
//
// Thread rule: its owner's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace wick::net {

class UserFilter {
 public:
  static constexpr size_t kMostFrameBytes = 1514;
  static constexpr size_t kMostSockets = 512;
  static constexpr size_t kMostEarly = 64;         // above a window of whole segments
  static constexpr size_t kMostUnanswered = 1024;  // requests for an address

  enum class Verdict { kPass, kIgnore, kFragment, kEarly, kTooManySockets, kTooManyAddresses };

  // May change the frame.
  Verdict judge(std::span<std::byte> frame, size_t open_sockets);
  // After a frame that passed: whether anything came back at once, and whether a
  // socket was closed.
  void passed(std::span<std::byte> frame, bool answered, bool closed);
  // A frame from libslirp to the guest.
  void came_back(std::span<const std::byte> frame);

 private:
  using Station = std::array<std::byte, 6>;
  // The guest's address and port, the other's, and how long addresses are.
  using Flow = std::array<std::byte, 37>;
  struct Stream {
    uint32_t acknowledged;
    std::vector<uint32_t> waiting;  // sequence numbers from there on
  };

  static constexpr size_t kMostFlows = 4 * kMostSockets;

  bool take_segment(const Flow& flow, uint32_t sequence);

  std::map<Flow, Stream> streams_;
  std::vector<Station> known_stations_;
  size_t unanswered_ = 0;
};

}  // namespace wick::net

// Filters a guest's frames before libslirp gets them, because libslirp (4.7) does not protect
// the host from a hostile guest. These frames would crash libslirp or make it use resources
// without bound, so they are dropped or changed:
//
// - frames longer than the MTU, and protocols that libslirp does not route (NC-SI);
// - new flows while libslirp has `kMaxSockets` sockets;
// - IPv4 fragments, and so datagrams longer than the MTU: libslirp keeps incomplete datagrams
//   for 30 s without a limit, and crashes on some complete ones;
// - the URG flag of TCP, which is cleared: libslirp would send memory beyond its buffer;
// - more than `kMaxEarly` out-of-order segments of a TCP connection: libslirp keeps each in its
//   own buffer, so single bytes would cost 100 MB;
// - DHCP requests from more stations than libslirp has addresses: each would leak memory.
//
// Thread rule: the owner's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "net/mac_address.h"

namespace wick::net {

class UserFilter {
 public:
  static constexpr size_t kMaxFrameBytes = 1514;
  static constexpr size_t kMaxSockets = 512;
  static constexpr size_t kMaxEarly = 64;         // more than the segments of a full window
  static constexpr size_t kMaxUnanswered = 1024;  // limit for DHCP requests without an answer

  enum class Verdict { kPass, kIgnore, kFragment, kEarly, kTooManySockets, kTooManyAddresses };

  // Decides whether a frame of the guest passes. May change the frame.
  Verdict judge(std::span<std::byte> frame, size_t open_sockets);
  // Must be called after libslirp got a frame that passed. `answered`: libslirp has sent a frame
  // during that call. `closed`: libslirp has closed a socket.
  void on_frame_passed(std::span<std::byte> frame, bool answered, bool closed);
  // Must be called for each frame from libslirp to the guest.
  void on_frame_to_guest(std::span<const std::byte> frame);

 private:
  // Identifies a TCP connection: the guest's address and port, the peer's address and port, and the
  // length of each address.
  using Flow = std::array<std::byte, 37>;
  struct Stream {
    uint32_t acknowledged;
    std::vector<uint32_t> waiting;  // sequence numbers of segments not yet acknowledged
  };

  static constexpr size_t kMaxFlows = 4 * kMaxSockets;

  bool take_segment(const Flow& flow, uint32_t sequence);

  std::map<Flow, Stream> streams_;
  std::vector<MacAddress> known_stations_;
  size_t unanswered_ = 0;
};

}  // namespace wick::net

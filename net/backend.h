// The host's side of a network card: a place that takes packets and has some.
// It knows no guest; virtio-net and e1000 stand on the same.
//
// A packet is a PacketHeader, then a frame. A sender may ask for any offload, the
// receiver gets only those of set_offloads().
//
// Thread rule: attach() before anything else; all but the constants on the
// thread of its loop.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "net/packet.h"

namespace wick::net {

class Backend {
 public:
  // Called on the loop, never from inside a call to the back end.
  struct Events {
    // receive() may have a packet for this queue pair, after it had none. None: who
    // attaches has another take the packets, by vhost_descriptor().
    std::function<void(uint16_t pair)> readable;
    std::function<void()> link_changed;
  };

  virtual ~Backend() = default;

  // Constant: what it is called on the host; how many queue pairs it has; what
  // set_offloads() takes.
  virtual const std::string& name() const = 0;
  virtual uint16_t queue_pairs() const { return 1; }
  virtual Offloads supported_offloads() const { return {}; }

  // `loop` must outlive the back end, or its detach(). Not while attached.
  virtual Result<void> attach(EventLoop& loop, Events events) = 0;
  // After it no callback comes; another card may attach.
  virtual void detach() {}

  // A descriptor that vhost-net can take packets from and give packets to; or -1.
  virtual int vhost_descriptor(uint16_t pair) const {
    static_cast<void>(pair);
    return -1;
  }

  virtual void set_offloads(Offloads offloads) { static_cast<void>(offloads); }
  // Packets come to the first `count` pairs only; 1 in the beginning.
  virtual void set_active_pairs(uint16_t count) { static_cast<void>(count); }

  // One packet, header first: its size in bytes, or 0 if there is none now. What
  // has no room is cut off: offer kMaxPacketBytes.
  virtual size_t receive(uint16_t pair, std::span<const iovec> buffers) = 0;
  // One whole packet. What the network has no room for is lost, as on a wire. The
  // buffers are the caller's again at return; they may change meanwhile, since a
  // guest can write to them.
  virtual void send(uint16_t pair, std::span<const iovec> packet) = 0;

  // Whether the cable is plugged in: the host may take the interface down, or away.
  virtual bool link_up() const { return true; }
};

}  // namespace wick::net

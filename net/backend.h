// Host back end of a NIC: sends and receives packets. virtio-net and e1000 share it.
//
// A packet is a PacketHeader, followed by a frame. A packet to send may request any offload; a
// received packet requests only the offloads of set_offloads().
//
// Thread rule: attach() must be called first. The constants may be read on any thread; all other
// functions must be called on the thread of the loop.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "net/host_forward.h"
#include "net/packet.h"

namespace wick::net {

class Backend {
 public:
  // Functions that the back end calls on the loop, never from inside a call to the back end.
  struct Events {
    // Called when receive() may have a packet again for a queue pair that had none. The function is
    // empty if vhost-net takes the packets from vhost_descriptor().
    std::function<void(uint16_t pair)> readable;
    std::function<void()> link_changed;
  };

  virtual ~Backend() = default;

  // Return constants: the name on the host, the number of queue pairs, and the offloads that
  // set_offloads() accepts.
  virtual const std::string& name() const = 0;
  virtual uint16_t queue_pairs() const { return 1; }
  virtual Offloads supported_offloads() const { return {}; }

  // Attaches a NIC; no other NIC may be attached. `loop` must live until detach(), or as long as
  // the back end.
  virtual Result<void> attach(EventLoop& loop, Events events) = 0;
  // Detaches the NIC. No callback comes afterwards, and another NIC may attach.
  virtual void detach() {}

  // Returns a descriptor that vhost-net can use as its back end (VHOST_NET_SET_BACKEND), or -1.
  virtual int vhost_descriptor(uint16_t pair) const {
    static_cast<void>(pair);
    return -1;
  }

  virtual void set_offloads(Offloads offloads) { static_cast<void>(offloads); }
  // Sets the number of queue pairs that receive packets: the first `count`; initially 1.
  virtual void set_active_pairs(uint16_t count) { static_cast<void>(count); }

  // Reads one packet, header first, and returns its size in bytes, or 0 if there is none now.
  // A packet larger than `buffers` is truncated, so offer kMaxPacketBytes.
  virtual size_t receive(uint16_t pair, std::span<const iovec> buffers) = 0;
  // Sends one whole packet, or drops it if there is no room. `packet` is not used after the
  // return. It may change during the call, because a guest can write to it.
  virtual void send(uint16_t pair, std::span<const iovec> packet) = 0;

  // Adds or removes a forward to the guest, which only a user network has.
  virtual Result<void> forward(const HostForward& wanted, bool add) {
    static_cast<void>(wanted), static_cast<void>(add);
    return fail("{}: only a user network forwards ports", name());
  }

  // Returns a user network's connections, as lines for people.
  virtual std::string connections() { return {}; }

  // Returns false while the host's interface is down or deleted.
  virtual bool link_up() const { return true; }
};

}  // namespace wick::net

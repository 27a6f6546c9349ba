// The gdb server of a machine: listens at an address, and serves one client at a time.
//
// Without a client, debugging is not enabled in the machine, so the server costs only its listening
// socket.
//
// Thread rule: the main loop's thread, or any thread before that loop runs.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/connection.h"
#include "base/event_loop.h"
#include "base/fd.h"
#include "base/listener.h"
#include "base/log.h"
#include "base/result.h"
#include "debug/gdb_session.h"
#include "vmm/machine.h"

namespace wick::debug {

class GdbServer {
 public:
  // `monitor` executes the lines of gdb's command "monitor". `loop` and `machine` must outlive the
  // server.
  static Result<std::unique_ptr<GdbServer>> start(EventLoop& loop, vmm::Machine& machine,
                                                  const StreamAddress& address,
                                                  MonitorFunction monitor);
  GdbServer(const GdbServer&) = delete;
  GdbServer& operator=(const GdbServer&) = delete;
  // Detaches the client, if there is one.
  ~GdbServer() = default;

  // Listens at one more address.
  Result<void> listen(const StreamAddress& address);
  // The first address, with the port that the kernel has chosen.
  const StreamAddress& address() const { return listeners_.front()->address(); }

 private:
  GdbServer(EventLoop& loop, vmm::Machine& machine, MonitorFunction monitor);
  void accept(Fd client);
  void on_closed();

  EventLoop& loop_;
  vmm::Machine& machine_;
  const MonitorFunction monitor_;
  RateLimit warnings_;
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<GdbSession> session_;
  Fd next_;  // a client that connected while the session of the old client was ending
  std::vector<std::unique_ptr<Listener>> listeners_;
  // Expires with this object. Functions that are posted to the loop check this pointer.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::debug

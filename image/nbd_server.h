// The NBD server: one disk for several clients at once (NBD specification; the kernel's client,
// QEMU, libnbd and others). It only listens and counts; NbdSession serves a client.
//
// Thread rule: the EventLoop of the disk.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/listener.h"
#include "base/result.h"
#include "base/task.h"
#include "image/nbd_session.h"

namespace wick::image {

class NbdServer {
 public:
  // The maximum number of clients at a time, whatever the user asks for: each client may hold
  // NbdSession::kMaxBytes.
  static constexpr size_t kMaxClients = 64;

  struct Options {
    std::string name = {};         // the name of the export
    std::string description = {};  // a description of the export, for people
    size_t max_clients = 1;        // at most kMaxClients; further ones wait until one has left
    bool persistent = false;       // goes on when the last client has left
    bool discards = true;          // NBD_CMD_TRIM is passed on to the disk
    std::chrono::milliseconds handshake_time{10'000};  // a slower client is disconnected
  };

  // `loop` and `disk` must outlive the server. At destruction no client may be served.
  NbdServer(EventLoop& loop, block::Backend& disk, Options options);
  ~NbdServer();
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;

  // Accepts clients at a socket until stop().
  Result<void> listen(const StreamAddress& address);
  // Returns where the server listens, with the port that the kernel has chosen; nullptr before
  // listen().
  const StreamAddress* address() const { return listener_ ? &listener_->address() : nullptr; }

  // Serves a client that is connected already. Without `shakes_hands` the client begins with
  // requests.
  void serve(Fd client, bool shakes_hands = true);
  // Returns what a client that connects now is told.
  NbdExportInfo info() const { return exported_.info(); }

  // Takes no more clients and requests. Requests in flight are completed; a client that does not
  // take its replies is disconnected after a moment.
  void stop();
  // The Task is done when no client is served and nothing is in flight, after stop(). Unless the
  // server is persistent, it stops by itself when the last client leaves after a complete
  // handshake. May be awaited only once.
  Task<void> finished();

 private:
  struct Client {
    Fd socket;
    bool shakes_hands;
  };
  struct Finished {
    NbdServer& server;
    bool await_ready() const { return server.is_finished(); }
    void await_suspend(std::coroutine_handle<> handle) const { server.waiter_ = handle; }
    void await_resume() const {}
  };

  bool is_finished() const { return stopped_ && sessions_.empty(); }
  void start_waiting();
  void finish();
  Task<void> serve_client(Client client);

  EventLoop& loop_;
  const Options options_;
  NbdExport exported_;
  std::unique_ptr<Listener> listener_;
  std::deque<Client> waiting_;  // clients that wait for a free slot
  std::list<NbdSession*> sessions_;
  EventLoop::Timer grace_;
  bool stopped_ = false;
  std::coroutine_handle<> waiter_;
  // Expires with the server: the function that stop() posts checks it.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::image

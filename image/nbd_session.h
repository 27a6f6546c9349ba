// One client of the NBD server: its handshake, then its requests, of which many are executed at
// once. A request is executed when all its bytes have arrived, so a request that is cut off by a
// disconnection changes nothing.
//
// Thread rule: the EventLoop of the disk.
#pragma once

#include <chrono>
#include <coroutine>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async_socket.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/task.h"
#include "block/backend.h"
#include "block/byte_budget.h"
#include "image/nbd_handshake.h"
#include "image/nbd_request.h"

namespace wick::image {

// What all clients of a server share.
struct NbdExport {
  EventLoop& loop;
  block::Backend& disk;
  std::string name = {};
  std::string description = {};
  bool discards = true;                              // NBD_CMD_TRIM is passed on to the disk
  bool multi_conn = false;                           // a client may make several connections
  std::chrono::milliseconds handshake_time{10'000};  // a slower client is disconnected
  RateLimit warnings = {};

  // Returns what a client that connects now is told about the disk.
  NbdExportInfo info() const;
};

class NbdSession {
 public:
  // The bounds of what one client may have in flight: requests, and bytes of their data.
  static constexpr uint64_t kMaxRequests = 128;
  static constexpr uint64_t kMaxBytes = 2 * uint64_t{kNbdMaxDataBytes};

  // `exported` must outlive the session.
  NbdSession(NbdExport& exported, std::unique_ptr<AsyncSocket> socket)
      : exported_(exported), socket_(std::move(socket)) {}
  NbdSession(const NbdSession&) = delete;
  NbdSession& operator=(const NbdSession&) = delete;

  // Serves the client until it disconnects, breaks the protocol, or the session is stopped. When
  // the Task is done, nothing is in flight. Without `shakes_hands` the client is the kernel's: it
  // begins with requests, and knows NbdExport::info() already.
  Task<void> run(bool shakes_hands);

  // Takes no further requests. Those in flight are completed and answered.
  void stop();
  // Ends the session without waiting for the client to take its replies.
  void disconnect() { socket_->shut_down(); }

  // Returns whether the client has finished the handshake, even if it has disconnected since then.
  bool negotiated() const { return limits_.has_value(); }

 private:
  using Held = block::ByteBudget::Held;
  // A request with its data and its share of the budgets.
  struct Job;
  // A part of a read: data or a hole.
  struct Piece {
    uint64_t offset_bytes;
    uint32_t length_bytes;
    bool hole;
  };
  struct Idle {
    NbdSession& session;
    bool await_ready() const { return session.in_flight_ == 0; }
    void await_suspend(std::coroutine_handle<> handle) const { session.idle_ = handle; }
    void await_resume() const {}
  };

  Task<void> shake_hands(const NbdExportInfo& info);
  Task<void> transmit();
  Task<std::optional<uint64_t>> take_request();
  NbdLimits limits() const;

  Task<void> serve(std::unique_ptr<Job> job);
  Task<void> read(Job& job);
  Task<std::vector<Piece>> find_pieces(NbdRequest request);
  Task<void> report_status(Job& job);
  Task<void> change(Job& job);
  Task<Result<void>> change_range(const Job& job);
  uint32_t log_error(const Error& error);
  Task<void> answer(uint64_t cookie, uint32_t error);
  Task<void> send(std::string_view text);
  Task<void> send(std::span<const iovec> buffers);

  NbdExport& exported_;
  const std::unique_ptr<AsyncSocket> socket_;
  std::optional<NbdLimits> limits_;  // agreed in the handshake; the disk's size may have changed
  block::ByteBudget requests_{kMaxRequests};
  block::ByteBudget bytes_{kMaxBytes};
  block::ByteBudget turn_{1};  // held to send a reply, because replies must not be mixed
  bool stopping_ = false;
  size_t in_flight_ = 0;
  std::coroutine_handle<> idle_;
};

}  // namespace wick::image

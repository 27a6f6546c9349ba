#include "debug/gdb_server.h"

#include <chrono>
#include <utility>

#include "base/log.h"

namespace wick::debug {

GdbServer::GdbServer(EventLoop& loop, vmm::Machine& machine, MonitorFunction monitor)
    : loop_(loop), machine_(machine), monitor_(std::move(monitor)) {}

Result<std::unique_ptr<GdbServer>> GdbServer::start(EventLoop& loop, vmm::Machine& machine,
                                                    const StreamAddress& address,
                                                    MonitorFunction monitor) {
  std::unique_ptr<GdbServer> made(new GdbServer(loop, machine, std::move(monitor)));
  TRY(made->listen(address));
  return made;
}

Result<void> GdbServer::listen(const StreamAddress& address) {
  listeners_.push_back(
      TRY(Listener::create(loop_, address, [this](Fd client) { accept(std::move(client)); })));
  spdlog::info("gdb: listening on {}", listeners_.back()->address().text());
  return {};
}

void GdbServer::accept(Fd client) {
  if (session_ && (session_->ended() || !connection_)) {
    next_ = std::move(client);  // served once the old client's session has ended
    return;
  }
  if (session_) {
    warnings_.warn("gdb: a second client is refused; detach the first one");
    return;
  }
  auto connection =
      Connection::create(loop_, Stream(std::move(client)), Stream(),
                         {.received = [this](std::string_view bytes) { session_->receive(bytes); },
                          .closed = [this] { on_closed(); }});
  if (!connection) {
    warnings_.warn("gdb: cannot serve a client: {}", connection.error().message());
    return;
  }
  connection_ = *std::move(connection);
  // The functions check connection_, because the session may outlive it.
  GdbSession::Client calls;
  calls.send = [this](std::string_view bytes) {
    if (connection_) connection_->send(bytes);
  };
  calls.hold = [this](bool held) {
    if (connection_) connection_->hold_input(held);
  };
  calls.close = [this] {
    if (connection_) connection_->close_after_output();
  };
  calls.flush = [this] {
    if (connection_) connection_->flush(std::chrono::milliseconds(200));
  };
  session_ = std::make_unique<GdbSession>(machine_, std::move(calls), monitor_);
}

void GdbServer::on_closed() {
  connection_.reset();
  session_->leave([this] {
    // The session itself calls this function, so it can be destroyed only after the return.
    loop_.post([this, alive = std::weak_ptr(alive_)] {
      if (alive.expired()) return;
      session_.reset();
      if (next_.valid()) accept(std::exchange(next_, Fd()));
    });
  });
}

}  // namespace wick::debug

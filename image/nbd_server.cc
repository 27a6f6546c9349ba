#include "image/nbd_server.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace wick::image {

namespace {

constexpr std::chrono::seconds kGraceTime{2};

}  // namespace

NbdServer::NbdServer(EventLoop& loop, block::Backend& disk, Options options)
    : loop_(loop),
      options_(std::move(options)),
      exported_{.loop = loop,
                .disk = disk,
                .name = options_.name,
                .description = options_.description,
                .discards = options_.discards,
                .multi_conn = options_.max_clients > 1,
                .handshake_time = options_.handshake_time} {}

NbdServer::~NbdServer() = default;

Result<void> NbdServer::listen(const StreamAddress& address) {
  listener_ =
      TRY(Listener::create(loop_, address, [this](Fd client) { serve(std::move(client)); }));
  return {};
}

void NbdServer::serve(Fd client, bool shakes_hands) {
  if (stopped_) return;
  if (sessions_.size() >= options_.max_clients)
    exported_.warnings.warn("nbd: a client waits until one of {} has left; -e allows more",
                            sessions_.size());
  // At most kMaxClients wait; further ones are disconnected.
  if (waiting_.size() >= kMaxClients) return;
  waiting_.push_back({std::move(client), shakes_hands});
  start_waiting();
}

void NbdServer::start_waiting() {
  while (!stopped_ && !waiting_.empty() && sessions_.size() < options_.max_clients) {
    Client next = std::move(waiting_.front());
    waiting_.pop_front();
    spawn(serve_client(std::move(next)));
  }
}

Task<void> NbdServer::serve_client(Client client) {
  bool negotiated = false;
  if (auto socket = AsyncSocket::create(loop_, std::move(client.socket)); !socket) {
    spdlog::warn("nbd: cannot serve a client: {}", socket.error().message());
  } else {
    NbdSession session(exported_, *std::move(socket));
    const auto place = sessions_.insert(sessions_.end(), &session);
    co_await session.run(client.shakes_hands);
    sessions_.erase(place);
    negotiated = session.negotiated();
  }
  start_waiting();
  if (negotiated && sessions_.empty() && !options_.persistent) stop();
  finish();
}

void NbdServer::stop() {
  if (std::exchange(stopped_, true)) return;
  // Destroys the listener later, from the loop, because stop() may run inside one of its callbacks.
  loop_.post([gone = std::shared_ptr<Listener>(std::move(listener_))] {});
  waiting_.clear();
  for (NbdSession* const session : sessions_) session->stop();
  auto timer = loop_.timer([this] {
    for (NbdSession* const session : sessions_) session->disconnect();
  });
  if (timer) {
    grace_ = *std::move(timer);
    grace_.arm(kGraceTime);
  }
  // Resumes the waiter later, because it may destroy the server.
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) finish();
  });
}

void NbdServer::finish() {
  if (is_finished() && waiter_) std::exchange(waiter_, {}).resume();
}

Task<void> NbdServer::finished() { co_await Finished{*this}; }

}  // namespace wick::image

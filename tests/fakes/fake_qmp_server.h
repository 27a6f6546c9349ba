// A QMP server on a Unix socket, for tests of its clients: it answers from a table, and writes
// down what it was asked. It serves one client after the other, on a thread of its own.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/unix_socket.h"

namespace wick::fakes {

class FakeQmpServer {
 public:
  using Json = nlohmann::json;

  explicit FakeQmpServer(const std::string& path)
      : file_((listener_ = *listen_unix(path), path)), thread_([this] { serve(); }) {}
  ~FakeQmpServer() {
    stopping_ = true;
    thread_.join();
  }

  // The value of "return"; the default is {}. Set before a client comes.
  std::map<std::string, Json> answers_;
  // Those that are refused, with the description.
  std::map<std::string, std::string> refusals_;
  // Sent as it is before each answer.
  std::string before_answers_ = "{\"event\": \"RESUME\", \"timestamp\": {}}\r\n";
  std::string greeting_ = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
  std::function<void(const std::string& command)> on_command_;

  // "stop", or "block_resize {"device":"vda"}"; without qmp_capabilities.
  std::vector<std::string> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  bool readable(int fd) const {
    while (!stopping_) {
      pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
      if (::poll(&ready, 1, 10) > 0) return true;
    }
    return false;
  }

  void serve() {
    while (readable(listener_.get())) {
      const Fd client(::accept(listener_.get(), nullptr, nullptr));
      if (client.valid()) serve(client);
    }
  }

  void serve(const Fd& client) {
    send(client, greeting_);
    std::string received;
    std::array<char, 4096> part;
    while (readable(client.get())) {
      const ssize_t got = ::recv(client.get(), part.data(), part.size(), 0);
      if (got <= 0) return;
      received.append(part.data(), static_cast<size_t>(got));
      for (size_t end = received.find('\n'); end != received.npos; end = received.find('\n')) {
        answer(client, Json::parse(received.substr(0, end), nullptr, false));
        received.erase(0, end + 1);
      }
    }
  }

  void answer(const Fd& client, const Json& request) {
    if (!request.is_object() || !request.contains("execute")) return;
    const std::string command = request["execute"];
    if (command != "qmp_capabilities") {
      const std::lock_guard lock(mutex_);
      asked_.push_back(command + (request.contains("arguments") ? " " + request["arguments"].dump()
                                                                : std::string()));
    }
    send(client, before_answers_);
    const auto refusal = refusals_.find(command);
    const auto value = answers_.find(command);
    Json answer;
    if (refusal != refusals_.end())
      answer["error"] = {{"class", "GenericError"}, {"desc", refusal->second}};
    else
      answer["return"] = value == answers_.end() ? Json::object() : value->second;
    if (on_command_) on_command_(command);
    send(client, answer.dump() + "\r\n");
  }

  static void send(const Fd& client, const std::string& text) {
    (void)!::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }

  Fd listener_;
  const UnixSocketFile file_;
  mutable std::mutex mutex_;
  std::vector<std::string> asked_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace wick::fakes

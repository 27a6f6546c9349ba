// A small HTTP server on the loopback interface, for tests: it gives the answers that a test has
// set, byte by byte, and remembers the requests.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/mutex.h"

namespace wick::fakes {

class HttpServer {
 public:
  HttpServer() : stop_(EventFd::create().value()) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    listener_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::bind(listener_.get(), any, size) != 0 || ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), any, &size) != 0)
      throw std::runtime_error("cannot listen on the loopback interface");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~HttpServer() {
    stop_.signal();
    thread_.join();
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Of a path that begins with '/'.
  std::string url(std::string_view path = "") const {
    return fmt::format("http://127.0.0.1:{}{}", port_, path);
  }
  std::string host() const { return fmt::format("127.0.0.1:{}", port_); }

  // A file with its length. With an ETag among the `headers` ("ETag: \"1\"\r\n"), a request that
  // has it gets 304.
  void put(const std::string& path, const std::string& content, const std::string& headers = "") {
    const MutexLock lock(mutex_);
    answers_[path] = {.headers = fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{}",
                                             content.size(), headers),
                      .body = content,
                      .stalls = false};
  }
  void redirect(const std::string& path, const std::string& to) {
    put_raw(path, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + to + "\r\n", "");
  }
  // `headers` begin with the status line, and end without an empty line. With `stalls`, the
  // connection stays open after the body.
  void put_raw(const std::string& path, const std::string& headers, const std::string& body,
               bool stalls = false) {
    const MutexLock lock(mutex_);
    answers_[path] = {.headers = headers, .body = body, .stalls = stalls};
  }
  void remove(const std::string& path) {
    const MutexLock lock(mutex_);
    answers_.erase(path);
  }

  // Since the last call: "GET /path", and the whole text of the last request.
  std::vector<std::string> take_requests() {
    const MutexLock lock(mutex_);
    return std::exchange(requests_, {});
  }
  std::string last_request() const {
    const MutexLock lock(mutex_);
    return last_request_;
  }

 private:
  struct Answer {
    std::string headers, body;
    bool stalls = false;
  };

  // False if the test has ended.
  bool wait(int fd, short events) const {
    pollfd waited[2] = {{.fd = fd, .events = events, .revents = 0},
                        {.fd = stop_.fd(), .events = POLLIN, .revents = 0}};
    return ::poll(waited, 2, -1) > 0 && waited[1].revents == 0;
  }

  void serve() {
    while (wait(listener_.get(), POLLIN)) {
      const Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::string request;
      char part[4096];
      while (client.valid() && request.find("\r\n\r\n") == request.npos &&
             wait(client.get(), POLLIN)) {
        const ssize_t got = ::recv(client.get(), part, sizeof(part), 0);
        if (got <= 0) break;
        request.append(part, static_cast<size_t>(got));
      }
      if (request.find("\r\n\r\n") == request.npos) continue;
      answer(client, request);
    }
  }

  void answer(const Fd& client, const std::string& request) {
    const size_t path_at = request.find(' ') + 1;
    const std::string path = request.substr(path_at, request.find(' ', path_at) - path_at);
    Answer answer{.headers = "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n", .body = "none\n"};
    {
      const MutexLock lock(mutex_);
      requests_.push_back(request.substr(0, request.find(' ', path_at)));
      last_request_ = request;
      if (const auto found = answers_.find(path); found != answers_.end()) answer = found->second;
    }
    if (const size_t etag = answer.headers.find("ETag: "); etag != answer.headers.npos) {
      const size_t value = etag + 6;
      const std::string tag =
          answer.headers.substr(value, answer.headers.find('\r', value) - value);
      if (request.find("If-None-Match: " + tag + "\r\n") != request.npos)
        answer = {.headers = "HTTP/1.1 304 Not Modified\r\n", .body = ""};
    }
    std::string text = answer.headers + "Connection: close\r\n\r\n";
    if (!request.starts_with("HEAD ")) text += answer.body;
    for (std::string_view rest = text; !rest.empty();) {
      const ssize_t sent = ::send(client.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      rest.remove_prefix(static_cast<size_t>(sent));
    }
    char ignored = 0;
    while (answer.stalls && wait(client.get(), POLLIN))
      if (::recv(client.get(), &ignored, 1, 0) <= 0) return;
  }

  EventFd stop_;
  Fd listener_;
  uint16_t port_ = 0;
  std::thread thread_;
  mutable Mutex mutex_;
  std::map<std::string, Answer> answers_ GUARDED_BY(mutex_);
  std::vector<std::string> requests_ GUARDED_BY(mutex_);
  std::string last_request_ GUARDED_BY(mutex_);
};

}  // namespace wick::fakes

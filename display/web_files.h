// A web server for the files of one folder, those of the VNC client noVNC. It serves only regular
// files below the folder, and follows symbolic links that stay within the folder. libvncserver's
// own web server is not used, because it serves one connection at a time and blocks its caller
// meanwhile.
//
// Thread rule: the loop's thread only.
// Specification: HTTP/1.1 (RFC 9112) with one request per connection.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/connection.h"
#include "base/event_loop.h"
#include "base/fd.h"
#include "base/listener.h"
#include "base/result.h"

namespace wick::display {

// The file that a request line asks for.
struct WebRequest {
  std::string path;   // relative to the folder; empty: the first page
  bool body = false;  // the method is GET, not HEAD

  // Parses the head of a request: everything before the empty line. Returns nullopt if the request
  // is not for a file in the folder.
  static std::optional<WebRequest> parse(std::string_view head);
};

class WebFiles {
 public:
  // If more clients connect, the one that connected first is disconnected.
  static constexpr size_t kMaxClients = 32;
  static constexpr size_t kMaxRequestBytes = 8192;
  static constexpr size_t kMaxFileBytes = 4 << 20;

  // The first page is that of noVNC. It connects to `vnc_port` of the host from which the browser
  // got the page.
  static Result<std::unique_ptr<WebFiles>> create(EventLoop& loop, const StreamAddress& address,
                                                  const std::string& folder, uint16_t vnc_port);

  // Returns the address of the first page, such as "http://127.0.0.1:5800/".
  std::string address() const;

 private:
  struct Client {
    std::string request;
    std::unique_ptr<Connection> connection;
  };

  WebFiles(EventLoop& loop, Fd folder, uint16_t vnc_port)
      : loop_(loop), folder_(std::move(folder)), vnc_port_(vnc_port) {}
  void accept(Fd socket);
  void receive(Client& client, std::string_view bytes);
  void answer(Client& client, const WebRequest& request);
  std::optional<std::string> read(const std::string& path) const;

  EventLoop& loop_;
  const Fd folder_;
  const uint16_t vnc_port_;
  std::list<Client> clients_;  // in the order in which they connected
  std::unique_ptr<Listener> listener_;
};

}  // namespace wick::display

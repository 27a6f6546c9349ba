#include "display/web_files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <ranges>
#include <span>
#include <utility>

#include "base/stream.h"

namespace wick::display {

namespace {

constexpr std::pair<std::string_view, std::string_view> kTypes[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".json", "application/json"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".woff", "font/woff"},
    {".ttf", "font/ttf"},
    {".mp3", "audio/mpeg"},
    {".oga", "audio/ogg"},
};

std::string_view type_of(std::string_view path) {
  for (const auto& [ending, type] : kTypes) {
    if (path.ends_with(ending)) return type;
  }
  return "application/octet-stream";
}

std::string response(std::string_view status, std::string_view headers, size_t body_bytes) {
  return fmt::format(
      "HTTP/1.1 {}\r\nConnection: close\r\nContent-Length: {}\r\nCache-Control: no-cache\r\n"
      "X-Content-Type-Options: nosniff\r\nX-Frame-Options: SAMEORIGIN\r\n{}\r\n",
      status, body_bytes, headers);
}

// Returns true for a part of a path that is neither hidden nor "..", and whose characters need no
// escapes.
bool is_name(std::string_view part) {
  constexpr auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !part.empty() && !part.starts_with('.') && std::ranges::all_of(part, fits);
}

}  // namespace

std::optional<WebRequest> WebRequest::parse(std::string_view head) {
  WebRequest request;
  std::string_view line = head.substr(0, head.find("\r\n"));
  if (line.starts_with("GET /")) {
    request.body = true;
    line.remove_prefix(5);
  } else if (line.starts_with("HEAD /")) {
    line.remove_prefix(6);
  } else {
    return std::nullopt;
  }
  const size_t end = line.find(' ');
  if (end == std::string_view::npos || !line.substr(end + 1).starts_with("HTTP/1."))
    return std::nullopt;
  request.path = line.substr(0, std::min(end, line.find('?')));
  for (const auto part : std::views::split(request.path, '/')) {
    if (!request.path.empty() && !is_name({part.begin(), part.end()})) return std::nullopt;
  }
  return request;
}

Result<std::unique_ptr<WebFiles>> WebFiles::create(EventLoop& loop, const StreamAddress& address,
                                                   const std::string& folder, uint16_t vnc_port) {
  Fd opened(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  if (!opened.valid() || ::fstatat(opened.get(), "vnc.html", &status, 0) != 0)
    return with_hint(fail_errno(errno, "{}/vnc.html: cannot open", folder),
                     "install the package novnc");
  std::unique_ptr<WebFiles> made(new WebFiles(loop, std::move(opened), vnc_port));
  WebFiles& self = *made;
  made->listener_ =
      TRY(Listener::create(loop, address, [&self](Fd socket) { self.accept(std::move(socket)); }));
  return made;
}

std::string WebFiles::address() const {
  return fmt::format("http{}/", listener_->address().text().substr(3).insert(1, "//"));
}

void WebFiles::accept(Fd socket) {
  if (clients_.size() >= kMaxClients) clients_.pop_front();
  const auto client = clients_.emplace(clients_.end());
  auto connection = Connection::create(
      loop_, Stream(std::move(socket)), {},
      {.received = [this, client](std::string_view bytes) { receive(*client, bytes); },
       .closed = [this, client] { clients_.erase(client); }});
  if (connection)
    client->connection = *std::move(connection);
  else
    clients_.erase(client);
}

void WebFiles::receive(Client& client, std::string_view bytes) {
  client.request += bytes;
  if (const size_t end = client.request.find("\r\n\r\n"); end != std::string::npos) {
    const auto request = WebRequest::parse(std::string_view(client.request).substr(0, end));
    if (request)
      answer(client, *request);
    else
      client.connection->send(response("400 Bad Request", "", 0));
    client.connection->close_after_output();
  } else if (client.request.size() > kMaxRequestBytes) {
    client.connection->close_after_output();
  }
}

void WebFiles::answer(Client& client, const WebRequest& request) {
  if (request.path.empty()) {
    const std::string page =
        fmt::format("Location: /vnc.html?autoconnect=true&resize=scale&port={}\r\n", vnc_port_);
    return client.connection->send(response("302 Found", page, 0));
  }
  const auto file = read(request.path);
  if (!file) return client.connection->send(response("404 Not Found", "", 0));
  const std::string type = fmt::format("Content-Type: {}\r\n", type_of(request.path));
  client.connection->send(response("200 OK", type, file->size()));
  if (request.body) client.connection->send(*file);
}

std::optional<std::string> WebFiles::read(const std::string& path) const {
  // Follows the links of Debian's package, but none that leads out of the folder.
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const Fd file(
      static_cast<int>(::syscall(SYS_openat2, folder_.get(), path.c_str(), &how, sizeof(how))));
  struct stat status {};
  if (!file.valid() || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      status.st_size > static_cast<off_t>(kMaxFileBytes))
    return std::nullopt;
  std::string bytes(static_cast<size_t>(status.st_size), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    done += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace wick::display

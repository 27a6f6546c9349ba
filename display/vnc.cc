#include "display/vnc.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "display/vnc_library.h"
#include "display/web_files.h"

namespace wick::display {

namespace {

// Makes TCP probe the client's host, so that a host that has vanished is noticed after about two
// minutes.
void send_probes(const Fd& socket) {
  const int on = 1, idle_s = 60, interval_s = 10, probes = 6;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

bool is_loopback(const StreamAddress& address) {
  return !address.path.empty() || address.host.starts_with("127.") || address.host == "::1" ||
         address.host == "localhost";
}

}  // namespace

// The server's use of libvncserver: the library, and the screens for future clients.
struct VncServer::LibraryUse {
  VncLibrary& library;
  std::vector<rfbScreenInfo*> free_screens;

  static Result<std::unique_ptr<LibraryUse>> create(bool password) {
    VncLibrary& library = *TRY(load_vnc_library());
    if (library.in_use.exchange(true)) return fail("vnc: this process has a VNC server already");
    std::unique_ptr<LibraryUse> made(new LibraryUse{library, {}});
    VncClient::prepare(library);
    for (size_t i = 0; i < kMaxClients; ++i) {
      rfbScreenInfo* const screen = library.get_screen(nullptr, nullptr, 1, 1, 8, 3, 4);
      if (screen == nullptr) return fail_errno(ENOMEM, "vnc: cannot make a screen");
      screen->cursor = nullptr;  // the library's own cursor would be shared by all screens
      made->free_screens.push_back(screen);
    }
    TRY(made->initialize_security(password));
    return made;
  }

  ~LibraryUse() {
    for (rfbScreenInfo* const screen : free_screens) library.clean_up_screen(screen);
    library.in_use = false;
  }

  // libvncserver has one list of security types for all screens, and changes it without a lock when
  // the first client comes. So wick itself is the first client, before there are other threads.
  // This connection also makes libvncserver seed random(), the source of its challenges, with the
  // time; so wick seeds random() again with a random value.
  Result<void> initialize_security(bool password) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
      return fail_errno(errno, "vnc: cannot make a socket");
    const Fd ours(ends[0]);
    if (ends[1] >= FD_SETSIZE) {
      ::close(ends[1]);
      return fail("vnc: too many files are open");
    }
    rfbScreenInfo& screen = *free_screens.front();
    uint32_t pixel = 0;
    screen.frameBuffer = reinterpret_cast<char*>(&pixel);
    screen.authPasswdData = password ? &pixel : nullptr;
    constexpr std::string_view kVersionAndType[] = {"RFB 003.008\n\x01", "RFB 003.008\n\x02"};
    const std::string_view hello = kVersionAndType[password ? 1 : 0];
    const ssize_t sent = ::send(ours.get(), hello.data(), hello.size(), MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(hello.size()) &&
        library.new_client(&screen, ends[1]) != nullptr) {
      (void)library.process_events(&screen, 0);
      (void)library.process_events(&screen, 0);
    }
    if (screen.clientHead != nullptr) library.forget_client(screen.clientHead);
    FD_ZERO(&screen.allFds);
    screen.frameBuffer = nullptr;
    unsigned seed = 0;
    if (::getrandom(&seed, sizeof(seed), 0) == sizeof(seed)) ::srandom(seed);
    return {};
  }
};

struct VncServer::Connection {
  rfbScreenInfo* screen;
  std::unique_ptr<VncClient> client;
  EventLoop::Timer handshake_timer;
  bool has_waited = false;  // kHandshakeTime has passed once
};

Result<std::unique_ptr<VncServer>> VncServer::create(const VncConfig& config, std::string name,
                                                     Source* source, InputSink& sink) {
  std::string password;
  if (!config.password_file.empty()) password = TRY(read_vnc_password(config.password_file));
  if (password.size() > 8)
    spdlog::warn("vnc: {}: the password's first 8 bytes count, the rest does not",
                 config.password_file);
  // libvncserver writes to sockets whose clients may be gone, which would raise SIGPIPE.
  std::signal(SIGPIPE, SIG_IGN);
  auto use = TRY(LibraryUse::create(!password.empty()));
  std::unique_ptr<VncServer> made(new VncServer(std::move(use), source, sink));
  made->settings_ = {std::move(name), std::move(password), config.web_port.has_value()};
  made->thread_ = TRY(LoopThread::start("vnc"));
  TRY(made->thread_->loop().call([&] { return made->listen(config); }));
  if (config.password_file.empty() && !is_loopback(config.address))
    spdlog::warn("vnc: everybody who reaches {} can use the guest's screen; set password-file",
                 made->address_);
  return made;
}

VncServer::VncServer(std::unique_ptr<LibraryUse> use, Source* source, InputSink& sink)
    : use_(std::move(use)), sink_(sink), picture_(source) {}

VncServer::~VncServer() {
  if (!thread_) return;
  std::vector<std::unique_ptr<Connection>> connections;
  thread_->loop().call([&] {
    listener_.reset();
    web_files_.reset();
    connections = std::move(connections_);
    connections_.clear();
    for (const auto& connection : connections) connection->client->disconnect();
  });
  // Waits for the clients' threads, which may call the loop until they end.
  for (const auto& connection : connections) connection->client.reset();
  thread_->loop().call([&] {
    for (const auto& connection : connections) use_->free_screens.push_back(connection->screen);
    connections.clear();
    frame_timer_ = {};
  });
  thread_.reset();
}

Result<void> VncServer::listen(const VncConfig& config) {
  EventLoop& loop = thread_->loop();
  frame_timer_ = TRY(loop.timer([this] { draw(); }));
  listener_ =
      TRY(Listener::create(loop, config.address, [this](Fd socket) { accept(std::move(socket)); }));
  address_ = listener_->address().text();
  if (config.web_port) {
    StreamAddress address = config.address;
    address.port = *config.web_port;
    web_files_ = TRY(WebFiles::create(loop, address, config.web_folder, listener_->address().port));
    web_address_ = web_files_->address();
  }
  return {};
}

void VncServer::accept(Fd socket) {
  if (use_->free_screens.empty())
    return warnings_.warn("vnc: refused a client: {} are connected", kMaxClients);
  send_probes(socket);
  auto made = std::make_unique<Connection>();
  Connection& connection = *made;
  auto timer = thread_->loop().timer([&connection] {
    if (connection.client->admitted()) return;
    if (connection.client->has_challenge() && !std::exchange(connection.has_waited, true))
      return connection.handshake_timer.arm(kPasswordTime);
    connection.client->disconnect();
  });
  if (!timer) return warnings_.warn("vnc: refused a client: {}", timer.error().message());
  connection.handshake_timer = *std::move(timer);
  connection.handshake_timer.arm(kHandshakeTime);
  connection.screen = use_->free_screens.back();
  VncClient::Events events{
      .admitted = [this] { on_admitted(); },
      .input = [this] { on_input(); },
      .ended = [this,
                &connection] { thread_->loop().post([this, &connection] { forget(connection); }); },
  };
  auto client = VncClient::start(use_->library, *connection.screen, std::move(socket), settings_,
                                 picture_, sink_, std::move(events));
  if (!client) return warnings_.warn("vnc: refused a client: {}", client.error().message());
  connection.client = *std::move(client);
  use_->free_screens.pop_back();
  connections_.push_back(std::move(made));
}

// Removes a client whose thread is about to end, or has ended.
void VncServer::forget(const Connection& connection) {
  const auto found =
      std::ranges::find(connections_, &connection, &std::unique_ptr<Connection>::get);
  if (found == connections_.end()) return;  // the server is being destroyed
  (*found)->client.reset();
  use_->free_screens.push_back((*found)->screen);
  connections_.erase(found);
}

// Called on the client's thread, which shows the picture afterwards.
void VncServer::on_admitted() {
  thread_->loop().call([this] {
    last_activity_ = std::chrono::steady_clock::now();
    draw();
  });
}

// Called on the client's thread. Ends the quiet time, because what the guest does with the input
// will be visible soon.
void VncServer::on_input() {
  if (!quiet_.exchange(false)) return;
  thread_->loop().post([this] {
    last_activity_ = std::chrono::steady_clock::now();
    frame_timer_.arm(kFrameTime);
  });
}

void VncServer::set_source(Source* source) {
  picture_.set_source(source);
  thread_->loop().post([this] {
    last_activity_ = std::chrono::steady_clock::now();
    draw();
  });
}

void VncServer::draw() {
  if (picture_.viewers() == 0) return frame_timer_.disarm();
  const auto now = std::chrono::steady_clock::now();
  if (picture_.update()) last_activity_ = now;
  const bool quiet = now - last_activity_ > kQuietTime;
  quiet_ = quiet;
  frame_timer_.arm(quiet ? kQuietFrameTime : kFrameTime);
}

}  // namespace wick::display

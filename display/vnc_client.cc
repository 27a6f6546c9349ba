#include "display/vnc_client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/printable.h"
#include "display/vnc_library.h"

namespace wick::display {

namespace {

// How long libvncserver waits for the rest of a message, or for room for more output.
constexpr int kMaxWaitMs = 20'000;
// How long libvncserver waits for a WebSocket request before it greets an RFB client.
constexpr int kWebRequestMs = 100;
constexpr size_t kMaxRequestBytes = 4095;  // libvncserver's limit
constexpr int kWrongPasswordMs = 1000;

constexpr int32_t kExtendedKeyEvent = -258;
constexpr uint8_t kQemuMessage = 255;
constexpr size_t kChallengeBytes = 16;

RateLimit& warnings() {
  static RateLimit limit;
  return limit;
}

bool equal_without_case(std::string_view a, std::string_view b) {
  constexpr auto lower = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  };
  return std::ranges::equal(a, b, {}, lower, lower);
}

// Returns the host of HOST, HOST:PORT or [IPV6]:PORT; an IPv6 address keeps its brackets.
std::string_view host_of(std::string_view authority) {
  if (authority.starts_with('['))
    return authority.substr(0, std::min(authority.find(']'), authority.size() - 1) + 1);
  return authority.substr(0, authority.find(':'));
}

// Returns the value of the header with this name, without blanks around it; nullopt if there is no
// such header, or more than one.
std::optional<std::string_view> header(std::string_view request, std::string_view name) {
  std::optional<std::string_view> value;
  while (!request.empty()) {
    const size_t end = std::min(request.find("\r\n"), request.size());
    std::string_view line = request.substr(0, end);
    request.remove_prefix(std::min(end + 2, request.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || !equal_without_case(line.substr(0, colon), name))
      continue;
    if (value) return std::nullopt;
    line.remove_prefix(colon + 1);
    while (line.starts_with(' ')) line.remove_prefix(1);
    while (line.ends_with(' ')) line.remove_suffix(1);
    value = line;
  }
  return value;
}

// Returns false for a format with shifts beyond the pixel, which are undefined in C. A client may
// ask for any format.
bool is_sound(const rfbPixelFormat& format) {
  if (format.bitsPerPixel > 32) return false;
  const auto fits = [&](uint16_t max, uint8_t shift) {
    return shift < format.bitsPerPixel && uint64_t{max} << shift < uint64_t{1}
                                                                       << format.bitsPerPixel;
  };
  return !format.trueColour ||
         (fits(format.redMax, format.redShift) && fits(format.greenMax, format.greenShift) &&
          fits(format.blueMax, format.blueShift));
}

}  // namespace

bool is_request_of_own_page(std::string_view request) {
  // With a second GET line, libvncserver would leak the path of the first.
  if (!request.starts_with("GET ") || request.find("\nGET ") != std::string_view::npos)
    return false;
  const auto host = header(request, "Host");
  const auto origin = header(request, "Origin");
  if (!host || !origin) return false;
  const size_t scheme = origin->find("://");
  if (scheme == std::string_view::npos) return false;
  const std::string_view of_page = host_of(origin->substr(scheme + 3));
  return !of_page.empty() && equal_without_case(of_page, host_of(*host));
}

struct VncClient::Hooks {
  static VncClient& self(const rfbScreenInfo* screen) {
    return *static_cast<VncClient*>(screen->screenData);
  }

  static rfbNewClientAction connected(rfbClientPtr client) {
    VncClient& it = self(client->screen);
    it.client_ = client;
    client->clientGoneHook = gone;
    if (client->wsctx != nullptr && !it.web_request_) {
      warnings().warn("vnc: refused a web browser{}", it.settings_.web ? "" : ", without web=on");
      return RFB_CLIENT_REFUSE;
    }
    return RFB_CLIENT_ACCEPT;
  }

  static void gone(rfbClientPtr client) {
    VncClient& it = self(client->screen);
    // libvncserver itself would not free the memory of the WebSocket and of the extensions.
    std::free(std::exchange(client->wsctx, nullptr));
    while (rfbExtensionData* const enabled = client->extensions) {
      client->extensions = enabled->next;
      std::free(enabled);
    }
    it.client_ = nullptr;
  }

  static rfbBool check_password(rfbClientPtr client, const char* response, int length) {
    VncClient& it = self(client->screen);
    std::array<uint8_t, kChallengeBytes> expected;
    std::copy_n(client->authChallenge, expected.size(), expected.begin());
    std::string password = it.settings_.password;
    {
      const MutexLock lock(it.library_.encryption);
      it.library_.encrypt(expected.data(), password.data());
    }
    uint8_t difference = 0;
    for (size_t i = 0; i < expected.size(); ++i)
      difference |= static_cast<uint8_t>(expected[i] ^ static_cast<uint8_t>(response[i]));
    if (length == static_cast<int>(kChallengeBytes) && difference == 0) return TRUE;
    warnings().warn("vnc: a client gave a wrong password");
    // Slows guessing down. The wait ends early if the client or the server gives up.
    pollfd ends{it.socket_.get(), POLLRDHUP, 0};
    (void)::poll(&ends, 1, kWrongPasswordMs);
    return FALSE;
  }

  static rfbBool set_format(rfbClientPtr client) {
    VncClient& it = self(client->screen);
    if (is_sound(client->format)) return it.library_.set_translate_function(client);
    warnings().warn("vnc: a client asked for an invalid pixel format");
    it.library_.close_client(client);
    return FALSE;
  }

  static void key(rfbBool down, rfbKeySym keysym, rfbClientPtr client) {
    VncClient& it = self(client->screen);
    it.input_.key(keysym, down != 0);
    it.events_.input();
  }

  static void pointer(int buttons, int x, int y, rfbClientPtr client) {
    VncClient& it = self(client->screen);
    it.input_.pointer(static_cast<uint32_t>(buttons), static_cast<uint32_t>(std::max(x, 0)),
                      static_cast<uint32_t>(std::max(y, 0)), it.copy_.width, it.copy_.height);
    it.events_.input();
  }

  static void ignore_text(char*, int, rfbClientPtr) {}

  // libvncserver holds a mutex of all clients during this call, so this function must not write to
  // the client.
  static rfbBool enable_encoding(rfbClientPtr client, void**, int encoding) {
    if (encoding != kExtendedKeyEvent) return FALSE;
    self(client->screen).wants_extended_keys_ = true;
    return TRUE;
  }

  static rfbBool message(rfbClientPtr client, void*, const rfbClientToServerMsg* message) {
    if (message->type != kQemuMessage) return FALSE;
    VncClient& it = self(client->screen);
    std::array<std::byte, 11> rest;  // submessage, down (16 bits), keysym, scan code
    if (it.library_.read_exact(client, reinterpret_cast<char*>(rest.data()), rest.size()) <= 0 ||
        rest[0] != std::byte{0})
      return FALSE;
    it.input_.extended_key(load_be<uint32_t>(std::span(rest).subspan(3)),
                           load_be<uint32_t>(std::span(rest).subspan(7)),
                           load_be<uint16_t>(std::span(rest).subspan(1)) != 0);
    it.events_.input();
    return TRUE;
  }

  static rfbProtocolExtension& extension() {
    static std::array<int, 2> encodings = {kExtendedKeyEvent, 0};
    static rfbProtocolExtension instance = [] {
      rfbProtocolExtension made{};
      made.pseudoEncodings = encodings.data();
      made.enablePseudoEncoding = enable_encoding;
      made.handleMessage = message;
      return made;
    }();
    return instance;
  }
};

void VncClient::prepare(VncLibrary& library) { library.register_extension(&Hooks::extension()); }

Result<std::unique_ptr<VncClient>> VncClient::start(VncLibrary& library, rfbScreenInfo& screen,
                                                    Fd socket, const Settings& settings,
                                                    SharedPicture& picture, InputSink& sink,
                                                    Events events) {
  EventFd wake = TRY(EventFd::create());
  std::unique_ptr<VncClient> made(new VncClient(library, screen, std::move(socket), std::move(wake),
                                                settings, picture, sink, std::move(events)));
  VncClient& self = *made;
  made->thread_ = TRY(start_thread("vnc-client", [&self] { self.run(); }));
  return made;
}

VncClient::VncClient(VncLibrary& library, rfbScreenInfo& screen, Fd socket, EventFd wake,
                     const Settings& settings, SharedPicture& picture, InputSink& sink,
                     Events events)
    : library_(library),
      screen_(screen),
      socket_(std::move(socket)),
      wake_(std::move(wake)),
      settings_(settings),
      picture_(picture),
      events_(std::move(events)),
      viewer_(wake_),
      input_(sink) {}

VncClient::~VncClient() {
  disconnect();
  if (thread_.joinable()) thread_.join();
}

void VncClient::disconnect() {
  stopping_ = true;
  wake_.signal();
  // Ends libvncserver's waiting in the middle of a message.
  (void)::shutdown(socket_.get(), SHUT_RDWR);
}

void VncClient::run() {
  set_up_screen();
  if (check_web_request()) serve();
  input_.release_all();
  if (admitted_.exchange(false)) picture_.remove_viewer(viewer_);
  clean_up_screen();
  // The client must see the end now, and not when this object is destroyed.
  (void)::shutdown(socket_.get(), SHUT_RDWR);
  events_.ended();
}

// Checks a WebSocket request without taking it from the socket, because libvncserver accepts
// requests of any page. Waits for a request as long as libvncserver does. Returns false if the
// client must be disconnected.
bool VncClient::check_web_request() {
  pollfd readable{socket_.get(), POLLIN, 0};
  if (!settings_.web || ::poll(&readable, 1, kWebRequestMs) <= 0) return true;
  std::array<char, kMaxRequestBytes> bytes;
  // A browser sends the rest of its request soon.
  for (int waited_ms = 0; waited_ms <= kWebRequestMs && !stopping_; waited_ms += 10) {
    const ssize_t size = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
    if (size <= 0) return false;
    const std::string_view text(bytes.data(), static_cast<size_t>(size));
    if (!text.starts_with(std::string_view("GET ").substr(0, text.size()))) return true;
    if (const size_t end = text.find("\r\n\r\n"); end != std::string_view::npos) {
      web_request_ = is_request_of_own_page(text.substr(0, end));
      return true;  // Hooks::connected() refuses a client without web_request_
    }
    pollfd stopped{wake_.fd(), POLLIN, 0};
    (void)::poll(&stopped, 1, 10);
  }
  return false;
}

void VncClient::set_up_screen() {
  copy_ = {1, 1, {0}};  // no picture before admit()
  screen_.screenData = this;
  screen_.desktopName = settings_.name.c_str();
  screen_.frameBuffer = reinterpret_cast<char*>(copy_.pixels.data());
  screen_.width = static_cast<int>(copy_.width);
  screen_.height = static_cast<int>(copy_.height);
  screen_.paddedWidthInBytes = screen_.width * 4;
  set_server_format();
  screen_.maxClientWait = kMaxWaitMs;
  screen_.deferUpdateTime = 0;  // the server's loop decides when to send
  screen_.alwaysShared = TRUE;
  screen_.permitFileTransfer = FALSE;
  screen_.cursor = nullptr;  // the guest draws its own cursor
  // Any pointer makes libvncserver ask for a password.
  screen_.authPasswdData = settings_.password.empty() ? nullptr : this;
  screen_.passwordCheck = Hooks::check_password;
  screen_.newClientHook = Hooks::connected;
  screen_.kbdAddEvent = Hooks::key;
  screen_.ptrAddEvent = Hooks::pointer;
  screen_.setXCutText = Hooks::ignore_text;
  screen_.setXCutTextUTF8 = Hooks::ignore_text;
  screen_.setTranslateFunction = Hooks::set_format;
}

// Resets the screen for the next client.
void VncClient::clean_up_screen() {
  if (client_ != nullptr) {
    if (client_->sock >= 0) library_.close_client(client_);
    library_.forget_client(client_);
  }
  // Frees the smaller screens that libvncserver has made if the client asked for a smaller picture.
  while (rfbScreenInfo* const scaled = screen_.scaledScreenNext) {
    screen_.scaledScreenNext = scaled->scaledScreenNext;
    std::free(scaled->frameBuffer);
    std::free(scaled);
  }
  screen_.scaledScreenRefCount = 0;
  screen_.pointerClient = nullptr;
  screen_.cursorX = screen_.cursorY = 0;
  FD_ZERO(&screen_.allFds);
  screen_.maxFd = 0;
  screen_.frameBuffer = nullptr;
}

void VncClient::serve() {
  // libvncserver puts the descriptor into an fd_set, and does not check that it is below
  // FD_SETSIZE.
  const int copy = ::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0);
  if (copy >= FD_SETSIZE) ::close(copy);
  if (copy < 0 || copy >= FD_SETSIZE)
    return warnings().warn("vnc: refused a client: too many files are open");
  // Greets the client. Hooks::connected() sets client_.
  (void)library_.new_client(&screen_, copy);

  while (client_ != nullptr && !stopping_) {
    std::array<pollfd, 2> polled = {pollfd{socket_.get(), POLLIN, 0},
                                    pollfd{wake_.fd(), POLLIN, 0}};
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
    if (wake_.consume()) show_changes();
    (void)library_.process_events(&screen_, 0);
    if (client_ != nullptr && !finish_turn()) return;
  }
}

// Does what libvncserver leaves to its user after it has processed events. Returns false if the
// client must be disconnected.
bool VncClient::finish_turn() {
  // libvncserver does not resize the smaller pictures of UltraVNC's and PalmVNC's clients together
  // with the screen, and would write beyond them.
  if (client_->scaledScreen != &screen_) {
    warnings().warn("vnc: disconnected a client that asked for a smaller picture");
    return false;
  }
  if (client_->state == rfbClientRec::RFB_AUTHENTICATION) has_challenge_ = true;
  if (client_->state < rfbClientRec::RFB_INITIALISATION) return true;
  if (!admitted_) admit();
  if (client_->state == rfbClientRec::RFB_NORMAL && std::exchange(wants_extended_keys_, false))
    return acknowledge_extended_keys();
  return true;
}

// The client is told the size of the screen next, so the screen must be up to date.
void VncClient::admit() {
  picture_.add_viewer(viewer_);
  admitted_ = true;
  events_.admitted();
  show_changes();
}

void VncClient::show_changes() {
  const uint32_t width = copy_.width, height = copy_.height;
  const std::vector<Rectangle> changes = picture_.copy_changes(viewer_, copy_);
  char* const pixels = reinterpret_cast<char*>(copy_.pixels.data());
  if (copy_.width != width || copy_.height != height || pixels != screen_.frameBuffer) {
    library_.new_framebuffer(&screen_, pixels, static_cast<int>(copy_.width),
                             static_cast<int>(copy_.height), 8, 3, 4);
    set_server_format();  // new_framebuffer() has reset the format
    (void)Hooks::set_format(client_);
  }
  for (const Rectangle& each : changes)
    library_.mark_modified(&screen_, static_cast<int>(each.x), static_cast<int>(each.y),
                           static_cast<int>(each.x + each.width),
                           static_cast<int>(each.y + each.height));
}

// Sets the format of the pixels in Picture, 0x00RRGGBB.
void VncClient::set_server_format() {
  screen_.serverFormat.depth = 24;
  screen_.serverFormat.redShift = 16;
  screen_.serverFormat.greenShift = 8;
  screen_.serverFormat.blueShift = 0;
}

// Sends an update of one rectangle without pixels, after which the client sends scan codes.
bool VncClient::acknowledge_extended_keys() {
  std::array<std::byte, 16> update{};  // message type 0: FramebufferUpdate
  store_be<uint16_t>(std::span(update).subspan(2), 1);
  store_be<uint32_t>(std::span(update).subspan(12), static_cast<uint32_t>(kExtendedKeyEvent));
  return library_.write_exact(client_, reinterpret_cast<const char*>(update.data()),
                              static_cast<int>(update.size())) > 0;
}

}  // namespace wick::display

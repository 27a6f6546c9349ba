// A VNC server: shows a guest's screen to VNC clients, and passes their key presses and pointer
// events to the guest. A process has at most one server (vnc_library.h).
//
// A thread of its own, "vnc", accepts clients and draws; each client has a thread (vnc_client.h).
// While no client is there, nothing is drawn and no timer runs.
//
// Thread rule: create() and the destructor on one thread; the rest on any.
// Specification: RFC 6143, by libvncserver.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/input.h"
#include "base/listener.h"
#include "base/log.h"
#include "base/result.h"
#include "display/picture.h"
#include "display/shared_picture.h"
#include "display/vnc_client.h"
#include "display/vnc_config.h"

namespace wick::display {

class WebFiles;

class VncServer {
 public:
  // The maximum number of clients, including those that have not authenticated themselves. Further
  // clients are refused.
  static constexpr size_t kMaxClients = 32;
  // A client must authenticate itself within kHandshakeTime. If it has been asked for the password
  // by then, it gets kPasswordTime more, because a person may have to type the password.
  static constexpr std::chrono::seconds kHandshakeTime{10}, kPasswordTime{120};
  // How often the server looks at the guest's screen: every kFrameTime, or every kQuietFrameTime
  // after the screen has not changed for kQuietTime. Input of a client ends the quiet time.
  static constexpr std::chrono::milliseconds kFrameTime{33}, kQuietFrameTime{100};
  static constexpr std::chrono::milliseconds kQuietTime{1000};

  // `name` is the machine's name. `source` may be null; it must exist until the next set_source()
  // or the server's end. `sink` must outlive the server.
  static Result<std::unique_ptr<VncServer>> create(const VncConfig& config, std::string name,
                                                   Source* source, InputSink& sink);
  // Disconnects all clients, within a second.
  ~VncServer();
  VncServer(const VncServer&) = delete;
  VncServer& operator=(const VncServer&) = delete;

  // Returns "tcp:127.0.0.1:5900" or "unix:PATH", with the port that the kernel has chosen.
  const std::string& address() const { return address_; }
  // Returns the address of the web page; empty without a web page.
  const std::string& web_address() const { return web_address_; }
  // Returns the number of clients that see the screen.
  size_t clients() const { return picture_.viewers(); }

  // Replaces the graphics card after the board was built anew. While there is no card (nullptr),
  // clients see a black screen of the same size. The old card is not used after the return.
  void set_source(Source* source);

 private:
  struct LibraryUse;
  struct Connection;

  VncServer(std::unique_ptr<LibraryUse> use, Source* source, InputSink& sink);
  Result<void> listen(const VncConfig& config);
  void accept(Fd socket);
  void forget(const Connection& connection);
  void on_admitted();
  void on_input();
  void draw();

  const std::unique_ptr<LibraryUse> use_;
  InputSink& sink_;
  VncClient::Settings settings_;
  std::string address_, web_address_;
  SharedPicture picture_;
  std::atomic<bool> quiet_ = false;  // draw() is called less often: kQuietFrameTime

  // Owned by the loop's thread.
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<WebFiles> web_files_;
  std::vector<std::unique_ptr<Connection>> connections_;
  EventLoop::Timer frame_timer_;
  std::chrono::steady_clock::time_point last_activity_;
  RateLimit warnings_;

  std::unique_ptr<LoopThread> thread_;
};

}  // namespace wick::display

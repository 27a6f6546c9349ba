// One client of the VNC server, with a thread and a screen of libvncserver of its own.
//
// libvncserver waits for a client in the middle of a message, for seconds, when it reads and when
// it writes. So each client has its own thread: a client that sends half a message, or reads
// nothing, holds nobody else up. Each client has its own screen, too, so that libvncserver never
// runs on one screen in two threads.
//
// Thread rule: made on the server's loop, and destroyed there or by the server's destructor; for
// the rest see each function. Input events go to the InputSink on the client's thread.
//
// Specification: RFC 6143; RFC 6455 (WebSockets); QEMU Extended Key Event in the community's RFB
// specification, 7.5.8 and 7.8.14.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "base/fd.h"
#include "base/input.h"
#include "base/result.h"
#include "display/shared_picture.h"
#include "display/vnc_input.h"

struct _rfbClientRec;
struct _rfbScreenInfo;

namespace wick::display {

struct VncLibrary;

class VncClient {
 public:
  struct Settings {
    std::string name;      // the machine's name
    std::string password;  // empty: no password is asked for
    bool web = false;      // WebSockets are accepted
  };

  // The functions are called on the client's thread.
  struct Events {
    // The client may now see the screen; next, libvncserver tells the client the screen's size.
    std::function<void()> admitted;
    std::function<void()> input;
    // The thread is about to end, and makes no further call. The function must not destroy the
    // client.
    std::function<void()> ended;
  };

  // Tells libvncserver about the QEMU Extended Key Event. Must be called before the first client
  // starts. May be called again while there is no client.
  static void prepare(VncLibrary& library);

  // `settings`, `screen`, `picture` and `sink` must outlive the client. No other client may use
  // `screen` during this client's life.
  static Result<std::unique_ptr<VncClient>> start(VncLibrary& library, _rfbScreenInfo& screen,
                                                  Fd socket, const Settings& settings,
                                                  SharedPicture& picture, InputSink& sink,
                                                  Events events);
  // Disconnects, and waits for the thread, which calls `ended` before it ends.
  ~VncClient();

  // Makes the client's thread end soon. Called on any thread.
  void disconnect();
  // Returns false until the client has authenticated itself. Called on any thread.
  bool admitted() const { return admitted_; }
  // Returns true once the client has been asked for the password. Called on any thread.
  bool has_challenge() const { return has_challenge_; }

 private:
  struct Hooks;  // libvncserver's callbacks

  VncClient(VncLibrary& library, _rfbScreenInfo& screen, Fd socket, EventFd wake,
            const Settings& settings, SharedPicture& picture, InputSink& sink, Events events);
  void run();
  bool check_web_request();
  void set_up_screen();
  void clean_up_screen();
  void serve();
  bool finish_turn();
  void admit();
  void show_changes();
  void set_server_format();
  bool acknowledge_extended_keys();

  VncLibrary& library_;
  _rfbScreenInfo& screen_;
  const Fd socket_;  // libvncserver has a duplicate, which it closes itself
  const EventFd wake_;
  const Settings& settings_;
  SharedPicture& picture_;
  const Events events_;
  std::thread thread_;

  std::atomic<bool> stopping_ = false;
  std::atomic<bool> has_challenge_ = false;
  std::atomic<bool> admitted_ = false;

  // Used only by the client's thread.
  _rfbClientRec* client_ = nullptr;  // null before the connection and after its end
  SharedPicture::Viewer viewer_;
  Picture copy_;  // libvncserver's frame buffer
  VncInput input_;
  bool web_request_ = false;          // the client began with an acceptable WebSocket request
  bool wants_extended_keys_ = false;  // acknowledge_extended_keys() must still be called
};

// Returns true if a browser may open a WebSocket with this request. `request` must be the head of
// an HTTP request with one request line, and its Origin must be a page of the host to which the
// request goes. So pages of other sites, which the user happens to visit, cannot reach the guest.
bool is_request_of_own_page(std::string_view request);

}  // namespace wick::display

// Loads libvncserver when the first VNC server starts, so that a run of wick without a VNC server
// neither spends time on the library nor needs it installed.
//
// libvncserver has state that all screens of a process share: the security types that it offers,
// and a mutex that rfbGetScreen() initializes anew. So a process has at most one VNC server, and
// makes all its screens before the first client comes.
//
// Thread rule: any thread calls load_vnc_library(). The users of the functions say on which threads
// they call them.
#pragma once

#include <rfb/rfb.h>

#include <atomic>

#include "base/mutex.h"
#include "base/result.h"

namespace wick::display {

struct VncLibrary {
  decltype(&::rfbGetScreen) get_screen = nullptr;
  decltype(&::rfbScreenCleanup) clean_up_screen = nullptr;
  decltype(&::rfbNewClient) new_client = nullptr;
  decltype(&::rfbProcessEvents) process_events = nullptr;
  decltype(&::rfbNewFramebuffer) new_framebuffer = nullptr;
  decltype(&::rfbMarkRectAsModified) mark_modified = nullptr;
  decltype(&::rfbSetTranslateFunction) set_translate_function = nullptr;
  decltype(&::rfbCloseClient) close_client = nullptr;
  decltype(&::rfbClientConnectionGone) forget_client = nullptr;
  decltype(&::rfbReadExact) read_exact = nullptr;
  decltype(&::rfbWriteExact) write_exact = nullptr;
  decltype(&::rfbEncryptBytes) encrypt = nullptr;
  decltype(&::rfbRegisterProtocolExtension) register_extension = nullptr;

  // Held while `encrypt` runs, because in some builds only one thread at a time may use DES.
  Mutex encryption;
  std::atomic<bool> in_use = false;  // a VNC server exists
};

// Returns the library, loading it at the first call. The library stays loaded for the life of the
// process.
Result<VncLibrary*> load_vnc_library();

}  // namespace wick::display

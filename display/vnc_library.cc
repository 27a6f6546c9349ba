#include "display/vnc_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <string_view>

#include "base/log.h"
#include "base/printable.h"

namespace wick::display {

namespace {

constexpr const char* kLibrary = "libvncserver.so.1";

// Clients can provoke messages without end, and one that only leaves is an error to libvncserver.
// So they are for debugging, and few. They may contain bytes from a client.
void write_line(const char* format, va_list arguments) {
  static RateLimit limit;
  std::array<char, 512> line;
  const int length = std::vsnprintf(line.data(), line.size(), format, arguments);
  std::string_view text(line.data(),
                        length < 0 ? 0 : std::min(static_cast<size_t>(length), line.size() - 1));
  while (text.ends_with('\n')) text.remove_suffix(1);
  limit.warn("libvncserver: {}", printable(text));
}

void log_message(const char* format, ...) {
  if (!spdlog::should_log(spdlog::level::trace)) return;
  va_list arguments;
  va_start(arguments, format);
  write_line(format, arguments);
  va_end(arguments);
}

void log_error(const char* format, ...) {
  if (!spdlog::should_log(spdlog::level::debug)) return;
  va_list arguments;
  va_start(arguments, format);
  write_line(format, arguments);
  va_end(arguments);
}

template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

bool take_over_log(void* library) {
  rfbLogProc *log = nullptr, *error = nullptr;
  if (!find(library, "rfbLog", log) || !find(library, "rfbErr", error)) return false;
  *log = log_message;
  *error = log_error;
  return true;
}

Result<void> load(VncLibrary& vnc) {
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return with_hint(fail("vnc: {}", ::dlerror()), "install the package libvncserver1");
  if (!find(library, "rfbGetScreen", vnc.get_screen) ||
      !find(library, "rfbScreenCleanup", vnc.clean_up_screen) ||
      !find(library, "rfbNewClient", vnc.new_client) ||
      !find(library, "rfbProcessEvents", vnc.process_events) ||
      !find(library, "rfbNewFramebuffer", vnc.new_framebuffer) ||
      !find(library, "rfbMarkRectAsModified", vnc.mark_modified) ||
      !find(library, "rfbSetTranslateFunction", vnc.set_translate_function) ||
      !find(library, "rfbCloseClient", vnc.close_client) ||
      !find(library, "rfbClientConnectionGone", vnc.forget_client) ||
      !find(library, "rfbReadExact", vnc.read_exact) ||
      !find(library, "rfbWriteExact", vnc.write_exact) ||
      !find(library, "rfbEncryptBytes", vnc.encrypt) ||
      !find(library, "rfbRegisterProtocolExtension", vnc.register_extension) ||
      !take_over_log(library))
    return with_hint(fail("vnc: {} lacks a function", kLibrary),
                     "install libvncserver1, 0.9.13 or later");
  return {};
}

}  // namespace

Result<VncLibrary*> load_vnc_library() {
  static VncLibrary library;
  static const Result<void> loaded = load(library);
  if (!loaded) return std::unexpected(loaded.error());
  return &library;
}

}  // namespace wick::display

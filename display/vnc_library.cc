#include "display/vnc_library.h"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <string_view>

#include "base/log.h"
#include "base/printable.h"
#include "base/shared_library.h"

namespace wick::display {

namespace {

constexpr const char* kLibrary = "libvncserver.so.1";

// Logs a message of libvncserver, for debugging only: clients can cause any number of messages, and
// libvncserver reports an error even if a client has only disconnected. A message may contain bytes
// from a client.
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

bool take_over_log(void* library) {
  rfbLogProc *log = nullptr, *error = nullptr;
  if (!find_symbol(library, "rfbLog", log) || !find_symbol(library, "rfbErr", error)) return false;
  *log = log_message;
  *error = log_error;
  return true;
}

Result<void> load(VncLibrary& vnc) {
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return with_hint(fail("vnc: {}", ::dlerror()), "install the package libvncserver1");
  if (!find_symbol(library, "rfbGetScreen", vnc.get_screen) ||
      !find_symbol(library, "rfbScreenCleanup", vnc.clean_up_screen) ||
      !find_symbol(library, "rfbNewClient", vnc.new_client) ||
      !find_symbol(library, "rfbProcessEvents", vnc.process_events) ||
      !find_symbol(library, "rfbNewFramebuffer", vnc.new_framebuffer) ||
      !find_symbol(library, "rfbMarkRectAsModified", vnc.mark_modified) ||
      !find_symbol(library, "rfbSetTranslateFunction", vnc.set_translate_function) ||
      !find_symbol(library, "rfbCloseClient", vnc.close_client) ||
      !find_symbol(library, "rfbClientConnectionGone", vnc.forget_client) ||
      !find_symbol(library, "rfbReadExact", vnc.read_exact) ||
      !find_symbol(library, "rfbWriteExact", vnc.write_exact) ||
      !find_symbol(library, "rfbEncryptBytes", vnc.encrypt) ||
      !find_symbol(library, "rfbRegisterProtocolExtension", vnc.register_extension) ||
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

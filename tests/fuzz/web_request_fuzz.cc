// The head of an HTTP request, of any bytes. A file that is served lies in the folder.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "display/vnc_client.h"
#include "display/vnc_config.h"
#include "display/web_files.h"
#include "tests/fuzz/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using wick::fuzz::require;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto request = wick::display::WebRequest::parse(text)) {
    require(!request->path.starts_with('/'));
    require(("/" + request->path).find("/.") == std::string::npos);
    require(request->path.find('\\') == std::string::npos);
  }
  if (wick::display::is_request_of_own_page(text)) require(text.starts_with("GET "));
  if (const auto config = wick::display::parse_vnc(text))
    require(config->address.path.empty() ? config->address.port >= 5900 : !config->web_port);
  return 0;
}

#include "display/vnc_config.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <vector>

#include "base/commas.h"
#include "base/fd.h"

namespace wick::display {

namespace {

constexpr uint16_t kVncPort = 5900, kWebPort = 5800;
constexpr uint16_t kMaxDisplay = UINT16_MAX - kVncPort;
constexpr size_t kMaxPasswordFileBytes = 4096;

constexpr std::string_view kKeys = "the keys are password-file, web";

// Parses HOST:N and returns N.
Result<uint16_t> parse_display(std::string_view text, StreamAddress& address) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos)
    return with_hint(fail("'{}' has no display number", text),
                     "write HOST:N or unix:PATH; :0 is port 5900 of 127.0.0.1");
  std::string_view host = text.substr(0, colon);
  const bool brackets = host.starts_with('[') && host.ends_with(']') && host.size() > 2;
  if (brackets) host = host.substr(1, host.size() - 2);
  // Without brackets, the last part of an IPv6 address would be taken for the display number.
  if (!brackets && host.find_first_of(":[]") != std::string_view::npos)
    return with_hint(fail("'{}' is not a host", host), "write an IPv6 address as [::1]:N");
  const std::string_view number = text.substr(colon + 1);
  const char* const end = number.data() + number.size();
  uint16_t display = 0;
  const auto [rest, error] = std::from_chars(number.data(), end, display);
  if (error != std::errc() || rest != end || display > kMaxDisplay)
    return with_hint(fail("'{}' is not a display number", number),
                     fmt::format("write 0 to {}; display N is port {} + N", kMaxDisplay, kVncPort));
  address.host = host.empty() ? "127.0.0.1" : host;
  address.port = static_cast<uint16_t>(kVncPort + display);
  return display;
}

}  // namespace

Result<VncConfig> parse_vnc(std::string_view text) {
  const std::vector<std::string> parts = split_at_commas(text);
  const std::string& value = parts.front();
  if (value.empty())
    return with_hint(fail("the value before the first comma is missing"),
                     "write HOST:N or unix:PATH");

  VncConfig config;
  std::optional<uint16_t> display;
  if (value.starts_with("unix:")) {
    config.address = TRY(StreamAddress::parse(value));
  } else {
    display = TRY(parse_display(value, config.address));
  }

  std::optional<bool> web;
  for (const std::string& part : std::span(parts).subspan(1)) {
    const size_t equals = part.find('=');
    const std::string key = part.substr(0, equals);
    if (key.empty()) return with_hint(fail("'{}' has no key", part), std::string(kKeys));
    if (key != "password-file" && key != "web")
      return with_hint(fail("unknown key '{}'", key), std::string(kKeys));
    if (equals == std::string::npos || equals + 1 == part.size())
      return with_hint(fail("key '{}' has no value", key), fmt::format("write {}=VALUE", key));
    if (key == "web" ? web.has_value() : !config.password_file.empty())
      return with_hint(fail("key '{}' is given twice", key), std::string(kKeys));
    const std::string given = part.substr(equals + 1);
    if (key == "password-file") {
      config.password_file = given;
    } else if (given == "on" || given == "off") {
      web = given == "on";
    } else {
      return fail("web={}: must be on or off", given);
    }
  }
  if (web.value_or(false)) {
    if (!display)
      return with_hint(fail("web=on needs a port, and {} has none", value), "write HOST:N");
    config.web_port = static_cast<uint16_t>(kWebPort + *display);
  }
  return config;
}

Result<std::string> read_vnc_password(const std::string& path) {
  // O_NONBLOCK: open() must not wait for the writer of a FIFO.
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat status {};
  if (!file.valid() || ::fstat(file.get(), &status) != 0)
    return fail_errno(errno, "{}: cannot open the password file", path);
  if (!S_ISREG(status.st_mode)) return fail("{}: the password file is not a regular file", path);
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return with_hint(fail("{}: other users may access the password file", path),
                     fmt::format("run chmod 600 {}", path));
  std::array<char, kMaxPasswordFileBytes> bytes;
  const ssize_t size = ::read(file.get(), bytes.data(), bytes.size());
  if (size < 0) return fail_errno(errno, "{}: cannot read the password file", path);
  const std::string_view text(bytes.data(), static_cast<size_t>(size));
  const std::string_view line = text.substr(0, text.find_first_of(std::string_view("\r\n\0", 3)));
  if (line.empty())
    return with_hint(fail("{}: the password file's first line is empty", path),
                     "write the password there, at most 8 bytes");
  return std::string(line);
}

}  // namespace wick::display

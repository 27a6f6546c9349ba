// A small RFB client: handshake, updates in Raw, keys and pointer. It waits at most kWaitMs for the
// server.
//
// Specification: RFC 6143.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/listener.h"
#include "display/picture.h"
#include "display/vnc_library.h"

namespace wick::display {

class RfbClient {
 public:
  static constexpr int kWaitMs = 20'000;
  // Pseudo-encodings.
  static constexpr int32_t kDesktopSize = -223, kExtendedDesktopSize = -308, kExtendedKey = -258;

  // "tcp:HOST:PORT" or "unix:PATH".
  explicit RfbClient(const std::string& address)
      : socket_(connect_stream(StreamAddress::parse(address).value()).value()) {}

  // The whole handshake, by RFB 3.8. False if the server refuses the client.
  bool log_in(const std::optional<std::string>& password = std::nullopt) {
    if (!begin(password ? 2 : 1)) return false;
    if (password) {
      std::string challenge = read(16);
      if (challenge.size() != 16) return false;
      std::string key = *password;
      load_vnc_library().value()->encrypt(reinterpret_cast<unsigned char*>(challenge.data()),
                                          key.data());
      send(challenge);
    }
    if (read(4) != std::string(4, '\0')) return false;
    send("\x01");  // shared
    const std::string init = read(24);
    if (init.size() != 24) return false;
    resize(word(init, 0), word(init, 2));
    format_ = init.substr(4, 16);
    name_ = read(long_word(init, 20));
    return true;
  }

  // Chooses a security type. False if the server does not offer it.
  bool begin(char security_type) {
    if (read(12) != "RFB 003.008\n" || !send("RFB 003.008\n")) return false;
    const std::string count = read(1);
    if (count.empty()) return false;
    types_ = read(static_cast<uint8_t>(count[0]));
    return types_.find(security_type) != std::string::npos && send({&security_type, 1});
  }

  void set_encodings(const std::vector<int32_t>& encodings) {
    std::string message("\x02\0", 2);
    put(message, encodings.size(), 2);
    for (const int32_t each : encodings) put(message, static_cast<uint32_t>(each), 4);
    send(message);
  }

  void request(bool incremental) {
    std::string message("\x03");
    put(message, incremental ? 1 : 0, 1);
    put(message, 0, 4);
    put(message, picture_.width, 2);
    put(message, picture_.height, 2);
    send(message);
  }

  // Reads an update, and puts its pixels into picture(). Returns the encodings of its rectangles;
  // none if something else came.
  std::vector<int32_t> read_update() {
    const std::string head = read(4);
    if (head.size() != 4 || head[0] != 0) return {};
    std::vector<int32_t> encodings;
    for (uint32_t left = word(head, 2); left > 0; --left) {
      const std::string rectangle = read(12);
      if (rectangle.size() != 12) return {};
      const Rectangle where{word(rectangle, 0), word(rectangle, 2), word(rectangle, 4),
                            word(rectangle, 6)};
      encodings.push_back(static_cast<int32_t>(long_word(rectangle, 8)));
      if (!read_rectangle(encodings.back(), where)) return {};
    }
    return encodings;
  }

  // Reads updates until a pixel has this color.
  bool wait_for_pixel(uint32_t x, uint32_t y, uint32_t color) {
    for (int updates = 0; updates < 1000; ++updates) {
      if (x < picture_.width && y < picture_.height &&
          picture_.pixels[size_t{y} * picture_.width + x] == color)
        return true;
      request(true);
      if (read_update().empty()) return false;
    }
    return false;
  }

  void key(uint32_t keysym, bool down) {
    std::string message("\x04");
    put(message, down ? 1 : 0, 1);
    put(message, 0, 2);
    put(message, keysym, 4);
    send(message);
  }
  void extended_key(uint32_t keysym, uint32_t scan_code, bool down) {
    std::string message("\xff\0", 2);
    put(message, down ? 1 : 0, 2);
    put(message, keysym, 4);
    put(message, scan_code, 4);
    send(message);
  }
  void pointer(uint8_t buttons, uint16_t x, uint16_t y) {
    std::string message("\x05");
    put(message, buttons, 1);
    put(message, x, 2);
    put(message, y, 2);
    send(message);
  }

  bool send(std::string_view bytes) {
    return ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  // Fewer bytes if the server ends the connection, or keeps the client waiting.
  std::string read(size_t size) {
    std::string bytes(size, '\0');
    size_t done = 0;
    while (done < size && readable()) {
      const ssize_t got = ::recv(socket_.get(), bytes.data() + done, size - done, 0);
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    bytes.resize(done);
    return bytes;
  }
  // Reads until the server ends the connection. False if it does not.
  bool sees_the_end() {
    std::array<char, 65536> bytes;
    while (readable()) {
      if (::recv(socket_.get(), bytes.data(), bytes.size(), 0) <= 0) return true;
    }
    return false;
  }

  const Picture& picture() const { return picture_; }
  const std::string& name() const { return name_; }
  const std::string& format() const { return format_; }  // the server's PIXEL_FORMAT
  const std::string& security_types() const { return types_; }

  static void put(std::string& message, uint64_t value, int bytes) {
    while (bytes-- > 0) message += static_cast<char>(value >> (8 * bytes));
  }

 private:
  bool readable() const {
    pollfd polled{socket_.get(), POLLIN, 0};
    return ::poll(&polled, 1, kWaitMs) > 0;
  }
  static uint32_t word(const std::string& bytes, size_t at) {
    return load_be<uint16_t>(std::as_bytes(std::span(bytes)).subspan(at));
  }
  static uint32_t long_word(const std::string& bytes, size_t at) {
    return load_be<uint32_t>(std::as_bytes(std::span(bytes)).subspan(at));
  }

  bool read_rectangle(int32_t encoding, const Rectangle& where) {
    switch (encoding) {
      case 0:
        return read_pixels(where);
      case kExtendedDesktopSize: {
        const std::string screens = read(4);
        if (screens.size() != 4) return false;
        const size_t rest = static_cast<size_t>(screens[0]) * 16;
        resize(where.width, where.height);
        return read(rest).size() == rest;
      }
      case kDesktopSize:
        resize(where.width, where.height);
        return true;
      default:
        return encoding == kExtendedKey;
    }
  }
  bool read_pixels(const Rectangle& where) {
    if (where.x + where.width > picture_.width || where.y + where.height > picture_.height)
      return false;
    const size_t size = size_t{where.width} * where.height * 4;
    const std::string bytes = read(size);
    if (bytes.size() != size) return false;
    for (uint32_t row = 0; row < where.height; ++row) {
      for (uint32_t column = 0; column < where.width; ++column) {
        const size_t at = (size_t{row} * where.width + column) * 4;
        picture_.pixels[size_t{where.y + row} * picture_.width + where.x + column] =
            load_le<uint32_t>(std::as_bytes(std::span(bytes)).subspan(at)) & 0xff'ffff;
      }
    }
    return true;
  }
  void resize(uint32_t width, uint32_t height) {
    picture_ = {width, height, std::vector<uint32_t>(size_t{width} * height, 0xdead)};
  }

  Fd socket_;
  Picture picture_;
  std::string name_, format_, types_;
};

}  // namespace wick::display

// A client of an NBD server, which a test controls byte by byte. It waits for the server, but not
// for ever.
//
// Thread rule: one thread, which is not the server's.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "image/nbd_protocol.h"

namespace wick::fakes {

using image::append_be;

class NbdClient {
 public:
  struct OptionReply {
    uint32_t option = 0;
    uint32_t type = 0;
    std::string data;
  };
  struct Chunk {
    uint16_t type = 0;
    std::string payload;
  };
  // The reply to a request.
  struct Reply {
    bool arrived = false;  // false: the server has disconnected
    uint64_t cookie = 0;
    uint32_t error = 0;
    std::vector<Chunk> chunks;  // of a structured reply
    std::string data;           // of a read that succeeded
  };

  NbdClient() = default;
  explicit NbdClient(Fd socket) : socket_(std::move(socket)) {}

  const Fd& socket() const { return socket_; }
  void close() { socket_.close(); }
  void end_output() const { ::shutdown(socket_.get(), SHUT_WR); }

  // --- Bytes ---

  bool send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t put = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(put));
    }
    return true;
  }
  // Fewer bytes only if the server disconnects, or sends nothing for 20 s.
  std::string receive(size_t bytes) const {
    std::string text(bytes, '\0');
    size_t done = 0;
    while (done < bytes) {
      pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&ready, 1, 20000) != 1) break;
      const ssize_t got = ::recv(socket_.get(), text.data() + done, bytes - done, 0);
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    text.resize(done);
    return text;
  }
  // True if the server disconnects without sending anything more.
  bool ended() const { return receive(1).empty(); }

  // --- Handshake ---

  static std::string option(uint32_t option, std::string_view data = {}) {
    std::string text;
    append_be(text, image::kNbdOptionMagic);
    append_be(text, option);
    append_be(text, static_cast<uint32_t>(data.size()));
    return text.append(data);
  }
  // The data of NBD_OPT_INFO and NBD_OPT_GO.
  static std::string info_data(std::string_view name, const std::vector<uint16_t>& wanted = {}) {
    std::string text = string(name);
    append_be(text, static_cast<uint16_t>(wanted.size()));
    for (const uint16_t type : wanted) append_be(text, type);
    return text;
  }
  static std::string context_data(std::string_view name, const std::vector<std::string>& queries) {
    std::string text = string(name);
    append_be(text, static_cast<uint32_t>(queries.size()));
    for (const std::string& query : queries) text += string(query);
    return text;
  }
  static std::string string(std::string_view text) {
    std::string out;
    append_be(out, static_cast<uint32_t>(text.size()));
    return out.append(text);
  }

  bool greet(uint32_t flags = 3) const {
    std::string text;
    append_be(text, flags);
    return receive(18).size() == 18 && send(text);
  }
  std::optional<OptionReply> option_reply() const {
    const std::string header = receive(20);
    if (header.size() < 20 || number<uint64_t>(header, 0) != image::kNbdOptionReplyMagic) return {};
    OptionReply reply{number<uint32_t>(header, 8), number<uint32_t>(header, 12), {}};
    reply.data = receive(number<uint32_t>(header, 16));
    return reply;
  }
  // The replies to an option, up to its acknowledgement or error.
  std::vector<OptionReply> ask(uint32_t code, std::string_view data = {}) const {
    std::vector<OptionReply> replies;
    if (!send(option(code, data))) return replies;
    while (auto reply = option_reply()) {
      replies.push_back(*std::move(reply));
      if (replies.back().type == image::NBD_REP_ACK || replies.back().type >> 31 != 0) break;
    }
    return replies;
  }
  // A whole handshake. Structured replies come with base:allocation.
  bool negotiate(bool structured) {
    structured_ = structured;
    if (!greet()) return false;
    const auto accepted = [this](uint32_t code, const std::string& data) {
      const auto replies = ask(code, data);
      if (code == image::NBD_OPT_GO && !replies.empty() && replies.front().data.size() == 12) {
        size_bytes_ = number<uint64_t>(replies.front().data, 2);
        flags_ = number<uint16_t>(replies.front().data, 10);
      }
      return !replies.empty() && replies.back().type == image::NBD_REP_ACK;
    };
    if (structured && (!accepted(image::NBD_OPT_STRUCTURED_REPLY, "") ||
                       !accepted(image::NBD_OPT_SET_META_CONTEXT,
                                 context_data("", {image::kNbdAllocationContext}))))
      return false;
    return accepted(image::NBD_OPT_GO, info_data(""));
  }
  void set_structured(bool structured) { structured_ = structured; }
  uint64_t size_bytes() const { return size_bytes_; }
  uint16_t flags() const { return flags_; }

  // --- Requests ---

  static std::string request(uint32_t type, uint64_t cookie, uint64_t offset, uint32_t length,
                             std::string_view data = {}) {
    std::string text;
    append_be<uint32_t>(text, NBD_REQUEST_MAGIC);
    append_be(text, type);
    append_be(text, cookie);
    append_be(text, offset);
    append_be(text, length);
    return text.append(data);
  }
  // The next reply. The data of a simple reply's read has `read_bytes`; the data of a structured
  // one is put together as the bytes from `offset` on.
  Reply reply(uint32_t read_bytes = 0, uint64_t offset = 0) const {
    Reply reply;
    for (;;) {
      const std::string magic = receive(4);
      if (magic.size() < 4) return {};
      if (number<uint32_t>(magic, 0) == NBD_REPLY_MAGIC) {
        const std::string header = receive(12);
        if (header.size() < 12) return {};
        reply.error = number<uint32_t>(header, 0);
        reply.cookie = number<uint64_t>(header, 4);
        if (reply.error == 0) reply.data = receive(read_bytes);
        reply.arrived = reply.error != 0 || reply.data.size() == read_bytes;
        return reply;
      }
      const std::string header = receive(16);
      if (header.size() < 16 || number<uint32_t>(magic, 0) != image::NBD_STRUCTURED_REPLY_MAGIC)
        return {};
      reply.cookie = number<uint64_t>(header, 4);
      Chunk chunk{number<uint16_t>(header, 2), receive(number<uint32_t>(header, 12))};
      if (chunk.payload.size() < number<uint32_t>(header, 12)) return {};
      if (!take(chunk, reply, read_bytes, offset)) return {};
      reply.chunks.push_back(std::move(chunk));
      if (number<uint16_t>(header, 0) == image::NBD_REPLY_FLAG_DONE) break;
    }
    reply.arrived = true;
    return reply;
  }
  Reply call(uint32_t type, uint64_t offset, uint32_t length, std::string_view data = {}) {
    const uint64_t cookie = ++cookie_;
    if (!send(request(type, cookie, offset, length, data))) return {};
    Reply answer = reply((type & 0xffff) == NBD_CMD_READ ? length : 0, offset);
    if (answer.cookie != cookie) answer.arrived = false;
    return answer;
  }

  template <typename T>
  static T number(std::string_view text, size_t at) {
    return load_be<T>(std::as_bytes(std::span(text)).subspan(at));
  }

 private:
  static bool take(const Chunk& chunk, Reply& reply, uint32_t read_bytes, uint64_t offset) {
    if (chunk.type == image::NBD_REPLY_TYPE_ERROR) {
      reply.error = number<uint32_t>(chunk.payload, 0);
      return true;
    }
    const bool hole = chunk.type == image::NBD_REPLY_TYPE_OFFSET_HOLE;
    if (!hole && chunk.type != image::NBD_REPLY_TYPE_OFFSET_DATA) return true;
    const uint64_t at = number<uint64_t>(chunk.payload, 0) - offset;
    const std::string part =
        hole ? std::string(number<uint32_t>(chunk.payload, 8), '\0') : chunk.payload.substr(8);
    // The server sends its chunks in order, without gaps.
    if (at != reply.data.size() || at + part.size() > read_bytes) return false;
    reply.data += part;
    return true;
  }

  Fd socket_;
  bool structured_ = false;
  uint64_t size_bytes_ = 0;
  uint16_t flags_ = 0;
  uint64_t cookie_ = 0;
};

}  // namespace wick::fakes

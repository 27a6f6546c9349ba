// The handshake of an NBD server: fixed newstyle, without TLS (NBD specification, "Fixed newstyle
// negotiation" and "Option types"). It takes and returns bytes; the caller has the socket.
//
// Thread rule: none; one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wick::image {

// What the client is told about the disk.
struct NbdExportInfo {
  std::string name;  // the client may also ask for the empty name, which means the default export
  std::string description;  // for people; empty: none
  uint64_t size_bytes = 0;
  uint16_t flags = 0;  // NBD_FLAG_*, without NBD_FLAG_SEND_DF
};

class NbdHandshake {
 public:
  enum class State : uint8_t {
    kNegotiating,
    kTransmission,  // requests follow
    kEnded,         // the client must be disconnected
  };

  explicit NbdHandshake(NbdExportInfo info) : info_(std::move(info)) {}

  // Returns the server's first message.
  static std::string greeting();

  State state() const { return state_; }
  // Returns the length of the next part that receive() takes, in bytes; at most kNbdMaxOptionBytes.
  size_t wanted_bytes() const { return wanted_bytes_; }
  // Takes the next part, which is wanted_bytes() long, and returns the answer. The caller must send
  // the answer even if the state has become kEnded. May be called only in state kNegotiating.
  std::string receive(std::span<const std::byte> part);

  // What the client has agreed to for the transmission phase.
  bool structured_replies() const { return structured_; }
  bool allocation_context() const { return allocation_; }  // the client may ask for block status

 private:
  enum class Part : uint8_t { kClientFlags, kOptionHeader, kOptionData, kSkippedData };

  std::string take_flags(std::span<const std::byte> part);
  std::string take_header(std::span<const std::byte> part);
  std::string take_option(std::span<const std::byte> data);
  std::string export_name(std::span<const std::byte> data);
  std::string info_or_go(std::span<const std::byte> data);
  std::string meta_contexts(std::span<const std::byte> data);

  void want(Part part, size_t bytes) {
    part_ = part;
    wanted_bytes_ = bytes;
  }
  void want_option();
  bool is_our_name(std::string_view name) const { return name.empty() || name == info_.name; }
  uint16_t flags() const;
  std::string reply(uint32_t type, std::string_view data = {}) const;

  const NbdExportInfo info_;
  State state_ = State::kNegotiating;
  Part part_ = Part::kClientFlags;
  size_t wanted_bytes_ = sizeof(uint32_t);
  uint32_t option_ = 0;
  uint32_t skipped_bytes_ = 0;  // bytes of an option that are still to be skipped
  bool no_zeroes_ = false;
  bool structured_ = false;
  bool allocation_ = false;
};

}  // namespace wick::image

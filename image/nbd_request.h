// Requests of the transmission phase: parsed and checked before anything is done for them, and the
// headers of their replies (NBD specification, "Transmission phase").
//
// Thread rule: none; pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/nbd_protocol.h"

namespace wick::image {

struct NbdRequest {
  static constexpr size_t kBytes = 28;

  uint16_t command = 0;  // NBD_CMD_*
  uint32_t flags = 0;    // NBD_CMD_FLAG_*
  uint64_t cookie = 0;   // of the client; replies have the same
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;

  // nullopt if the magic is wrong: the client must be disconnected, because it cannot be known
  // where its next request begins.
  static std::optional<NbdRequest> parse(std::span<const std::byte, kBytes> bytes);

  bool has(uint32_t flag) const { return (flags & flag) != 0; }
  // The data that follows the request. If it is longer than kNbdMaxDataBytes, the client must be
  // disconnected ("Block size constraints").
  uint32_t payload_bytes() const { return command == NBD_CMD_WRITE ? length_bytes : 0; }
};

// What the client was promised, and the disk's size now.
struct NbdLimits {
  uint64_t size_bytes = 0;
  uint16_t flags = 0;       // NBD_FLAG_*
  bool structured = false;  // structured replies are negotiated
  bool allocation = false;  // and so is base:allocation
};

// NBD_SUCCESS if the request may be executed, else the error to answer with. NBD_CMD_DISC is not
// checked; it has no reply.
uint32_t check_request(const NbdRequest& request, const NbdLimits& limits);

// The protocol's error value for an error of a disk.
uint32_t nbd_error_of(const Error& error);
// A sentence for people about an error value.
std::string_view nbd_error_text(uint32_t error);

// A simple reply. The data of a successful read follows it.
std::string simple_reply(uint64_t cookie, uint32_t error);
// The header of a structured reply's chunk; `length_bytes` of payload follow it.
std::string chunk_header(uint64_t cookie, uint16_t type, uint32_t length_bytes, bool done);
// An error chunk with its text, the last one of its reply.
std::string error_chunk(uint64_t cookie, uint32_t error);
// The header of a chunk of data, which follows, and a whole chunk for a hole.
std::string data_chunk(uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes, bool done);
std::string hole_chunk(uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes, bool done);

// A part of the disk with one status, for a block status reply.
struct NbdDescriptor {
  uint32_t length_bytes = 0;
  uint32_t status = 0;  // NBD_STATE_*
};
// The only chunk of a block status reply.
std::string block_status_chunk(uint64_t cookie, std::span<const NbdDescriptor> descriptors);

}  // namespace wick::image

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
  uint64_t cookie = 0;   // chosen by the client; replies repeat it
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;

  // Returns nullopt if the magic is wrong. The client must be disconnected then, because it is not
  // known where its next request begins.
  static std::optional<NbdRequest> parse(std::span<const std::byte, kBytes> bytes);

  bool has(uint32_t flag) const { return (flags & flag) != 0; }
  // Returns the length of the data that follows the request. If it is more than kNbdMaxDataBytes,
  // the client must be disconnected ("Block size constraints").
  uint32_t payload_bytes() const { return command == NBD_CMD_WRITE ? length_bytes : 0; }
};

// What the client was offered in the handshake, and the present size of the disk.
struct NbdLimits {
  uint64_t size_bytes = 0;
  uint16_t flags = 0;       // NBD_FLAG_*
  bool structured = false;  // structured replies are negotiated
  bool allocation = false;  // base:allocation is negotiated
};

// Returns NBD_SUCCESS if the request may be executed, else the error to answer with. Not for
// NBD_CMD_DISC, which has no reply.
uint32_t check_request(const NbdRequest& request, const NbdLimits& limits);

// Returns the protocol's error value for an error of a disk.
uint32_t nbd_error_of(const Error& error);
// Returns a sentence for people about an error value.
std::string_view nbd_error_text(uint32_t error);

// Returns a simple reply. The data of a successful read follows it.
std::string simple_reply(uint64_t cookie, uint32_t error);
// Returns the header of a structured reply's chunk; `length_bytes` of payload follow it.
std::string chunk_header(uint64_t cookie, uint16_t type, uint32_t length_bytes, bool done);
// Returns an error chunk with its text, which is the last chunk of its reply.
std::string error_chunk(uint64_t cookie, uint32_t error);
// data_chunk() returns the header of a chunk of data, which the data follows. hole_chunk() returns
// a whole chunk for a hole.
std::string data_chunk(uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes, bool done);
std::string hole_chunk(uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes, bool done);

// A part of the disk with one status, for a block status reply.
struct NbdDescriptor {
  uint32_t length_bytes = 0;
  uint32_t status = 0;  // NBD_STATE_*
};
// Returns the only chunk of a block status reply.
std::string block_status_chunk(uint64_t cookie, std::span<const NbdDescriptor> descriptors);

}  // namespace wick::image

// Constants of the NBD protocol by the names of its specification (NBD specification: doc/proto.md
// of the reference implementation), as far as <linux/nbd.h> lacks them. All integers on the wire
// are big-endian.
//
// Flags of commands are those of the specification shifted left by 16, as in <linux/nbd.h>: they
// share a 32-bit word with the command.
#pragma once

#include <linux/nbd.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

namespace wick::image {

// Appends an integer as it is on the wire.
template <typename T>
requires std::is_unsigned_v<T>
void append_be(std::string& to, T value) {
  value = std::byteswap(value);
  to.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// --- Limits of wick's server ---

// The maximum data of one request. Linux's client and QEMU send no more; other clients learn the
// maximum from NBD_INFO_BLOCK_SIZE ("Block size constraints").
inline constexpr uint32_t kNbdMaxDataBytes = 32 << 20;
inline constexpr uint32_t kNbdPreferredBytes = 4096;
// "Conventions": a string has at most 4096 bytes.
inline constexpr size_t kNbdMaxStringBytes = 4096;
// The maximum data of an option. A longer option is skipped, and answered with NBD_REP_ERR_TOO_BIG.
inline constexpr uint32_t kNbdMaxOptionBytes = 16 << 10;
// A client that sends an option longer than this is disconnected.
inline constexpr uint32_t kNbdMaxSkippedBytes = 1 << 20;

// --- "Handshake phase" ---

inline constexpr uint64_t kNbdInitMagic = 0x4e42444d41474943;         // INIT_PASSWD: "NBDMAGIC"
inline constexpr uint64_t kNbdOptionMagic = 0x49484156454f5054;       // "IHAVEOPT"
inline constexpr uint64_t kNbdOptionReplyMagic = 0x0003e889045565a9;  // of fixed newstyle

// Handshake flags, and client flags: bits of equal meaning have equal numbers.
inline constexpr uint16_t NBD_FLAG_FIXED_NEWSTYLE = 1 << 0;
inline constexpr uint16_t NBD_FLAG_NO_ZEROES = 1 << 1;

enum : uint32_t {
  NBD_OPT_EXPORT_NAME = 1,
  NBD_OPT_ABORT = 2,
  NBD_OPT_LIST = 3,
  NBD_OPT_STARTTLS = 5,
  NBD_OPT_INFO = 6,
  NBD_OPT_GO = 7,
  NBD_OPT_STRUCTURED_REPLY = 8,
  NBD_OPT_LIST_META_CONTEXT = 9,
  NBD_OPT_SET_META_CONTEXT = 10,
};

enum : uint32_t {
  NBD_REP_ACK = 1,
  NBD_REP_SERVER = 2,
  NBD_REP_INFO = 3,
  NBD_REP_META_CONTEXT = 4,
  NBD_REP_ERR_UNSUP = 0x80000001,
  NBD_REP_ERR_INVALID = 0x80000003,
  NBD_REP_ERR_UNKNOWN = 0x80000006,
  NBD_REP_ERR_TOO_BIG = 0x80000009,
};

enum : uint16_t {
  NBD_INFO_EXPORT = 0,
  NBD_INFO_NAME = 1,
  NBD_INFO_DESCRIPTION = 2,
  NBD_INFO_BLOCK_SIZE = 3,
};

// --- "Transmission phase" ---

// Newer versions of <linux/nbd.h> have these.
#ifndef NBD_FLAG_SEND_WRITE_ZEROES
inline constexpr uint16_t NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6;
inline constexpr uint32_t NBD_CMD_FLAG_NO_HOLE = 1 << 17;
inline constexpr uint16_t NBD_CMD_WRITE_ZEROES = 6;
#endif
inline constexpr uint16_t NBD_FLAG_SEND_DF = 1 << 7;
inline constexpr uint16_t NBD_FLAG_SEND_FAST_ZERO = 1 << 11;

inline constexpr uint16_t NBD_CMD_BLOCK_STATUS = 7;

inline constexpr uint32_t NBD_CMD_FLAG_DF = 1 << 18;
inline constexpr uint32_t NBD_CMD_FLAG_REQ_ONE = 1 << 19;
inline constexpr uint32_t NBD_CMD_FLAG_FAST_ZERO = 1 << 20;

inline constexpr uint32_t NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
inline constexpr uint16_t NBD_REPLY_FLAG_DONE = 1 << 0;

enum : uint16_t {
  NBD_REPLY_TYPE_NONE = 0,
  NBD_REPLY_TYPE_OFFSET_DATA = 1,
  NBD_REPLY_TYPE_OFFSET_HOLE = 2,
  NBD_REPLY_TYPE_BLOCK_STATUS = 5,
  NBD_REPLY_TYPE_ERROR = 0x8001,
};

// "Error values". They equal Linux's errno values.
enum : uint32_t {
  NBD_SUCCESS = 0,
  NBD_EPERM = 1,
  NBD_EIO = 5,
  NBD_ENOMEM = 12,
  NBD_EINVAL = 22,
  NBD_ENOSPC = 28,
  NBD_ENOTSUP = 95,
  NBD_ESHUTDOWN = 108,
};

// --- "Metadata querying": the context base:allocation ---

inline constexpr const char* kNbdAllocationContext = "base:allocation";
// The ID by which block status replies name this context. Any value will do.
inline constexpr uint32_t kNbdAllocationId = 1;

inline constexpr uint32_t NBD_STATE_HOLE = 1 << 0;
inline constexpr uint32_t NBD_STATE_ZERO = 1 << 1;

}  // namespace wick::image

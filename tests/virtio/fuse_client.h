// The guest's side of FUSE for tests: builds requests and takes answers apart.
#pragma once

#include <gtest/gtest.h>
#include <linux/fuse.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace wick::virtio {

using Bytes = std::vector<std::byte>;

inline void append(Bytes& to, std::string_view name) {
  const auto bytes = as_bytes(name.data(), name.size());
  to.insert(to.end(), bytes.begin(), bytes.end());
  to.push_back(std::byte{0});
}
inline void append(Bytes& to, const Bytes& bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}
template <typename T>
requires(std::is_trivially_copyable_v<T> &&
         !std::is_convertible_v<T, std::string_view>) void append(Bytes& to, const T& value) {
  const auto bytes = as_bytes(&value, sizeof(value));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

// A request with its arguments: structures, names, or bytes.
template <typename... T>
Bytes fuse_message(uint32_t opcode, uint64_t node, const T&... arguments) {
  Bytes rest;
  (append(rest, arguments), ...);
  fuse_in_header header{};
  header.len = static_cast<uint32_t>(sizeof(header) + rest.size());
  header.opcode = opcode;
  header.unique = 77;
  header.nodeid = node;
  Bytes message;
  append(message, header);
  append(message, rest);
  return message;
}

inline fuse_init_in fuse_init_request() {
  fuse_init_in in{};
  in.major = 7;
  in.minor = 36;
  in.max_readahead = 1 << 20;
  in.flags = UINT32_MAX;
  return in;
}

struct FuseAnswer {
  fuse_out_header header{};
  Bytes payload;

  int error() const { return -header.error; }
  std::string text() const {
    return std::string(reinterpret_cast<const char*>(payload.data()), payload.size());
  }
  template <typename T>
  T as(size_t offset = 0) const {
    T value{};
    EXPECT_LE(offset + sizeof(T), payload.size());
    if (offset + sizeof(T) <= payload.size())
      std::memcpy(&value, payload.data() + offset, sizeof(T));
    return value;
  }
  static FuseAnswer of(std::span<const std::byte> written) {
    FuseAnswer answer;
    EXPECT_GE(written.size(), sizeof(answer.header));
    if (written.size() < sizeof(answer.header)) return answer;
    std::memcpy(&answer.header, written.data(), sizeof(answer.header));
    EXPECT_EQ(answer.header.len, written.size());
    EXPECT_EQ(answer.header.unique, 77u);
    const auto rest = written.subspan(sizeof(answer.header));
    answer.payload.assign(rest.begin(), rest.end());
    return answer;
  }
};

// The names of an answer to FUSE_READDIR, or to FUSE_READDIRPLUS, and the offset behind the last.
struct FuseNames {
  std::vector<std::string> names;
  std::vector<uint64_t> nodes;  // of FUSE_READDIRPLUS
  uint64_t end = 0;

  FuseNames(const FuseAnswer& answer, bool plus) {
    for (size_t at = 0; at < answer.payload.size();) {
      if (plus) {
        nodes.push_back(answer.as<fuse_entry_out>(at).nodeid);
        at += sizeof(fuse_entry_out);
      }
      fuse_dirent dirent{};
      std::memcpy(&dirent, answer.payload.data() + at, FUSE_NAME_OFFSET);
      names.push_back(answer.text().substr(at + FUSE_NAME_OFFSET, dirent.namelen));
      end = dirent.off;
      at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + dirent.namelen);
    }
  }
};

}  // namespace wick::virtio

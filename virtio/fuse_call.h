// A request that is being executed. Only the sources of FuseSession include this file.
#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "virtio/fuse_attributes.h"
#include "virtio/fuse_session.h"

namespace wick::virtio {

struct FuseSession::Call {
  const FuseRequest& request;
  const FuseReply& reply;
  FuseArguments arguments;

  share::NodeId node() const { return share::NodeId{request.header.nodeid}; }
  share::Caller caller() const { return {request.header.uid, request.header.gid}; }

  uint32_t error(int code) const { return reply.error(request.header.unique, code); }
  uint32_t bytes(std::span<const std::byte> payload) const {
    return reply.payload(request.header.unique, payload);
  }
  template <typename... T>
  uint32_t structures(const T&... values) const {
    std::vector<std::byte> payload;
    const auto append = [&](std::span<const std::byte> part) {
      payload.insert(payload.end(), part.begin(), part.end());
    };
    (append(as_bytes(&values, sizeof(values))), ...);
    return bytes(payload);
  }
  uint32_t done(const share::Outcome<>& outcome) const {
    return error(outcome ? 0 : outcome.error());
  }
};

// Takes several values from the front of the arguments. Returns false if the arguments are too
// short.
template <typename... T>
bool take_all(FuseArguments& arguments, T&... values) {
  return (arguments.take(values) && ...);
}

}  // namespace wick::virtio

// Linux's own NBD client: block devices /dev/nbdN, configured by netlink (linux/nbd-netlink.h; NBD
// reference implementation, doc/netlink-proto.md).
//
// Thread rule: any thread but the one that serves the device, because the kernel may wait for
// answers while it executes a call.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"
#include "image/nbd_handshake.h"

namespace wick::image {

class NbdDevice {
 public:
  // `path` is that of a whole device, /dev/nbdN. Fails if the kernel has no NBD client.
  static Result<NbdDevice> open(const std::string& path);

  // Gives the kernel one end of a connection, on which it sends requests without a handshake, and
  // makes it look for partitions. The other end must be served already.
  Result<void> connect(const Fd& socket, const NbdExportInfo& info) const;
  // Tells the kernel the new size of the disk.
  Result<void> resize(uint64_t size_bytes) const;
  // Makes the kernel send NBD_CMD_DISC. Requests that the kernel still has fail.
  Result<void> disconnect() const;

 private:
  NbdDevice(std::string path, uint32_t index, Fd netlink, uint16_t family)
      : path_(std::move(path)), index_(index), netlink_(std::move(netlink)), family_(family) {}

  std::string path_;
  uint32_t index_;
  Fd netlink_;
  uint16_t family_;
};

// Returns the N of /dev/nbdN.
Result<uint32_t> nbd_device_index(const std::string& path);

// Return the attributes of the messages, without headers (linux/netlink.h, "struct nlattr").
std::string nbd_connect_attributes(uint32_t index, int socket, const NbdExportInfo& info);
std::string nbd_resize_attributes(uint32_t index, uint64_t size_bytes);
// Returns the value of the first attribute of this type. Returns an empty value if there is none,
// or if the attributes are malformed.
std::string_view find_attribute(std::string_view attributes, uint16_t type);

}  // namespace wick::image

#include "image/nbd_device.h"

#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <cstring>

namespace wick::image {

namespace {

// The device's block size. Most partition tables and file systems in disk images assume it.
constexpr uint64_t kSectorBytes = 512;

template <typename T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// Returns an attribute with its padding.
std::string attribute(uint16_t type, std::string_view value) {
  const nlattr header{.nla_len = static_cast<uint16_t>(NLA_HDRLEN + value.size()),
                      .nla_type = type};
  std::string text = bytes_of(header).append(value);
  text.resize(NLA_ALIGN(text.size()), '\0');
  return text;
}

template <typename T>
std::string number(uint16_t type, T value) {
  return attribute(type, bytes_of(value));
}

std::string message(uint16_t family, uint8_t command, std::string_view attributes) {
  const genlmsghdr what{.cmd = command, .version = NBD_GENL_VERSION, .reserved = 0};
  nlmsghdr header{};
  header.nlmsg_len = static_cast<uint32_t>(NLMSG_HDRLEN + GENL_HDRLEN + attributes.size());
  header.nlmsg_type = family;
  header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  return (bytes_of(header) + bytes_of(what)).append(attributes);
}

// Sends a message and waits for its acknowledgement. If an answer comes before that, returns the
// attributes of the answer. Errors have an errno value only.
Result<std::string> request(const Fd& netlink, std::string_view text) {
  const auto failed = [] { return fail_errno(errno, "netlink"); };
  if (::send(netlink.get(), text.data(), text.size(), 0) < 0) return failed();
  std::string attributes;
  for (;;) {
    std::array<char, 16384> buffer;
    const ssize_t got = ::recv(netlink.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed();
    std::string_view left(buffer.data(), static_cast<size_t>(got));
    while (left.size() >= NLMSG_HDRLEN) {
      nlmsghdr header;
      std::memcpy(&header, left.data(), sizeof(header));
      if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > left.size()) break;
      const std::string_view body =
          left.substr(NLMSG_HDRLEN, header.nlmsg_len - size_t{NLMSG_HDRLEN});
      if (header.nlmsg_type == NLMSG_ERROR && body.size() >= sizeof(int)) {
        int error = 0;
        std::memcpy(&error, body.data(), sizeof(error));
        if (error == 0) return attributes;
        return fail_errno(-error, "netlink");
      }
      if (body.size() >= GENL_HDRLEN) attributes = body.substr(GENL_HDRLEN);
      left.remove_prefix(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), left.size()));
    }
  }
}

// Makes the error of a request name the device and what could not be done.
Result<void> for_device(Result<std::string> answer, const std::string& path, const char* what) {
  if (answer) return {};
  const int code = answer.error().code;
  auto failure = fail_errno(code, "{}: cannot {}", path, what);
  if (code == EPERM) return with_hint(std::move(failure), "run as root");
  if (code == EBUSY)
    return with_hint(std::move(failure),
                     "the device is in use; choose another, or end that use "
                     "with wick image nbd -d " +
                         path);
  return failure;
}

}  // namespace

Result<uint32_t> nbd_device_index(const std::string& path) {
  std::string_view name = path;
  name.remove_prefix(std::min(name.size(), name.rfind('/') + 1));
  uint32_t index = 0;
  const auto refuse = [&] {
    return with_hint(fail("{}: is not an NBD device", path), "give a whole one, such as /dev/nbd0");
  };
  if (!name.starts_with("nbd")) return refuse();
  name.remove_prefix(3);
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error != std::errc() || end != name.data() + name.size()) return refuse();
  return index;
}

std::string nbd_connect_attributes(uint32_t index, int socket, const NbdExportInfo& info) {
  const std::string item =
      attribute(NBD_SOCK_ITEM | NLA_F_NESTED, number(NBD_SOCK_FD, static_cast<uint32_t>(socket)));
  return number(NBD_ATTR_INDEX, index) + number(NBD_ATTR_SIZE_BYTES, info.size_bytes) +
         number(NBD_ATTR_BLOCK_SIZE_BYTES, kSectorBytes) +
         number(NBD_ATTR_SERVER_FLAGS, uint64_t{info.flags}) +
         attribute(NBD_ATTR_SOCKETS | NLA_F_NESTED, item);
}

std::string nbd_resize_attributes(uint32_t index, uint64_t size_bytes) {
  return number(NBD_ATTR_INDEX, index) + number(NBD_ATTR_SIZE_BYTES, size_bytes) +
         number(NBD_ATTR_BLOCK_SIZE_BYTES, kSectorBytes);
}

std::string_view find_attribute(std::string_view attributes, uint16_t type) {
  while (attributes.size() >= NLA_HDRLEN) {
    nlattr header;
    std::memcpy(&header, attributes.data(), sizeof(header));
    if (header.nla_len < NLA_HDRLEN || header.nla_len > attributes.size()) return {};
    if ((header.nla_type & NLA_TYPE_MASK) == type)
      return attributes.substr(NLA_HDRLEN, header.nla_len - size_t{NLA_HDRLEN});
    attributes.remove_prefix(std::min<size_t>(NLA_ALIGN(header.nla_len), attributes.size()));
  }
  return {};
}

Result<NbdDevice> NbdDevice::open(const std::string& path) {
  const uint32_t index = TRY(nbd_device_index(path));
  Fd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
  if (!netlink.valid()) return fail_errno(errno, "{}: cannot open a netlink socket", path);
  const std::string name(NBD_GENL_FAMILY_NAME, sizeof(NBD_GENL_FAMILY_NAME));
  const auto answer = request(
      netlink, message(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, attribute(CTRL_ATTR_FAMILY_NAME, name)));
  const std::string_view id =
      answer ? find_attribute(*answer, CTRL_ATTR_FAMILY_ID) : std::string_view();
  if (id.size() != sizeof(uint16_t))
    return with_hint(fail("{}: the kernel's NBD client is not there", path),
                     "load it: modprobe nbd");
  uint16_t family = 0;
  std::memcpy(&family, id.data(), sizeof(family));
  return NbdDevice(path, index, std::move(netlink), family);
}

Result<void> NbdDevice::connect(const Fd& socket, const NbdExportInfo& info) const {
  const std::string attributes = nbd_connect_attributes(index_, socket.get(), info);
  TRY(for_device(request(netlink_, message(family_, NBD_CMD_CONNECT, attributes)), path_,
                 "connect it"));
  // The first one who opens the device makes the kernel read its partition table.
  const Fd device(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (device.valid()) return {};
  const int error = errno;
  (void)disconnect();
  return fail_errno(error, "{}: cannot open", path_);
}

Result<void> NbdDevice::resize(uint64_t size_bytes) const {
  return for_device(request(netlink_, message(family_, NBD_CMD_RECONFIGURE,
                                              nbd_resize_attributes(index_, size_bytes))),
                    path_, "resize it");
}

Result<void> NbdDevice::disconnect() const {
  return for_device(
      request(netlink_, message(family_, NBD_CMD_DISCONNECT, number(NBD_ATTR_INDEX, index_))),
      path_, "disconnect it");
}

}  // namespace wick::image

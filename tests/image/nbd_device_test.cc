// The messages to the kernel's NBD client. The client itself is tested in the lab.
#include "image/nbd_device.h"

#include <gtest/gtest.h>
#include <linux/nbd-netlink.h>

#include <cstring>

namespace wick::image {
namespace {

template <typename T>
T value_of(std::string_view attributes, uint16_t type) {
  const std::string_view bytes = find_attribute(attributes, type);
  T value{};
  EXPECT_EQ(bytes.size(), sizeof(T)) << type;
  if (bytes.size() == sizeof(T)) std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

TEST(NbdDevice, IsNamedByANumber) {
  EXPECT_EQ(nbd_device_index("/dev/nbd0"), 0u);
  EXPECT_EQ(nbd_device_index("nbd15"), 15u);
  for (const char* const wrong :
       {"", "/dev/nbd", "/dev/nbd0p1", "/dev/sda", "/dev/nbd-1", "/nbd1/"})
    EXPECT_FALSE(nbd_device_index(wrong)) << wrong;
}

TEST(NbdDevice, IsConnectedWithSizeFlagsAndSocket) {
  const std::string attributes = nbd_connect_attributes(3, 17, {"", "", 1 << 30, 0x123});
  EXPECT_EQ(attributes.size() % 4, 0u);
  EXPECT_EQ(value_of<uint32_t>(attributes, NBD_ATTR_INDEX), 3u);
  EXPECT_EQ(value_of<uint64_t>(attributes, NBD_ATTR_SIZE_BYTES), 1u << 30);
  EXPECT_EQ(value_of<uint64_t>(attributes, NBD_ATTR_BLOCK_SIZE_BYTES), 512u);
  EXPECT_EQ(value_of<uint64_t>(attributes, NBD_ATTR_SERVER_FLAGS), 0x123u);
  const auto item = find_attribute(find_attribute(attributes, NBD_ATTR_SOCKETS), NBD_SOCK_ITEM);
  EXPECT_EQ(value_of<uint32_t>(item, NBD_SOCK_FD), 17u);
}

TEST(NbdDevice, AttributesThatAreCutShortHaveNoValue) {
  const std::string attributes = nbd_resize_attributes(1, 512);
  for (size_t cut = 0; cut < attributes.size(); ++cut)
    EXPECT_EQ(find_attribute(std::string_view(attributes).substr(0, cut), 99), "");
}

}  // namespace
}  // namespace wick::image

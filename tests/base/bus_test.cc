#include "base/bus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "base/bytes.h"

namespace wick {
namespace {

using testing::HasSubstr;

// Reads return the offsets; the last write is recorded.
class OffsetDevice final : public BusDevice {
 public:
  void read(uint64_t offset, std::span<std::byte> data) override {
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(offset + i);
  }
  void write(uint64_t offset, std::span<const std::byte> data) override {
    last_offset = offset;
    last_value = load_le<uint64_t>(data);
    ++writes;
  }
  uint64_t last_offset = 0;
  uint64_t last_value = 0;
  int writes = 0;
};

class BusTest : public testing::Test {
 protected:
  Result<void> attach(uint64_t start, uint64_t size, std::string name = "device") {
    return bus_.attach({start, size}, device_, std::move(name));
  }
  Bus bus_;
  OffsetDevice device_;
};

TEST_F(BusTest, HandsTheDeviceOffsetsIntoItsOwnRange) {
  ASSERT_TRUE(attach(0x3f8, 8));
  std::array<std::byte, 4> data;
  EXPECT_TRUE(bus_.read(0x3fa, data));
  EXPECT_EQ(load_le<uint32_t>(data), 0x05040302u);
  const uint16_t value = 0xbeef;
  EXPECT_TRUE(bus_.write(0x3fe, as_bytes(&value, 2)));
  EXPECT_EQ(device_.last_offset, 6u);
  EXPECT_EQ(device_.last_value, 0xbeefu);
}

TEST_F(BusTest, ReadsAllOnesWhereNobodyAnswers) {
  ASSERT_TRUE(attach(0x100, 0x10));
  for (const uint64_t address : std::to_array<uint64_t>({0, 0xff, 0x110, ~0ull})) {
    std::array<std::byte, 8> data{};
    EXPECT_FALSE(bus_.read(address, std::span(data).first(1))) << address;
    EXPECT_EQ(data[0], std::byte{0xff});
    EXPECT_EQ(data[1], std::byte{0});
    EXPECT_FALSE(bus_.write(address, std::span(data).first(1)));
  }
  EXPECT_EQ(device_.writes, 0);
}

TEST_F(BusTest, GivesAnAccessOverTheEndOfADeviceToNobody) {
  ASSERT_TRUE(attach(0x100, 0x10));
  ASSERT_TRUE(attach(0x110, 0x10));  // even with a device in the next range
  std::array<std::byte, 8> data{};
  EXPECT_FALSE(bus_.read(0x10d, std::span(data).first(4)));
  EXPECT_EQ(load_le<uint64_t>(data), 0xffffffffu);
  EXPECT_FALSE(bus_.write(0x10d, std::span(data).first(4)));
  EXPECT_FALSE(bus_.read(0xff, std::span(data).first(2)));
  EXPECT_EQ(device_.writes, 0);
  EXPECT_TRUE(bus_.read(0x10c, std::span(data).first(4)));
}

TEST_F(BusTest, RefusesOverlaps) {
  ASSERT_TRUE(attach(0x100, 0x10, "first"));
  for (const auto& [start, size] : std::to_array<std::pair<uint64_t, uint64_t>>(
           {{0x100, 0x10}, {0x10f, 1}, {0xff, 2}, {0x80, 0x100}, {0x104, 4}, {0, ~0ull}})) {
    const auto attached = attach(start, size, "second");
    ASSERT_FALSE(attached) << start;
    EXPECT_THAT(attached.error().message(), HasSubstr("first"));
  }
  EXPECT_TRUE(attach(0xff, 1));
  EXPECT_TRUE(attach(0x110, 1));
}

TEST_F(BusTest, RefusesEmptyRangesAndRangesThatWrap) {
  EXPECT_FALSE(attach(0x100, 0));
  EXPECT_FALSE(attach(~0ull, 2));
  EXPECT_FALSE(attach(2, ~0ull));
}

TEST_F(BusTest, ReachesTheLastAddress) {
  ASSERT_TRUE(attach(~0ull - 7, 8));
  std::array<std::byte, 8> data;
  EXPECT_TRUE(bus_.read(~0ull - 7, data));
  EXPECT_TRUE(bus_.read(~0ull, std::span(data).first(1)));
  EXPECT_FALSE(bus_.read(~0ull, std::span(data).first(2)));  // would wrap to 0
}

TEST_F(BusTest, FindsEachOfManyDevicesWhateverTheOrder) {
  std::array<OffsetDevice, 50> devices;
  for (size_t i = 0; i < devices.size(); ++i) {
    const size_t place = i * 7 % devices.size();
    ASSERT_TRUE(bus_.attach({place * 16, 16}, devices[place], std::to_string(place)));
  }
  const uint8_t value = 1;
  for (size_t i = 0; i < devices.size(); ++i) {
    EXPECT_TRUE(bus_.write(i * 16 + 15, as_bytes(&value, 1)));
    EXPECT_EQ(devices[i].writes, 1);
    EXPECT_EQ(bus_.name_of(i * 16, 1, false).device, std::to_string(i));
  }
  EXPECT_EQ(bus_.name_of(50 * 16, 1, false).device, "");
}

// A range that contains a device with its own name.
class WindowDevice final : public BusDevice {
 public:
  void read(uint64_t, std::span<std::byte>) override {}
  void write(uint64_t, std::span<const std::byte>) override {}
  Name name_of(uint64_t offset, bool write) const override {
    return {write ? "OUT" : "IN", offset < 16 ? "inner" : ""};
  }
};

TEST_F(BusTest, NamesAnAccessByTheRangeOrByTheDeviceInIt) {
  WindowDevice window;
  ASSERT_TRUE(bus_.attach({0x100, 32}, window, "window"));
  ASSERT_TRUE(attach(0x200, 32, "plain"));
  EXPECT_EQ(bus_.name_of(0x100, 1, true).reg, "OUT");
  EXPECT_EQ(bus_.name_of(0x100, 1, false).device, "inner");
  EXPECT_EQ(bus_.name_of(0x110, 1, false).device, "window");
  EXPECT_EQ(bus_.name_of(0x200, 1, false).device, "plain");
  EXPECT_EQ(bus_.name_of(0x200, 1, false).reg, "");
  EXPECT_EQ(bus_.name_of(0x11f, 2, false).device, "") << "over the end is nobody's";
}

}  // namespace
}  // namespace wick

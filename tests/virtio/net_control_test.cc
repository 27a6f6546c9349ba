// Tests the commands of a network card's control queue, and the receive filter.
#include "virtio/net_control.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/bytes.h"

namespace wick::virtio {
namespace {

using net::MacAddress;
using Bytes = std::vector<std::byte>;

enum Class : uint8_t { kReceiveMode, kMac, kVlan, kAnnounce, kQueuePairs, kGuestOffloads };
enum ReceiveMode : uint8_t {
  kPromiscuous,
  kAllMulticast,
  kAllUnicast,
  kNoMulticast,
  kNoUnicast,
  kNoBroadcast
};

constexpr uint64_t kEverything = ~0ull;
constexpr MacAddress kMine = {0x52, 0x54, 0, 0, 0, 1};
constexpr MacAddress kOther = {0x52, 0x54, 0, 0, 0, 2};
constexpr MacAddress kThird = {0x52, 0x54, 0, 0, 0, 3};
constexpr MacAddress kGroup = {0x33, 0x33, 0, 0, 0, 1};
constexpr MacAddress kOtherGroup = {0x33, 0x33, 0, 0, 0, 2};
constexpr MacAddress kAll = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

template <typename T>
void append(Bytes& bytes, const T& value) {
  const auto more = as_bytes(&value, sizeof(value));
  bytes.insert(bytes.end(), more.begin(), more.end());
}

template <typename... T>
Bytes command(uint8_t which, uint8_t number, const T&... data) {
  Bytes bytes = {std::byte{which}, std::byte{number}};
  (append(bytes, data), ...);
  return bytes;
}

Bytes table(const std::vector<MacAddress>& unicast, const std::vector<MacAddress>& multicast) {
  Bytes bytes = command(kMac, 0);
  for (const auto* addresses : {&unicast, &multicast}) {
    append(bytes, static_cast<uint32_t>(addresses->size()));
    for (const MacAddress& address : *addresses) append(bytes, address);
  }
  return bytes;
}

NetSettings settings(uint64_t features = kEverything) {
  NetSettings result;
  result.features = features;
  result.max_pairs = 4;
  result.mac = kMine;
  result.guest_offloads = guest_offloads_of(features);
  return result;
}

// Makes the start of a frame to `destination`, for the filter.
Bytes frame(const MacAddress& destination, uint16_t type = 0x0800, uint16_t tag = 0) {
  Bytes bytes;
  append(bytes, destination);
  append(bytes, kThird);
  append(bytes, std::byteswap(type));
  append(bytes, std::byteswap(tag));
  append(bytes, uint16_t{0x0008});
  return bytes;
}

// Expects that this command fails and changes nothing.
void expect_refused(const NetSettings& before, const Bytes& bytes) {
  NetSettings after = before;
  EXPECT_EQ(after.execute(bytes), VIRTIO_NET_ERR);
  EXPECT_EQ(after.promiscuous, before.promiscuous);
  EXPECT_EQ(after.all_multicast, before.all_multicast);
  EXPECT_EQ(after.all_unicast, before.all_unicast);
  EXPECT_EQ(after.no_multicast, before.no_multicast);
  EXPECT_EQ(after.no_unicast, before.no_unicast);
  EXPECT_EQ(after.no_broadcast, before.no_broadcast);
  EXPECT_EQ(after.unicast, before.unicast);
  EXPECT_EQ(after.multicast, before.multicast);
  EXPECT_EQ(after.mac, before.mac);
  EXPECT_EQ(after.vlans, before.vlans);
  EXPECT_EQ(after.pairs, before.pairs);
  EXPECT_EQ(after.guest_offloads, before.guest_offloads);
  EXPECT_EQ(after.announced, before.announced);
}

void expect_refused(uint64_t features, const Bytes& bytes) {
  expect_refused(settings(features), bytes);
}

// Expects that `good` succeeds, and that it fails with one more byte or with fewer bytes.
void expect_exact_length(const Bytes& good) {
  EXPECT_EQ(settings().execute(good), VIRTIO_NET_OK);
  for (size_t size = 0; size < good.size(); ++size) {
    SCOPED_TRACE(size);
    expect_refused(settings(), Bytes(good.begin(), good.begin() + static_cast<long>(size)));
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  expect_refused(settings(), longer);
}

TEST(NetControl, CommandsOfAnyOtherLengthAreRefused) {
  expect_exact_length(command(kReceiveMode, kPromiscuous, uint8_t{0}));
  expect_exact_length(command(kMac, 1, kOther));
  expect_exact_length(table({kOther, kThird}, {kGroup}));
  expect_exact_length(table({}, {}));
  expect_exact_length(command(kVlan, 0, uint16_t{7}));
  expect_exact_length(command(kVlan, 1, uint16_t{7}));
  expect_exact_length(command(kAnnounce, 0));
  expect_exact_length(command(kQueuePairs, 0, uint16_t{2}));
  expect_exact_length(command(kGuestOffloads, 0, uint64_t{0}));
}

TEST(NetControl, ClassesAndNumbersThatDoNotExistAreRefused) {
  constexpr std::array<unsigned, 6> kNumbers = {6, 2, 2, 1, 1, 1};  // of each class
  for (unsigned which = 0; which < 256; ++which) {
    for (unsigned number = which < kNumbers.size() ? kNumbers[which] : 0; number < 256; ++number) {
      for (const size_t size : {0u, 1u, 2u, 6u, 8u, 64u}) {
        Bytes bytes = command(static_cast<uint8_t>(which), static_cast<uint8_t>(number));
        bytes.resize(2 + size, std::byte{1});
        NetSettings some = settings();
        EXPECT_EQ(some.execute(bytes), VIRTIO_NET_ERR) << which << " " << number << " " << size;
      }
    }
  }
}

TEST(NetControl, EachCommandNeedsItsFeature) {
  const struct {
    unsigned feature;
    Bytes bytes;
  } commands[] = {
      {VIRTIO_NET_F_CTRL_RX, command(kReceiveMode, kPromiscuous, uint8_t{0})},
      {VIRTIO_NET_F_CTRL_RX, command(kReceiveMode, kAllMulticast, uint8_t{1})},
      {VIRTIO_NET_F_CTRL_RX_EXTRA, command(kReceiveMode, kAllUnicast, uint8_t{1})},
      {VIRTIO_NET_F_CTRL_RX_EXTRA, command(kReceiveMode, kNoMulticast, uint8_t{1})},
      {VIRTIO_NET_F_CTRL_RX_EXTRA, command(kReceiveMode, kNoUnicast, uint8_t{1})},
      {VIRTIO_NET_F_CTRL_RX_EXTRA, command(kReceiveMode, kNoBroadcast, uint8_t{1})},
      {VIRTIO_NET_F_CTRL_RX, table({kOther}, {kGroup})},
      {VIRTIO_NET_F_CTRL_MAC_ADDR, command(kMac, 1, kOther)},
      {VIRTIO_NET_F_CTRL_VLAN, command(kVlan, 0, uint16_t{1})},
      {VIRTIO_NET_F_CTRL_VLAN, command(kVlan, 1, uint16_t{1})},
      {VIRTIO_NET_F_GUEST_ANNOUNCE, command(kAnnounce, 0)},
      {VIRTIO_NET_F_MQ, command(kQueuePairs, 0, uint16_t{2})},
      {VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, command(kGuestOffloads, 0, uint64_t{0})},
  };
  for (const auto& [feature, bytes] : commands) {
    SCOPED_TRACE(feature);
    EXPECT_EQ(settings(1ull << feature).execute(bytes), VIRTIO_NET_OK);
    expect_refused(~(1ull << feature), bytes);
  }
}

TEST(NetControl, TablesThatClaimMoreThanIsThereAreRefused) {
  for (const uint32_t claimed : {3u, 4u, 0x7fffffffu, 0x80000000u, 0x2aaaaaabu, 0xffffffffu}) {
    for (const size_t table_at : {2u, 6u}) {
      Bytes bytes = table({}, {kGroup, kOtherGroup});
      store_le(std::span(bytes).subspan(table_at, 4), claimed);
      expect_refused(settings(), bytes);
    }
  }
}

TEST(NetControl, ATableReplacesTheOneBefore) {
  NetSettings some = settings();
  ASSERT_EQ(some.execute(table({kOther}, {kGroup, kOtherGroup})), VIRTIO_NET_OK);
  EXPECT_EQ(some.unicast, std::vector{kOther});
  EXPECT_EQ(some.multicast, (std::vector{kGroup, kOtherGroup}));
  ASSERT_EQ(some.execute(table({kThird}, {})), VIRTIO_NET_OK);
  EXPECT_EQ(some.unicast, std::vector{kThird});
  EXPECT_TRUE(some.multicast.empty());
}

TEST(NetControl, VlansAreNumberedUpTo4095) {
  NetSettings some = settings();
  EXPECT_EQ(some.execute(command(kVlan, 0, uint16_t{0})), VIRTIO_NET_OK);
  EXPECT_EQ(some.execute(command(kVlan, 0, uint16_t{4095})), VIRTIO_NET_OK);
  EXPECT_EQ(some.vlans.count(), 2u);
  for (const auto number : std::to_array<uint16_t>({4096, 0x8001, 0xffff})) {
    expect_refused(settings(), command(kVlan, 0, number));
    expect_refused(settings(), command(kVlan, 1, number));
  }
  EXPECT_EQ(some.execute(command(kVlan, 1, uint16_t{0})), VIRTIO_NET_OK);
  EXPECT_EQ(some.execute(command(kVlan, 1, uint16_t{1})), VIRTIO_NET_OK)
      << "was not in, still is not";
  EXPECT_EQ(some.vlans.count(), 1u);
}

TEST(NetControl, QueuePairsAreOneToAllThereAre) {
  NetSettings some = settings();
  for (const auto pairs : std::to_array<uint16_t>({1, 4, 2})) {
    EXPECT_EQ(some.execute(command(kQueuePairs, 0, pairs)), VIRTIO_NET_OK);
    EXPECT_EQ(some.pairs, pairs);
  }
  for (const auto pairs : std::to_array<uint16_t>({0, 5, 0x8000, 0xffff}))
    expect_refused(some, command(kQueuePairs, 0, pairs));
}

TEST(NetControl, OffloadsAreThoseThatWereAgreedTo) {
  constexpr uint64_t kAgreed = 1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS |
                               1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4;
  NetSettings some = settings(kAgreed);
  for (const net::Offloads& offloads : {net::Offloads{.checksum = true, .tcp4 = true},
                                        net::Offloads{.checksum = true}, net::Offloads{}}) {
    const uint64_t bits = features_of_guest(offloads);
    EXPECT_EQ(some.execute(command(kGuestOffloads, 0, bits)), VIRTIO_NET_OK);
    EXPECT_EQ(some.guest_offloads, offloads);
  }
  for (const uint64_t offloads : {1ull << VIRTIO_NET_F_GUEST_TSO6,
                                  1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_USO4,
                                  1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, 1ull << 63, ~0ull})
    expect_refused(kAgreed, command(kGuestOffloads, 0, offloads));
}

TEST(NetControl, AnOffloadNeedsAllItsFeatures) {
  const uint64_t guest = 1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_USO4;
  EXPECT_EQ(guest_offloads_of(guest), net::Offloads{.checksum = true});
  EXPECT_EQ(guest_offloads_of(guest | 1ull << VIRTIO_NET_F_GUEST_USO6),
            (net::Offloads{.checksum = true, .udp = true}));
  const uint64_t host =
      1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO6 | 1ull << VIRTIO_NET_F_HOST_ECN;
  EXPECT_EQ(host_offloads_of(host), (net::Offloads{.checksum = true, .tcp6 = true, .ecn = true}));
  EXPECT_EQ(guest_offloads_of(host), net::Offloads{});
}

TEST(NetControl, AnAnnouncementIsRemembered) {
  NetSettings some = settings();
  EXPECT_FALSE(some.announced);
  EXPECT_EQ(some.execute(command(kAnnounce, 0)), VIRTIO_NET_OK);
  EXPECT_TRUE(some.announced);
}

// --- receive filter ---

TEST(NetFilter, LetsEverythingThroughUntilADriverAsksForLess) {
  NetSettings some = settings();
  for (const MacAddress& to : {kMine, kOther, kGroup, kAll}) {
    EXPECT_TRUE(some.accepts(frame(to)));
    EXPECT_TRUE(some.accepts(frame(to, 0x8100, 7)));
  }
  // Promiscuous mode overrides all other modes (5.1.6.5.1).
  for (const uint8_t mode : {kNoMulticast, kNoUnicast, kNoBroadcast})
    ASSERT_EQ(some.execute(command(kReceiveMode, mode, uint8_t{1})), VIRTIO_NET_OK);
  for (const MacAddress& to : {kMine, kOther, kGroup, kAll}) EXPECT_TRUE(some.accepts(frame(to)));
}

class NetFilterModes : public testing::Test {
 protected:
  NetFilterModes() { set(kPromiscuous, 0); }
  void set(uint8_t mode, uint8_t on) {
    ASSERT_EQ(some_.execute(command(kReceiveMode, mode, on)), VIRTIO_NET_OK);
  }
  bool accepts(const MacAddress& to) const { return some_.accepts(frame(to)); }

  NetSettings some_ = settings();
};

TEST_F(NetFilterModes, WithoutATableItsOwnAndBroadcastsComeIn) {
  EXPECT_TRUE(accepts(kMine));
  EXPECT_TRUE(accepts(kAll));
  EXPECT_FALSE(accepts(kOther));
  EXPECT_FALSE(accepts(kGroup));
}

TEST_F(NetFilterModes, TheTableAddsToThem) {
  ASSERT_EQ(some_.execute(table({kOther}, {kGroup})), VIRTIO_NET_OK);
  EXPECT_TRUE(accepts(kMine));
  EXPECT_TRUE(accepts(kOther));
  EXPECT_FALSE(accepts(kThird));
  EXPECT_TRUE(accepts(kGroup));
  EXPECT_FALSE(accepts(kOtherGroup));
}

TEST_F(NetFilterModes, AnAddressMayBeSet) {
  ASSERT_EQ(some_.execute(command(kMac, 1, kOther)), VIRTIO_NET_OK);
  EXPECT_TRUE(accepts(kOther));
  EXPECT_FALSE(accepts(kMine));
}

TEST_F(NetFilterModes, AllOfAKindComeIn) {
  set(kAllMulticast, 1);
  EXPECT_TRUE(accepts(kOtherGroup));
  EXPECT_FALSE(accepts(kThird));
  set(kAllUnicast, 1);
  EXPECT_TRUE(accepts(kThird));
  set(kAllMulticast, 0);
  set(kAllUnicast, 0);
  EXPECT_FALSE(accepts(kOtherGroup));
  EXPECT_FALSE(accepts(kThird));
}

TEST_F(NetFilterModes, NoneOfAKindIsMoreThanAll) {
  set(kAllMulticast, 1), set(kAllUnicast, 1);
  set(kNoMulticast, 1);
  EXPECT_FALSE(accepts(kGroup));
  EXPECT_TRUE(accepts(kAll)) << "which is no multicast here (5.1.6.5.1.1)";
  EXPECT_TRUE(accepts(kOther));
  set(kNoUnicast, 1);
  EXPECT_FALSE(accepts(kMine));
  set(kNoBroadcast, 1);
  EXPECT_FALSE(accepts(kAll));
  set(kNoMulticast, 0), set(kNoUnicast, 0), set(kNoBroadcast, 0);
  for (const MacAddress& to : {kMine, kOther, kGroup, kAll}) EXPECT_TRUE(accepts(to));
}

TEST_F(NetFilterModes, OfFramesWithATagThoseOfItsVlansComeIn) {
  EXPECT_TRUE(some_.accepts(frame(kMine)));
  EXPECT_FALSE(some_.accepts(frame(kMine, 0x8100, 7)));
  ASSERT_EQ(some_.execute(command(kVlan, 0, uint16_t{7})), VIRTIO_NET_OK);
  EXPECT_TRUE(some_.accepts(frame(kMine, 0x8100, 7)));
  EXPECT_TRUE(some_.accepts(frame(kMine, 0x8100, 0xe007))) << "with a priority";
  EXPECT_FALSE(some_.accepts(frame(kMine, 0x8100, 8)));
  EXPECT_FALSE(some_.accepts(frame(kOther, 0x8100, 7))) << "is still not ours";
  ASSERT_EQ(some_.execute(command(kVlan, 1, uint16_t{7})), VIRTIO_NET_OK);
  EXPECT_FALSE(some_.accepts(frame(kMine, 0x8100, 7)));
}

TEST(NetFilter, WithoutVlanFilteringAllTagsComeIn) {
  NetSettings some = settings(~(1ull << VIRTIO_NET_F_CTRL_VLAN));
  ASSERT_EQ(some.execute(command(kReceiveMode, kPromiscuous, uint8_t{0})), VIRTIO_NET_OK);
  EXPECT_TRUE(some.accepts(frame(kMine, 0x8100, 7)));
}

TEST(NetFilter, TakesStartsOfAnyLength) {
  const Bytes whole = frame(kMine, 0x8100, 7);
  for (size_t size = 0; size <= whole.size(); ++size) {
    const auto start = std::span(whole).first(size);
    NetSettings some = settings();
    EXPECT_TRUE(some.accepts(start));
    some.promiscuous = false;
    EXPECT_EQ(some.accepts(start), size >= 6 && size < 18) << size;
  }
}

}  // namespace
}  // namespace wick::virtio

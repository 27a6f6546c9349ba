#include "net/mac_address.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace wick::net {
namespace {

TEST(MacAddress, IsSixPairsOfDigits) {
  EXPECT_EQ(parse_mac("52:54:00:12:34:56"), (MacAddress{0x52, 0x54, 0, 0x12, 0x34, 0x56}));
  EXPECT_EQ(parse_mac("fE:Dc:ba:98:76:0A"), (MacAddress{0xfe, 0xdc, 0xba, 0x98, 0x76, 0x0a}));
  EXPECT_EQ(to_text({0x52, 0x54, 0, 0x12, 0x34, 0xab}), "52:54:00:12:34:ab");
}

TEST(MacAddress, RefusesWhatIsNone) {
  for (const char* const text : {"",
                                 "52",
                                 "52:54:00:12:34",
                                 "52:54:00:12:34:5",
                                 "52:54:00:12:34:567",
                                 "52:54:00:12:34:56:",
                                 "52:54:00:12:34:56:78",
                                 "52-54-00-12-34-56",
                                 "5254.0012.3456",
                                 "525400123456",
                                 "52:54:00:12:34:5g",
                                 "52:54:00:12:34: 6",
                                 "52:54:00:12:34:-6",
                                 "52:54:00:12:34:+6",
                                 "0x:54:00:12:34:56",
                                 "52:54:00:12:34:0x",
                                 " 52:54:00:12:34:56",
                                 "5:254:00:12:34:56",
                                 "52:54:00:12:34;56",
                                 "52.54:00:12:34:56"})
    EXPECT_FALSE(parse_mac(text)) << text;
  EXPECT_FALSE(parse_mac(std::string("52:54:00:12:34:\0\0", 17)));
}

TEST(MacAddress, IsThatOfOneStation) {
  EXPECT_FALSE(parse_mac("00:00:00:00:00:00"));
  EXPECT_FALSE(parse_mac("ff:ff:ff:ff:ff:ff"));
  EXPECT_FALSE(parse_mac("01:00:5e:00:00:01"));
  EXPECT_FALSE(parse_mac("33:33:00:00:00:01"));
  EXPECT_TRUE(parse_mac("00:00:00:00:00:01"));
}

TEST(MacAddress, CanBeReadBack) {
  for (int i = 0; i < 1000; ++i) {
    const MacAddress mac = derive_mac(fmt::format("{}", i));
    EXPECT_EQ(parse_mac(to_text(mac)), mac);
  }
}

TEST(MacAddress, IsDerivedFromASeedAlone) {
  EXPECT_EQ(derive_mac("host\nvm\n0"), derive_mac("host\nvm\n0"));
  std::set<MacAddress> all;
  for (int machine = 0; machine < 2000; ++machine) {
    for (int card = 0; card < 16; ++card) {
      const MacAddress mac = derive_mac(fmt::format("host\nvm{}\n{}", machine, card));
      EXPECT_EQ(mac[0] & 3, 2) << "locally administered, of one station";
      EXPECT_TRUE(all.insert(mac).second) << to_text(mac);
    }
  }
  EXPECT_EQ(derive_mac("")[0] & 3, 2);
}

}  // namespace
}  // namespace wick::net

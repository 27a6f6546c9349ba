#include "control/key_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/input-event-codes.h>

#include "control/qmp_types.h"

namespace wick::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(KeyNames, AreThoseOfQemu) {
  EXPECT_EQ(find_key("a"), KEY_A);
  EXPECT_EQ(find_key("ret"), KEY_ENTER);
  EXPECT_EQ(find_key("kp_enter"), KEY_KPENTER);
  EXPECT_EQ(find_key("spc"), KEY_SPACE);
  EXPECT_EQ(find_key("sysrq"), KEY_SYSRQ);
  EXPECT_EQ(find_key("print"), KEY_SYSRQ);
  EXPECT_EQ(find_key("less"), KEY_102ND);
  EXPECT_EQ(find_key("meta_l"), KEY_LEFTMETA);
  EXPECT_EQ(find_key("lang1"), KEY_HANGEUL);
  EXPECT_EQ(find_key("unmapped"), std::nullopt);
  EXPECT_EQ(find_key(""), std::nullopt);
  EXPECT_EQ(find_key("A"), std::nullopt);
}

TEST(KeyNames, EachQKeyCodeIsAKey) {
  const auto type = find_type("QKeyCode");
  ASSERT_TRUE(type.has_value());
  EXPECT_GE(type->values.size(), 150u);
  for (const auto name : type->values) {
    if (name == "unmapped") continue;
    EXPECT_TRUE(find_key(name).has_value()) << name;
  }
}

TEST(KeyNames, NumbersAreThoseOfScanCodeSet1) {
  EXPECT_EQ(find_key(int64_t{0x1e}), KEY_A);
  EXPECT_EQ(find_key(int64_t{0x9c}), KEY_KPENTER);
  EXPECT_EQ(find_key(int64_t{0xc8}), KEY_UP);
  EXPECT_EQ(find_key(int64_t{0xe048}), KEY_UP);
  for (const int64_t number : {int64_t{0}, int64_t{-1}, int64_t{0x1001e}, int64_t{0xff}, INT64_MAX})
    EXPECT_EQ(find_key(number), std::nullopt) << number;
}

TEST(KeyNames, AreJoined) {
  EXPECT_THAT(parse_keys("ctrl-alt-delete").value(),
              ElementsAre(KEY_LEFTCTRL, KEY_LEFTALT, KEY_DELETE));
  EXPECT_THAT(parse_keys("a").value(), ElementsAre(KEY_A));
  EXPECT_THAT(parse_keys("shift-minus").value(), ElementsAre(KEY_LEFTSHIFT, KEY_MINUS));
  EXPECT_THAT(parse_keys("0x1e-0xe048").value(), ElementsAre(KEY_A, KEY_UP));
  EXPECT_THAT(parse_keys("<").value(), ElementsAre(KEY_102ND));
}

TEST(KeyNames, ThatAreWrongAreNamed) {
  EXPECT_THAT(parse_keys("ctrl-nope").error(), HasSubstr("'nope'"));
  for (const std::string_view text :
       {"", "-", "a-", "-a", "a--b", "0x", "0x1eg", "0x-1", "0x10000000000", "0xff", "a b"})
    EXPECT_FALSE(parse_keys(text).has_value()) << text;
}

TEST(KeyNames, AreBounded) {
  std::string text = "a";
  for (size_t i = 1; i < kMaxKeysAtOnce; ++i) text += "-a";
  EXPECT_EQ(parse_keys(text).value().size(), kMaxKeysAtOnce);
  EXPECT_THAT(parse_keys(text + "-a").error(), HasSubstr("at most 16"));
}

}  // namespace
}  // namespace wick::control

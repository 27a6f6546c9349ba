#include "base/printable.h"

#include <gtest/gtest.h>

namespace wick {
namespace {

using namespace std::string_view_literals;

TEST(Printable, LeavesTextAsItIs) {
  EXPECT_EQ(printable("a disk's name \\x41"), "a disk's name \\x41");
  EXPECT_EQ(printable("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
            "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
}

TEST(Printable, ShowsControlsAndWhatIsNoUtf8) {
  EXPECT_EQ(printable("\0\n\r\x1b[31m\x7f"sv), "\\x00\\x0a\\x0d\\x1b[31m\\x7f");
  EXPECT_EQ(printable("\xff\xe2\x82 \xc2\x9b"), "\\xff\\xe2\\x82 \\xc2\\x9b");
}

TEST(Printable, KeepsTabsWhereTheyAreWanted) {
  EXPECT_EQ(printable("a\tb"), "a\\x09b");
  EXPECT_EQ(printable("a\tb", true), "a\tb");
}

}  // namespace
}  // namespace wick

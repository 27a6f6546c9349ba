#include "console/escape_keys.h"

#include "tests/console/fakes.h"

namespace wick::console {
namespace {

// Types `typed`, in reads of the parameter's size, and returns the resulting actions.
class EscapeKeysTest : public ::testing::TestWithParam<size_t> {
 protected:
  std::string type(std::string_view typed) {
    std::string happened;
    EscapeKeys keys({
        .text =
            [&](std::span<const std::byte> text) {
              happened.append(reinterpret_cast<const char*>(text.data()), text.size());
            },
        .quit = [&] { happened += "<quit>"; },
        .send_break = [&] { happened += "<break>"; },
        .power_button = [&] { happened += "<power>"; },
        .suspend = [&] { happened += "<suspend>"; },
        .help = [&] { happened += "<help>"; },
    });
    for (size_t at = 0; at < typed.size(); at += GetParam())
      keys.type(bytes(typed.substr(at, GetParam())));
    return happened;
  }
};

TEST_P(EscapeKeysTest, EverythingElseIsTheGuests) {
  EXPECT_EQ(type("ls\r\x03\x04\x1a\x1c\xff q b"), "ls\r\x03\x04\x1a\x1c\xff q b");
}

TEST_P(EscapeKeysTest, ActInTheOrderOfTyping) {
  EXPECT_EQ(type("a\x1d"
                 "bc\x1d"
                 "pd\x1d"
                 "ze\x1d"
                 "?\x1dq"),
            "a<break>c<power>d<suspend>e<help><quit>");
}

TEST_P(EscapeKeysTest, TwiceSendsOne) {
  EXPECT_EQ(type("\x1d\x1dq\x1d\x1d\x1dq"), "\x1dq\x1d<quit>");
}

TEST_P(EscapeKeysTest, AnUnknownKeyListsTheKeysAndIsNotSent) {
  EXPECT_EQ(type("\x1dxq"), "<help>q");
}

INSTANTIATE_TEST_SUITE_P(BytesPerRead, EscapeKeysTest, ::testing::Values(1, 2, 100));

}  // namespace
}  // namespace wick::console

#include "cli/toml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace wick::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::string error_of(std::string_view text) {
  const auto entries = parse_toml(text);
  return entries ? "no error" : entries.error().message();
}

std::vector<std::string> values_of(std::string_view text) {
  const auto entries = parse_toml(text);
  EXPECT_TRUE(entries) << text << ": " << error_of(text);
  if (!entries || entries->size() != 1) return {"not one entry"};
  return entries->front().values;
}

TEST(Toml, EmptyFileHasNoEntries) {
  for (const char* const text : {"", "\n", "# comment", "  # comment\n\n\t\n"}) {
    const auto entries = parse_toml(text);
    ASSERT_TRUE(entries) << error_of(text);
    EXPECT_THAT(*entries, IsEmpty());
  }
}

TEST(Toml, EntriesKnowTheirLines) {
  const auto entries = parse_toml("# a\nkernel = \"k\"\r\n\nlog-level='x' # b\ncpus=1");
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].key, "kernel");
  EXPECT_EQ((*entries)[0].line, 2u);
  EXPECT_EQ((*entries)[1].key, "log-level");
  EXPECT_EQ((*entries)[1].line, 4u);
  EXPECT_EQ((*entries)[2].key, "cpus");
  EXPECT_EQ((*entries)[2].line, 5u);
}

TEST(Toml, ScalarsBecomeText) {
  EXPECT_THAT(values_of("a = 256"), ElementsAre("256"));
  EXPECT_THAT(values_of("a = -1.5"), ElementsAre("-1.5"));
  EXPECT_THAT(values_of("a = 30.0"), ElementsAre("30"));
  EXPECT_THAT(values_of("a = true"), ElementsAre("true"));
  EXPECT_THAT(values_of("a = ''"), ElementsAre(""));
}

TEST(Toml, StringsKeepHashesCommasBlanksAndBrackets) {
  EXPECT_THAT(values_of("a = \"x # y, [z] = 'q'\""), ElementsAre("x # y, [z] = 'q'"));
  EXPECT_THAT(values_of(R"(a = 'dyndbg="file # +p" \n')"), ElementsAre(R"(dyndbg="file # +p" \n)"));
}

TEST(Toml, BasicStringsHaveEscapes) {
  EXPECT_THAT(values_of(R"(a = "\"\\\t\u00e9\u20AC\U0001f600")"),
              ElementsAre("\"\\\t\u00e9\u20ac\U0001f600"));
}

TEST(Toml, ArraysMaySpanLines) {
  EXPECT_THAT(values_of("a = [ 'x', \"y\",1 ]"), ElementsAre("x", "y", "1"));
  EXPECT_THAT(values_of("a = [\n  'x',  # the first\n\n  'y',\n]\n"), ElementsAre("x", "y"));
  EXPECT_THAT(values_of("a = []"), IsEmpty());
}

TEST(Toml, EntriesComeInTheOrderOfTheFile) {
  const auto entries = parse_toml("d = 1\nb = 2\na = 3\nc = 4");
  ASSERT_TRUE(entries);
  std::string keys;
  for (const TomlEntry& entry : *entries) keys += entry.key;
  EXPECT_EQ(keys, "dbac");
}

TEST(Toml, MistakesNameTheLineAndTheFix) {
  EXPECT_EQ(error_of("\nmemory = 256M"),
            "line 2: invalid line format (expected newline, but got 'M'); write key = value, with "
            "strings in quotes");
  for (const char* const text : {"a =", "a = +", "a = x", "a = [ x ]", "a", "= 1", "a = 1 2",
                                 "a = [1 2]", "a = \"x", "a = 'x\n'", "a = \"\\q\"", "a = 08"}) {
    EXPECT_THAT(error_of(std::string("\n\n") + text), StartsWith("line 3: ")) << text;
    EXPECT_THAT(error_of(text), Not(HasSubstr("\n"))) << text;
    EXPECT_THAT(error_of(text), Not(HasSubstr("toml::"))) << text;
  }
}

TEST(Toml, KeyTwiceIsRefused) {
  EXPECT_THAT(error_of("a = 1\nb = 2\na = 3"), StartsWith("line 3: value (\"a\") already exists"));
}

TEST(Toml, ANulEndsNoText) {
  EXPECT_EQ(error_of("a = 1\nb = \"x\\u0000y\""), "line 2: a string contains a NUL");
  EXPECT_THAT(error_of(std::string_view("a = 'x\0y'", 9)), StartsWith("line 1: "));
}

TEST(Toml, UnsupportedFeaturesAreRefusedByName) {
  EXPECT_EQ(error_of("b = 1\n[run]\na = 1"), "line 2: tables are not supported; write key = value");
  for (const char* const text : {"a.b = 1", "a = {b = 1}", "[[disk]]\na = 1", "a = [{b = 1}]"})
    EXPECT_THAT(error_of(text), HasSubstr("tables are not supported")) << text;
  EXPECT_THAT(error_of("a = [[1]]"), HasSubstr("arrays in arrays are not supported"));
  EXPECT_THAT(error_of("a = 1979-05-27"), HasSubstr("dates and times are not supported"));
}

TEST(Toml, OtherEncodingsAreRefused) {
  for (const char* const text : {"'\xe9t\xe9'", "\"\xe9\"", "'' # \xe9", "'\xed\xa0\x80'"})
    EXPECT_EQ(error_of(std::string("a = 1\nb = ") + text), "line 2: not UTF-8") << text;
  EXPECT_THAT(values_of("a = '\u00e9'"), ElementsAre("\u00e9"));
}

TEST(Toml, DeepNestingIsRefused) {
  EXPECT_THAT(error_of("a = " + std::string(60'000, '[')), HasSubstr("brackets"));
  EXPECT_THAT(error_of("a = " + std::string(200, '[')), StartsWith("line "));
}

}  // namespace
}  // namespace wick::cli

#include "cli/toml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace wick::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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

TEST(Toml, ScalarsKeepTheirText) {
  EXPECT_THAT(values_of("a = 256"), ElementsAre("256"));
  EXPECT_THAT(values_of("a = -1.5"), ElementsAre("-1.5"));
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

TEST(Toml, KeyTwiceIsRefused) {
  EXPECT_EQ(error_of("a = 1\nb = 2\na = 3"), "line 3: key 'a' was there already, on line 1");
}

TEST(Toml, UnquotedTextIsRefusedWithTheMend) {
  EXPECT_EQ(error_of("\nmemory = 256M"), "line 2: '256M' is no value; put a text in quotes");
  EXPECT_THAT(error_of("a ="), HasSubstr("no value"));
  EXPECT_THAT(error_of("a = +"), HasSubstr("no value"));
  EXPECT_THAT(error_of("a = 1."), HasSubstr("no value"));
  EXPECT_THAT(error_of("a = [ x ]"), HasSubstr("no value"));
}

TEST(Toml, BrokenLinesAreNamed) {
  EXPECT_THAT(error_of("a"), HasSubstr("'=' is missing behind 'a'"));
  EXPECT_THAT(error_of("= 1"), HasSubstr("no key"));
  EXPECT_THAT(error_of("a.b = 1"), HasSubstr("no key"));
  EXPECT_THAT(error_of("a = 1 2"), HasSubstr("something follows"));
  EXPECT_THAT(error_of("a = 'x' b = 'y'"), HasSubstr("something follows"));
  EXPECT_THAT(error_of("a = ["), HasSubstr("']' is missing"));
  EXPECT_THAT(error_of("a = [1 2]"), HasSubstr("',' or ']' is missing"));
  EXPECT_THAT(error_of("a = [,]"), HasSubstr("no value"));
}

TEST(Toml, BrokenStringsAreNamed) {
  EXPECT_THAT(error_of("a = \"x"), HasSubstr("closing \" is missing"));
  EXPECT_THAT(error_of("a = 'x\n'"), HasSubstr("closing ' is missing"));
  EXPECT_THAT(error_of("a = \"\\q\""), HasSubstr("unknown escape"));
  EXPECT_THAT(error_of("a = \"\\"), HasSubstr("unknown escape"));
  EXPECT_THAT(error_of("a = \"\\u12\""), HasSubstr("hexadecimal digit"));
  EXPECT_THAT(error_of("a = \"\\u0000\""), HasSubstr("names no character"));
  EXPECT_THAT(error_of("a = \"\\ud800\""), HasSubstr("names no character"));
  EXPECT_THAT(error_of("a = \"\\UFFFFFFFF\""), HasSubstr("names no character"));
  EXPECT_THAT(error_of(std::string_view("a = 'x\0y'", 9)), HasSubstr("control character"));
}

TEST(Toml, WhatIsNotUsedHereIsRefusedByName) {
  EXPECT_THAT(error_of("[run]\na = 1"), HasSubstr("tables are not used"));
  EXPECT_THAT(error_of("a = \"\"\"x\"\"\""), HasSubstr("several lines"));
}

}  // namespace
}  // namespace wick::cli

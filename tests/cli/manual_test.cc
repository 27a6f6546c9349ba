// Manual pages, as man and groff see them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <regex>
#include <string>

#include "tests/cli/help.h"

namespace wick::cli {
namespace {

using ::testing::HasSubstr;

TEST(Manual, HasAPageForEachCommandWithoutAWarning) {
  for (const std::string& command : all_commands()) {
    if (std::ranges::count(command, ' ') > 1) continue;
    std::string page = command;
    std::ranges::replace(page, ' ', '-');
    const std::string source = output_of(WICK_BINARY " --man " + page);
    for (const char* const section :
         {"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"})
      EXPECT_THAT(source, HasSubstr(".SH " + std::string(section))) << page;
    EXPECT_EQ(output_of(WICK_BINARY " --man " + page +
                        " | MANWIDTH=80 man --warnings -l - 2>&1 >/dev/null"),
              "")
        << page;
    EXPECT_EQ(output_of(WICK_BINARY " --man " + page + " | groff -man -Tutf8 -ww -z 2>&1"), "")
        << page;
  }
}

TEST(Manual, NamesEveryOptionOfTheHelp) {
  static const std::regex option(R"((?:\n  |,)(-[-\w]+)(?=[ ,]))");
  for (const std::string& command : all_commands()) {
    std::string page = command.substr(0, command.find(' ', 5));
    std::ranges::replace(page, ' ', '-');
    const std::string text =
        output_of(WICK_BINARY " --man " + page + " | groff -man -Tascii -P-cbou");
    const std::string help = help_of(command);
    for (std::sregex_iterator match(help.begin(), help.end(), option), end; match != end; ++match)
      EXPECT_THAT(text, HasSubstr((*match)[1].str())) << page;
    for (const std::string& example : examples_in(help))
      EXPECT_THAT(text, HasSubstr(example)) << page;
  }
}

TEST(Manual, RefusesAPageOrAShellThatIsNotThere) {
  for (const char* const options : {"--man wick-nothing", "--man=", "--completion tcsh"}) {
    const std::string command = std::string(WICK_BINARY " ") + options + " 2>&1 >/dev/null";
    const int status = std::system((command + " | grep -q usage").c_str());
    EXPECT_EQ(status, 0) << options;
  }
}

}  // namespace
}  // namespace wick::cli

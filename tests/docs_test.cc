// Checks that tests, pitfalls and options that documents and code cite exist.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "tests/cli/help.h"
#include "tests/fakes/files.h"

namespace wick {
namespace {

using fakes::read_file;
using Names = std::set<std::string>;

const std::filesystem::path kSource = WICK_SOURCE_DIR;
const std::filesystem::path kTests = kSource / "tests";
const std::filesystem::path kThreats = kSource / "docs" / "THREATS.md";

// Adds "1.2" for each match of `pattern` in `text`, or "1" if it has one group.
void add_matches(Names& names, const std::string& text, const std::regex& pattern) {
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end; match != end; ++match) {
    const bool two = match->size() > 2;
    names.insert(two ? (*match)[1].str() + "." + (*match)[2].str() : (*match)[1].str());
  }
}

// `Suite.Name` as TEST, TEST_F or TEST_P defines it, and `fuzz_NAME`.
Names defined_tests() {
  static const std::regex test(R"(\bTEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\))");
  Names names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kTests)) {
    if (entry.path().extension() != ".cc") continue;
    add_matches(names, read_file(entry.path()), test);
    const std::string stem = entry.path().stem();
    if (stem.ends_with("_fuzz")) names.insert("fuzz_" + stem.substr(0, stem.size() - 5));
  }
  return names;
}

Names named_tests(const std::string& text) {
  static const std::regex test(R"(`([A-Z]\w*)\.([A-Z]\w*)`)");
  static const std::regex fuzzer(R"(`(fuzz_\w+)`)");
  Names names;
  add_matches(names, text, test);
  add_matches(names, text, fuzzer);
  return names;
}

TEST(Docs, EveryTestThatIsNamedExists) {
  const Names named = named_tests(read_file(kThreats));
  EXPECT_GT(named.size(), 100u) << "looked in the wrong place: " << kThreats;
  Names missing;
  std::ranges::set_difference(named, defined_tests(), std::inserter(missing, missing.end()));
  EXPECT_THAT(missing, testing::IsEmpty());
}

TEST(Docs, TestsDifferFromFilesAndFunctions) {
  EXPECT_THAT(named_tests("`A.B`, `fuzz_ring` in `virtio/blk.cc`, `Vm.cc`, `VirtQueue::create`"),
              testing::ElementsAre("A.B", "fuzz_ring"));
}

// --- PITFALLS.md ---

TEST(Docs, EveryPitfallThatIsCitedExists) {
  static const std::regex item(R"((?:^|\n)(\d+)\. )");
  static const std::regex citation(R"(PITFALLS (\d+))");
  static const std::regex in_threats(R"([(,] ?P (\d+))");
  Names items;
  add_matches(items, read_file(kSource / "docs" / "PITFALLS.md"), item);
  EXPECT_GT(items.size(), 40u);
  Names cited;
  add_matches(cited, read_file(kThreats), in_threats);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kSource)) {
    const std::string path = entry.path();
    if (path.find("/build") != std::string::npos || path.find("/.git/") != std::string::npos)
      continue;
    if (entry.path().extension() == ".cc" || entry.path().extension() == ".h")
      add_matches(cited, read_file(entry.path()), citation);
  }
  EXPECT_GT(cited.size(), 15u);
  Names missing;
  std::ranges::set_difference(cited, items, std::inserter(missing, missing.end()));
  EXPECT_THAT(missing, testing::IsEmpty());
}

// --- INTERFACE.md ---

void add_options(Names& options, const std::string& text, const std::regex& pattern) {
  add_matches(options, text, pattern);
  options.erase("-h");
  options.erase("--help");
  options.erase("--version");
}

TEST(Docs, TheInterfaceNamesEveryOptionAndNoOther) {
  static const std::regex in_help(R"((?:\n  |,)(-[-\w]+)(?=[ ,]))");
  static const std::regex in_page(R"((?:`|\n  )(--[a-z][-a-z]*))");
  const std::string page = read_file(kSource / "docs" / "INTERFACE.md");
  Names shown;
  for (const std::string& command : all_commands()) {
    const std::string below = command.substr(command.rfind(' ') + 1);
    EXPECT_TRUE(page.find(command) != std::string::npos ||
                page.find("`" + below) != std::string::npos)
        << command;
    add_options(shown, help_of(command), in_help);
  }
  EXPECT_GT(shown.size(), 40u);
  for (const std::string& option : shown)
    EXPECT_NE(page.find("`" + option), std::string::npos) << option << " is not in INTERFACE.md";
  Names named;
  add_options(named, page, in_page);
  for (const std::string& option : named)
    EXPECT_TRUE(shown.contains(option) || option == "--no-drain")
        << option << " is not in the help of any command";
}

}  // namespace
}  // namespace wick

// docs/THREATS.md names the test that holds each mitigation: all of them exist.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

namespace wick {
namespace {

using Names = std::set<std::string>;

const std::filesystem::path kTests = std::filesystem::path(WICK_SOURCE_DIR) / "tests";
const std::filesystem::path kThreats =
    std::filesystem::path(WICK_SOURCE_DIR) / "docs" / "THREATS.md";

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

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

TEST(Docs, TestsAreToldFromFilesAndFunctions) {
  EXPECT_THAT(named_tests("`A.B`, `fuzz_ring` in `virtio/blk.cc`, `Vm.cc`, `VirtQueue::create`"),
              testing::ElementsAre("A.B", "fuzz_ring"));
}

}  // namespace
}  // namespace wick

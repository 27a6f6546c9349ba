// The layering of docs/ARCHITECTURE.md: each room includes only itself and the rooms that it
// knows, and only vmm/ includes <linux/kvm.h>.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace wick {
namespace {

using Rooms = std::vector<std::string>;

const std::map<std::string, Rooms> kKnows = {
    {"base", {}},
    {"boot", {"base"}},
    {"block", {"base"}},
    {"image", {"base", "block"}},
    {"net", {"base"}},
    {"hostnet", {"base", "net"}},
    {"console", {"base"}},
    {"guest", {"base", "boot", "console"}},
    {"display", {"base"}},
    {"share", {"base"}},
    {"devices", {"base", "block", "net", "console", "display"}},
    {"virtio", {"base", "block", "net", "console", "display", "share", "devices"}},
    {"vmm",
     {"base", "boot", "block", "net", "hostnet", "console", "display", "share", "devices",
      "virtio"}},
    {"control", {"base", "block", "net", "vmm"}},
    {"debug", {"base", "vmm"}},
    {"cli",
     {"base", "boot", "block", "image", "net", "hostnet", "console", "guest", "display", "share",
      "devices", "virtio", "vmm", "control", "debug"}},
};

// <net/if.h> belongs to the C library.
bool is_ours(const std::string& file) {
  return std::filesystem::exists(std::filesystem::path(WICK_SOURCE_DIR) / file);
}

// The faults of the #includes in one file of `room`.
std::vector<std::string> complaints(const std::string& room, std::istream& source) {
  static const std::regex include(R"(^\s*#\s*include\s*(["<])(([^"/>]*)/)?([^">]*)[">].*)");
  const Rooms& known = kKnows.at(room);
  std::vector<std::string> found;
  std::string line;
  for (int number = 1; std::getline(source, line); ++number) {
    std::smatch match;
    if (!std::regex_match(line, match, include)) continue;
    const bool quoted = match[1] == "\"";
    const std::string owner = match[3];
    const auto complain = [&](const std::string& what) {
      found.push_back(std::to_string(number) + ": " + line + ": " + what);
    };
    if (owner + "/" + match[4].str() == "linux/kvm.h" && room != "vmm")
      complain("may only be included in vmm/");
    else if (quoted && owner.empty())
      complain("does not name its room");
    else if (quoted && owner != room && std::ranges::find(known, owner) == known.end())
      complain(room + "/ may not know " + owner + "/");
    else if (!quoted && kKnows.contains(owner) && is_ours(owner + "/" + match[4].str()))
      complain("is a file of wick and needs quotes");
  }
  return found;
}

size_t count_complaints(const std::string& room, const std::string& text) {
  std::istringstream source(text);
  return complaints(room, source).size();
}

TEST(Layering, IsKeptByEveryInclude) {
  int files = 0;
  for (const auto& [room, known] : kKnows) {
    const std::filesystem::path folder = std::filesystem::path(WICK_SOURCE_DIR) / room;
    if (!std::filesystem::exists(folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.path().extension() != ".h" && entry.path().extension() != ".cc") continue;
      std::ifstream source(entry.path());
      EXPECT_THAT(complaints(room, source), testing::IsEmpty()) << entry.path();
      ++files;
    }
  }
  EXPECT_GT(files, 50) << "looked in the wrong place: " << WICK_SOURCE_DIR;
}

TEST(Layering, CatchesIncludesThatCrossAWall) {
  EXPECT_EQ(count_complaints("base", "#include \"base/fd.h\"\n#include <vector>\n"), 0u);
  EXPECT_EQ(count_complaints("base", "#include \"block/raw.h\"\n"), 1u);
  EXPECT_EQ(count_complaints("block", "#include \"virtio/queue.h\"\n"), 1u);
  EXPECT_EQ(count_complaints("devices", "#include \"virtio/blk.h\"\n#include \"vmm/vm.h\"\n"), 2u);
  EXPECT_EQ(count_complaints("virtio", "  #  include \"vmm/vm.h\"  // why not\n"), 1u);
  EXPECT_EQ(count_complaints("virtio", "#include \"queue.h\"\n"), 1u);
  EXPECT_EQ(count_complaints("virtio", "#include <block/raw.h>\n"), 1u);
  EXPECT_EQ(count_complaints("cli", "#include \"tests/fakes/fake_driver.h\"\n"), 1u);
  EXPECT_EQ(count_complaints("boot", "#include <linux/kvm.h>\n"), 1u);
  EXPECT_EQ(count_complaints("vmm", "#include <linux/kvm.h>\n#include \"boot/elf.h\"\n"), 0u);
  EXPECT_EQ(count_complaints("virtio", "#include <linux/virtio_blk.h>\n"), 0u);
  EXPECT_EQ(count_complaints("net", "#include <net/if.h>\n"), 0u);
  EXPECT_EQ(count_complaints("net", "#include <net/tap.h>\n"), 1u);
}

}  // namespace
}  // namespace wick

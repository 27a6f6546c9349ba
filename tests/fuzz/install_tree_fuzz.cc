// A hostile install tree: its .treeinfo, checksums and other small files. What is found lies
// inside the tree, and has a checksum in its one form or none. The first byte says which files a
// tree without .treeinfo has.
#include <algorithm>
#include <map>
#include <string>
#include <string_view>

#include "base/printable.h"
#include "boot/install_tree.h"
#include "boot/sha256.h"
#include "tests/fakes/memory_tree.h"
#include "tests/fuzz/harness.h"

namespace {

using wick::boot::InstallFiles;
using wick::fuzz::require;

void check(const InstallFiles& files) {
  for (const auto* const file : {&files.kernel, &files.initrd}) {
    require(wick::boot::is_inside_tree(file->path));
    require(file->path.front() != '/' &&
            ("/" + file->path + "/").find("/../") == std::string::npos);
    require(file->sha256.empty() == file->checksums.empty());
    require(file->sha256.empty() || wick::boot::is_sha256(file->sha256));
    require(!wick::boot::check_sha256(*file, "name", "other") == !file->sha256.empty());
  }
  require(!files.distribution.empty() && files.distribution.size() < 2000);
  require(wick::printable(files.distribution) == files.distribution);
}

void search(std::map<std::string, std::string> files) {
  wick::fakes::MemoryTree tree(std::move(files));
  if (const auto found = wick::boot::find_install_files(tree)) check(*found);
  require(tree.asked.size() < 200);
  require(std::ranges::all_of(tree.asked, wick::boot::is_inside_tree));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  search({{".treeinfo", text}});
  if (data[0] % 2 == 0)
    search({{"boot/x86_64/loader/linux", ""},
            {"boot/x86_64/loader/initrd", ""},
            {data[0] % 4 == 0 ? "content" : "CHECKSUMS", text}});
  else
    search({{"install.amd/vmlinuz", ""},
            {"install.amd/initrd.gz", ""},
            {"sha256sum.txt", text},
            {".disk/info", text}});
  return 0;
}

#include "tests/lab/initramfs.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "tests/lab/vm.h"

namespace wick::lab {

namespace {

constexpr unsigned kFolder = 040755, kFile = 0100755;

void pad(std::string& archive) { archive.resize((archive.size() + 3) / 4 * 4); }

void add(std::string& archive, const std::string& name, unsigned mode, const std::string& content,
         size_t inode) {
  archive += fmt::format("070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}", inode, mode, 0, 0, 1,
                         0, content.size());
  archive += fmt::format("{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}", 0, 0, 0, 0, name.size() + 1, 0);
  archive += name + '\0';
  pad(archive);
  archive += content;
  pad(archive);
}

}  // namespace

std::string extend_initramfs(const std::string& initrd,
                             const std::map<std::string, std::string>& files) {
  std::string archive = initrd;
  pad(archive);
  size_t inode = 1;
  std::set<std::string> folders;
  for (const auto& [name, content] : files) {
    for (size_t slash = name.find('/'); slash != std::string::npos;
         slash = name.find('/', slash + 1)) {
      const std::string folder = name.substr(0, slash);
      if (folders.insert(folder).second) add(archive, folder, kFolder, "", inode++);
    }
    add(archive, name, kFile, content, inode++);
  }
  add(archive, "TRAILER!!!", 0, "", 0);
  return archive;
}

std::vector<Module> generic_modules(const std::vector<std::string>& names) {
  const std::string folder = image("lab/modules");
  const std::filesystem::path release = std::filesystem::directory_iterator(folder)->path();
  const TempDir root;
  std::filesystem::create_directory(root / "lib");
  std::filesystem::create_symlink(folder, root / "lib/modules");
  std::vector<Module> modules;
  for (const std::string& name : names) {
    const Finished found =
        finish({"modprobe", "--show-depends", "-d", root.path(), "-S", release.filename(), name});
    if (found.status != 0) give_up("modprobe: " + found.err);
    for (const std::string& line : lines(found.out)) {
      if (!line.starts_with("insmod ")) continue;
      const std::string path = line.substr(7, line.find(' ', 7) - 7);
      const std::string file = std::filesystem::path(path).filename();
      if (std::ranges::none_of(modules, [&](const Module& each) { return each.name == file; }))
        modules.push_back({file, read_file(path)});
    }
  }
  return modules;
}

}  // namespace wick::lab

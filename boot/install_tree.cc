#include "boot/install_tree.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "base/printable.h"
#include "boot/sha256.h"

namespace wick::boot {

namespace {

constexpr size_t kMaxPathBytes = 512;
constexpr size_t kMaxNameBytes = 100;          // the length of a distribution's name
constexpr size_t kMaxTreeinfoBytes = 1 << 20;  // a hundred times the usual size
// Debian's file has 20 KiB, openSUSE's at most 1 MiB.
constexpr size_t kMaxChecksumsBytes = 4 << 20;
constexpr size_t kMaxDiskInfoBytes = 4096;

constexpr std::string_view kDiskInfo = ".disk/info";
constexpr std::string_view kRedHatArgument = "inst.repo=";
constexpr std::string_view kSuseArgument = "install=";

// The places of a distribution's files. The initramfs has one of the names in `initrds`, whose
// unused elements are empty. A file of checksums names files relative to its own folder.
struct Layout {
  std::string_view distribution;
  std::string_view folder;
  std::string_view kernel;
  std::array<std::string_view, 3> initrds;
  std::array<std::string_view, 2> checksums{};
  bool is_cd = false;  // the tree of a CD; its file kDiskInfo, if any, names the distribution
  std::string_view repository_argument{};
};

// All known layouts, in the order in which they are tried. The most frequent ones come first,
// because each layout costs a request to a server.
constexpr auto kLayouts = std::to_array<Layout>({
    // Debian's layouts: a suite of a mirror (dists/bookworm), the mirror itself, folders below a
    // suite.
    {.distribution = "Debian",
     .folder = "main/installer-amd64/current/images/netboot/debian-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"main/installer-amd64/current/images/SHA256SUMS"}},
    {.distribution = "Debian",
     .folder = "dists/stable/main/installer-amd64/current/images/netboot/debian-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"dists/stable/main/installer-amd64/current/images/SHA256SUMS"}},
    {.distribution = "Debian",
     .folder = "current/images/netboot/debian-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"current/images/SHA256SUMS"}},
    {.distribution = "Debian",
     .folder = "daily/netboot/debian-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"daily/SHA256SUMS"}},
    {.distribution = "Debian",
     .folder = "netboot/debian-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"SHA256SUMS"}},
    {.distribution = "Debian",
     .folder = "debian-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"}},
    // The Debian package debian-installer-12-netboot-amd64.
    {.distribution = "Debian",
     .folder = "text/debian-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"}},
    {.distribution = "Debian",
     .folder = "install.amd/",
     .kernel = "vmlinuz",
     .initrds = {"initrd.gz"},
     .checksums = {"sha256sum.txt"},
     .is_cd = true},

    // Ubuntu's layouts until 20.04. In 20.04 the installer is in the folder legacy-images.
    {.distribution = "Ubuntu",
     .folder = "main/installer-amd64/current/legacy-images/netboot/ubuntu-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"main/installer-amd64/current/legacy-images/SHA256SUMS"}},
    {.distribution = "Ubuntu",
     .folder = "main/installer-amd64/current/images/netboot/ubuntu-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"main/installer-amd64/current/images/SHA256SUMS"}},
    {.distribution = "Ubuntu",
     .folder = "current/legacy-images/netboot/ubuntu-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"current/legacy-images/SHA256SUMS"}},
    {.distribution = "Ubuntu",
     .folder = "current/images/netboot/ubuntu-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"current/images/SHA256SUMS"}},
    {.distribution = "Ubuntu",
     .folder = "netboot/ubuntu-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"},
     .checksums = {"SHA256SUMS"}},
    {.distribution = "Ubuntu",
     .folder = "ubuntu-installer/amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz"}},
    // Ubuntu since 22.04: the folder of a release, which also contains its CDs.
    {.distribution = "Ubuntu",
     .folder = "netboot/amd64/",
     .kernel = "linux",
     .initrds = {"initrd"}},
    {.distribution = "Ubuntu",
     .folder = "casper/",
     .kernel = "vmlinuz",
     .initrds = {"initrd", "initrd.gz", "initrd.lz"},
     .is_cd = true},
    {.distribution = "Ubuntu",
     .folder = "install/",
     .kernel = "vmlinuz",
     .initrds = {"initrd.gz"},
     .is_cd = true},

    {.distribution = "Fedora or a relative",
     .folder = "images/pxeboot/",
     .kernel = "vmlinuz",
     .initrds = {"initrd.img"},
     .repository_argument = kRedHatArgument},
    {.distribution = "SUSE",
     .folder = "boot/x86_64/loader/",
     .kernel = "linux",
     .initrds = {"initrd"},
     .checksums = {"CHECKSUMS", "content"},
     .repository_argument = kSuseArgument},
    {.distribution = "Arch Linux",
     .folder = "arch/boot/x86_64/",
     .kernel = "vmlinuz-linux",
     .initrds = {"initramfs-linux.img", "archiso.img"}},
    {.distribution = "Alpine Linux",
     .folder = "boot/",
     .kernel = "vmlinuz-lts",
     .initrds = {"initramfs-lts"}},
    {.distribution = "Alpine Linux",
     .folder = "boot/",
     .kernel = "vmlinuz-virt",
     .initrds = {"initramfs-virt"}},
    {.distribution = "Alpine Linux",
     .folder = "releases/x86_64/netboot/",
     .kernel = "vmlinuz-lts",
     .initrds = {"initramfs-lts"}},
    {.distribution = "Alpine Linux",
     .folder = "netboot/",
     .kernel = "vmlinuz-lts",
     .initrds = {"initramfs-lts"}},

    // For any distribution: the user gave the folder that contains the kernel in a layout above, or
    // the parent of that folder.
    {.distribution = "a distribution",
     .folder = "amd64/",
     .kernel = "linux",
     .initrds = {"initrd.gz", "initrd"}},
    {.distribution = "a distribution",
     .folder = "",
     .kernel = "linux",
     .initrds = {"initrd.gz", "initrd"}},
    {.distribution = "a distribution",
     .folder = "",
     .kernel = "vmlinuz",
     .initrds = {"initrd.gz", "initrd.img", "initrd"}},
    {.distribution = "Alpine Linux",
     .folder = "",
     .kernel = "vmlinuz-lts",
     .initrds = {"initramfs-lts"}},
});

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const size_t first = std::min(text.find_first_not_of(kBlanks), text.size());
  text.remove_prefix(first);
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

// Takes the first line off `text`.
std::string_view take_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  return trim(line);
}

// Takes the first word off `text`, and the blanks after it.
std::string_view take_word(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find_first_of(" \t"));
  text = trim(text.substr(word.size()));
  return word;
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

std::string short_name(std::string_view text) {
  return printable(trim(text.substr(0, kMaxNameBytes)));
}

// The content of a .treeinfo: an INI file as Python's configparser reads it, but without the rarer
// forms.
class Treeinfo {
 public:
  explicit Treeinfo(std::string_view text) {
    std::string section;
    while (!text.empty()) {
      const std::string_view line = take_line(text);
      if (line.empty() || line.front() == '#' || line.front() == ';') continue;
      if (line.front() == '[') {
        section = line.substr(1, line.find(']') - 1);
      } else if (const size_t equals = line.find('='); equals != line.npos) {
        values_.emplace(std::pair(section, std::string(trim(line.substr(0, equals)))),
                        trim(line.substr(equals + 1)));
      }
    }
  }

  // Returns the value of a key; empty if there is no such key.
  std::string_view value(const std::string& section, const std::string& key) const {
    const auto found = values_.find({section, key});
    return found == values_.end() ? std::string_view() : found->second;
  }

 private:
  std::map<std::pair<std::string, std::string>, std::string> values_;
};

// Returns the checksum of `name` from the output of sha256sum ("DIGEST  ./NAME"), from openSUSE's
// `content` ("HASH SHA256 DIGEST  NAME"), or from BSD's form ("SHA256 (NAME) = DIGEST"). Empty if
// there is none.
std::string find_sha256(std::string_view text, std::string_view name) {
  const auto is_name = [name](std::string_view found) {
    // sha256sum puts '*' before a file that it read in binary mode.
    if (found.starts_with('*')) found.remove_prefix(1);
    if (found.starts_with("./")) found.remove_prefix(2);
    return found == name;
  };
  while (!text.empty()) {
    std::string_view line = take_line(text);
    std::string_view digest = take_word(line);
    if (digest == "HASH" && take_word(line) == "SHA256") digest = take_word(line);
    if (digest == "SHA256" && line.starts_with('(')) {
      const size_t end = line.find(") = ");
      if (end == line.npos) continue;
      digest = line.substr(end + 4);
      line = line.substr(1, end - 1);
    }
    if (is_name(line) && is_sha256(lower_case(digest))) return lower_case(digest);
  }
  return {};
}

class Search {
 public:
  explicit Search(InstallTree& tree) : tree_(tree) {}

  Result<InstallFiles> run() {
    // Some servers hide files whose names begin with a dot.
    for (const std::string name : {".treeinfo", "treeinfo"}) {
      looked_for_.push_back(name);
      const auto text = TRY(tree_.read(name, kMaxTreeinfoBytes));
      if (!text) continue;
      auto files = TRY(from_treeinfo(name, *text));
      if (files) return *std::move(files);
      break;
    }
    for (const Layout& layout : kLayouts) {
      auto files = TRY(from_layout(layout));
      if (files) return *std::move(files);
    }
    return with_hint(
        fail("{}: no kernel of an installer for x86-64 found{}; looked for {}", tree_.name(),
             remarks_, fmt::join(looked_for_, ", ")),
        "give the folder that contains one of these: for Debian dists/SUITE of a mirror, for "
        "Fedora the folder os/");
  }

 private:
  // Returns nullopt if the file describes no x86-64 installer, but a repository or another
  // architecture.
  Result<std::optional<InstallFiles>> from_treeinfo(const std::string& name,
                                                    std::string_view text) {
    const Treeinfo info(text);
    constexpr auto kImages = "images-x86_64";
    InstallFiles files{.distribution = {},
                       .kernel = {.path = std::string(info.value(kImages, "kernel")),
                                  .sha256 = {},
                                  .checksums = {}},
                       .initrd = {.path = std::string(info.value(kImages, "initrd")),
                                  .sha256 = {},
                                  .checksums = {}},
                       .repository_argument = std::string(kRedHatArgument)};
    if (files.kernel.path.empty() || files.initrd.path.empty()) {
      std::string_view arch = info.value("tree", "arch");
      if (arch.empty()) arch = info.value("general", "arch");
      remarks_ += fmt::format(" ({} has no kernel and initrd in [{}]{})", name, kImages,
                              arch.empty() ? "" : ", it is of " + short_name(arch));
      return std::nullopt;
    }
    for (TreeFile* const file : {&files.kernel, &files.initrd}) {
      if (!is_inside_tree(file->path))
        return with_hint(fail("{}: {} names a file outside of the tree, {}", tree_.name(), name,
                              printable(file->path.substr(0, kMaxPathBytes))),
                         "do not use this tree");
      TRY(set_checksum(*file, name, info.value("checksums", file->path)));
    }
    std::string_view distribution = info.value("release", "name");
    std::string_view version = info.value("release", "version");
    if (distribution.empty()) distribution = info.value("general", "family");
    if (version.empty()) version = info.value("general", "version");
    files.distribution = short_name(distribution);
    if (!version.empty()) files.distribution += " " + short_name(version);
    if (files.distribution.empty()) files.distribution = "a distribution";
    if (distribution.find("SUSE") != distribution.npos) files.repository_argument = kSuseArgument;
    return files;
  }

  // Sets the checksum of `file` from `value`, a value in the section [checksums]: "sha256:DIGEST".
  // Older types (md5, sha1) are ignored, because an attacker can make other files with the same
  // checksum.
  Result<void> set_checksum(TreeFile& file, const std::string& treeinfo,
                            std::string_view value) const {
    constexpr std::string_view kType = "sha256:";
    if (!value.starts_with(kType)) return {};
    file.sha256 = lower_case(trim(value.substr(kType.size())));
    file.checksums = treeinfo;
    if (!is_sha256(file.sha256))
      return with_hint(
          fail("{}: {} has a damaged checksum of {}", tree_.name(), treeinfo, file.path),
          "use another mirror");
    return {};
  }

  Result<std::optional<InstallFiles>> from_layout(const Layout& layout) {
    const std::string folder(layout.folder);
    InstallFiles files;
    files.kernel.path = folder + std::string(layout.kernel);
    looked_for_.push_back(files.kernel.path);
    if (!TRY(tree_.has(files.kernel.path))) return std::nullopt;
    for (const std::string_view name : layout.initrds) {
      if (name.empty()) continue;
      const std::string path = folder + std::string(name);
      if (TRY(tree_.has(path))) {
        files.initrd.path = path;
        break;
      }
    }
    if (files.initrd.path.empty()) {
      remarks_ +=
          fmt::format(" ({} has no {} beside it)", files.kernel.path, layout.initrds.front());
      return std::nullopt;
    }
    for (const std::string_view checksums : layout.checksums)
      if (!checksums.empty() && TRY(find_checksums(files, std::string(checksums)))) break;
    files.distribution = layout.distribution;
    files.repository_argument = layout.repository_argument;
    if (layout.is_cd) {
      const auto info = TRY(tree_.read(std::string(kDiskInfo), kMaxDiskInfoBytes));
      const std::string name = info ? short_name(info->substr(0, info->find('\n'))) : "";
      if (!name.empty()) files.distribution = name;
    }
    return files;
  }

  // Takes the checksums of both files from the file `checksums`. Returns false if the tree has no
  // such file.
  Result<bool> find_checksums(InstallFiles& files, const std::string& checksums) {
    const auto text = TRY(tree_.read(checksums, kMaxChecksumsBytes));
    if (!text) return false;
    const size_t folder_bytes = checksums.rfind('/') + 1;  // 0 without a folder
    for (TreeFile* const file : {&files.kernel, &files.initrd}) {
      file->sha256 = find_sha256(*text, std::string_view(file->path).substr(folder_bytes));
      if (!file->sha256.empty()) file->checksums = checksums;
    }
    return true;
  }

  InstallTree& tree_;
  std::vector<std::string> looked_for_;
  std::string remarks_;
};

}  // namespace

Result<InstallFiles> find_install_files(InstallTree& tree) { return Search(tree).run(); }

bool is_inside_tree(std::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes) return false;
  if (!std::ranges::all_of(path, [](char c) { return c > ' ' && c < 0x7f && c != '\\'; }))
    return false;
  for (;;) {
    const size_t end = path.find('/');
    const std::string_view part = path.substr(0, end);
    if (part.empty() || part == "." || part == "..") return false;
    if (end == path.npos) return true;
    path.remove_prefix(end + 1);
  }
}

Result<void> check_sha256(const TreeFile& file, const std::string& name,
                          const std::string& sha256) {
  if (file.sha256.empty() || file.sha256 == sha256) return {};
  return with_hint(
      fail("{}: wrong SHA-256 checksum: {} has {}, the file {}", name, file.checksums, file.sha256,
           sha256),
      "the tree is damaged or is being updated: try again later, or use another mirror");
}

}  // namespace wick::boot

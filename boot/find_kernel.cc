#include "boot/find_kernel.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "boot/input_file.h"

namespace wick::boot {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPlainName = "vmlinuz";
constexpr uint64_t kMaxConfigBytes = 4 << 20;  // ten times the usual size

// Returns the file's name from its first hyphen on: "-6.1.0-18-amd64" for vmlinuz-6.1.0-18-amd64 or
// bzImage-…. Returns an empty text for a name without a hyphen.
std::string suffix_of(const fs::path& kernel) {
  const std::string name = kernel.filename();
  return name.substr(std::min(name.find('-'), name.size()));
}

// Rewrites a version so that strverscmp, which compares numbers by value, sorts it correctly: a
// release candidate is older than its release, any other suffix is newer, and a name without a
// version (vmlinuz-linux) is older than all versions.
std::string version_key(std::string suffix) {
  const bool is_version = suffix.size() > 1 && suffix[1] >= '0' && suffix[1] <= '9';
  if (const size_t candidate = suffix.find("-rc"); candidate != std::string::npos)
    suffix.replace(candidate, 3, "!");
  // '"' sorts after '!' and before any character that continues a version.
  return (is_version ? "v" : "") + suffix + '"';
}

bool is_backup(std::string_view name) {
  return name.ends_with(".old") || name.ends_with(".bak") || name.find("-rescue") != name.npos;
}

bool is_file(const fs::path& path) {
  std::error_code none;
  return fs::is_regular_file(path, none);
}

// Returns the value of CONFIG_`name` in the text of a configuration: its first character, for
// instance 'y' or 'm', or 'n' if it is not set.
char value_of(std::string_view config, std::string_view name) {
  const std::string line = fmt::format("\nCONFIG_{}=", name);
  const size_t found = config.find(line);
  if (found == std::string_view::npos || found + line.size() >= config.size()) return 'n';
  return config[found + line.size()];
}

}  // namespace

Result<std::string> newest_kernel(const std::string& folder) {
  std::error_code error;
  std::vector<fs::path> kernels;
  for (auto entry = fs::directory_iterator(folder, error); !error && entry != fs::end(entry);
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    if ((name == kPlainName || name.starts_with("vmlinuz-")) && !is_backup(name))
      kernels.push_back(entry->path());
  }
  if (error)
    return with_hint(fail_errno(error.value(), "{}: cannot look for a kernel", folder),
                     "give one with -k FILE");
  if (kernels.empty())
    return with_hint(fail("{}: no kernel (vmlinuz-VERSION) in this folder", folder),
                     "give one with -k FILE");
  return *std::ranges::max_element(kernels, [](const fs::path& a, const fs::path& b) {
    return ::strverscmp(version_key(suffix_of(a)).c_str(), version_key(suffix_of(b)).c_str()) < 0;
  });
}

Result<std::string> initrd_beside(const std::string& kernel_path) {
  const fs::path kernel(kernel_path);
  const std::string suffix = suffix_of(kernel);
  const std::array names = {"initrd.img" + suffix, "initramfs" + suffix + ".img", "initrd" + suffix,
                            "initramfs" + suffix};
  for (const std::string& name : names) {
    const fs::path path = kernel.parent_path() / name;
    if (is_file(path)) return path.string();
  }
  return with_hint(
      fail("{}: no initramfs beside it (looked for {})", kernel_path, fmt::join(names, ", ")),
      "give one with -i FILE");
}

std::vector<std::string> missing_options(const std::string& kernel_path, bool has_initrd,
                                         std::span<const NeededOption> needed) {
  const fs::path kernel(kernel_path);
  const fs::path folder = kernel.parent_path();
  fs::path path = folder / ("config" + suffix_of(kernel));
  if (!is_file(path)) path = folder / ".config";
  // A bzImage in its build tree has the configuration at the top of the tree.
  if (!is_file(path) && folder.string().ends_with("arch/x86/boot"))
    path = folder / "../../../.config";
  if (!is_file(path)) return {};
  const auto file = InputFile::open(path);
  if (!file || file->size_bytes() > kMaxConfigBytes) return {};
  std::string config(file->size_bytes(), '\0');
  if (!file->read(0, std::as_writable_bytes(std::span(config)))) return {};

  std::vector<std::string> missing;
  for (const auto& [name, purpose] : needed) {
    const char value = value_of(config, name);
    if (value == 'n')
      missing.push_back(fmt::format("{}: CONFIG_{} is not set, but {}; build the kernel with it",
                                    path.string(), name, purpose));
    else if (value == 'm' && !has_initrd)
      missing.push_back(
          fmt::format("{}: CONFIG_{}=m cannot be loaded without an initramfs, but {}; "
                      "build it in (=y), or give the initramfs with -i",
                      path.string(), name, purpose));
  }
  return missing;
}

}  // namespace wick::boot

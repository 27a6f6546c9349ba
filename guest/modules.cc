#include "guest/modules.h"

#include <algorithm>
#include <filesystem>

#include "base/bytes.h"
#include "boot/decompress.h"
#include "boot/input_file.h"

namespace wick::guest {

namespace {

namespace fs = std::filesystem;

// More than ten times the size of Debian's lists.
constexpr uint64_t kMaxListBytes = 16 << 20;
// A module with its debug information has about 30 MiB.
constexpr uint64_t kMaxModuleBytes = 256 << 20;

bool exists(const std::string& path) {
  std::error_code none;
  return fs::exists(path, none);
}

Result<std::string> read_list(const std::string& path) {
  const auto file = TRY(boot::InputFile::open(path));
  if (file.size_bytes() > kMaxListBytes)
    return fail("{}: {} bytes are too much for a list of modules", path, file.size_bytes());
  std::string text(file.size_bytes(), '\0');
  TRY(file.read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

template <typename Function>
void for_each_line(std::string_view text, Function function) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) function(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

template <typename Function>
void for_each_part(std::string_view text, char separator, Function function) {
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) function(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Returns the full path of a file. `path` is from a list, and is relative to the folder, or
// absolute.
std::string path_in(const std::string& folder, std::string_view path) {
  return path.starts_with('/') ? std::string(path) : folder + '/' + std::string(path);
}

}  // namespace

std::string module_name(std::string_view path) {
  std::string_view file = path.substr(path.rfind('/') + 1);
  for (const std::string_view suffix : {".xz", ".zst", ".gz"})
    if (file.ends_with(suffix)) file.remove_suffix(suffix.size());
  // modules.order of Linux 6.2 and later names the object files.
  if (file.ends_with(".ko"))
    file.remove_suffix(3);
  else if (file.ends_with(".o"))
    file.remove_suffix(2);
  else
    return {};
  std::string name(file);
  std::ranges::replace(name, '-', '_');
  return name;
}

Result<std::vector<std::byte>> read_module(const std::string& path) {
  auto compressed = TRY(boot::InputFile::open(path));
  const auto file = TRY(boot::decompressed(std::move(compressed), kMaxModuleBytes));
  if (file.size_bytes() > kMaxModuleBytes)
    return fail("{}: {} bytes are too much for a module", path, file.size_bytes());
  std::vector<std::byte> content(file.size_bytes());
  TRY(file.read(0, content));
  return content;
}

// The section .modinfo is a list of strings, each with a NUL at its end. Looking for the text in
// the whole file is simpler than parsing ELF, and no other section has this text after a NUL.
std::vector<std::string> depends_of(std::span<const std::byte> module) {
  using namespace std::string_view_literals;
  constexpr std::string_view kKey = "\0depends="sv;
  const std::string_view text(reinterpret_cast<const char*>(module.data()), module.size());
  std::vector<std::string> names;
  const size_t found = text.find(kKey);
  if (found == std::string_view::npos) return names;
  std::string_view list = text.substr(found + kKey.size());
  list = list.substr(0, list.find('\0'));
  for_each_part(list, ',', [&](std::string_view name) {
    names.emplace_back(name);
    std::ranges::replace(names.back(), '-', '_');
  });
  return names;
}

Result<Modules> Modules::open(const std::string& folder) {
  if (exists(folder + "/modules.dep")) return open_installed(folder);
  if (exists(folder + "/modules.order")) return open_tree(folder);
  return with_hint(fail("{}: neither modules.dep nor modules.order is there", folder),
                   "give /lib/modules/VERSION or a build tree with --modules");
}

Result<void> Modules::read_builtin() {
  const std::string path = folder_ + "/modules.builtin";
  if (!exists(path)) return {};
  has_builtin_ = true;
  for_each_line(TRY(read_list(path)),
                [&](std::string_view line) { builtin_.insert(module_name(line)); });
  return {};
}

Result<Modules> Modules::open_installed(const std::string& folder) {
  Modules modules;
  modules.folder_ = folder;
  TRY(modules.read_builtin());
  for_each_line(TRY(read_list(folder + "/modules.dep")), [&](std::string_view line) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const std::string_view path = line.substr(0, colon);
    File file{.path = path_in(folder, path), .depends = {}, .has_depends = true};
    for_each_part(line.substr(colon + 1), ' ',
                  [&](std::string_view needed) { file.depends.push_back(module_name(needed)); });
    modules.files_.insert_or_assign(module_name(path), std::move(file));
  });
  return modules;
}

Result<Modules> Modules::open_tree(const std::string& folder) {
  Modules modules;
  modules.folder_ = folder;
  TRY(modules.read_builtin());
  for_each_line(TRY(read_list(folder + "/modules.order")), [&](std::string_view line) {
    // Before Linux 5.1 the paths began with "kernel/", as in an installation.
    if (line.starts_with("kernel/") && !exists(path_in(folder, line)))
      line.remove_prefix(std::string_view("kernel/").size());
    std::string path = path_in(folder, line);
    if (path.ends_with(".o")) path.replace(path.size() - 2, 2, ".ko");
    modules.files_.insert_or_assign(module_name(line),
                                    File{.path = std::move(path), .depends = {}});
  });
  return modules;
}

Result<std::vector<std::string>> Modules::resolve(std::span<const std::string_view> names) const {
  std::vector<std::string> files;
  if (folder_.empty()) return files;
  std::set<std::string, std::less<>> seen;
  for (const std::string_view name : names) TRY(add(name, seen, files));
  return files;
}

// Adds a module to `files`, after the modules that it depends on. `seen` has the modules that were
// visited before, so that circular dependencies cause no endless recursion. modules.dep lists all
// dependencies of a module, the farthest last, so reading it backwards would be enough; the
// recursion is for build trees, and is as deep as the longest chain.
Result<void> Modules::add(std::string_view name, std::set<std::string, std::less<>>& seen,
                          std::vector<std::string>& files) const {
  if (!seen.emplace(name).second || builtin_.contains(name)) return {};
  const auto found = files_.find(name);
  if (found == files_.end()) {
    if (!has_builtin_) return {};
    return with_hint(
        fail("{}: this kernel has no module {}, and it is not built in", folder_, name),
        "build the kernel with it, or give other modules with --modules");
  }
  const File& file = found->second;
  const std::vector<std::string> depends =
      file.has_depends ? file.depends : depends_of(TRY(read_module(file.path)));
  for (const std::string& needed : depends) TRY(add(needed, seen, files));
  files.push_back(file.path);
  return {};
}

}  // namespace wick::guest

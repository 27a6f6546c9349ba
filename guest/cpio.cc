#include "guest/cpio.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "base/bytes.h"

namespace wick::guest {

namespace {

void append(std::vector<std::byte>& to, std::span<const std::byte> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

void pad(std::vector<std::byte>& archive) { archive.resize(align_up(archive.size(), 4)); }

}  // namespace

void Cpio::add_entry(std::string_view path, unsigned mode, std::span<const std::byte> content) {
  constexpr unsigned kLinks = 1;
  // ino, mode, uid, gid, nlink, mtime, filesize, major, minor, rmajor, rminor, namesize, check
  const std::string header = fmt::format(
      "070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
      entries_++, mode, 0, 0, kLinks, 0, content.size(), 0, 0, 0, 0, path.size() + 1, 0);
  append(archive_, as_bytes(header.data(), header.size()));
  append(archive_, as_bytes(path.data(), path.size()));
  archive_.push_back(std::byte{0});
  pad(archive_);
  append(archive_, content);
  pad(archive_);
}

// Adds the parent folders first, because the kernel unpacks no file whose folder is missing.
void Cpio::add_parents(std::string_view path) {
  for (size_t slash = path.find('/'); slash != std::string_view::npos;
       slash = path.find('/', slash + 1))
    add_folder(path.substr(0, slash));
}

void Cpio::add_folder(std::string_view path, unsigned mode) {
  if (folders_.contains(path)) return;
  add_parents(path);
  folders_.emplace(path);
  add_entry(path, S_IFDIR | mode, {});
}

void Cpio::add_file(std::string_view path, std::span<const std::byte> content, unsigned mode) {
  add_parents(path);
  add_entry(path, S_IFREG | mode, content);
}

std::vector<std::byte> Cpio::finish() {
  add_entry("TRAILER!!!", 0, {});
  return std::move(archive_);
}

}  // namespace wick::guest

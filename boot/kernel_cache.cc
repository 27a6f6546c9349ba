#include "boot/kernel_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace wick::boot {

namespace {

constexpr uint64_t kMaxBytes = 512 << 20;
constexpr time_t kDay = time_t{24} * 60 * 60;
constexpr time_t kMaxAge = 30 * kDay;
constexpr time_t kSettled = 2;  // seconds after its last change a file may have an entry
constexpr size_t kHashedBytes = 4096;
constexpr std::string_view kPrefix = "unpacked-";
constexpr std::string_view kNewPrefix = "new-";

// The end of each entry. File systems make a file longer only after its data are written, so an
// entry that a crash of the host cut has no such end.
struct Trailer {
  std::array<char, 8> magic = {'w', 'i', 'c', 'k', 'k', 'r', 'n', '1'};
  uint64_t size_bytes = 0;  // of what precedes it
  bool operator==(const Trailer&) const = default;
};

bool is_own(const struct stat& file) {
  return file.st_uid == ::geteuid() && (file.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// So root does not leave folders of its own in another user's home.
bool make_folder(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return status.st_uid == ::geteuid();
  return path.has_relative_path() && make_folder(path.parent_path()) &&
         ::mkdir(path.c_str(), 0700) == 0;
}

bool write_all(const Fd& fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

KernelCache KernelCache::open(const std::string& folder) {
  std::error_code error;
  const auto path = std::filesystem::absolute(folder, error);
  if (error || !make_folder(path)) return {};
  Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !is_own(status)) return {};
  return KernelCache(std::move(fd));
}

std::string KernelCache::entry_of(const InputFile& kernel, time_t now) const {
  struct stat file {};
  if (!folder_.valid() || ::fstat(kernel.fd(), &file) != 0 || file.st_nlink == 0) return {};
  if (now - std::max(file.st_mtim.tv_sec, file.st_ctim.tv_sec) < kSettled) return {};
  // The times of files in read-only images may say nothing.
  std::string ends(2 * kHashedBytes, '\0');
  const auto bytes = std::as_writable_bytes(std::span(ends));
  const uint64_t part = std::min<uint64_t>(kHashedBytes, kernel.size_bytes());
  if (!kernel.read(0, bytes.first(part)) ||
      !kernel.read(kernel.size_bytes() - part, bytes.subspan(kHashedBytes, part)))
    return {};
  return fmt::format("{}{:x}-{:x}-{:x}-{:x}.{:x}-{:x}.{:x}-{:x}", kPrefix, file.st_dev, file.st_ino,
                     file.st_size, file.st_mtim.tv_sec, file.st_mtim.tv_nsec, file.st_ctim.tv_sec,
                     file.st_ctim.tv_nsec, fnv1a(ends));
}

std::optional<InputFile> KernelCache::find(const std::string& entry) const {
  struct stat status {};
  if (!folder_.valid() || entry.empty()) return std::nullopt;
  Fd fd(::openat(folder_.get(), entry.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !is_own(status)) return std::nullopt;
  // For remove_old(). Not at each use, because it causes a write.
  if (::time(nullptr) - status.st_mtim.tv_sec > kDay) (void)::futimens(fd.get(), nullptr);
  auto file = InputFile::adopt(std::move(fd), "the kernel cache's " + entry);
  if (!file || file->size_bytes() <= sizeof(Trailer)) return std::nullopt;
  const Trailer wanted{.size_bytes = file->size_bytes() - sizeof(Trailer)};
  Trailer found;
  if (!file->read(wanted.size_bytes, std::as_writable_bytes(std::span(&found, 1))) ||
      found != wanted)
    return std::nullopt;
  return std::move(*file).first(wanted.size_bytes);
}

void KernelCache::keep(const std::string& entry, const InputFile& kernel,
                       std::span<const std::byte> unpacked, time_t now) const {
  uint64_t random = 0;
  if (entry.empty() || entry_of(kernel, now) != entry || unpacked.size() > kMaxBytes ||
      ::getrandom(&random, sizeof(random), 0) != sizeof(random))
    return;
  remove_old(unpacked.size(), now);
  const std::string name = fmt::format("{}{:x}", kNewPrefix, random);
  const Fd fd(::openat(folder_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return;
  const Trailer trailer{.size_bytes = unpacked.size()};
  const bool kept = write_all(fd, unpacked) &&
                    write_all(fd, std::as_bytes(std::span(&trailer, 1))) &&
                    ::renameat(folder_.get(), name.c_str(), folder_.get(), entry.c_str()) == 0;
  if (!kept) (void)::unlinkat(folder_.get(), name.c_str(), 0);
}

void KernelCache::remove(const std::string& entry) const {
  (void)::unlinkat(folder_.get(), entry.c_str(), 0);
}

// Makes room for `new_bytes`.
void KernelCache::remove_old(uint64_t new_bytes, time_t now) const {
  struct Entry {
    std::string name;
    uint64_t size_bytes;
    time_t used;
  };
  // A descriptor of its own, because the position in a folder is shared.
  const int listed = ::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const auto close = [](DIR* opened) { ::closedir(opened); };
  const std::unique_ptr<DIR, decltype(close)> folder(listed < 0 ? nullptr : ::fdopendir(listed));
  if (folder == nullptr) return;
  std::vector<Entry> entries;
  while (const dirent* const found = ::readdir(folder.get())) {
    const std::string name = found->d_name;
    struct stat status {};
    if (!(name.starts_with(kPrefix) || name.starts_with(kNewPrefix)) ||
        ::fstatat(folder_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
      continue;
    const time_t age = now - status.st_mtim.tv_sec;
    // An incomplete entry of this age belongs to a process that was killed.
    if (age > kMaxAge || (name.starts_with(kNewPrefix) && age > kDay))
      (void)::unlinkat(folder_.get(), name.c_str(), 0);
    else
      entries.push_back({name, static_cast<uint64_t>(status.st_size), status.st_mtim.tv_sec});
  }
  std::ranges::sort(entries, std::greater(), &Entry::used);
  uint64_t kept = new_bytes;
  for (const Entry& entry : entries) {
    kept += entry.size_bytes;
    if (kept > kMaxBytes) (void)::unlinkat(folder_.get(), entry.name.c_str(), 0);
  }
}

}  // namespace wick::boot

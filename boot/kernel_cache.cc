#include "boot/kernel_cache.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <string_view>

#include "base/hash.h"
#include "base/write_all.h"

namespace wick::boot {

namespace {

constexpr uint64_t kMaxBytes = 512 << 20;
constexpr time_t kDay = time_t{24} * 60 * 60;
constexpr time_t kSettled = 2;  // a file has an entry only this many seconds after its last change
constexpr size_t kHashedBytes = 4096;
constexpr std::string_view kPrefix = "unpacked-";

// The last bytes of each entry. File systems make a file longer only after its data are written, so
// an entry that a crash of the host cut short has no trailer.
struct Trailer {
  std::array<char, 8> magic = {'w', 'i', 'c', 'k', 'k', 'r', 'n', '1'};
  uint64_t size_bytes = 0;  // size of the data before the trailer
  bool operator==(const Trailer&) const = default;
};

}  // namespace

KernelCache KernelCache::open(const std::string& path) {
  KernelCache cache;
  if (auto folder = CacheFolder::open(path)) cache.folder_ = *std::move(folder);
  return cache;
}

std::string KernelCache::entry_of(const InputFile& kernel, time_t now) const {
  struct stat file {};
  if (!folder_ || ::fstat(kernel.fd(), &file) != 0 || file.st_nlink == 0) return {};
  if (now - std::max(file.st_mtim.tv_sec, file.st_ctim.tv_sec) < kSettled) return {};
  // The name also needs a hash, because in a read-only image all files may have the same times.
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
  if (!folder_ || entry.empty()) return std::nullopt;
  Fd fd = folder_->open_file(entry);
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0) return std::nullopt;
  // CacheFolder::remove_old() looks at this time. It is set at most once a day, because each update
  // causes a write.
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
  if (entry.empty() || entry_of(kernel, now) != entry || unpacked.size() > kMaxBytes) return;
  folder_->remove_old({.prefix = kPrefix, .max_bytes = kMaxBytes, .needed_bytes = unpacked.size()},
                      now);
  const auto file = folder_->create_file();
  if (!file) return;
  const Trailer trailer{.size_bytes = unpacked.size()};
  const bool kept = write_all(file->fd.get(), unpacked) == 0 &&
                    write_all(file->fd.get(), std::as_bytes(std::span(&trailer, 1))) == 0 &&
                    folder_->publish(file->name, entry);
  if (!kept) folder_->remove(file->name);
}

void KernelCache::remove(const std::string& entry) const {
  if (folder_) folder_->remove(entry);
}

}  // namespace wick::boot

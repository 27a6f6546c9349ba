#include "base/cache_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

namespace wick {

namespace {

constexpr time_t kDay = time_t{24} * 60 * 60;
constexpr time_t kMaxAge = 30 * kDay;
constexpr std::string_view kNewPrefix = "new-";

bool is_own(const struct stat& file) {
  return file.st_uid == ::geteuid() && (file.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

Result<void> make_folder(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (status.st_uid == ::geteuid()) return {};
    return fail("{}: belongs to another user", path.string());
  }
  if (!path.has_relative_path()) return fail_errno(errno, "{}: cannot stat", path.string());
  TRY(make_folder(path.parent_path()));
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "{}: cannot create this folder", path.string());
  return {};
}

}  // namespace

Result<CacheFolder> CacheFolder::open(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  if (error) return fail_errno(error.value(), "{}: cannot find this folder", path);
  TRY(make_folder(absolute));
  Fd fd(::open(absolute.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0)
    return fail_errno(errno, "{}: cannot open this folder", absolute.string());
  if (!is_own(status)) return fail("{}: others may write to this folder", absolute.string());
  return CacheFolder(std::move(fd), absolute);
}

Fd CacheFolder::open_file(const std::string& name) const {
  Fd fd(::openat(folder_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !is_own(status) || !S_ISREG(status.st_mode))
    return {};
  return fd;
}

Result<CacheFolder::NewFile> CacheFolder::create_file() const {
  uint64_t random = 0;
  if (::getrandom(&random, sizeof(random), 0) != sizeof(random))
    return fail_errno(errno, "getrandom: no name for a new file");
  NewFile file{.fd = {}, .name = fmt::format("{}{:x}", kNewPrefix, random)};
  file.fd =
      Fd(::openat(folder_.get(), file.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.fd.valid()) return fail_errno(errno, "{}/{}: cannot create", path_, file.name);
  return file;
}

Result<void> CacheFolder::publish(const std::string& new_file, const std::string& name) const {
  if (::renameat(folder_.get(), new_file.c_str(), folder_.get(), name.c_str()) == 0) return {};
  return fail_errno(errno, "{}/{}: cannot create", path_, name);
}

void CacheFolder::remove(const std::string& name) const {
  (void)::unlinkat(folder_.get(), name.c_str(), 0);
}

void CacheFolder::remove_old(const Limits& limits, time_t now) const {
  struct Used {
    std::string name;
    uint64_t size_bytes;
    time_t time;
  };
  // Opens the folder anew, because a duplicate of folder_ would share its position with other
  // calls.
  const int listed = ::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const auto close = [](DIR* opened) { ::closedir(opened); };
  const std::unique_ptr<DIR, decltype(close)> folder(listed < 0 ? nullptr : ::fdopendir(listed));
  if (folder == nullptr) return;
  std::vector<Used> files;
  while (const dirent* const found = ::readdir(folder.get())) {
    const std::string name = found->d_name;
    const bool is_new = name.starts_with(kNewPrefix);
    const bool is_kept = !limits.kept.empty() && name.starts_with(limits.kept);
    struct stat status {};
    if (!(name.starts_with(limits.prefix) || is_new) || is_kept ||
        ::fstatat(folder_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
      continue;
    const time_t age = now - status.st_mtim.tv_sec;
    // A new file that is older than a day belongs to a process that was killed.
    if (age > (is_new ? kDay : kMaxAge))
      remove(name);
    else if (!is_new)
      files.push_back({name, static_cast<uint64_t>(status.st_size), status.st_mtim.tv_sec});
  }
  std::ranges::sort(files, std::greater(), &Used::time);
  uint64_t bytes = limits.needed_bytes;
  for (const Used& file : files) {
    bytes += file.size_bytes;
    if (bytes > limits.max_bytes) remove(file.name);
  }
}

std::string cache_folder_path(std::string_view name, const char* cache_home, const char* home) {
  // A relative path in XDG_CACHE_HOME is invalid (XDG Base Directory Specification 0.8).
  if (cache_home != nullptr && cache_home[0] == '/')
    return fmt::format("{}/wick/{}", cache_home, name);
  if (home != nullptr && home[0] == '/') return fmt::format("{}/.cache/wick/{}", home, name);
  return {};
}

}  // namespace wick

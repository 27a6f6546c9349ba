#include "cli/download_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "boot/input_file.h"
#include "boot/sha256.h"

namespace wick::cli {

namespace {

constexpr uint64_t kMaxBytes = uint64_t{4} << 30;
constexpr time_t kDay = time_t{24} * 60 * 60;
constexpr time_t kMaxAge = 30 * kDay;
constexpr size_t kMaxAboutBytes = 8192;
constexpr size_t kMaxNameBytes = 60;
constexpr size_t kHashDigits = 32;
constexpr std::string_view kPrefix = "file-";
constexpr std::string_view kNewPrefix = "new-";
constexpr std::string_view kAbout = ".about";

constexpr std::string_view kSha256Line = "sha256 ";
constexpr std::string_view kEtagLine = "etag ";
constexpr std::string_view kModifiedLine = "last-modified ";

bool is_own(const struct stat& file) {
  return file.st_uid == ::geteuid() && (file.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// In a folder of another user, root makes none.
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

// A file that is kept. `about` has the checksum that it had when it was kept.
struct DownloadCache::Entry {
  std::string sha256;  // of the file as it is; empty: there is none
  Downloaded about;
};

Result<DownloadCache> DownloadCache::open(const std::string& folder) {
  constexpr auto kHint = "set HOME or XDG_CACHE_HOME to a folder of your own";
  if (folder.empty()) return with_hint(fail("no folder to keep downloaded files in"), kHint);
  std::error_code error;
  const auto path = std::filesystem::absolute(folder, error);
  if (error) return fail_errno(error.value(), "{}: cannot find this folder", folder);
  if (auto made = make_folder(path); !made)
    return with_hint(std::unexpected(std::move(made).error()), kHint);
  Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0)
    return with_hint(fail_errno(errno, "{}: cannot open this folder", path.string()), kHint);
  if (!is_own(status))
    return with_hint(fail("{}: others may write to this folder", path.string()), kHint);
  return DownloadCache(std::move(fd), path);
}

std::string DownloadCache::entry_of(const std::string& url) {
  std::string name = url.substr(url.rfind('/') + 1).substr(0, kMaxNameBytes);
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '-';
    if (!plain) c = '_';
  }
  return fmt::format("{}{}-{}", kPrefix, boot::sha256_of(url).substr(0, kHashDigits), name);
}

// Invalid unless it is a file that only this user can have written.
Fd DownloadCache::open_own(const std::string& name) const {
  Fd fd(::openat(folder_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !is_own(status) || !S_ISREG(status.st_mode))
    return {};
  return fd;
}

DownloadCache::Entry DownloadCache::find(const std::string& name) const {
  Entry entry;
  auto file = boot::InputFile::adopt(open_own(name), name);
  if (!file) return entry;
  entry.sha256 = boot::sha256_of(*file).value_or("");
  const auto about = boot::InputFile::adopt(open_own(name + std::string(kAbout)), name);
  if (!about || about->size_bytes() > kMaxAboutBytes) return entry;
  std::string text(about->size_bytes(), '\0');
  if (!about->read(0, std::as_writable_bytes(std::span(text)))) return entry;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const auto take = [line](std::string_view key, std::string& value) {
      if (line.starts_with(key)) value = line.substr(key.size());
    };
    take(kSha256Line, entry.about.sha256);
    take(kEtagLine, entry.about.validators.etag);
    take(kModifiedLine, entry.about.validators.last_modified);
  }
  return entry;
}

// For remove_old().
void DownloadCache::mark_used(const std::string& name) const {
  for (const std::string& used : {name, name + std::string(kAbout)})
    (void)::utimensat(folder_.get(), used.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
}

// Creates a file that is not yet an entry, and returns its name.
Result<std::string> DownloadCache::new_file(Fd& fd) const {
  uint64_t random = 0;
  if (::getrandom(&random, sizeof(random), 0) != sizeof(random))
    return fail_errno(errno, "getrandom: no name for a new file");
  std::string name = fmt::format("{}{:x}", kNewPrefix, random);
  fd = Fd(::openat(folder_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return fail_errno(errno, "{}/{}: cannot create", path_, name);
  return name;
}

Result<void> DownloadCache::put(const std::string& from, const std::string& name) const {
  if (::renameat(folder_.get(), from.c_str(), folder_.get(), name.c_str()) == 0) return {};
  return fail_errno(errno, "{}/{}: cannot create", path_, name);
}

// Without this file the entry can still be used if its checksum is known, so errors are ignored.
void DownloadCache::write_about(const std::string& name, const std::string& url,
                                const Downloaded& got) const {
  const std::string text =
      fmt::format("url {}\n{}{}\n{}{}\n{}{}\n", without_password(url), kSha256Line, got.sha256,
                  kEtagLine, got.validators.etag, kModifiedLine, got.validators.last_modified);
  Fd fd;
  const auto written = new_file(fd);
  if (!written) return;
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      !put(*written, name + std::string(kAbout)))
    (void)::unlinkat(folder_.get(), written->c_str(), 0);
}

Result<std::string> DownloadCache::fetch(Downloader& downloader, const std::string& url,
                                         uint64_t max_bytes, const std::string& sha256,
                                         const Check& check) const {
  const std::string name = entry_of(url);
  const std::string path = path_ + "/" + name;
  const Entry entry = find(name);
  const bool expected = !sha256.empty() && entry.sha256 == sha256;
  if (expected) {
    mark_used(name);
    return path;
  }
  const bool undamaged = !entry.sha256.empty() && entry.sha256 == entry.about.sha256;

  Fd fd;
  const std::string written = TRY(new_file(fd));
  const auto remove = [&](const std::string*) {
    (void)::unlinkat(folder_.get(), written.c_str(), 0);  // fails after put()
  };
  const std::unique_ptr<const std::string, decltype(remove)> remover(&written, remove);
  const Validators known = sha256.empty() && undamaged ? entry.about.validators : Validators{};
  const Downloaded got = TRY(downloader.fetch(url, fd.get(), max_bytes, known));
  if (got.unmodified) {
    mark_used(name);
    return path;
  }
  TRY(check(got.sha256));
  // File systems write the data before the name only if they are asked to.
  if (::fsync(fd.get()) != 0) return fail_errno(errno, "{}/{}: cannot write", path_, written);
  (void)::unlinkat(folder_.get(), (name + std::string(kAbout)).c_str(), 0);
  TRY(put(written, name));
  write_about(name, url, got);
  remove_old(name, ::time(nullptr));
  return path;
}

void DownloadCache::remove_old(const std::string& kept, time_t now) const {
  struct Old {
    std::string name;
    uint64_t size_bytes;
    time_t used;
  };
  // A descriptor of its own, because the position in a folder is shared.
  const int listed = ::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const auto close = [](DIR* opened) { ::closedir(opened); };
  const std::unique_ptr<DIR, decltype(close)> folder(listed < 0 ? nullptr : ::fdopendir(listed));
  if (folder == nullptr) return;
  std::vector<Old> entries;
  while (const dirent* const found = ::readdir(folder.get())) {
    const std::string name = found->d_name;
    struct stat status {};
    if (!(name.starts_with(kPrefix) || name.starts_with(kNewPrefix)) || name.starts_with(kept) ||
        ::fstatat(folder_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
      continue;
    const time_t age = now - status.st_mtim.tv_sec;
    // An incomplete file of this age belongs to a process that was killed.
    if (age > kMaxAge || (name.starts_with(kNewPrefix) && age > kDay))
      (void)::unlinkat(folder_.get(), name.c_str(), 0);
    else if (name.starts_with(kPrefix))
      entries.push_back({name, static_cast<uint64_t>(status.st_size), status.st_mtim.tv_sec});
  }
  std::ranges::sort(entries, std::greater(), &Old::used);
  struct stat status {};
  const bool found = ::fstatat(folder_.get(), kept.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
  uint64_t bytes = found ? static_cast<uint64_t>(status.st_size) : 0;
  for (const Old& old : entries) {
    bytes += old.size_bytes;
    if (bytes > kMaxBytes) (void)::unlinkat(folder_.get(), old.name.c_str(), 0);
  }
}

}  // namespace wick::cli

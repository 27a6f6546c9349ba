#include "cli/download_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <string_view>

#include "base/replace_file.h"
#include "boot/input_file.h"
#include "boot/sha256.h"

namespace wick::cli {

namespace {

constexpr uint64_t kMaxBytes = uint64_t{4} << 30;
constexpr size_t kMaxAboutBytes = 8192;
constexpr size_t kMaxNameBytes = 60;
constexpr size_t kHashDigits = 32;
constexpr std::string_view kPrefix = "file-";
constexpr std::string_view kAbout = ".about";

constexpr std::string_view kSha256Line = "sha256 ";
constexpr std::string_view kEtagLine = "etag ";
constexpr std::string_view kModifiedLine = "last-modified ";

std::string about_name(const std::string& name) { return name + std::string(kAbout); }

}  // namespace

// A kept file. `about` has the checksum of the file at the time when it was stored.
struct DownloadCache::Entry {
  std::string sha256;  // checksum of the file's present content; empty: there is no file
  Downloaded about;
};

Result<DownloadCache> DownloadCache::open(const std::string& path) {
  constexpr auto kHint = "set HOME or XDG_CACHE_HOME to a folder of your own";
  if (path.empty()) return with_hint(fail("no folder to keep downloaded files in"), kHint);
  auto folder = CacheFolder::open(path);
  if (!folder) return with_hint(std::unexpected(std::move(folder).error()), kHint);
  return DownloadCache(*std::move(folder));
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

DownloadCache::Entry DownloadCache::find(const std::string& name) const {
  Entry entry;
  auto file = boot::InputFile::adopt(folder_.open_file(name), name);
  if (!file) return entry;
  entry.sha256 = boot::sha256_of(*file).value_or("");
  const auto about = boot::InputFile::adopt(folder_.open_file(about_name(name)), name);
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

// Sets the time that CacheFolder::remove_old() looks at.
void DownloadCache::mark_used(const std::string& name) const {
  for (const std::string& used : {name, about_name(name)})
    (void)::utimensat(folder_.fd(), used.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
}

// Writes the file NAME.about. Errors are ignored: without this file the entry can still be used if
// its checksum is known.
void DownloadCache::write_about(const std::string& name, const std::string& url,
                                const Downloaded& got) const {
  const std::string text =
      fmt::format("url {}\n{}{}\n{}{}\n{}{}\n", without_password(url), kSha256Line, got.sha256,
                  kEtagLine, got.validators.etag, kModifiedLine, got.validators.last_modified);
  (void)replace_file_at(folder_.fd(), about_name(name), text, {.sync = false});
}

Result<std::string> DownloadCache::fetch(Downloader& downloader, const std::string& url,
                                         uint64_t max_bytes, const std::string& sha256,
                                         const Check& check) const {
  const std::string name = entry_of(url);
  const std::string path = folder_.path() + "/" + name;
  const Entry entry = find(name);
  const bool expected = !sha256.empty() && entry.sha256 == sha256;
  if (expected) {
    mark_used(name);
    return path;
  }
  const bool undamaged = !entry.sha256.empty() && entry.sha256 == entry.about.sha256;

  const CacheFolder::NewFile file = TRY(folder_.create_file());
  const auto remove = [&](const std::string* written) {
    folder_.remove(*written);  // without effect after publish()
  };
  const std::unique_ptr<const std::string, decltype(remove)> remover(&file.name, remove);
  const Validators known = sha256.empty() && undamaged ? entry.about.validators : Validators{};
  const Downloaded got = TRY(downloader.fetch(url, file.fd.get(), max_bytes, known));
  if (got.unmodified) {
    mark_used(name);
    return path;
  }
  TRY(check(got.sha256));
  // Without fsync(), a crash of the host could leave the name without the data.
  struct stat status {};
  if (::fsync(file.fd.get()) != 0 || ::fstat(file.fd.get(), &status) != 0)
    return fail_errno(errno, "{}/{}: cannot write", folder_.path(), file.name);
  folder_.remove(about_name(name));
  TRY(folder_.publish(file.name, name));
  write_about(name, url, got);
  folder_.remove_old({.prefix = kPrefix,
                      .max_bytes = kMaxBytes,
                      .needed_bytes = static_cast<uint64_t>(status.st_size),
                      .kept = name},
                     ::time(nullptr));
  return path;
}

}  // namespace wick::cli

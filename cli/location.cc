#include "cli/location.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "base/cache_folder.h"
#include "base/fd.h"
#include "base/human_size.h"
#include "base/printable.h"
#include "boot/input_file.h"
#include "boot/install_tree.h"
#include "boot/sha256.h"
#include "cli/download_cache.h"

namespace wick::cli {

namespace {

constexpr uint64_t kMaxKernelBytes = 200 << 20;
constexpr uint64_t kMaxInitrdBytes = 1 << 30;

bool is_missing(int error) { return error == ENOENT || error == ENOTDIR; }

class FolderTree : public boot::InstallTree {
 public:
  static Result<FolderTree> open(const std::string& folder) {
    Fd fd(::open(folder.c_str(), O_PATH | O_CLOEXEC));
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0)
      return with_hint(fail_errno(errno, "{}: cannot open", folder),
                       "give the folder of an install tree, or its URL (http://…)");
    if (S_ISREG(status.st_mode))
      return with_hint(fail("{}: a file, not the folder of an install tree", folder),
                       "mount the image (mount -o loop,ro) and give its folder");
    if (!S_ISDIR(status.st_mode))
      return with_hint(fail("{}: not a folder", folder), "give the folder of an install tree");
    return FolderTree(std::move(fd), folder);
  }

  const std::string& name() const override { return path_; }

  Result<bool> has(const std::string& path) override {
    const auto file = TRY(open_file(path));
    return file.has_value();
  }

  Result<std::optional<std::string>> read(const std::string& path, size_t max_bytes) override {
    const auto file = TRY(open_file(path));
    if (!file) return std::nullopt;
    if (file->size_bytes() > max_bytes)
      return with_hint(fail("{}: larger than the limit of {}", file->name(), human_size(max_bytes)),
                       "check the location");
    std::string content(file->size_bytes(), '\0');
    TRY(file->read(0, std::as_writable_bytes(std::span(content))));
    return content;
  }

  // Checks a file of the tree, and returns its path, which the machine will open.
  Result<std::string> check(const boot::TreeFile& wanted) const {
    const auto file = TRY(open_file(wanted.path));
    if (!file)
      return with_hint(fail("{}/{}: there is no such file", path_, wanted.path),
                       "the tree is incomplete: copy it again");
    if (!wanted.sha256.empty()) {
      const std::string sha256 = TRY(boot::sha256_of(*file));
      TRY(boot::check_sha256(wanted, file->name(), sha256));
    }
    return file->name();
  }

 private:
  FolderTree(Fd folder, std::string path) : folder_(std::move(folder)), path_(std::move(path)) {
    while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  }

  // Opens a file of the tree; nullopt: there is no such file. A link that leads out of the tree is
  // an error, because the guest would read a file of the host.
  Result<std::optional<boot::InputFile>> open_file(const std::string& path) const {
    open_how how{};
    how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    const std::string name = (path_ == "/" ? "" : path_) + "/" + path;
    Fd fd(static_cast<int>(::syscall(SYS_openat2, folder_.get(), path.c_str(), &how, sizeof(how))));
    if (!fd.valid() && is_missing(errno)) return std::nullopt;
    if (!fd.valid() && (errno == EXDEV || errno == ELOOP))
      return with_hint(fail("{}: a symbolic link leads out of the tree", name),
                       "do not use this tree, or give the files with -k and -i");
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0)
      return fail_errno(errno, "{}: cannot open", name);
    if (!S_ISREG(status.st_mode)) return std::nullopt;
    return TRY(boot::InputFile::adopt(std::move(fd), name));
  }

  Fd folder_;
  std::string path_;
};

class ServerTree : public boot::InstallTree {
 public:
  ServerTree(Downloader& downloader, const std::string& url)
      : downloader_(downloader), url_(url), shown_(without_password(url)) {}

  const std::string& name() const override { return shown_; }

  Result<bool> has(const std::string& path) override {
    return downloader_.has(url_below(url_, path));
  }

  Result<std::optional<std::string>> read(const std::string& path, size_t max_bytes) override {
    return downloader_.read(url_below(url_, path), max_bytes);
  }

  Result<std::string> fetch(const DownloadCache& cache, const boot::TreeFile& file,
                            uint64_t max_bytes) {
    return cache.fetch(downloader_, url_below(url_, file.path), max_bytes, file.sha256,
                       [&](const std::string& sha256) {
                         return boot::check_sha256(file, url_below(shown_, file.path), sha256);
                       });
  }

 private:
  Downloader& downloader_;
  const std::string url_;
  const std::string shown_;
};

LocationFiles describe(const boot::InstallFiles& found) {
  return {.kernel_path = {},
          .initrd_path = {},
          .distribution = found.distribution,
          .checked = !found.kernel.sha256.empty() && !found.initrd.sha256.empty(),
          .append = {}};
}

Result<LocationFiles> from_server(const std::string& url, const std::string& cache_folder,
                                  const DownloadTimes& times) {
  TRY(check_url(url));
  const DownloadCache cache = TRY(DownloadCache::open(cache_folder));
  Downloader downloader = TRY(Downloader::create(times));
  ServerTree tree(downloader, url);
  const boot::InstallFiles found = TRY(boot::find_install_files(tree));
  LocationFiles files = describe(found);
  files.kernel_path = TRY(tree.fetch(cache, found.kernel, kMaxKernelBytes));
  files.initrd_path = TRY(tree.fetch(cache, found.initrd, kMaxInitrdBytes));
  // A URL that contains a password is not passed on: the guest and the log would show it.
  if (!found.repository_argument.empty() && tree.name() == url)
    files.append = found.repository_argument + url;
  return files;
}

}  // namespace

Result<LocationFiles> fetch_location(const std::string& location, const std::string& cache_folder,
                                     const DownloadTimes& times) {
  if (is_url(location)) return from_server(location, cache_folder, times);
  FolderTree tree = TRY(FolderTree::open(location));
  const boot::InstallFiles found = TRY(boot::find_install_files(tree));
  LocationFiles files = describe(found);
  files.kernel_path = TRY(tree.check(found.kernel));
  files.initrd_path = TRY(tree.check(found.initrd));
  return files;
}

std::string location_cache_folder(const char* cache_home, const char* home) {
  return cache_folder_path("location", cache_home, home);
}

}  // namespace wick::cli

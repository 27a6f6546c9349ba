#include "image/scratch_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/replace_file.h"

namespace wick::image {

namespace {

constexpr mode_t kMode = 0644;

}  // namespace

Result<ScratchFile> ScratchFile::create(const std::string& target) {
  const std::string parent = std::filesystem::path(target).parent_path().string();
  const std::string folder = parent.empty() ? std::string(".") : parent;
  Fd unnamed(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kMode));
  if (unnamed.valid()) {
    std::string path = fmt::format("/proc/{}/fd/{}", ::getpid(), unnamed.get());
    if (::access(path.c_str(), R_OK | W_OK) == 0)
      return ScratchFile(std::move(unnamed), std::move(path), false);
  }
  // Not every file system has O_TMPFILE.
  std::string path = TRY(new_name_beside(target));
  Fd named(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, kMode));
  if (!named.valid()) return fail_errno(errno, "{}: cannot create a file beside it", target);
  return ScratchFile(std::move(named), std::move(path), true);
}

ScratchFile::~ScratchFile() {
  if (fd_.valid() && has_name_) ::unlink(path_.c_str());
}

Result<void> ScratchFile::publish(const std::string& target) {
  if (::fsync(fd_.get()) != 0) return fail_errno(errno, "{}: cannot write", target);
  if (!has_name_) {
    const std::string name = TRY(new_name_beside(target));
    if (::linkat(AT_FDCWD, path_.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return fail_errno(errno, "{}: cannot create a file beside it", target);
    path_ = name;
    has_name_ = true;
  }
  // A file that is replaced keeps its permissions, so a private image stays private.
  struct stat old {};
  if (::stat(target.c_str(), &old) == 0 && ::fchmod(fd_.get(), old.st_mode & 07777) != 0)
    return fail_errno(errno, "{}: cannot keep its permissions", target);
  if (::rename(path_.c_str(), target.c_str()) != 0)
    return fail_errno(errno, "{}: cannot replace", target);
  has_name_ = false;
  return {};
}

}  // namespace wick::image

#include "boot/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wick::boot {

namespace {

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISBLK(mode) || S_ISCHR(mode)) return "a device";
  return "something else";
}

}  // namespace

Result<InputFile> InputFile::open(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return fail_errno(errno, "{}: cannot open", path);
  return adopt(std::move(fd), path);
}

Result<InputFile> InputFile::adopt(Fd fd, std::string path, const std::string& note) {
  std::string name = path + note;
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(errno, "{}: cannot stat", name);
  if (!S_ISREG(status.st_mode))
    return fail("{}: {}, not a regular file", name, kind_of(status.st_mode));
  if (status.st_size == 0) return fail("{}: the file is empty", name);
  return InputFile(std::move(fd), std::move(path), std::move(name),
                   static_cast<uint64_t>(status.st_size));
}

Result<void> InputFile::read(uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t got = ::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "{}: cannot read", name_);
    if (got == 0) return fail("{}: the file ends at byte {}, {} short", name_, offset, to.size());
    offset += static_cast<uint64_t>(got);
    to = to.subspan(static_cast<size_t>(got));
  }
  return {};
}

}  // namespace wick::boot

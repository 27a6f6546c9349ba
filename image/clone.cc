#include "image/clone.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace wick::image {

namespace {

// Opens the file that the disk has open, even if its path leads to another one by now.
Fd reopened(const block::Backend& disk, int flags) {
  const Fd pin = disk.pin();
  if (!pin.valid()) return {};
  return Fd(::open(fmt::format("/proc/self/fd/{}", pin.get()).c_str(), flags | O_CLOEXEC));
}

// Returns whether an error of the first call means that another way to copy may work.
bool is_unsupported(int code) {
  return code == EXDEV || code == EOPNOTSUPP || code == EINVAL || code == ENOSYS || code == EPERM;
}

// Copies `from` to `to`. Sets `copied` once some bytes are copied.
Result<void> copy_range(const Fd& in, const Fd& out, off_t from, off_t to, bool& copied) {
  constexpr off_t kMaxBytes = 64 << 20;
  while (from < to) {
    off_t source_offset = from, target_offset = from;
    const ssize_t done = ::copy_file_range(in.get(), &source_offset, out.get(), &target_offset,
                                           static_cast<size_t>(std::min(to - from, kMaxBytes)), 0);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return fail_errno(errno, "cannot copy {} bytes at {}", to - from, from);
    if (done == 0) return {};  // the source has become shorter
    copied = true;
    from += done;
  }
  return {};
}

Result<bool> copy_data(const Fd& in, const Fd& out, off_t end) {
  bool copied = false;
  for (off_t at = 0; at < end;) {
    const off_t data = ::lseek(in.get(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return true;  // the rest of the file is a hole
    const off_t hole = data < 0 ? -1 : ::lseek(in.get(), data, SEEK_HOLE);
    if (hole < 0) return copied ? fail_errno(errno, "cannot find the holes") : Result<bool>(false);
    at = std::min(hole, end);
    const auto done = copy_range(in, out, data, at, copied);
    if (!done && !copied && is_unsupported(done.error().code)) return false;
    if (!done) return std::unexpected(done.error());
  }
  return true;
}

}  // namespace

Result<bool> clone_raw(const block::Backend& source, const block::Backend& target, CloneHow how) {
  const Fd in = reopened(source, O_RDONLY), out = reopened(target, O_RDWR);
  struct stat status[2] = {};
  if (!in.valid() || !out.valid() || ::fstat(in.get(), &status[0]) != 0 ||
      ::fstat(out.get(), &status[1]) != 0 || !S_ISREG(status[0].st_mode) ||
      !S_ISREG(status[1].st_mode))
    return false;
  const auto size = static_cast<off_t>(target.size_bytes());
  if (::ioctl(out.get(), FICLONE, in.get()) == 0) {
    // The source may have grown since it was opened.
    if (::fstat(out.get(), &status[1]) == 0 && status[1].st_size > size &&
        ::ftruncate(out.get(), size) != 0)
      return fail_errno(errno, "cannot set the size to {} bytes", size);
    return true;
  }
  if (how == CloneHow::kShare) return false;
  return copy_data(in, out, std::min(size, static_cast<off_t>(source.size_bytes())));
}

}  // namespace wick::image

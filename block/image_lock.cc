#include "block/image_lock.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>

namespace wick::block {

namespace {

// Each permission has one byte in each of two ranges. A read lock in the first range means that its
// holder uses the permission; in the second range, that its holder does not allow others to use the
// permission.
constexpr off_t kUsedBase = 100;
constexpr off_t kUnsharedBase = 200;
enum Permission : off_t { kConsistentRead = 0, kWrite = 1, kResize = 3 };

struct flock lock_of(short type, off_t byte) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

bool hold(const Fd& file, off_t byte) {
  struct flock lock = lock_of(F_RDLCK, byte);
  return ::fcntl(file.get(), F_OFD_SETLK, &lock) == 0;
}

bool held_by_another(const Fd& file, off_t byte) {
  struct flock lock = lock_of(F_WRLCK, byte);
  return ::fcntl(file.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

std::unexpected<Error> in_use(const std::string& path, bool by_writer) {
  return with_hint(
      fail_errno(EAGAIN, "{}: another program, or another disk of this machine, {} it", path,
                 by_writer ? "writes to" : "uses"),
      by_writer
          ? "stop that one first, or give each an overlay of its own or ephemeral=on (with wick "
            "image, -U reads it nevertheless)"
          : "stop that one first, or open it read-only here too");
}

}  // namespace

// Takes this image's own locks first and then checks for conflicting locks of others. So if two
// programs do this at the same time, at least one sees the other's locks.
Result<void> lock_image(const Fd& file, bool read_only, const std::string& path) {
  // Only a writer takes the last two locks.
  static constexpr std::array<off_t, 5> kOwn = {kUsedBase + kConsistentRead, kUnsharedBase + kWrite,
                                                kUnsharedBase + kResize, kUsedBase + kWrite,
                                                kUsedBase + kResize};
  for (const off_t byte : std::span(kOwn).first(read_only ? 3 : 5))
    if (!hold(file, byte)) {
      if (errno == EAGAIN || errno == EACCES) return in_use(path, true);
      spdlog::debug("{}: no locks here: {}", path, std::strerror(errno));
      return {};
    }
  for (const Permission used : {kWrite, kResize})
    if (held_by_another(file, kUsedBase + used)) return in_use(path, true);
  for (const Permission used : {kConsistentRead, kWrite, kResize})
    if ((used == kConsistentRead || !read_only) && held_by_another(file, kUnsharedBase + used))
      return in_use(path, false);
  return {};
}

void unlock_image(const Fd& file) {
  struct flock lock = lock_of(F_UNLCK, kUsedBase);
  lock.l_len = 2 * (kUnsharedBase - kUsedBase);
  (void)::fcntl(file.get(), F_OFD_SETLK, &lock);
}

}  // namespace wick::block

#include "base/replace_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/fd.h"
#include "base/write_all.h"

namespace wick {

Result<void> check_replaceable(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode)) return {};
  if (S_ISLNK(status.st_mode))
    return with_hint(fail("{}: is a symbolic link", path), "give the path of the file itself");
  return with_hint(fail("{}: is not a regular file", path), "give another path");
}

Result<std::string> new_name_beside(const std::string& path) {
  uint64_t random = 0;
  if (::getrandom(&random, sizeof(random), 0) != sizeof(random))
    return fail_errno(errno, "{}: getrandom: no name for a new file", path);
  return fmt::format("{}.{:016x}", path, random);
}

Result<void> replace_file_at(int folder, const std::string& path, std::string_view content,
                             const ReplaceOptions& options) {
  const std::string fresh = TRY(new_name_beside(path));
  const Fd file(
      ::openat(folder, fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, options.mode));
  if (!file.valid()) return fail_errno(errno, "{}: cannot create a new file beside it", path);
  int error = write_all(file.get(), content);
  if (error == 0 && options.sync && ::fsync(file.get()) < 0) error = errno;
  if (error == 0 && ::renameat(folder, fresh.c_str(), folder, path.c_str()) < 0) error = errno;
  if (error == 0) return {};
  (void)::unlinkat(folder, fresh.c_str(), 0);
  return fail_errno(error, "{}: cannot write", path);
}

Result<void> replace_file(const std::string& path, std::string_view content,
                          const ReplaceOptions& options) {
  return replace_file_at(AT_FDCWD, path, content, options);
}

}  // namespace wick

#include "console/log_file.h"

#include <unistd.h>

#include <cstdio>

namespace wick::console {

Result<Stream> begin_new_log(const std::string& path) {
  const std::string fresh = path + ".new";
  Stream stream = TRY(Stream::create_file(fresh));
  const std::string older = older_log(path);
  int error = std::rename(path.c_str(), older.c_str()) == 0 ? 0 : errno;
  if (error == 0 && std::rename(fresh.c_str(), path.c_str()) != 0) {
    error = errno;
    (void)std::rename(older.c_str(), path.c_str());
  }
  if (error == 0) return stream;
  (void)::unlink(fresh.c_str());
  return fail_errno(error, "{}: cannot rename to {}", path, older);
}

}  // namespace wick::console

// Replaces the content of a file in one step: whoever opens it finds the old content or the new
// one, and never a part. The new content is written to a file beside it, which is then renamed.
//
// Thread rule: any thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/result.h"

namespace wick {

struct ReplaceOptions {
  mode_t mode = 0600;  // of the new file; the process's umask applies
  // Waits until the new content is on the disk. A file that no one reads after a power failure
  // needs no sync.
  bool sync = true;
};

// Replaces the content of the file at `path`, or creates it. After an error the old file, if there
// is one, is unchanged. Errors name `path`. A symbolic link at `path` is replaced, not followed.
Result<void> replace_file(const std::string& path, std::string_view content,
                          const ReplaceOptions& options = {});
// As replace_file(), with `path` relative to the open folder `folder`.
Result<void> replace_file_at(int folder, const std::string& path, std::string_view content,
                             const ReplaceOptions& options = {});

// Fails if something else than a regular file is at `path`, such as a device, which a new file must
// not replace. A symbolic link is refused, too: where others may write, it may be theirs.
Result<void> check_replaceable(const std::string& path);

// Returns a random name, in the same folder, for a file that will take the place of `path`.
Result<std::string> new_name_beside(const std::string& path);

}  // namespace wick

// Copies a raw disk inside the host's kernel, without reading it.
//
// Thread rule: no requests may be in flight on the two disks.
#pragma once

#include "block/backend.h"

namespace wick::image {

enum class CloneHow : uint8_t {
  kShare,        // only lets the two files share their blocks (reflink)
  kShareOrCopy,  // calls copy_file_range() if they cannot share them
};

// `target` must be a new raw disk that is at least as large as the raw disk `source`. Returns
// false, with `target` unchanged, if the host cannot do it for these two files.
Result<bool> clone_raw(const block::Backend& source, const block::Backend& target, CloneHow how);

}  // namespace wick::image

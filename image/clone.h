// Copies a raw disk inside the host's kernel, without reading it.
//
// Thread rule: no requests may be in flight on the two disks.
#pragma once

#include "block/backend.h"

namespace wick::image {

enum class CloneHow : uint8_t {
  kShare,        // only lets the two files share their blocks (reflink)
  kShareOrCopy,  // if they cannot share blocks, copies with copy_file_range()
};

// `target` must be a new raw disk that is at least as large as the raw disk `source`. Returns
// false, with `target` unchanged, if the host cannot copy between these two files in this way.
Result<bool> clone_raw(const block::Backend& source, const block::Backend& target, CloneHow how);

}  // namespace wick::image

// Moves data between an overlay and the images below it, so that a guest sees no
// difference.
//
// Thread rule: the EventLoop of the images.
#pragma once

#include <memory>
#include <string>

#include "block/qcow2/qcow2.h"
#include "image/copy.h"

namespace wick::image {

// Writes what `overlay`, from which the base was taken, still holds to `base`, which is
// at least as large, and makes it stable there. `overlay` is as before.
Task<Result<void>> commit_layer(block::Backend& overlay, block::Backend& base,
                                CopyProgress progress);

// `overlay` has lost its old backing file and got its new one by set_backing(); the
// data that it then lacks is copied to it from `old_base` (nullptr: none), and is
// stable. Then, and not before, its header may name the new one.
Task<Result<void>> rebase_layer(block::Qcow2& overlay, block::Backend* old_base,
                                CopyProgress progress);

// `overlay`, which must outlive it, without what its backing file holds: that is
// neither data nor zeroes to extent().
std::unique_ptr<block::Backend> top_layer(block::Qcow2& overlay);

// Writes the name of a backing file, and its format, into a header. Empty: none.
Task<Result<void>> name_backing(block::File& image, std::string path, std::string format);

}  // namespace wick::image

// Moves data between an overlay and the images below it, so that a guest sees no
// difference.
//
// Thread rule: the EventLoop of the images.
#pragma once

#include <memory>
#include <string>

#include "block/copy.h"
#include "block/qcow2.h"

namespace wick::block {

// Writes what `overlay`, from which the base was taken, still holds to `base`, which is
// at least as large, and makes it stable there. `overlay` is as before.
Task<Result<void>> commit_layer(Backend& overlay, Backend& base, CopyProgress progress);

// `overlay` has lost its old backing file and got its new one by set_backing(); the
// data that it then lacks is copied to it from `old_base` (nullptr: none), and is
// stable. Then, and not before, its header may name the new one.
Task<Result<void>> rebase_layer(Qcow2& overlay, Backend* old_base, CopyProgress progress);

// `overlay`, which must outlive it, without what its backing file holds: that is
// neither data nor zeroes to extent().
std::unique_ptr<Backend> top_layer(Qcow2& overlay);

// Writes the name of a backing file, and its format, into a header. Empty: none.
Task<Result<void>> name_backing(File& image, std::string path, std::string format);

}  // namespace wick::block

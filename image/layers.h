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

// Writes the data of `overlay`, and of the layers between it and `base`, to `base`; then flushes
// `base`. `base` must have been taken out of the chain (take_backing()), and must be at least as
// large as `overlay`. Does not change `overlay`.
Task<Result<void>> commit_layer(block::Backend& overlay, block::Backend& base,
                                CopyProgress progress);

// Copies to `overlay` all data in which `old_base` (nullptr: none) differs from the new backing
// file (nullptr: none), so that the overlay reads as it did over `old_base`. Then flushes the
// overlay. The caller sets the new backing file before the call, and writes its name into the
// header only afterwards.
Task<Result<void>> rebase_layer(block::Qcow2& overlay, block::Backend* old_base,
                                CopyProgress progress);

// Returns a view of `overlay` without its backing file: extent() reports the parts that are in
// the backing file as neither data nor zeroes. `overlay` must outlive the view.
std::unique_ptr<block::Backend> top_layer(block::Qcow2& overlay);

// Writes the path and the format of a backing file into the header. An empty path means no backing
// file.
Task<Result<void>> name_backing(block::File& image, std::string path, std::string format);

}  // namespace wick::image

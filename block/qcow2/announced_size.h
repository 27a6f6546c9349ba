// Another size for a qcow2 disk that a running wick has open.
//
// `wick image resize --in-use` writes it to the end of the image's first cluster, which
// belongs to the header and which no other program reads there. It cannot change the header's
// size: with too small an L1 table, no program would open the image. The wick that has the
// image open makes room and then changes the header (take_over_size() in resize.h).
//
// Thread rule: as for File.
#pragma once

#include <cstdint>

#include "block/file.h"
#include "block/qcow2/format.h"

namespace wick::block::qcow2 {

struct AnnouncedSize {
  uint64_t from_bytes = 0;  // the disk's size when the new one was announced
  uint64_t size_bytes = 0;  // 0: none is announced
};

// Announces a larger size. The image does not change otherwise.
Task<Result<void>> announce_size(File& file, uint64_t size_bytes);
Task<Result<AnnouncedSize>> read_announced_size(File& file, const Header& header);
// Removes the announced size, if there is one. Whoever opens an image for writing must call
// this: the size may be the work of the image's maker, and not of the user.
Task<Result<void>> clear_announced_size(File& file, const Header& header);

}  // namespace wick::block::qcow2

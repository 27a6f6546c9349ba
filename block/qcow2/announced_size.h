// A new size for a qcow2 disk, announced to the wick that has the image open.
//
// `wick image resize --in-use` writes it to the last bytes of the first cluster, behind the
// header, where no other program looks. It does not change the size in the header, because the
// L1 table may be too small for the new size, and then no program would open the image. The
// running wick enlarges the L1 table and then changes the header (apply_announced_size() in
// resize.h).
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
// Removes the announced size, if there is one. Whoever opens an image for writing must call this,
// because the size may have been announced by the image's maker and not by its user.
Task<Result<void>> clear_announced_size(File& file, const Header& header);

}  // namespace wick::block::qcow2

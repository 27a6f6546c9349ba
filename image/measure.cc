// wick image measure
#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "block/io_thread.h"
#include "block/qcow2/qcow2.h"
#include "image/commands.h"
#include "image/extents.h"
#include "image/image_info.h"
#include "image/source.h"

namespace wick::image {

namespace {

using block::Backend;
using block::Preallocation;
using block::Qcow2CreateOptions;

struct Measure {
  uint64_t required = 0;
  uint64_t fully_allocated = 0;
  std::optional<uint64_t> bitmaps = {};
};

// Returns the space for the source's data, in whole clusters of the new image.
Result<uint64_t> data_bytes(block::IoThread& thread, Backend& disk, uint64_t cluster) {
  uint64_t bytes = 0, counted_to = 0;
  for (uint64_t offset = 0; offset < disk.size_bytes();) {
    const auto extents = TRY(
        thread.run([&] { return extents_from(disk, offset, disk.size_bytes(), kExtentsAtOnce); }));
    for (const auto& extent : extents) {
      const uint64_t end = offset + extent.length_bytes;
      if (extent.data && !extent.zero) {
        const uint64_t from = std::max(offset / cluster * cluster, counted_to);
        counted_to = std::max(align_up(end, cluster), from);
        bytes += counted_to - from;
      }
      offset = end;
    }
  }
  return bytes;
}

// Returns the space that copies of the source's bitmaps would need.
Result<std::optional<uint64_t>> bitmap_bytes(block::IoThread& thread, const ImageMeasure& measure,
                                             const Qcow2CreateOptions& options) {
  const auto info = TRY(
      thread.run([&] { return inspect_image(measure.path, block::Format::kQcow2, thread.io()); }));
  if (!info.qcow2 || info.qcow2->header.version < 3 || options.version < 3) return std::nullopt;
  uint64_t bytes = 0, directory = 0;
  for (const auto& bitmap : info.qcow2->bitmaps) {
    if ((bitmap.flags & block::qcow2::Bitmap::kInUse) != 0) continue;
    bytes += bitmap.stored_bytes(info.size_bytes, options.cluster_bytes);
    directory += bitmap.entry_bytes();
  }
  return bytes + align_up(directory, options.cluster_bytes);
}

Result<Measure> measure_qcow2(block::IoThread& thread, const ImageMeasure& command, Source& source,
                              uint64_t size) {
  Qcow2CreateOptions options = std::get<Qcow2CreateOptions>(command.options);
  options.size_bytes = size;
  TRY(block::check_create_options(options));
  const uint64_t disk = align_up(size, options.cluster_bytes);
  Measure measure{.fully_allocated = block::preallocated_bytes(options)};
  uint64_t data = 0;
  if (source.disk) {
    // With a backing file, it is not known how much of the data that file would hold.
    data = options.backing_path.empty()
               ? TRY(data_bytes(thread, *source.disk, options.cluster_bytes))
               : disk;
    if (source.format == ImageFormat::kQcow2)
      measure.bitmaps = TRY(bitmap_bytes(thread, command, options));
  }
  if (options.preallocation == Preallocation::kFalloc ||
      options.preallocation == Preallocation::kFull)
    data = disk;
  measure.required = measure.fully_allocated - disk + data;
  return measure;
}

}  // namespace

Result<int> execute(const ImageMeasure& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  Source source;
  uint64_t size = command.size_bytes.value_or(0);
  if (!command.size_bytes) {
    source =
        TRY(open_source(*thread, command.path, {.format = command.format, .share = command.share}));
    if (!command.snapshot.empty()) TRY(show_snapshot(*thread, source, command.snapshot));
    size = source.disk->size_bytes();
  }
  size = align_up(std::min(size, ~uint64_t{0} - 512), 512);
  Measure measure{.required = size, .fully_allocated = size};
  if (command.output == ImageFormat::kQcow2)
    measure = TRY(measure_qcow2(*thread, command, source, size));
  const uint64_t bitmaps = measure.bitmaps.value_or(0);  // g++ 12 warns about *measure.bitmaps
  if (command.json) {
    fmt::print("{{\n");
    if (measure.bitmaps) fmt::print("    \"bitmaps\": {},\n", bitmaps);
    fmt::print("    \"required\": {},\n    \"fully-allocated\": {}\n}}\n", measure.required,
               measure.fully_allocated);
  } else {
    fmt::print("required size: {}\nfully allocated size: {}\n", measure.required,
               measure.fully_allocated);
    if (measure.bitmaps) fmt::print("bitmaps size: {}\n", bitmaps);
  }
  return 0;
}

}  // namespace wick::image

// wick image map
#include <fmt/format.h>

#include <algorithm>

#include "base/printable.h"
#include "block/io_thread.h"
#include "image/commands.h"
#include "image/extents.h"
#include "image/files.h"
#include "image/source.h"

namespace wick::image {

namespace {

using block::Extent;

bool is_compressed(const Extent& extent) {
  return extent.data && !extent.zero && !extent.host_offset;
}

// Returns whether `next`, which follows `extent` on the disk, also continues it in the file.
bool goes_on(const Extent& extent, const Extent& next) {
  if (extent.present != next.present || extent.zero != next.zero || extent.data != next.data ||
      extent.depth != next.depth || extent.path != next.path ||
      extent.host_offset.has_value() != next.host_offset.has_value())
    return false;
  return !extent.host_offset || *extent.host_offset + extent.length_bytes == *next.host_offset;
}

class Printer {
 public:
  explicit Printer(bool json) : json_(json) {
    if (json_)
      fmt::print("[");
    else
      fmt::print("{:<16}{:<16}{:<16}{}\n", "Offset", "Length", "Mapped to", "File");
  }

  Result<void> add(uint64_t start, const Extent& extent) {
    if (json_) {
      fmt::print(
          "{}{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \"zero\": {}, "
          "\"data\": {}, \"compressed\": {}",
          first_ ? "" : ",\n", start, extent.length_bytes, extent.depth, extent.present,
          extent.zero, extent.data, is_compressed(extent));
      if (extent.host_offset) fmt::print(", \"offset\": {}", *extent.host_offset);
      fmt::print("}}");
      first_ = false;
      return {};
    }
    if (!extent.data || extent.zero) return {};
    if (!extent.host_offset)
      return with_hint(fail("the data at {:#x} is compressed and has no offset in the file", start),
                       "use --output json");
    // Like printf's %#x: zero has no prefix.
    const auto hex = [](uint64_t value) { return value == 0 ? "0" : fmt::format("{:#x}", value); };
    fmt::print("{:<16}{:<16}{:<16}{}\n", hex(start), hex(extent.length_bytes),
               hex(*extent.host_offset), printable(extent.path));
    return {};
  }

  void end() const {
    if (json_) fmt::print("]\n");
  }

 private:
  const bool json_;
  bool first_ = true;
};

}  // namespace

Result<int> execute(const ImageMap& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  const auto disk =
      TRY(open_source(*thread, command.path, {.format = command.format, .share = command.share}))
          .disk;
  Printer printer(command.json);
  uint64_t start = 0;
  std::optional<Extent> gathered;
  const uint64_t first = std::min(command.start_bytes, disk->size_bytes());
  const uint64_t end = first + std::min(command.length_bytes, disk->size_bytes() - first);
  for (uint64_t offset = first; offset < end;) {
    const auto extents =
        TRY(thread->run([&] { return extents_from(*disk, offset, end, kExtentsAtOnce); }));
    for (const Extent& extent : extents) {
      if (gathered && goes_on(*gathered, extent)) {
        gathered->length_bytes += extent.length_bytes;
      } else {
        if (gathered) TRY(printer.add(start, *gathered));
        gathered = extent;
        start = offset;
      }
      offset += extent.length_bytes;
    }
  }
  if (gathered) TRY(printer.add(start, *gathered));
  printer.end();
  return 0;
}

}  // namespace wick::image

// Changes an image's header while nobody uses its disk.
#include "base/bytes.h"
#include "block/qcow2/qcow2.h"

namespace wick::block::qcow2 {

Task<Result<void>> write_header(File& file, const Header& header) {
  constexpr uint64_t kSectorBytes = 512;
  auto bytes = format_header(header, kSectorBytes);
  if (!bytes) {
    bytes.error().context = fmt::format("{}: {}", file.path(), bytes.error().context);
    co_return failure(bytes);
  }
  // Of what is behind the names only an announced size is ever read (resize.cc), which whoever
  // opens the image for writing clears.
  while (!bytes->empty() && bytes->back() == std::byte{0}) bytes->pop_back();
  bytes->resize(align_up(bytes->size(), kSectorBytes));
  const iovec buffer = to_iovec(*bytes);
  if (auto written = co_await file.write(0, {&buffer, 1}); !written) co_return written;
  co_return co_await file.sync();
}

}  // namespace wick::block::qcow2

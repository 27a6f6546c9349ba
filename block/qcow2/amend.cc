#include "block/qcow2/amend.h"

#include <algorithm>

#include "base/bytes.h"
#include "block/qcow2/header.h"
namespace wick::block {

using namespace qcow2;

namespace {

// Makes the changes in `header`. Refuses those that are not possible.
Result<void> amend_header(Header& header, const Qcow2Changes& changes, const std::string& path) {
  const auto refuse = [&](const char* why) { return fail("{}: {}", path, why); };
  header.version = changes.version.value_or(header.version);
  if (changes.lazy_refcounts) {
    if (*changes.lazy_refcounts && header.version < 3)
      return refuse("lazy_refcounts needs compat=1.1");
    header.compatible &= ~kLazyRefcounts;
    if (*changes.lazy_refcounts) header.compatible |= kLazyRefcounts;
  }
  if ((changes.data_path || changes.raw_data) && !header.external_data())
    return refuse("has no data file");
  if (changes.data_path) header.data_path = *changes.data_path;
  if (changes.raw_data) {
    if (*changes.raw_data && (header.autoclear & kRawExternalData) == 0)
      return refuse("data_file_raw cannot be set on an image that exists");
    if (!*changes.raw_data) header.autoclear &= ~kRawExternalData;
  }
  if (header.version < 3) {
    if ((header.incompatible & ~kDirty) != 0 || header.crypt_method != 0)
      return refuse("has features that compat=0.10 does not know");
    if ((header.incompatible & kDirty) != 0)
      return with_hint(refuse("must be repaired first"), "wick image check -r all");
    if (header.refcount_bits() != 16) return refuse("compat=0.10 has refcount_bits=16 only");
    if (header.bitmaps && (header.autoclear & kBitmaps) != 0)
      return with_hint(refuse("compat=0.10 has no bitmaps"),
                       "remove them: wick image bitmap --remove");
    header.bitmaps.reset();
    header.compatible = header.autoclear = 0;
  }
  return {};
}

}  // namespace

Result<void> check_amend(const Qcow2& image, const Qcow2Changes& changes) {
  if (changes.version == 2u && image.header().version > 2 && image.header().snapshot_count > 0)
    return with_hint(
        fail("{}: the snapshots may have zeroes that version 2 does not know", image.path()),
        "delete the snapshots first");
  Header header = image.header();
  TRY(amend_header(header, changes, image.path()));
  // The header must have room for the names of files.
  auto bytes = format_header(header, 0);
  if (!bytes) {
    bytes.error().context = fmt::format("{}: {}", image.path(), bytes.error().context);
    return std::unexpected(bytes.error());
  }
  return {};
}

namespace {

// Unmaps the clusters behind the disk's end, which are zero clusters if the disk was cut. A
// data file keeps its content. When the disk grows again, resize() hides a backing file there.
Task<Result<void>> unmap_behind_end(Metadata& metadata) {
  if (auto begun = co_await metadata.begin_writing(); !begun) co_return begun;
  const Header& header = metadata.header();
  // The guest's end: a size that is no multiple of 512 is rounded down.
  uint64_t offset = align_up(header.size_bytes / 512 * 512, header.cluster_bytes());
  while (metadata.l1_index(offset) < metadata.l1().size()) {
    const bool mapped = metadata.l1()[metadata.l1_index(offset)] != 0;
    const uint64_t span = mapped ? metadata.slice_span() : header.l2_table_span();
    const uint64_t step = span - offset % span;
    if (mapped) {
      if (auto ready = co_await metadata.prepare_change(offset); !ready) co_return ready;
      auto cleared = co_await metadata.clear_entries(offset, step, false, false);
      if (!cleared) co_return cleared;
    }
    offset += step;
  }
  co_return Result<void>();
}

}  // namespace

Task<Result<void>> expand_zeroes(Qcow2& image) {
  const std::vector<std::byte> zeroes(1 << 20);
  for (uint64_t offset = 0; offset < image.size_bytes();) {
    const auto mapping = co_await image.map(offset, image.size_bytes() - offset);
    if (!mapping) co_return std::unexpected(mapping.error());
    uint64_t step = mapping->length_bytes;
    if (mapping->kind == Mapping::Kind::kZero) {
      step = std::min<uint64_t>(step, zeroes.size());
      const iovec buffer = to_iovec(std::span(zeroes).first(step));
      if (auto written = co_await image.write(offset, {&buffer, 1}); !written) co_return written;
    }
    offset += step;
  }
  if (auto done = co_await unmap_behind_end(image.metadata()); !done) co_return done;
  co_return co_await image.flush();
}

Task<Result<void>> amend_qcow2(File& file, const Qcow2Changes& changes) {
  auto header = co_await read_header(file);
  if (!header) co_return failure(header);
  if (auto amended = amend_header(*header, changes, file.path()); !amended) co_return amended;
  co_return co_await write_header(file, *header);
}

}  // namespace wick::block

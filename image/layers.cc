#include "image/layers.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "block/qcow2/header.h"
#include "image/read_only_disk.h"

namespace wick::image {

namespace {

constexpr uint64_t kStepBytes = 1 << 20;

// A backing file reads as zeroes beyond its end (PITFALLS 15).
Task<Result<void>> read_padded(block::Backend* disk, uint64_t offset, std::span<std::byte> to) {
  const uint64_t end = disk != nullptr ? disk->size_bytes() : 0;
  const auto there = to.first(offset < end ? std::min<uint64_t>(to.size(), end - offset) : 0);
  std::ranges::fill(to.subspan(there.size()), std::byte{0});
  if (disk == nullptr || there.empty()) co_return Result<void>();
  const iovec buffer = block::to_iovec(there);
  co_return co_await disk->read(offset, {&buffer, 1});
}

// Writes the units of the overlay that differ, neighbours of the same kind in one request.
Task<Result<void>> write_differences(block::Qcow2& overlay, uint64_t offset,
                                     std::span<const std::byte> wanted,
                                     std::span<const std::byte> there) {
  const uint64_t unit = overlay.header().unit_bytes();
  const auto length_at = [&](size_t at) { return std::min<size_t>(unit, wanted.size() - at); };
  const auto kind = [&](size_t at) {  // 0: equal, 1: zeroes, 2: data
    const auto part = wanted.subspan(at, length_at(at));
    if (std::memcmp(part.data(), there.data() + at, part.size()) == 0) return 0;
    return is_zero(part) ? 1 : 2;
  };
  for (size_t at = 0; at < wanted.size();) {
    const int now = kind(at);
    size_t end = at + length_at(at);
    while (end < wanted.size() && kind(end) == now) end += length_at(end);
    Result<void> written;
    const iovec buffer = block::to_iovec(wanted.subspan(at, end - at));
    if (now == 1) written = co_await overlay.write_zeroes(offset + at, end - at, true);
    if (now == 2) written = co_await overlay.write(offset + at, {&buffer, 1});
    if (!written) co_return written;
    at = end;
  }
  co_return Result<void>();
}

// Reads what the overlay must hold in the end: its own data, and otherwise the data of the
// old backing file.
Task<Result<void>> read_wanted(block::Qcow2& overlay, block::Backend* old_base, uint64_t offset,
                               std::span<std::byte> to) {
  for (size_t at = 0; at < to.size();) {
    const auto mapping = co_await overlay.map(offset + at, to.size() - at);
    if (!mapping) co_return std::unexpected(mapping.error());
    const bool held = mapping->kind != block::Mapping::Kind::kUnallocated;
    block::Backend* const from = held ? &overlay : old_base;
    const auto part = to.subspan(at, mapping->length_bytes);
    if (auto done = co_await read_padded(from, offset + at, part); !done) co_return done;
    at += part.size();
  }
  co_return Result<void>();
}

class TopLayer final : public ReadOnlyDisk {
 public:
  explicit TopLayer(block::Qcow2& overlay) : ReadOnlyDisk(overlay.path()), overlay_(overlay) {}

  uint64_t size_bytes() const override { return overlay_.size_bytes(); }
  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    return overlay_.read(offset, buffers);
  }
  Task<Result<block::Extent>> extent(uint64_t offset, uint64_t length) override {
    auto mapping = co_await overlay_.map(offset, length);
    if (!mapping) co_return failure(mapping);
    const uint64_t below = overlay_.backing() != nullptr ? overlay_.backing()->size_bytes() : 0;
    if (mapping->kind == block::Mapping::Kind::kUnallocated && offset < below)
      co_return block::Extent{.length_bytes = std::min(mapping->length_bytes, below - offset),
                              .present = false,
                              .data = false};
    co_return co_await overlay_.extent(offset, mapping->length_bytes);
  }

 private:
  block::Qcow2& overlay_;
};

}  // namespace

std::unique_ptr<block::Backend> top_layer(block::Qcow2& overlay) {
  return std::make_unique<TopLayer>(overlay);
}

Task<Result<void>> commit_layer(block::Backend& overlay, block::Backend& base,
                                CopyProgress progress) {
  const uint64_t size = overlay.size_bytes();
  std::vector<std::byte> bytes(kStepBytes);
  for (uint64_t offset = 0; offset < size;) {
    const auto extent = co_await overlay.extent(offset, size - offset);
    if (!extent) co_return std::unexpected(extent.error());
    uint64_t step = extent->length_bytes;
    Result<void> done;
    if (extent->zero && extent->present) {
      done = co_await base.write_zeroes(offset, step, true);
    } else if (extent->present) {
      step = std::min(step, kStepBytes);
      const iovec buffer = block::to_iovec(std::span(bytes).first(step));
      done = co_await overlay.read(offset, {&buffer, 1});
      if (done) done = co_await base.write(offset, {&buffer, 1});
    }
    if (!done) co_return done;
    offset += step;
    if (progress) progress(offset, size);
  }
  co_return co_await base.flush();
}

Task<Result<void>> rebase_layer(block::Qcow2& overlay, block::Backend* old_base,
                                CopyProgress progress) {
  const uint64_t size = overlay.size_bytes();
  const uint64_t cluster = overlay.header().cluster_bytes();
  std::vector<std::byte> wanted(kStepBytes + cluster), there(kStepBytes + cluster);
  for (uint64_t offset = 0; offset < size;) {
    const auto mapping = co_await overlay.map(offset, size - offset);
    if (!mapping) co_return std::unexpected(mapping.error());
    uint64_t step = mapping->length_bytes;
    if (mapping->kind == block::Mapping::Kind::kUnallocated) {
      // Go on to a cluster's end. A write to a cluster that a snapshot shares copies the whole
      // cluster, so the rest of it must be read before.
      const uint64_t end = align_up(offset + std::min(step, kStepBytes), cluster);
      step = std::min(end, size) - offset;
      const std::span old_part = std::span(wanted).first(step);
      const std::span new_part = std::span(there).first(step);
      auto done = co_await read_wanted(overlay, old_base, offset, old_part);
      if (done) done = co_await read_padded(&overlay, offset, new_part);
      if (done) done = co_await write_differences(overlay, offset, old_part, new_part);
      if (!done) co_return done;
    }
    offset += step;
    if (progress) progress(offset, size);
  }
  co_return co_await overlay.flush();
}

Task<Result<void>> name_backing(block::File& image, std::string path, std::string format) {
  auto header = co_await block::qcow2::read_header(image);
  if (!header) co_return failure(header);
  header->backing_path = std::move(path);
  header->backing_format = std::move(format);
  co_return co_await block::qcow2::write_header(image, *header);
}

}  // namespace wick::image

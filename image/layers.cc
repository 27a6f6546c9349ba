#include "image/layers.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "block/qcow2/header.h"
#include "block/range_lock.h"
#include "image/read_only_disk.h"
#include "image/together.h"

namespace wick::image {

namespace {

constexpr uint64_t kPartBytes = 512 << 10;
constexpr size_t kPartsAtOnce = 8;

// Reads a backing file, which may be nullptr. It reads as zeroes beyond its end (PITFALLS 15).
Task<Result<void>> read_padded(block::Backend* disk, uint64_t offset, std::span<std::byte> to) {
  const uint64_t end = disk != nullptr ? disk->size_bytes() : 0;
  const auto there = to.first(offset < end ? std::min<uint64_t>(to.size(), end - offset) : 0);
  std::ranges::fill(to.subspan(there.size()), std::byte{0});
  if (disk == nullptr || there.empty()) co_return Result<void>();
  const iovec buffer = block::to_iovec(there);
  co_return co_await disk->read(offset, {&buffer, 1});
}

// Writes to the overlay the units in which `wanted` differs from `there`. One request writes
// neighbouring units that are all data or all zeroes.
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

// A part of the disk on which one coroutine works.
struct Part {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;  // 0: there are no more parts
};

// Implements commit_layer(). Several parts are copied at once, each from its own buffer.
class Commit {
 public:
  Commit(block::Backend& overlay, block::Backend& base, CopyProgress progress)
      : overlay_(overlay), base_(base), progress_(std::move(progress)) {}

  Task<Result<void>> run() {
    const auto work = [this] { return copy_parts(); };
    auto done = co_await run_together(kPartsAtOnce, work);
    if (!done) co_return done;
    co_return co_await base_.flush();
  }

 private:
  enum class Kind : uint8_t { kData, kZero, kLeft };  // kLeft: need not be copied
  struct CommitPart : Part {
    Kind kind = Kind::kLeft;
  };

  Task<Result<void>> copy_parts() {
    std::vector<std::byte> bytes;
    while (!failed_) {
      const auto part = co_await next_part();
      Result<void> done;
      if (!part)
        done = std::unexpected(part.error());
      else if (part->length_bytes == 0)
        break;
      else if (part->kind == Kind::kZero)
        done = co_await base_.write_zeroes(part->offset_bytes, part->length_bytes, true);
      else if (part->kind == Kind::kData)
        done = co_await copy(*part, bytes);
      if (!done) {
        failed_ = true;
        co_return done;
      }
      done_bytes_ += part->length_bytes;
      if (progress_) progress_(done_bytes_, overlay_.size_bytes());
    }
    co_return Result<void>();
  }

  Task<Result<void>> copy(const Part& part, std::vector<std::byte>& bytes) {
    bytes.resize(kPartBytes);
    const iovec buffer = block::to_iovec(std::span(bytes).first(part.length_bytes));
    auto done = co_await overlay_.read(part.offset_bytes, {&buffer, 1});
    if (done) done = co_await base_.write(part.offset_bytes, {&buffer, 1});
    co_return done;
  }

  // Returns the next part, which is of one kind. Data of neighbouring extents forms one part. Data
  // ends at multiples of kPartBytes, so that few parts share a cluster of the base.
  Task<Result<CommitPart>> next_part() {
    const auto held = co_await looking_.exclusive(0, 0);
    const uint64_t size = overlay_.size_bytes();
    // A part of data ends here at the latest.
    const uint64_t limit = (position_ / kPartBytes + 1) * kPartBytes;
    CommitPart part{{.offset_bytes = position_}};
    while (position_ < std::min(size, limit)) {
      if (position_ >= known_to_) {
        const auto extent = co_await overlay_.extent(position_, size - position_);
        if (!extent) co_return std::unexpected(extent.error());
        known_to_ = position_ + extent->length_bytes;
        known_kind_ = !extent->present ? Kind::kLeft : extent->zero ? Kind::kZero : Kind::kData;
      }
      if (part.length_bytes > 0 && part.kind != known_kind_) break;
      part.kind = known_kind_;
      uint64_t step = known_to_ - position_;
      if (part.kind == Kind::kData) step = std::min(step, limit - position_);
      part.length_bytes += step;
      position_ += step;
    }
    co_return part;
  }

  block::Backend& overlay_;
  block::Backend& base_;
  const CopyProgress progress_;

  block::RangeLock looking_;
  uint64_t position_ = 0;          // the parts before are copied or being copied
  uint64_t known_to_ = 0;          // the end of the current extent
  Kind known_kind_ = Kind::kLeft;  // the kind of the current extent
  uint64_t done_bytes_ = 0;
  bool failed_ = false;
};

// Implements rebase_layer(). Works on several parts at once. A part ends at a cluster's end: a
// write to a cluster that a snapshot shares copies the whole cluster, so all of it must be read
// before.
class Rebase {
 public:
  Rebase(block::Qcow2& overlay, block::Backend* old_base, CopyProgress progress)
      : overlay_(overlay), old_base_(old_base), progress_(std::move(progress)) {}

  Task<Result<void>> run() {
    const auto work = [this] { return keep_parts(); };
    auto done = co_await run_together(kPartsAtOnce, work);
    if (!done) co_return done;
    if (progress_) progress_(overlay_.size_bytes(), overlay_.size_bytes());
    co_return co_await overlay_.flush();
  }

 private:
  Task<Result<void>> keep_parts() {
    std::vector<std::byte> wanted, there;
    while (!failed_) {
      const auto part = co_await next_part();
      Result<void> done;
      if (!part)
        done = std::unexpected(part.error());
      else if (part->length_bytes == 0)
        break;
      else
        done = co_await keep(*part, wanted, there);
      if (!done) {
        failed_ = true;
        co_return done;
      }
      done_bytes_ += part->length_bytes;
      if (progress_) progress_(done_bytes_, overlay_.size_bytes());
    }
    co_return Result<void>();
  }

  Task<Result<void>> keep(const Part& part, std::vector<std::byte>& wanted,
                          std::vector<std::byte>& there) {
    wanted.resize(std::max(wanted.size(), part.length_bytes));
    there.resize(wanted.size());
    const std::span old_part = std::span(wanted).first(part.length_bytes);
    const std::span new_part = std::span(there).first(part.length_bytes);
    auto done = co_await read_wanted(overlay_, old_base_, part.offset_bytes, old_part);
    if (done) done = co_await read_padded(&overlay_, part.offset_bytes, new_part);
    if (done) done = co_await write_differences(overlay_, part.offset_bytes, old_part, new_part);
    co_return done;
  }

  // Returns the next part that the overlay leaves to its backing file, up to a cluster's end.
  Task<Result<Part>> next_part() {
    const auto held = co_await looking_.exclusive(0, 0);
    const uint64_t size = overlay_.size_bytes();
    const uint64_t cluster = overlay_.header().cluster_bytes();
    while (position_ < size) {
      const auto mapping = co_await overlay_.map(position_, size - position_);
      if (!mapping) co_return std::unexpected(mapping.error());
      const uint64_t offset = position_;
      position_ += mapping->length_bytes;
      if (mapping->kind != block::Mapping::Kind::kUnallocated) {
        done_bytes_ += mapping->length_bytes;
        continue;
      }
      position_ =
          std::min(align_up(offset + std::min(mapping->length_bytes, kPartBytes), cluster), size);
      co_return Part{.offset_bytes = offset, .length_bytes = position_ - offset};
    }
    co_return Part{};
  }

  block::Qcow2& overlay_;
  block::Backend* const old_base_;
  const CopyProgress progress_;

  block::RangeLock looking_;
  uint64_t position_ = 0;  // the parts before are done or being worked on
  uint64_t done_bytes_ = 0;
  bool failed_ = false;
};

}  // namespace

std::unique_ptr<block::Backend> top_layer(block::Qcow2& overlay) {
  return std::make_unique<TopLayer>(overlay);
}

Task<Result<void>> commit_layer(block::Backend& overlay, block::Backend& base,
                                CopyProgress progress) {
  Commit commit(overlay, base, std::move(progress));
  co_return co_await commit.run();
}

Task<Result<void>> rebase_layer(block::Qcow2& overlay, block::Backend* old_base,
                                CopyProgress progress) {
  Rebase rebase(overlay, old_base, std::move(progress));
  co_return co_await rebase.run();
}

Task<Result<void>> name_backing(block::File& image, std::string path, std::string format) {
  auto header = co_await block::qcow2::read_header(image);
  if (!header) co_return failure(header);
  header->backing_path = std::move(path);
  header->backing_format = std::move(format);
  co_return co_await block::qcow2::write_header(image, *header);
}

}  // namespace wick::image

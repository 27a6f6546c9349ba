#include "image/copy.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>

#include "base/bytes.h"
#include "block/compression.h"
#include "block/file.h"
#include "image/joined_disk.h"
#include "image/together.h"

namespace wick::image {

namespace {

constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kPieceBytes = 512 << 10;  // stays in the CPU's caches until it is written
constexpr size_t kPiecesAtOnce = 8;
// Holes shorter than this are read like data.
constexpr uint64_t kWorthSkipping = 64 << 10;
constexpr size_t kAlignment = 4096;

class BackendTarget final : public CopyTarget {
 public:
  BackendTarget(block::Backend& disk, uint64_t granule, bool is_new)
      : disk_(disk), granule_bytes_(granule), is_new_(is_new) {}

  uint64_t granule_bytes() const override { return granule_bytes_; }
  bool is_new() const override { return is_new_; }
  Task<Result<void>> write(uint64_t offset, std::span<const std::byte> piece) override {
    const iovec buffer = block::to_iovec(piece);
    co_return co_await disk_.write(offset, {&buffer, 1});
  }
  Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length) override {
    return disk_.write_zeroes(offset, length, true);
  }
  Task<Result<void>> finish() override { return disk_.flush(); }

 private:
  block::Backend& disk_;
  const uint64_t granule_bytes_;
  const bool is_new_;
};

class CompressedTarget final : public CopyTarget {
 public:
  CompressedTarget(block::Qcow2& image, Workers& workers, bool is_new)
      : image_(image), workers_(workers), is_new_(is_new) {}

  uint64_t granule_bytes() const override { return image_.header().cluster_bytes(); }
  bool is_new() const override { return is_new_; }

  Task<Result<void>> write(uint64_t offset, std::span<const std::byte> piece) override {
    const uint64_t cluster_bytes = granule_bytes();
    std::vector<std::vector<std::byte>> packed;
    co_await workers_.run([&] {
      std::vector<std::byte> last;
      for (size_t at = 0; at < piece.size(); at += cluster_bytes) {
        auto cluster = piece.subspan(at, std::min(cluster_bytes, piece.size() - at));
        if (cluster.size() < cluster_bytes) {
          last.assign(cluster.begin(), cluster.end());
          last.resize(cluster_bytes);
          cluster = last;
        }
        packed.push_back(block::qcow2::compress(image_.header().compression, cluster));
      }
    });
    for (size_t i = 0; i < packed.size(); ++i) {
      const uint64_t at = i * cluster_bytes;
      const iovec plain =
          block::to_iovec(piece.subspan(at, std::min(cluster_bytes, piece.size() - at)));
      Result<void> written;
      if (packed[i].empty())
        written = co_await image_.write(offset + at, {&plain, 1});
      else
        written = co_await image_.write_compressed(offset + at, packed[i]);
      if (!written) co_return written;
    }
    co_return Result<void>();
  }

  Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length) override {
    return image_.write_zeroes(offset, length, true);
  }
  Task<Result<void>> finish() override { return image_.end_compressed(); }

 private:
  block::Qcow2& image_;
  Workers& workers_;
  const bool is_new_;
};

struct Free {
  void operator()(std::byte* buffer) const {
    ::operator delete[](buffer, std::align_val_t(kAlignment));
  }
};

class Copy {
 public:
  Copy(std::vector<block::Backend*> sources, CopyTarget& target, CopyProgress progress,
       CopyRules rules)
      : source_(std::move(sources)),
        target_(target),
        progress_(std::move(progress)),
        rules_(std::move(rules)),
        piece_bytes_(std::max(kPieceBytes, target.granule_bytes())) {}

  Task<Result<void>> run() {
    if (progress_) progress_(0, source_.size_bytes());
    const auto work = [this] { return copy_pieces(); };
    auto done = co_await run_together(kPiecesAtOnce, work);
    if (done) done = co_await target_.finish();
    co_return done;
  }

 private:
  enum class Kind : uint8_t { kData, kZero, kLeft };  // kLeft: left to the backing file

  struct Piece {
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;  // 0: no more pieces
    Kind kind = Kind::kData;
  };

  Task<Result<void>> copy_pieces() {
    std::unique_ptr<std::byte[], Free> buffer;
    while (!failed_) {
      auto piece = co_await next_piece();
      Result<void> done;
      if (!piece) {
        done = std::unexpected(piece.error());
      } else if (piece->length_bytes == 0) {
        break;
      } else if (piece->kind != Kind::kData) {
        if (piece->kind == Kind::kZero && !target_.is_new())
          done = co_await target_.write_zeroes(piece->offset_bytes, piece->length_bytes);
      } else {
        if (!buffer) buffer.reset(new (std::align_val_t(kAlignment)) std::byte[piece_bytes_]);
        const std::span bytes(buffer.get(), piece->length_bytes);
        done = co_await read(piece->offset_bytes, bytes);
        if (done) done = co_await write(piece->offset_bytes, bytes);
      }
      if (!done) {
        failed_ = true;
        co_return done;
      }
      done_bytes_ += piece->length_bytes;
      if (progress_) progress_(done_bytes_, source_.size_bytes());
    }
    co_return Result<void>();
  }

  Task<Result<void>> read(uint64_t offset, std::span<std::byte> bytes) {
    const iovec all = block::to_iovec(bytes);
    auto got = co_await source_.read(offset, {&all, 1});
    if (got || !rules_.salvage) co_return got;
    while (!bytes.empty()) {
      // A compressed block is unpacked as a whole, so it can be read as a whole or not at all.
      const auto extent = co_await source_.extent(offset, bytes.size());
      // If extent() fails, it is not called again for each sector.
      uint64_t length = bytes.size(), step = kSectorBytes;
      if (extent && extent->length_bytes > 0) length = extent->length_bytes;
      if (extent && extent->block_bytes > 0) length = step = extent->block_bytes;
      length = std::min(length, bytes.size());
      co_await salvage(offset, bytes.first(length), step);
      offset += length;
      bytes = bytes.subspan(length);
    }
    co_return Result<void>();
  }

  // Reads `step` bytes at a time. A step that cannot be read becomes zeroes, and is reported.
  Task<void> salvage(uint64_t offset, std::span<std::byte> bytes, uint64_t step) {
    while (!bytes.empty()) {
      const auto part = bytes.first(std::min(step, bytes.size()));
      const iovec buffer = block::to_iovec(part);
      if (auto read = co_await source_.read(offset, {&buffer, 1}); !read) {
        rules_.salvage(offset, read.error());
        std::ranges::fill(part, std::byte{0});
      }
      offset += part.size();
      bytes = bytes.subspan(part.size());
    }
  }

  // Writes runs of data and runs of zeroes in turn.
  Task<Result<void>> write(uint64_t offset, std::span<const std::byte> bytes) {
    if (rules_.fill) co_return co_await target_.write(offset, bytes);
    const uint64_t granule = target_.granule_bytes();
    while (!bytes.empty()) {
      uint64_t length = 0;
      const bool zero = is_zero(bytes.first(std::min(granule, bytes.size())));
      do {
        length = std::min(length + granule, bytes.size());
      } while (length < bytes.size() &&
               is_zero(bytes.subspan(length, std::min(granule, bytes.size() - length))) == zero);
      Result<void> written;
      if (!zero)
        written = co_await target_.write(offset, bytes.first(length));
      else if (!target_.is_new())
        written = co_await target_.write_zeroes(offset, length);
      if (!written) co_return written;
      offset += length;
      bytes = bytes.subspan(length);
    }
    co_return Result<void>();
  }

  Kind kind_of(const block::Extent& extent) const {
    if (extent.zero) return rules_.fill ? Kind::kData : Kind::kZero;
    return extent.data ? Kind::kData : Kind::kLeft;
  }

  // Returns the next piece: whole granules of one kind.
  Task<Result<Piece>> next_piece() {
    const auto held = co_await looking_.exclusive(0, 0);
    const uint64_t size = source_.size_bytes();
    const uint64_t granule = target_.granule_bytes();
    const uint64_t worth = std::max(granule, kWorthSkipping);
    Piece piece{.offset_bytes = position_};
    const uint64_t limit = std::min(size, (position_ / piece_bytes_ + 1) * piece_bytes_);
    for (uint64_t end = position_; end < limit;) {
      if (end >= known_to_) {
        const auto extent = co_await source_.extent(end, size - end);
        if (!extent && !rules_.salvage) co_return std::unexpected(extent.error());
        known_to_ = extent ? end + extent->length_bytes : limit;
        known_kind_ = extent ? kind_of(*extent) : Kind::kData;
      }
      const uint64_t next = known_to_;
      if (known_kind_ != Kind::kData) {
        const uint64_t zero_from = align_up(end, granule);
        const uint64_t zero_to = next == size ? size : next - next % granule;
        if (zero_from < zero_to && end == position_) {
          piece.kind = known_kind_;
          piece.length_bytes = zero_to - position_;
          break;
        }
        if (zero_from + worth <= zero_to) {
          piece.length_bytes = zero_from - position_;
          break;
        }
      }
      end = std::min(next, limit);
      piece.length_bytes = std::min(align_up(end, granule), limit) - position_;
    }
    position_ += piece.length_bytes;
    co_return piece;
  }

  JoinedDisk source_;
  CopyTarget& target_;
  const CopyProgress progress_;
  const CopyRules rules_;
  const uint64_t piece_bytes_;

  block::RangeLock looking_;
  uint64_t position_ = 0;  // everything before is copied or being copied
  // The end and the kind of the current extent, kept because a file system may need long to find
  // them.
  uint64_t known_to_ = 0;
  Kind known_kind_ = Kind::kData;
  uint64_t done_bytes_ = 0;
  bool failed_ = false;
};

}  // namespace

std::unique_ptr<CopyTarget> copy_to(block::Backend& disk, uint64_t granule_bytes, bool is_new) {
  return std::make_unique<BackendTarget>(disk, granule_bytes, is_new);
}

std::unique_ptr<CopyTarget> copy_compressed_to(block::Qcow2& image, Workers& workers, bool is_new) {
  return std::make_unique<CompressedTarget>(image, workers, is_new);
}

Task<Result<void>> copy_disks(std::vector<block::Backend*> sources, CopyTarget& target,
                              CopyProgress progress, CopyRules rules) {
  Copy copy(std::move(sources), target, std::move(progress), std::move(rules));
  co_return co_await copy.run();
}

}  // namespace wick::image

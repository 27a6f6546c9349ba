#include "block/raw.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "block/image.h"

namespace wick::block {

namespace {

constexpr uint64_t kSectorBytes = 512;

Task<Result<void>> at_once(Result<void> result) { co_return result; }

class Raw final : public Backend {
 public:
  Raw(std::unique_ptr<File> file, uint64_t size, const RawOptions& options)
      : file_(std::move(file)), size_bytes_(size), options_(options) {}

  uint64_t size_bytes() const override { return size_bytes_; }
  bool read_only() const override { return options_.read_only; }
  Fd pin() const override { return file_->pin(); }
  Task<Result<void>> update_size() override {
    if (const uint64_t size = file_->size_bytes(); size > 0)
      size_bytes_ = align_up(size, kSectorBytes);
    return at_once({});
  }
  Task<Result<void>> resize(uint64_t size_bytes) override {
    if (options_.read_only) co_return fail_errno(EROFS, "{}", file_->path());
    auto resized = file_->truncate(size_bytes);
    if (resized) size_bytes_ = size_bytes;
    co_return resized;
  }
  bool can_discard() const override { return file_->can_discard(); }
  bool zeroes_fast(bool may_unmap) const override { return file_->zeroes_fast(may_unmap); }

  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    if (auto checked = check_range(offset, total_bytes(buffers)); !checked)
      return at_once(std::move(checked));
    return file_->read(offset, buffers);
  }

  Task<Result<void>> write(uint64_t offset, std::span<const iovec> buffers) override {
    const uint64_t length = total_bytes(buffers);
    if (auto checked = check_write(offset, length); !checked) return at_once(std::move(checked));
    if (options_.refuse_foreign_magic && offset < kSectorBytes && length > 0)
      return write_first_sector(offset, buffers, length);
    return file_->write(offset, buffers);
  }

  Task<Result<Extent>> extent(uint64_t offset, uint64_t length) override {
    if (auto checked = check_range(offset, length); !checked) co_return failure(checked);
    const File::Piece piece = file_->piece_at(offset);
    // The file may end within the last sector.
    const uint64_t end = piece.end >= file_->size_bytes() ? size_bytes_ : piece.end;
    co_return Extent{.length_bytes = std::min(length, end - offset),
                     .zero = piece.hole,
                     .data = !piece.hole,
                     .host_offset = offset,
                     .path = file_->path()};
  }

  Task<Result<void>> flush() override { return options_.read_only ? at_once({}) : file_->sync(); }

  Task<Result<void>> discard(uint64_t offset, uint64_t length) override {
    if (auto checked = check_write(offset, length); !checked) return at_once(std::move(checked));
    return file_->discard(offset, length);
  }

  Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) override {
    if (auto checked = check_write(offset, length); !checked) return at_once(std::move(checked));
    return may_unmap ? file_->punch(offset, length) : file_->zero(offset, length);
  }

 private:
  Result<void> check_range(uint64_t offset, uint64_t length) const {
    if (offset > size_bytes_ || length > size_bytes_ - offset)
      return fail_errno(EINVAL, "{}: {:#x} + {:#x} is outside the disk", file_->path(), offset,
                        length);
    return {};
  }

  Result<void> check_write(uint64_t offset, uint64_t length) const {
    if (options_.read_only) return fail_errno(EROFS, "{}", file_->path());
    return check_range(offset, length);
  }

  // Checks a private copy, because the guest can change its buffer at any time.
  Task<Result<void>> write_first_sector(uint64_t offset, std::span<const iovec> buffers,
                                        uint64_t length) {
    std::array<std::byte, kSectorBytes> sector{};
    const uint64_t head = std::min(length, kSectorBytes - offset);
    if (head < kSectorBytes) {  // the write may complete a partial magic
      const iovec old{sector.data(), sector.size()};
      if (auto filled = co_await file_->read(0, {&old, 1}); !filled) co_return filled;
    }
    uint64_t copied = 0;
    for (const iovec& buffer : buffers) {
      const uint64_t part = std::min<uint64_t>(buffer.iov_len, head - copied);
      if (part > 0) std::memcpy(sector.data() + offset + copied, buffer.iov_base, part);
      copied += part;
    }
    if (const char* format = format_of_magic(sector); format != nullptr)
      co_return with_hint(fail_errno(EPERM, "{}: the guest writes the magic of a {} image into it",
                                     file_->path(), format),
                          "give the disk with format=raw to allow that");
    const iovec first{sector.data() + offset, head};
    auto written = co_await file_->write(offset, {&first, 1});
    if (!written || head == length) co_return written;
    const std::vector<iovec> rest = slice(buffers, head, length - head);
    co_return co_await file_->write(offset + head, rest);
  }

  const std::unique_ptr<File> file_;
  uint64_t size_bytes_;
  const RawOptions options_;
};

}  // namespace

Result<std::unique_ptr<Backend>> open_raw(std::unique_ptr<File> file, const RawOptions& options) {
  const uint64_t size_bytes = file->size_bytes();
  if (size_bytes == 0 && !options.may_be_empty)
    return with_hint(fail("{}: the disk is empty (0 bytes)", file->path()),
                     fmt::format("give it a size: truncate -s 1G {}", file->path()));
  return std::unique_ptr<Backend>(
      new Raw(std::move(file), align_up(size_bytes, kSectorBytes), options));
}

}  // namespace wick::block

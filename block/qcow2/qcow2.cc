#include "block/qcow2/qcow2.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "base/bytes.h"
#include "block/qcow2/announced_size.h"
#include "block/qcow2/check.h"
#include "block/qcow2/header.h"
#include "block/qcow2/resize.h"

namespace wick::block {

using namespace qcow2;

namespace {

// Repairs an image whose last writer updated reference counts lazily and did not close it.
Task<Result<void>> repair_unclosed(File& file) {
  auto report = co_await check_qcow2(
      file, Repair::kAll, [](const std::string&) {}, true);
  if (!report && report.error().code == EFBIG)
    co_return with_hint(
        fail_errno(EFBIG,
                   "{}; it was not closed by its last writer, and is too unusual to be "
                   "repaired automatically",
                   report.error().context),
        fmt::format("repair it with wick image check -r all {}, or open it with readonly=on",
                    file.path()));
  if (!report) co_return failure(report);
  if (report->corruptions + report->check_errors > 0)
    co_return with_hint(
        fail("{}: the qcow2 image was not closed by its last writer, and cannot be repaired",
             file.path()),
        "look at it with wick image check, or open it with readonly=on");
  spdlog::info("{}: was not closed by its last writer; its reference counts are repaired",
               file.path());
  co_return Result<void>();
}

// Refuses an image whose header says that wick cannot read it, or must not write to it.
Result<void> check_can_open(const Header& header, const std::string& path, bool read_only) {
  if (header.crypt_method != 0)
    return with_hint(fail("{}: the qcow2 image is encrypted ({}), which wick cannot read", path,
                          header.crypt_method == 1 ? "AES" : "LUKS"),
                     "decrypt it: qemu-img convert");
  TRY(check_data_file_named(header, path));
  if (!read_only && (header.incompatible & kCorrupt) != 0)
    return with_hint(fail("{}: the qcow2 image is marked as corrupt", path),
                     "repair it with wick image check -r all, or open it with readonly=on");
  return {};
}

}  // namespace

Task<Result<std::unique_ptr<Qcow2>>> Qcow2::open(std::unique_ptr<File> file,
                                                 const Qcow2Options& options) {
  auto header = co_await read_header(*file);
  if (!header) co_return failure(header);
  if (auto checked = check_can_open(*header, file->path(), options.read_only); !checked)
    co_return failure(checked);
  if (!options.read_only && (header->incompatible & kDirty) != 0) {
    if (auto repaired = co_await repair_unclosed(*file); !repaired) co_return failure(repaired);
    header = co_await read_header(*file);
    if (!header) co_return failure(header);
  }
  if (!options.read_only)
    if (auto cleared = co_await clear_announced_size(*file, *header); !cleared)
      co_return failure(cleared);
  auto l1 = co_await read_table(*file, header->l1_offset, header->l1_entries);
  if (!l1) co_return failure(l1);
  auto table = co_await read_refcount_table(*file, *header);
  if (!table) co_return failure(table);
  std::unique_ptr<Qcow2> image(
      new Qcow2(std::move(file), options, *std::move(header), *std::move(l1), *std::move(table)));
  if (auto checked = image->metadata_.check_refcount_blocks(); !checked) co_return failure(checked);
  co_return image;
}

Qcow2::Qcow2(std::unique_ptr<File> file, const Qcow2Options& options, Header header,
             std::vector<uint64_t> l1, std::vector<uint64_t> refcount_table)
    : file_(std::move(file)),
      bounce_(options.bounce ? options.bounce : std::make_shared<BounceBudget>()),
      metadata_(*file_, std::move(header), std::move(l1), std::move(refcount_table),
                options.cache_bytes, options.read_only) {}

Result<void> Qcow2::check_range(uint64_t offset, uint64_t length) const {
  if (offset > size_bytes() || length > size_bytes() - offset)
    return fail_errno(EINVAL, "{}: {:#x} + {:#x} is outside the disk", path(), offset, length);
  return {};
}

Result<void> Qcow2::check_write(uint64_t offset, uint64_t length) const {
  if (read_only()) return fail_errno(EROFS, "{}", path());
  return check_range(offset, length);
}

Task<Result<void>> Qcow2::flush() {
  if (read_only()) co_return Result<void>();
  co_return co_await metadata_.checkpoint(true);
}

Task<Result<void>> Qcow2::update_size() { return apply_announced_size(*this); }

Task<Result<void>> Qcow2::resize(uint64_t size_bytes) { return qcow2::resize(*this, size_bytes); }

Task<Result<bool>> Qcow2::reads_as_zeroes(uint64_t offset, uint64_t length) {
  while (length > 0) {
    auto mapping = co_await map(offset, length);
    if (!mapping) co_return failure(mapping);
    const bool unallocated = mapping->kind == Mapping::Kind::kUnallocated;
    if (!unallocated && mapping->kind != Mapping::Kind::kZero) co_return false;
    if (unallocated && backing_ && offset < backing_->size_bytes()) co_return false;
    offset += mapping->length_bytes;
    length -= mapping->length_bytes;
  }
  co_return true;
}

Task<Result<void>> Qcow2::read(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length = total_bytes(buffers);
  if (auto checked = check_range(offset, length); !checked || length == 0) co_return checked;
  const auto held = co_await lock_clusters(offset, length, false);
  if (const auto mapping = metadata_.map_at_once(offset, length))
    co_return co_await data().read(mapping->host_offset, buffers);
  co_return co_await read_locked(offset, buffers);
}

Task<Result<void>> Qcow2::read_locked(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length = total_bytes(buffers);
  for (uint64_t done = 0; done < length;) {
    auto mapping = co_await map(offset + done, length - done);
    if (!mapping) co_return failure(mapping);
    Result<void> got;
    if (mapping->length_bytes == length) {
      got = co_await read_mapped(*mapping, offset, buffers);
    } else {
      const auto part = slice(buffers, done, mapping->length_bytes);
      got = co_await read_mapped(*mapping, offset + done, part);
    }
    if (!got) co_return got;
    done += mapping->length_bytes;
  }
  co_return Result<void>();
}

Task<Result<void>> Qcow2::read_mapped(const Mapping& mapping, uint64_t offset,
                                      std::span<const iovec> buffers) {
  switch (mapping.kind) {
    case Mapping::Kind::kData:
      return data().read(mapping.host_offset, buffers);
    case Mapping::Kind::kCompressed:
      return read_compressed(mapping, offset, buffers);
    case Mapping::Kind::kUnallocated:
      return read_backing(offset, buffers);
    case Mapping::Kind::kZero:
      break;
  }
  fill_zeroes(buffers);
  return []() -> Task<Result<void>> { co_return Result<void>(); }();
}

// A loop, not a recursion: a chain may be 200 deep, and the stack is small. Images below are
// only read, so their clusters need no lock.
Task<Result<Qcow2::BackingSource>> Qcow2::find_backing_source(uint64_t offset, uint64_t length) {
  BackingSource below{.length_bytes = length};
  for (Qcow2* image = this;; image = image->backing_image_) {
    Backend* const next = image->backing_.get();
    below.present = next != nullptr;
    if (next != nullptr) ++below.depth;
    // A backing file may be shorter: behind its end are zeroes (PITFALLS 15).
    const uint64_t end = next != nullptr ? next->size_bytes() : 0;
    if (offset >= end) co_return below;
    below.length_bytes = std::min(below.length_bytes, end - offset);
    if (image->backing_image_ == nullptr) {
      below.disk = next;
      co_return below;
    }
    const auto mapping = co_await image->backing_image_->map(offset, below.length_bytes);
    if (!mapping) co_return std::unexpected(mapping.error());
    below.length_bytes = mapping->length_bytes;
    if (mapping->kind != Mapping::Kind::kUnallocated) {
      below.image = image->backing_image_;
      below.mapping = *mapping;
      co_return below;
    }
  }
}

Task<Result<void>> Qcow2::read_backing(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length = total_bytes(buffers);
  for (uint64_t done = 0; done < length;) {
    const auto below = co_await find_backing_source(offset + done, length - done);
    if (!below) co_return std::unexpected(below.error());
    std::vector<iovec> part;
    if (below->length_bytes < length) part = slice(buffers, done, below->length_bytes);
    const std::span<const iovec> to = part.empty() ? buffers : part;
    Result<void> got;
    if (below->image != nullptr)
      got = co_await below->image->read_mapped(below->mapping, offset + done, to);
    else if (below->disk != nullptr)
      got = co_await below->disk->read(offset + done, to);
    else
      fill_zeroes(to);
    if (!got) co_return got;
    done += below->length_bytes;
  }
  co_return Result<void>();
}

}  // namespace wick::block

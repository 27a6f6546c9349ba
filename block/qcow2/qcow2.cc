#include "block/qcow2/qcow2.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "block/compression.h"
#include "block/qcow2/announced_size.h"
#include "block/qcow2/check.h"
#include "block/qcow2/header.h"

namespace wick::block {

using namespace qcow2;

Task<Result<std::unique_ptr<Qcow2>>> Qcow2::open(std::unique_ptr<File> file,
                                                 const Qcow2Options& options) {
  auto header = co_await read_header(*file);
  if (!header) co_return failure(header);
  if (header->crypt_method != 0)
    co_return with_hint(fail("{}: the qcow2 image is encrypted ({}), which wick cannot read",
                             file->path(), header->crypt_method == 1 ? "AES" : "LUKS"),
                        "decrypt it: qemu-img convert");
  if (auto named = check_data_file_named(*header, file->path()); !named) co_return failure(named);
  if (!options.read_only && (header->incompatible & kCorrupt) != 0)
    co_return with_hint(fail("{}: the qcow2 image is marked as corrupt", file->path()),
                        "repair it with wick image check -r all, or open it with readonly=on");
  if (!options.read_only && (header->incompatible & kDirty) != 0) {
    // Its last writer kept reference counts lazily, and did not close it.
    auto report = co_await check_qcow2(
        *file, Repair::kAll, [](const std::string&) {}, true);
    if (!report && report.error().code == EFBIG)
      co_return with_hint(
          fail_errno(EFBIG,
                     "{}; it was not closed by its last writer, and is too odd to be "
                     "repaired without being asked",
                     report.error().context),
          fmt::format("repair it with wick image check -r all {}, or open it with readonly=on",
                      file->path()));
    if (!report) co_return failure(report);
    if (report->corruptions + report->check_errors > 0)
      co_return with_hint(
          fail("{}: the qcow2 image was not closed by its last writer, and cannot be repaired",
               file->path()),
          "look at it with wick image check, or open it with readonly=on");
    spdlog::info("{}: was not closed by its last writer; its reference counts are repaired",
                 file->path());
    header = co_await read_header(*file);
    if (!header) co_return failure(header);
  }
  // A size that was announced before could be a hostile image's way to grow.
  if (!options.read_only)
    if (auto cleared = co_await clear_announced_size(*file, *header); !cleared)
      co_return failure(cleared);
  auto l1 = co_await read_table(*file, header->l1_offset, header->l1_entries);
  if (!l1) co_return failure(l1);
  auto table =
      co_await read_table(*file, header->refcount_table_offset,
                          (uint64_t{header->refcount_table_clusters} << header->cluster_bits) / 8);
  if (!table) co_return failure(table);
  std::unique_ptr<Qcow2> image(
      new Qcow2(std::move(file), options, *std::move(header), *std::move(l1), *std::move(table)));
  if (auto checked = image->check_refcount_blocks(); !checked) co_return failure(checked);
  co_return image;
}

Qcow2::Qcow2(std::unique_ptr<File> file, const Qcow2Options& options, Header header,
             std::vector<uint64_t> l1, std::vector<uint64_t> refcount_table)
    : file_(std::move(file)),
      options_(options),
      bounce_(options.bounce ? options.bounce : std::make_shared<BounceBudget>()),
      header_(std::move(header)),
      l1_(std::move(l1)),
      l2_(*file_, header_.cluster_bytes(), options.cache_bytes * 3 / 4),
      refcounts_(*file_, header_, std::move(refcount_table), options.cache_bytes / 4,
                 [this](Run clusters) { return is_metadata(clusters); }) {}

std::unexpected<Error> Qcow2::corrupt(const char* what, uint64_t value) const {
  return with_hint(fail_errno(EIO, "{}: the qcow2 image is corrupt: {} {:#x}", path(), what, value),
                   "look at it with wick image check");
}

Result<void> Qcow2::check_range(uint64_t offset, uint64_t length) const {
  if (offset > size_bytes() || length > size_bytes() - offset)
    return fail_errno(EINVAL, "{}: {:#x} + {:#x} is outside the disk", path(), offset, length);
  return {};
}

Result<void> Qcow2::check_write(uint64_t offset, uint64_t length) const {
  if (options_.read_only) return fail_errno(EROFS, "{}", path());
  return check_range(offset, length);
}

// The tables whose place the header tells.
bool Qcow2::is_table(Run clusters) const {
  const auto overlaps = [&](uint64_t offset, uint64_t bytes) {
    const uint64_t first = cluster_of(offset);
    return bytes > 0 && clusters.first < first + header_.clusters_for(bytes) &&
           first < clusters.first + clusters.count;
  };
  return clusters.first == 0 || overlaps(header_.l1_offset, uint64_t{header_.l1_entries} * 8) ||
         overlaps(header_.refcount_table_offset,
                  uint64_t{header_.refcount_table_clusters} << header_.cluster_bits) ||
         overlaps(header_.snapshots_offset, uint64_t{header_.snapshot_count} * 40);
}

bool Qcow2::is_metadata(Run clusters) const {
  const auto within = [&](uint64_t entry) {
    return entry != 0 && cluster_of(entry) - clusters.first < clusters.count;
  };
  return is_table(clusters) ||
         std::ranges::any_of(l1_, [&](uint64_t entry) { return within(entry & kOffsetMask); }) ||
         std::ranges::any_of(refcounts_.table(), within);
}

Result<void> Qcow2::check_refcount_blocks() const {
  const uint64_t end = file_->size_bytes();
  std::vector<uint64_t> blocks;
  const char* const kHint = "look at it with wick image check";
  for (const uint64_t block : refcounts_.table()) {
    if (block == 0) continue;
    if (block % header_.cluster_bytes() != 0 || block >= end || is_table({cluster_of(block), 1}))
      return with_hint(fail("{}: the qcow2 image has a refcount block at {:#x}, where none can be",
                            path(), block),
                       kHint);
    blocks.push_back(block);
  }
  // Each counts other clusters: the allocator would look through one for hours.
  std::ranges::sort(blocks);
  if (const auto twice = std::ranges::adjacent_find(blocks); twice != blocks.end())
    return with_hint(
        fail("{}: the qcow2 image has its refcount block at {:#x} twice", path(), *twice), kHint);
  return {};
}

uint64_t Qcow2::entry_offset(uint64_t offset) const {
  return (l1_[l1_index(offset)] & kOffsetMask) +
         cluster_of(offset) % header_.l2_entries() * header_.l2_entry_bytes();
}

Qcow2::Entry Qcow2::load_entry(std::span<const std::byte> slice, uint64_t offset) const {
  const auto entry = slice.subspan(entry_offset(offset) % l2_.slice_bytes());
  return {load_be<uint64_t>(entry),
          header_.extended_l2() ? load_be<uint64_t>(entry.subspan(8)) : 0};
}

void Qcow2::store_entry(std::span<std::byte> slice, uint64_t offset, Entry entry) const {
  const auto place = slice.subspan(entry_offset(offset) % l2_.slice_bytes());
  store_be(place, entry.descriptor);
  if (header_.extended_l2()) store_be(place.subspan(8), entry.bitmap);
}

// Whether the entry's host cluster is this entry's alone, to be written again.
bool Qcow2::owns_cluster(Entry entry) const {
  return (entry.descriptor & (kCompressed | kCopied)) == kCopied &&
         ((entry.descriptor & kOffsetMask) != 0 || data_file_);
}

// Where the unit that `offset` is in lies, from `offset` to the unit's end. The
// order of the tests matters: bit 0 is part of a compressed cluster's offset
// (PITFALLS 8).
Result<Mapping> Qcow2::classify(Entry entry, uint64_t offset) const {
  const uint64_t in_cluster = offset % header_.cluster_bytes();
  const uint64_t unit = header_.unit_bytes();
  Mapping mapping{.length_bytes = unit - in_cluster % unit};
  if ((entry.descriptor & kCompressed) != 0) {
    if (data_file_)
      return corrupt("a compressed cluster beside a data file, L2 entry", entry.descriptor);
    const CompressedRange range = compressed_range(header_, entry.descriptor);
    mapping.kind = Mapping::Kind::kCompressed;
    mapping.length_bytes = header_.cluster_bytes() - in_cluster;
    mapping.host_offset = range.offset;
    mapping.compressed_bytes = range.length_bytes;
    return mapping;
  }
  const uint64_t host = entry.descriptor & kOffsetMask;
  if (host % header_.cluster_bytes() != 0)
    return corrupt("a cluster not at a cluster's start, L2 entry", entry.descriptor);
  const bool has_cluster = host != 0 || (data_file_ && (entry.descriptor & kCopied) != 0);
  bool allocated = has_cluster;
  bool zero = (entry.descriptor & kZero) != 0;
  if (header_.extended_l2()) {
    const uint64_t bit = in_cluster / unit;
    zero = (entry.bitmap >> (32 + bit) & 1) != 0;
    allocated = (entry.bitmap >> bit & 1) != 0;
    if (allocated && (zero || !has_cluster))
      return corrupt("subclusters that contradict each other, bitmap", entry.bitmap);
  }
  if (zero && header_.version < 3)
    return corrupt("a zero cluster in version 2, L2 entry", entry.descriptor);
  if (!data_file_ && owns_cluster(entry) && is_table({cluster_of(host), 1}))
    return corrupt("metadata mapped as data, L2 entry", entry.descriptor);
  mapping.has_cluster = has_cluster;
  if (has_cluster) mapping.host_offset = host + in_cluster;
  if (zero) {
    mapping.kind = Mapping::Kind::kZero;
  } else if (allocated) {
    mapping.kind = Mapping::Kind::kData;
    mapping.in_place = owns_cluster(entry);
  }
  return mapping;
}

// Where there is one, it must not be where the header says that another table is.
Result<void> Qcow2::check_l2_table(uint64_t index) const {
  const uint64_t table = l1_[index] & kOffsetMask;
  if (table == 0 && (l1_[index] & kCopied) == 0) return {};
  if (table % header_.cluster_bytes() != 0 || is_table({cluster_of(table), 1}))
    return corrupt("an L2 table where none can be, L1 entry", l1_[index]);
  return {};
}

Task<Result<Mapping>> Qcow2::map(uint64_t offset, uint64_t length) {
  const uint64_t index = l1_index(offset);
  const uint64_t table_span = header_.l2_entries() << header_.cluster_bits;
  if (index >= l1_.size()) co_return Mapping{.length_bytes = length};
  if (auto checked = check_l2_table(index); !checked) co_return failure(checked);
  if ((l1_[index] & kOffsetMask) == 0)
    co_return Mapping{.length_bytes = std::min(length, table_span - offset % table_span)};
  const uint64_t place = entry_offset(offset);
  std::span<const std::byte> slice = l2_.find(place);
  if (slice.empty()) {
    auto loaded = co_await l2_.get(place);
    if (!loaded) co_return failure(loaded);
    slice = *loaded;
  }
  co_return map_by(slice, offset, length);
}

// `slice` is the one with the entry of `offset`.
Result<Mapping> Qcow2::map_by(std::span<const std::byte> slice, uint64_t offset,
                              uint64_t length) const {
  const uint64_t end = offset + std::min(length, slice_span() - offset % slice_span());
  Mapping mapping = TRY(classify(load_entry(slice, offset), offset));
  for (uint64_t at = offset + mapping.length_bytes;
       at < end && mapping.kind != Mapping::Kind::kCompressed;) {
    const auto next = classify(load_entry(slice, at), at);
    // What is wrong further on is told when it is asked for.
    if (!next || next->kind != mapping.kind || next->in_place != mapping.in_place ||
        next->has_cluster != mapping.has_cluster)
      break;
    if (next->has_cluster && next->host_offset != mapping.host_offset + (at - offset)) break;
    at += next->length_bytes;
    mapping.length_bytes = at - offset;
  }
  mapping.length_bytes = std::min(mapping.length_bytes, end - offset);
  return mapping;
}

// For most requests: in one piece, and found without waiting.
std::optional<Mapping> Qcow2::map_at_once(uint64_t offset, uint64_t length) {
  const uint64_t index = l1_index(offset);
  if (index >= l1_.size() || (l1_[index] & kOffsetMask) == 0 || !check_l2_table(index)) return {};
  const std::span<const std::byte> slice = l2_.find(entry_offset(offset));
  if (slice.empty()) return {};
  const auto mapping = map_by(slice, offset, length);
  if (!mapping || mapping->kind != Mapping::Kind::kData || mapping->length_bytes != length)
    return {};
  return *mapping;
}

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
  const auto held = co_await clusters_.shared(cluster_of(offset), cluster_of(offset + length - 1));
  if (const auto mapping = map_at_once(offset, length))
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

// A loop and no recursion: a chain may be 200 deep, and the stack is small. Images below
// are only read, so their clusters need no lock.
Task<Result<Qcow2::Below>> Qcow2::find_below(uint64_t offset, uint64_t length) {
  Below below{.length_bytes = length};
  for (Qcow2* image = this;; image = image->backing_image_) {
    Backend* const next = image->backing_.get();
    below.present = next != nullptr;
    if (next != nullptr) ++below.depth;
    // A backing file may be shorter: zeroes behind it (PITFALLS 15).
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
    const auto below = co_await find_below(offset + done, length - done);
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

Task<Result<void>> Qcow2::read_compressed(const Mapping& mapping, uint64_t offset,
                                          std::span<const iovec> buffers) {
  const auto is_there = [&] {
    return decompressed_entry_ == mapping.host_offset && !decompressed_.empty();
  };
  const uint64_t needed = mapping.compressed_bytes + header_.cluster_bytes();
  const auto room = co_await bounce_->decompressed.take(is_there() ? 0 : needed);
  if (!is_there()) {
    std::vector<std::byte> packed(mapping.compressed_bytes);
    const iovec buffer = to_iovec(packed);
    if (auto got = co_await file_->read(mapping.host_offset, {&buffer, 1}); !got) co_return got;
    std::vector<std::byte> cluster(header_.cluster_bytes());
    if (!decompress(header_.compression, packed, cluster))
      co_return corrupt("a compressed cluster that does not unpack, at", mapping.host_offset);
    decompressed_ = std::move(cluster);
    decompressed_entry_ = mapping.host_offset;
  }
  uint64_t from = offset % header_.cluster_bytes();
  for (const iovec& buffer : buffers) {
    if (buffer.iov_len == 0) continue;  // it may have no address
    std::memcpy(buffer.iov_base, decompressed_.data() + from, buffer.iov_len);
    from += buffer.iov_len;
  }
  co_return Result<void>();
}

}  // namespace wick::block

#include "block/qcow2/bitmaps.h"

#include <algorithm>
#include <bit>

#include "base/bytes.h"
#include "block/qcow2/header.h"
#include "block/qcow2/tables.h"

namespace wick::block::qcow2 {

namespace {

constexpr size_t kEntryBytes = 24;  // of a directory entry without its name and extra data
// QEMU's limits.
constexpr uint64_t kMaxDirectoryBytes = 64 << 20;
constexpr size_t kMaxBitmaps = 65535;
constexpr size_t kMaxNameBytes = 1023;
constexpr uint64_t kMinGranularity = 512, kMaxGranularity = uint64_t{1} << 31;
constexpr uint64_t kMaxDataBytes = 512 << 20;  // the maximum data of one bitmap
constexpr uint64_t kCacheBytes = 1 << 20;

uint64_t data_bytes(uint64_t disk_bytes, uint64_t granularity) {
  const uint64_t bits = disk_bytes / granularity + (disk_bytes % granularity != 0);
  return bits / 8 + (bits % 8 != 0);
}

std::vector<Bitmap> parse_directory(std::span<const std::byte> rest, uint32_t count) {
  std::vector<Bitmap> bitmaps;
  for (; count > 0 && rest.size() >= kEntryBytes; --count) {
    const size_t name_bytes = load_be<uint16_t>(rest.subspan(18));
    const size_t extra_bytes = load_be<uint32_t>(rest.subspan(20));
    const size_t length = kEntryBytes + extra_bytes + name_bytes;
    if (length > rest.size()) break;
    const auto extra = rest.subspan(kEntryBytes, extra_bytes);
    const auto name = rest.subspan(kEntryBytes + extra_bytes, name_bytes);
    bitmaps.push_back({.name = {reinterpret_cast<const char*>(name.data()), name.size()},
                       .table_offset = load_be<uint64_t>(rest),
                       .table_entries = load_be<uint32_t>(rest.subspan(8)),
                       .flags = load_be<uint32_t>(rest.subspan(12)),
                       .type = static_cast<uint8_t>(rest[16]),
                       .granularity_bits = static_cast<uint8_t>(rest[17]),
                       .extra = {extra.begin(), extra.end()}});
    rest = rest.subspan(std::min(align_up(length, 8), rest.size()));
  }
  return bitmaps;
}

std::vector<std::byte> format_directory(std::span<const Bitmap> bitmaps) {
  std::vector<std::byte> bytes;
  for (const Bitmap& bitmap : bitmaps) {
    const size_t start = bytes.size();
    bytes.resize(start + bitmap.entry_bytes());
    const auto entry = std::span(bytes).subspan(start);
    store_be(entry, bitmap.table_offset);
    store_be(entry.subspan(8), bitmap.table_entries);
    store_be(entry.subspan(12), bitmap.flags);
    entry[16] = static_cast<std::byte>(bitmap.type);
    entry[17] = static_cast<std::byte>(bitmap.granularity_bits);
    store_be(entry.subspan(18), static_cast<uint16_t>(bitmap.name.size()));
    store_be(entry.subspan(20), static_cast<uint32_t>(bitmap.extra.size()));
    std::ranges::copy(bitmap.extra, entry.subspan(kEntryBytes).begin());
    std::ranges::copy(as_bytes(bitmap.name.data(), bitmap.name.size()),
                      entry.subspan(kEntryBytes + bitmap.extra.size()).begin());
  }
  return bytes;
}

// Sets each bit of `to` that shares bytes of the disk with a set bit of `from`. A bit stands for
// 2^shift bytes.
void add_bits(std::span<const std::byte> from, uint32_t from_shift, std::span<std::byte> to,
              uint32_t to_shift, uint64_t disk_bytes) {
  for (uint64_t byte = 0; byte < from.size(); ++byte)
    for (uint64_t i = 0; i < 8 && from[byte] != std::byte{0}; ++i) {
      if ((from[byte] >> i & std::byte{1}) == std::byte{0}) continue;
      const uint64_t start = (byte * 8 + i) << from_shift;
      const uint64_t end = std::min(start + (uint64_t{1} << from_shift), disk_bytes);
      for (uint64_t bit = start >> to_shift; bit << to_shift < end; ++bit)
        to[bit / 8] |= std::byte{1} << (bit % 8);
    }
}

}  // namespace

uint64_t Bitmap::stored_bytes(uint64_t disk_bytes, uint64_t cluster_bytes) const {
  const uint64_t data = align_up(data_bytes(disk_bytes, granularity_bytes()), cluster_bytes);
  return data + align_up(data / cluster_bytes * 8, cluster_bytes);
}

uint64_t Bitmap::entry_bytes() const {
  return align_up(kEntryBytes + extra.size() + name.size(), 8);
}

Task<Result<std::vector<Bitmap>>> read_bitmaps(File& file, const Header& header) {
  if (!has_bitmaps(header)) co_return std::vector<Bitmap>();
  std::vector<std::byte> bytes(std::min(header.bitmaps->directory_bytes, kMaxDirectoryBytes));
  auto got = co_await read_bytes(file, header.bitmaps->directory_offset, bytes);
  if (!got) co_return failure(got);
  co_return parse_directory(bytes, header.bitmaps->count);
}

Task<Result<std::unique_ptr<BitmapEditor>>> BitmapEditor::open(File& file) {
  auto header = co_await read_header(file);
  if (!header) co_return failure(header);
  if (header->version < 3)
    co_return with_hint(fail("{}: version 2 of qcow2 has no bitmaps", file.path()),
                        "make it version 3: wick image amend -o compat=1.1");
  if ((header->incompatible & (kDirty | kCorrupt)) != 0)
    co_return with_hint(fail("{}: the image must be repaired first", file.path()),
                        "wick image check -r all");
  auto bitmaps = co_await read_bitmaps(file, *header);
  if (!bitmaps) co_return failure(bitmaps);
  if (has_bitmaps(*header) && bitmaps->size() != header->bitmaps->count)
    co_return fail("{}: the directory of bitmaps is damaged", file.path());
  auto l1 = co_await read_table(file, header->l1_offset, header->l1_entries);
  if (!l1) co_return failure(l1);
  auto table = co_await read_refcount_table(file, *header);
  if (!table) co_return failure(table);
  co_return std::unique_ptr<BitmapEditor>(new BitmapEditor(file, *std::move(header), *std::move(l1),
                                                           *std::move(table), *std::move(bitmaps)));
}

BitmapEditor::BitmapEditor(File& file, Header header, std::vector<uint64_t> l1,
                           std::vector<uint64_t> refcount_table, std::vector<Bitmap> bitmaps)
    : file_(file),
      header_(std::move(header)),
      l1_(std::move(l1)),
      refcounts_(file_, header_, std::move(refcount_table), kCacheBytes,
                 [this](ClusterRun clusters) {
                   return is_metadata(header_, l1_, refcounts_.table(), clusters);
                 }),
      bitmaps_(std::move(bitmaps)) {
  if (has_bitmaps(header_))
    old_.push_back({header_.bitmaps->directory_offset >> header_.cluster_bits,
                    header_.clusters_for(header_.bitmaps->directory_bytes)});
}

Result<std::vector<Bitmap>::iterator> BitmapEditor::find(const std::string& name) {
  const auto found = std::ranges::find(bitmaps_, name, &Bitmap::name);
  if (found == bitmaps_.end())
    return with_hint(fail("{}: has no bitmap '{}'", file_.path(), name),
                     "wick image info lists them");
  return found;
}

Result<std::vector<Bitmap>::iterator> BitmapEditor::find_sound(const std::string& name) {
  const auto found = TRY(find(name));
  if ((found->flags & Bitmap::kInUse) != 0)
    return with_hint(fail("{}: bitmap '{}' is inconsistent", file_.path(), name),
                     "remove it, and add it again");
  return found;
}

Task<Result<uint64_t>> BitmapEditor::write_new(std::span<const std::byte> bytes) {
  const auto row = co_await refcounts_.allocate_table(header_.clusters_for(bytes.size()));
  if (!row) co_return std::unexpected(row.error());
  std::vector<std::byte> whole(align_up(bytes.size(), header_.cluster_bytes()));
  std::ranges::copy(bytes, whole.begin());
  const uint64_t offset = *row << header_.cluster_bits;
  if (auto written = co_await write_bytes(file_, offset, whole); !written)
    co_return failure(written);
  co_return offset;
}

// Gives the bitmap a table without data, so that all of its bits are 0.
Task<Result<void>> BitmapEditor::make_table(Bitmap& bitmap) {
  const uint64_t entries =
      header_.clusters_for(data_bytes(header_.size_bytes, bitmap.granularity_bytes()));
  const auto offset = co_await write_new(std::vector<std::byte>(entries * 8));
  if (!offset) co_return std::unexpected(offset.error());
  bitmap.table_offset = *offset;
  bitmap.table_entries = static_cast<uint32_t>(entries);
  co_return Result<void>();
}

Result<void> BitmapEditor::check_in_file(const Bitmap& bitmap, uint64_t offset,
                                         uint64_t length) const {
  const uint64_t end = file_.size_bytes();
  if (offset % header_.cluster_bytes() != 0 || offset == 0 || offset > end || length > end - offset)
    return fail_errno(EIO, "{}: the table or data of bitmap '{}' at {:#x} is not inside the file",
                      file_.path(), bitmap.name, offset);
  return {};
}

// Returns the bits of a bitmap. Bit n % 8 of byte n / 8 stands for the nth part of the disk; a part
// is as large as the granularity.
Task<Result<std::vector<std::byte>>> BitmapEditor::read_bits(const Bitmap& bitmap) {
  const uint64_t granularity = bitmap.granularity_bytes();
  const bool possible = granularity >= kMinGranularity && granularity <= kMaxGranularity;
  const uint64_t length = possible ? data_bytes(header_.size_bytes, granularity) : 0;
  if (!possible || length > kMaxDataBytes || bitmap.type != 1 || !bitmap.extra.empty() ||
      bitmap.table_entries != header_.clusters_for(length))
    co_return fail("{}: bitmap '{}' is damaged, or of a kind that wick does not know", file_.path(),
                   bitmap.name);
  if (auto checked = check_in_file(bitmap, bitmap.table_offset, uint64_t{bitmap.table_entries} * 8);
      !checked)
    co_return failure(checked);
  const auto table = co_await read_table(file_, bitmap.table_offset, bitmap.table_entries);
  if (!table) co_return std::unexpected(table.error());
  std::vector<std::byte> bits(length);
  for (size_t i = 0; i < table->size(); ++i) {
    const uint64_t start = i << header_.cluster_bits;
    const auto part =
        std::span(bits).subspan(start, std::min(header_.cluster_bytes(), length - start));
    const uint64_t place = (*table)[i] & kOffsetMask;
    if (place == 0) {  // bit 0 of the entry is the value of all bits ("Bitmap table")
      std::ranges::fill(part, ((*table)[i] & 1) != 0 ? std::byte{0xff} : std::byte{0});
      continue;
    }
    if (auto checked = check_in_file(bitmap, place, part.size()); !checked)
      co_return failure(checked);
    if (auto got = co_await read_bytes(file_, place, part); !got) co_return failure(got);
  }
  co_return bits;
}

Task<Result<void>> BitmapEditor::write_bits(Bitmap& bitmap, std::span<const std::byte> bits) {
  std::vector<std::byte> table(header_.clusters_for(bits.size()) * 8);
  for (uint64_t at = 0; at < bits.size(); at += header_.cluster_bytes()) {
    const auto part = bits.subspan(at, std::min(header_.cluster_bytes(), bits.size() - at));
    if (is_zero(part)) continue;
    const auto place = co_await write_new(part);
    if (!place) co_return std::unexpected(place.error());
    store_be(std::span(table).subspan((at >> header_.cluster_bits) * 8), *place);
  }
  const auto offset = co_await write_new(table);
  if (!offset) co_return std::unexpected(offset.error());
  bitmap.table_offset = *offset;
  bitmap.table_entries = static_cast<uint32_t>(table.size() / 8);
  co_return Result<void>();
}

Task<Result<void>> BitmapEditor::drop_table(const Bitmap& bitmap) {
  const uint64_t length = uint64_t{bitmap.table_entries} * 8;
  if (auto checked = check_in_file(bitmap, bitmap.table_offset, length); !checked)
    co_return checked;
  const auto table = co_await read_table(file_, bitmap.table_offset, bitmap.table_entries);
  if (!table) co_return std::unexpected(table.error());
  for (const uint64_t entry : *table)
    if (const uint64_t place = entry & kOffsetMask; place != 0)
      old_.push_back({place >> header_.cluster_bits, 1});
  old_.push_back({bitmap.table_offset >> header_.cluster_bits, header_.clusters_for(length)});
  co_return Result<void>();
}

Task<Result<void>> BitmapEditor::add(const std::string& name, uint64_t granularity) {
  if (granularity == 0) granularity = std::clamp<uint64_t>(header_.cluster_bytes(), 4096, 65536);
  if (name.empty() || name.size() > kMaxNameBytes)
    co_return fail("a bitmap's name has 1 to {} bytes", kMaxNameBytes);
  if (!std::has_single_bit(granularity) || granularity < kMinGranularity ||
      granularity > kMaxGranularity)
    co_return fail("granularity {}: must be a power of two from {} to {}", granularity,
                   kMinGranularity, kMaxGranularity);
  if (header_.size_bytes == 0) co_return fail("{}: the disk is empty (0 bytes)", file_.path());
  if (std::ranges::find(bitmaps_, name, &Bitmap::name) != bitmaps_.end())
    co_return fail("{}: has a bitmap '{}' already", file_.path(), name);
  if (data_bytes(header_.size_bytes, granularity) > kMaxDataBytes)
    co_return with_hint(fail("{}: the bitmap would be too large", file_.path()),
                        "choose a larger granularity");
  Bitmap bitmap{.name = name,
                .flags = Bitmap::kAuto,
                .granularity_bits = static_cast<uint8_t>(std::countr_zero(granularity))};
  if (auto made = co_await make_table(bitmap); !made) co_return made;
  bitmaps_.push_back(std::move(bitmap));
  if (bitmaps_.size() > kMaxBitmaps) co_return fail("{}: too many bitmaps", file_.path());
  co_return Result<void>();
}

Task<Result<void>> BitmapEditor::remove(const std::string& name) {
  const auto found = find(name);
  if (!found) co_return std::unexpected(found.error());
  if (auto dropped = co_await drop_table(**found); !dropped) co_return dropped;
  bitmaps_.erase(*found);
  co_return Result<void>();
}

Task<Result<void>> BitmapEditor::clear(const std::string& name) {
  const auto found = find_sound(name);
  if (!found) co_return std::unexpected(found.error());
  if (auto dropped = co_await drop_table(**found); !dropped) co_return dropped;
  co_return co_await make_table(**found);
}

Result<void> BitmapEditor::enable(const std::string& name, bool on) {
  Bitmap& bitmap = *TRY(find_sound(name));
  bitmap.flags = on ? bitmap.flags | Bitmap::kAuto : bitmap.flags & ~Bitmap::kAuto;
  return {};
}

Task<Result<void>> BitmapEditor::merge(const std::string& name, BitmapEditor& from,
                                       const std::string& source) {
  const auto target = find_sound(name);
  if (!target) co_return std::unexpected(target.error());
  const auto found = from.find_sound(source);
  if (!found) co_return std::unexpected(found.error());
  if (from.header_.size_bytes != header_.size_bytes)
    co_return fail("{}: has another size than {}, {} bytes and not {}", from.file_.path(),
                   file_.path(), from.header_.size_bytes, header_.size_bytes);
  const auto added = co_await from.read_bits(**found);
  if (!added) co_return std::unexpected(added.error());
  auto bits = co_await read_bits(**target);
  if (!bits) co_return failure(bits);
  add_bits(*added, (*found)->granularity_bits, *bits, (*target)->granularity_bits,
           header_.size_bytes);
  if (auto dropped = co_await drop_table(**target); !dropped) co_return dropped;
  co_return co_await write_bits(**target, *bits);
}

// Writes the changed refcounts in the order of a checkpoint (block/qcow2/metadata.h): a block is
// stable before the refcount table points to it.
Task<Result<void>> BitmapEditor::write_counts() {
  auto counts = refcounts_.take_dirty();
  auto done = co_await refcounts_.write_blocks(counts);
  if (done) done = co_await file_.sync();
  if (done) done = co_await refcounts_.write_table(counts);
  refcounts_.written(counts);
  if (done) done = co_await file_.sync();
  co_return done;
}

Task<Result<void>> BitmapEditor::finish() {
  header_.bitmaps.reset();
  header_.autoclear &= ~kBitmaps;
  if (!bitmaps_.empty()) {
    const std::vector<std::byte> directory = format_directory(bitmaps_);
    const auto offset = co_await write_new(directory);
    if (!offset) co_return std::unexpected(offset.error());
    header_.bitmaps = {static_cast<uint32_t>(bitmaps_.size()), directory.size(), *offset};
    header_.autoclear |= kBitmaps;
  }
  if (auto done = co_await write_counts(); !done) co_return done;
  if (auto done = co_await write_header(file_, header_); !done) co_return done;
  for (const ClusterRun& run : std::exchange(old_, {}))
    if (auto freed = co_await refcounts_.decrement(run); !freed) co_return freed;
  co_return co_await write_counts();
}

}  // namespace wick::block::qcow2

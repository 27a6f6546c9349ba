#include "block/qcow2/tables.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/bytes.h"

namespace wick::block::qcow2 {

namespace {

struct Suspend {
  std::vector<std::coroutine_handle<>>& waiting;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) const { waiting.push_back(handle); }
  void await_resume() const {}
};

}  // namespace

TableCache::TableCache(File& file, uint64_t cluster_bytes, uint64_t max_bytes)
    : file_(file),
      cluster_bytes_(cluster_bytes),
      slice_bytes_(std::min<uint64_t>(cluster_bytes, kMaxSliceBytes)),
      max_slices_(std::max<uint64_t>(max_bytes / kMaxSliceBytes, 8)) {}

std::span<std::byte> TableCache::find(uint64_t offset) {
  const auto found = slices_.find(start_of(offset));
  if (found == slices_.end() || !found->second.page) return {};
  uses_.splice(uses_.begin(), uses_, found->second.use);
  return bytes_of(found->second);
}

Task<Result<std::span<std::byte>>> TableCache::get(uint64_t offset) {
  const uint64_t start = start_of(offset);
  // Looks again after it has waited for another load, because that load may have failed.
  for (;;) {
    if (const auto bytes = find(offset); !bytes.empty()) co_return bytes;
    const auto found = slices_.find(start);
    if (found == slices_.end()) break;
    co_await Suspend{found->second.waiting};
  }
  evict();
  Slice& slice = insert(start);
  slice.loading = true;
  auto page = std::make_unique<Page>();
  const iovec buffer{page->bytes.data(), slice_bytes_};
  auto loaded = co_await file_.read(start, {&buffer, 1});
  // True if create() was called meanwhile: what was read is out of date.
  const bool created = slice.page != nullptr;
  if (!created && loaded) slice.page = std::move(page);
  auto waiting = finish_loading(slice);  // a loading slice is neither moved nor erased
  if (!created && !loaded) erase(start);
  for (const auto handle : waiting) handle.resume();
  if (!created && !loaded) co_return failure(loaded);
  co_return co_await get(offset);  // the resumed coroutines may have evicted it
}

std::vector<std::coroutine_handle<>> TableCache::finish_loading(Slice& slice) {
  slice.loading = false;
  return std::exchange(slice.waiting, {});
}

Task<Result<std::span<std::byte>>> TableCache::get_for_change(uint64_t offset) {
  for (;;) {
    auto bytes = co_await get(offset);
    if (!bytes) co_return bytes;
    Slice& slice = slices_.at(start_of(offset));
    if (slice.reserved) co_return bytes;
    if (slice.loading) {  // another coroutine is reserving it
      co_await Suspend{slice.waiting};
      continue;
    }
    slice.loading = true;
    auto reserved = co_await file_.reserve(start_of(offset), slice_bytes_);
    if (reserved) slice.reserved = true;
    for (const auto handle : finish_loading(slice)) handle.resume();
    if (!reserved) co_return failure(reserved);
  }
}

void TableCache::mark_dirty(uint64_t offset) { dirty_.insert(start_of(offset)); }

void TableCache::create(uint64_t offset, uint64_t cluster_bytes) {
  for (uint64_t start = offset; start < offset + cluster_bytes; start += slice_bytes_) {
    auto found = slices_.find(start);
    Slice& slice = found == slices_.end() ? insert(start) : found->second;
    slice.page = std::make_unique<Page>();
    slice.reserved = true;
    dirty_.insert(start);
  }
}

void TableCache::forget(uint64_t offset, uint64_t cluster_bytes) {
  for (uint64_t start = offset; start < offset + cluster_bytes; start += slice_bytes_) {
    dirty_.erase(start);
    if (slices_.contains(start)) erase(start);
  }
}

std::vector<TableCache::Copy> TableCache::take_dirty() {
  std::vector<Copy> copies;
  for (const uint64_t start : dirty_) {
    Slice& slice = slices_.at(start);
    slice.writing = true;
    const auto bytes = bytes_of(slice);
    if (copies.empty() || start % cluster_bytes_ == 0 ||
        copies.back().offset + copies.back().bytes.size() != start)
      copies.push_back({start, {}});
    copies.back().bytes.insert(copies.back().bytes.end(), bytes.begin(), bytes.end());
  }
  dirty_.clear();
  return copies;
}

Task<Result<void>> TableCache::write(std::vector<Copy>& copies) {
  Result<void> result;
  for (Copy& copy : copies) {
    if (copy.failed) continue;
    const iovec buffer = to_iovec(copy.bytes);
    auto written = co_await file_.write(copy.offset, {&buffer, 1});
    copy.failed = !written;
    if (!written && result) result = std::move(written);
  }
  co_return result;
}

void TableCache::written(std::span<const Copy> copies) {
  for (const Copy& copy : copies)
    for (uint64_t start = copy.offset; start < copy.offset + copy.bytes.size();
         start += slice_bytes_) {
      const auto found = slices_.find(start);
      if (found == slices_.end()) continue;  // the slice was forgotten meanwhile
      found->second.writing = false;
      if (copy.failed) dirty_.insert(start);
    }
  evict();
}

TableCache::Slice& TableCache::insert(uint64_t start) {
  uses_.push_front(start);
  Slice& slice = slices_[start];
  slice.use = uses_.begin();
  return slice;
}

void TableCache::erase(uint64_t start) {
  const auto found = slices_.find(start);
  uses_.erase(found->second.use);
  slices_.erase(found);
}

void TableCache::evict() {
  for (auto use = uses_.end(); slices_.size() >= max_slices_ && use != uses_.begin();) {
    const uint64_t start = *--use;
    const Slice& slice = slices_.at(start);
    if (slice.loading || slice.writing || dirty_.contains(start)) continue;
    ++use;  // erase() removes the element before
    erase(start);
  }
}

Task<Result<void>> read_bytes(File& file, uint64_t offset, std::span<std::byte> bytes) {
  const iovec buffer = to_iovec(bytes);
  co_return co_await file.read(offset, {&buffer, 1});
}

Task<Result<void>> write_bytes(File& file, uint64_t offset, std::span<const std::byte> bytes) {
  const iovec buffer = to_iovec(bytes);
  co_return co_await file.write(offset, {&buffer, 1});
}

bool TableReader::is_hole(uint64_t offset, uint64_t length) {
  if (offset < piece_start_ || offset >= piece_.end) {
    piece_ = file_.piece_at(offset);
    piece_start_ = offset;
  }
  return piece_.hole && offset < piece_.end && length <= piece_.end - offset;
}

Task<Result<std::vector<uint64_t>>> TableReader::read(uint64_t offset, uint64_t entries) {
  if (is_hole(offset, entries * 8)) co_return std::vector<uint64_t>();
  co_return co_await read_table(file_, offset, entries);
}

Task<Result<std::vector<uint64_t>>> read_table(File& file, uint64_t offset, uint64_t entries) {
  std::vector<uint64_t> table(entries);
  auto got = co_await read_bytes(file, offset, std::as_writable_bytes(std::span(table)));
  if (!got) co_return failure(got);
  for (uint64_t& entry : table) entry = std::byteswap(entry);
  co_return table;
}

Task<Result<void>> write_table(File& file, uint64_t offset, std::span<const uint64_t> entries) {
  std::vector<uint64_t> table(entries.begin(), entries.end());
  for (uint64_t& entry : table) entry = std::byteswap(entry);
  co_return co_await write_bytes(file, offset, std::as_bytes(std::span(table)));
}

}  // namespace wick::block::qcow2

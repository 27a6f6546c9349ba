#include "block/qcow2_tables.h"

#include <algorithm>
#include <bit>

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

TableCache::TableCache(File& file, uint64_t cluster_bytes, uint64_t most_bytes)
    : file_(file),
      slice_bytes_(std::min<uint64_t>(cluster_bytes, kMostSliceBytes)),
      most_slices_(std::max<uint64_t>(most_bytes / kMostSliceBytes, 8)) {}

std::span<std::byte> TableCache::find(uint64_t offset) {
  const auto found = slices_.find(start_of(offset));
  if (found == slices_.end() || !found->second.page) return {};
  uses_.splice(uses_.begin(), uses_, found->second.use);
  return bytes_of(found->second);
}

Task<Result<std::span<std::byte>>> TableCache::get(uint64_t offset) {
  const uint64_t start = start_of(offset);
  // Who waited for a load looks again: it may have failed, and then loads itself.
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
  slice.loading = false;  // a loading slice is neither moved nor erased
  const auto waiting = std::move(slice.waiting);
  const bool created = slice.page != nullptr;  // meanwhile: what was read is old
  if (!created && loaded) slice.page = std::move(page);
  if (!created && !loaded) erase(start);
  for (const auto handle : waiting) handle.resume();
  if (!created && !loaded) co_return failure(loaded);
  co_return co_await get(offset);  // those who waited may have evicted it
}

void TableCache::mark_dirty(uint64_t offset) { dirty_.insert(start_of(offset)); }

void TableCache::create(uint64_t offset, uint64_t cluster_bytes) {
  for (uint64_t start = offset; start < offset + cluster_bytes; start += slice_bytes_) {
    auto found = slices_.find(start);
    Slice& slice = found == slices_.end() ? insert(start) : found->second;
    slice.page = std::make_unique<Page>();
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
    if (copies.empty() || copies.back().offset + copies.back().bytes.size() != start)
      copies.push_back({start, {}});
    copies.back().bytes.insert(copies.back().bytes.end(), bytes.begin(), bytes.end());
  }
  dirty_.clear();
  return copies;
}

void TableCache::written(std::span<const Copy> copies, bool failed) {
  for (const Copy& copy : copies)
    for (uint64_t start = copy.offset; start < copy.offset + copy.bytes.size();
         start += slice_bytes_) {
      const auto found = slices_.find(start);
      if (found == slices_.end()) continue;  // forgotten meanwhile
      found->second.writing = false;
      if (failed) dirty_.insert(start);
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
  for (auto use = uses_.end(); slices_.size() >= most_slices_ && use != uses_.begin();) {
    const uint64_t start = *--use;
    const Slice& slice = slices_.at(start);
    if (slice.loading || slice.writing || dirty_.contains(start)) continue;
    ++use;  // erase() takes the one before
    erase(start);
  }
}

Task<Result<std::vector<uint64_t>>> read_table(File& file, uint64_t offset, uint64_t entries) {
  std::vector<uint64_t> table(entries);
  const iovec buffer = to_iovec(std::as_bytes(std::span(table)));
  if (auto got = co_await file.read(offset, {&buffer, 1}); !got) co_return failure(got);
  for (uint64_t& entry : table) entry = std::byteswap(entry);
  co_return table;
}

}  // namespace wick::block::qcow2

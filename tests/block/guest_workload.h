// A guest that sends random requests to a disk, several at once. The operations of the disk's
// file complete in random order. Records what the disk may hold.
#pragma once

#include <gtest/gtest.h>

#include <list>
#include <random>
#include <span>
#include <vector>

#include "block/backend.h"
#include "tests/block/sector_history.h"
#include "tests/fakes/memory_file.h"

namespace wick::block {

class GuestWorkload {
 public:
  GuestWorkload(Backend& disk, fakes::MemoryStore& store, SectorHistory& history, uint64_t seed)
      : disk_(disk), store_(store), history_(history), random_(seed) {}

  uint64_t below(uint64_t limit) { return random_() % limit; }

  // Makes `requests` requests, at most `most_at_once` in flight. All are done on return. The
  // guest counts errors and goes on.
  void run(int requests, size_t most_at_once) {
    while (requests > 0 || !in_flight_.empty()) {
      in_flight_.remove_if([](const Request& request) { return request.done; });
      if (requests > 0 && in_flight_.size() < most_at_once &&
          (below(3) > 0 || in_flight_.empty())) {
        --requests;
        start();
      } else if (!store_.held.empty()) {
        store_.complete(below(2) == 0 ? 0 : below(store_.held.size()));
      } else {
        in_flight_.remove_if([](const Request& request) { return request.done; });
        ASSERT_TRUE(in_flight_.empty()) << "a request that waits for nothing";
      }
    }
  }

  int errors() const { return errors_; }
  int failed_flushes() const { return failed_flushes_; }
  // For a host that has lost data and may notice it late.
  void stop_checking_reads() { checks_reads_ = false; }

 private:
  static constexpr size_t kSectorBytes = SectorHistory::kSectorBytes;
  enum class Kind : uint8_t { kRead, kWrite, kZero, kDiscard, kFlush };

  struct Request {
    Kind kind = Kind::kFlush;
    uint64_t first = 0;
    uint64_t count = 0;
    bool may_unmap = false;
    uint64_t id = 0;
    std::vector<std::byte> bytes;
    bool done = false;
  };

  void start() {
    Request& request = in_flight_.emplace_back();
    constexpr Kind kKinds[] = {Kind::kWrite, Kind::kWrite, Kind::kWrite,   Kind::kWrite,
                               Kind::kRead,  Kind::kZero,  Kind::kDiscard, Kind::kFlush};
    request.kind = kKinds[below(std::size(kKinds))];
    if (request.kind != Kind::kFlush && !choose_range(request)) request.kind = Kind::kFlush;
    request.may_unmap = below(2) == 0;
    if (request.kind == Kind::kWrite) begin(request, SectorHistory::Content::kData);
    if (request.kind == Kind::kZero) begin(request, SectorHistory::Content::kZeroes);
    if (request.kind == Kind::kDiscard) begin(request, SectorHistory::Content::kIndefinite);
    spawn(serve(request));
  }

  // Chooses few places, so that many sectors are used repeatedly. Does not choose overlapping
  // requests, which may happen in any order.
  bool choose_range(Request& request) {
    const uint64_t sectors = disk_.size_bytes() / kSectorBytes;
    for (int tries = 0; tries < 10; ++tries) {
      const uint64_t place = below(2) == 0 ? below(4) * sectors / 4 + below(24) : below(sectors);
      const uint64_t longest = below(6) == 0 ? 160 : 12;
      request.first = std::min(place, sectors - 1);
      request.count = std::min(1 + below(longest), sectors - request.first);
      const auto overlaps = [&](const Request& other) {
        return &other != &request && !other.done && request.first < other.first + other.count &&
               other.first < request.first + request.count;
      };
      if (std::ranges::none_of(in_flight_, overlaps)) return true;
    }
    request.count = 0;
    return false;
  }

  void begin(Request& request, SectorHistory::Content content) {
    request.id = history_.begin(request.first, request.count, content, store_.log.size());
    request.bytes.resize(request.count * kSectorBytes);
    if (content != SectorHistory::Content::kData) return;
    for (uint64_t i = 0; i < request.count; ++i)
      SectorHistory::fill(request.first + i, request.id,
                          std::span(request.bytes).subspan(i * kSectorBytes, kSectorBytes));
  }

  Task<void> serve(Request& request) {
    const uint64_t offset = request.first * kSectorBytes;
    const uint64_t length = request.count * kSectorBytes;
    const size_t flush = history_.begin_flush();
    Result<void> result;
    if (request.kind == Kind::kRead) request.bytes.resize(length);
    const std::span<std::byte> all = request.bytes;
    // Two buffers with a cut at a random place.
    const size_t cut = all.empty() ? 0 : below(all.size());
    const iovec buffers[] = {{all.data(), cut}, {all.data() + cut, all.size() - cut}};
    switch (request.kind) {
      case Kind::kRead:
        result = co_await disk_.read(offset, buffers);
        if (result && checks_reads_) check(request);
        break;
      case Kind::kWrite:
        result = co_await disk_.write(offset, buffers);
        break;
      case Kind::kZero:
        result = co_await disk_.write_zeroes(offset, length, request.may_unmap);
        break;
      case Kind::kDiscard:
        result = co_await disk_.discard(offset, length);
        break;
      case Kind::kFlush:
        result = co_await disk_.flush();
        if (result) history_.end_flush(flush, store_.log.size());
        break;
    }
    if (result && request.id != 0) history_.end(request.first, request.count, request.id);
    if (!result) ++errors_;
    if (!result && request.kind == Kind::kFlush) ++failed_flushes_;
    request.done = true;
  }

  void check(const Request& request) {
    for (uint64_t i = 0; i < request.count; ++i)
      EXPECT_TRUE(history_.allows(request.first + i,
                                  std::span(request.bytes).subspan(i * kSectorBytes, kSectorBytes),
                                  SectorHistory::kNever))
          << "sector " << request.first + i;
  }

  Backend& disk_;
  fakes::MemoryStore& store_;
  SectorHistory& history_;
  std::mt19937_64 random_;
  std::list<Request> in_flight_;
  int errors_ = 0;
  int failed_flushes_ = 0;
  bool checks_reads_ = true;
};

}  // namespace wick::block

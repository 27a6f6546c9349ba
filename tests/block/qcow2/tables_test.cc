// The cache of tables by itself.
#include "block/qcow2/tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <optional>

#include "tests/fakes/memory_file.h"

namespace wick::block::qcow2 {
namespace {

using fakes::MemoryStore;

constexpr uint64_t kTableBytes = 4096;

class TableCacheTest : public testing::Test {
 protected:
  TableCacheTest() {
    const std::vector<std::byte> old(kTableBytes, std::byte{7});
    store_.bytes.write(0, old);
    store_.holds = true;
  }
  void get() {
    spawn([](TableCache& cache, std::optional<bool>& out) -> Task<void> {
      const auto slice = co_await cache.get(0);
      out = slice && std::ranges::all_of(*slice, [](std::byte b) { return b == std::byte{0}; });
    }(cache_, found_zeroes_.emplace_back()));
  }

  MemoryStore store_;
  fakes::MemoryFile file_{store_};
  TableCache cache_{file_, kTableBytes, 1 << 20};
  std::list<std::optional<bool>> found_zeroes_;
};

// Possible in an image whose tables overlap.
TEST_F(TableCacheTest, ATableMadeWhereAnotherIsBeingLoadedIsTheNewOne) {
  for (const int code : {0, EIO}) {
    found_zeroes_.clear();
    get();
    get();
    cache_.create(0, kTableBytes);
    ASSERT_FALSE(cache_.find(0).empty());
    store_.fault = [code](const fakes::FileOperation&) { return code; };
    store_.complete(0);
    for (const auto& zeroes : found_zeroes_) EXPECT_EQ(zeroes, true) << code;
    const auto copies = cache_.take_dirty();
    ASSERT_EQ(copies.size(), 1u);
    EXPECT_EQ(copies[0].bytes, std::vector<std::byte>(kTableBytes));
    cache_.written(copies);
    cache_.forget(0, kTableBytes);
  }
}

TEST_F(TableCacheTest, ALoadThatFailedIsTriedAgainByThoseWhoWaitedForIt) {
  get();
  get();
  store_.fault = [this](const fakes::FileOperation&) {
    store_.fault = {};
    return EIO;
  };
  store_.complete(0);
  EXPECT_EQ(found_zeroes_.front(), false);
  EXPECT_FALSE(found_zeroes_.back());
  ASSERT_EQ(store_.held.size(), 1u);
  store_.bytes.clear(0, kTableBytes);
  store_.complete(0);
  EXPECT_EQ(found_zeroes_.back(), true);
}

}  // namespace
}  // namespace wick::block::qcow2

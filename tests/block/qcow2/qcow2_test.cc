// qcow2 images, compared with a plain copy in memory and with qemu-img: after all operations
// qemu-img finds the image clean and equal to the copy.
#include "block/qcow2/qcow2.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/bytes.h"
#include "tests/block/disk_fixture.h"

namespace wick::block {
namespace {

struct Shape {
  const char* name;
  std::string options;  // qemu-img create -o
  uint64_t size_bytes;
  bool backing;
};

class Qcow2Disk : public DiskFixture {
 protected:
  void create(const Shape& shape) {
    model_.assign(shape.size_bytes, std::byte{0});
    std::string more;
    if (shape.backing) {
      // Shorter than the disk, and of both formats in turn.
      const auto base = pattern(shape.size_bytes * 3 / 4 / 512 * 512, 99);
      make_file(directory_ / "base.raw", base);
      ASSERT_TRUE(shell("qemu-img convert -O qcow2 " + directory_ / "base.raw" + " " +
                        directory_ / "base.qcow2"));
      std::ranges::copy(base, model_.begin());
      more = " -b base.qcow2 -F qcow2";
    }
    ASSERT_TRUE(shell("cd " + directory_.path() + " && qemu-img create -f qcow2 -o " +
                      shape.options + more + " disk.img " + std::to_string(shape.size_bytes)));
  }

  void reopen() {
    if (disk_) {
      ASSERT_TRUE(flush());
      disk_.reset();
    }
    const auto opened = open({.format = Format::kQcow2, .cache_bytes = cache_bytes_});
    ASSERT_TRUE(opened) << opened.error().message();
  }

  void patch(uint64_t offset, uint64_t value) {
    std::array<std::byte, 8> bytes{};
    store_be(std::span(bytes), value);
    const Fd file(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(file.get(), bytes.data(), 8, static_cast<off_t>(offset)), 8);
  }

  void compare() {
    ASSERT_TRUE(flush());
    ASSERT_TRUE(shell("qemu-img check -f qcow2 " + path_));
    make_file(directory_ / "model.raw", model_);
    ASSERT_TRUE(
        shell("qemu-img compare -f qcow2 -F raw " + path_ + " " + directory_ / "model.raw"));
  }

  void step(std::minstd_rand& random) {
    const auto below = [&](uint64_t limit) {
      return (uint64_t{random()} << 31 | random()) % limit;
    };
    const uint64_t unit = below(2) == 0 ? 512 : 4096;
    const uint64_t offset = below(model_.size() / unit) * unit;
    uint64_t length = 1 + below(below(4) == 0 ? 1'000'000 : 20'000);
    length = std::min(align_up(length, 512), model_.size() - offset);
    const std::span part = std::span(model_).subspan(offset, length);
    switch (below(10)) {
      case 0: {
        ASSERT_TRUE(write_zeroes(offset, length, below(2) == 0));
        std::ranges::fill(part, std::byte{0});
        break;
      }
      case 1: {
        ASSERT_TRUE(discard(offset, length));
        // The content is undefined now, so the test writes zeroes.
        ASSERT_TRUE(write_zeroes(offset, length, true));
        std::ranges::fill(part, std::byte{0});
        break;
      }
      case 2:
        if (below(4) == 0) {
          ASSERT_TRUE(flush());
        }
        break;
      case 3:
      case 4:
      case 5:
        ASSERT_TRUE(std::ranges::equal(read_bytes(offset, length), part))
            << offset << " " << length;
        break;
      default: {
        const auto data = pattern(length, static_cast<uint32_t>(random()));
        const auto written = write(offset, data);
        ASSERT_TRUE(written) << written.error().message();
        std::ranges::copy(data, part.begin());
      }
    }
  }

  std::vector<std::byte> model_;
  uint64_t cache_bytes_ = 2 << 20;
};

const Shape kShapes[] = {
    {"Default", "compat=1.1", 8 << 20, false},
    {"Version2", "compat=0.10", 8 << 20, false},
    {"Version2Backing", "compat=0.10", 8 << 20, true},
    {"Backing", "compat=1.1", 8 << 20, true},
    {"SmallClusters", "cluster_size=512", 2 << 20, false},
    {"SmallClustersBacking", "cluster_size=512", 2 << 20, true},
    {"Clusters4K", "cluster_size=4k,refcount_bits=1", 8 << 20, true},
    {"LargeClusters", "cluster_size=2M,refcount_bits=64", 32 << 20, true},
    {"Refcounts8", "cluster_size=1k,refcount_bits=8", 4 << 20, false},
    {"Refcounts64Small", "cluster_size=512,refcount_bits=64", 3 << 20, false},
    {"ExtendedL2", "extended_l2=on,cluster_size=64k", 8 << 20, false},
    {"ExtendedL2Backing", "extended_l2=on,cluster_size=16k", 8 << 20, true},
    {"LazyRefcounts", "lazy_refcounts=on", 8 << 20, false},
    {"Preallocated", "preallocation=metadata", 8 << 20, false},
};

INSTANTIATE_TEST_SUITE_P(Engines, Qcow2Disk, testing::Values(Engine::kUring), engine_name);

class Qcow2DiskOfAnyShape : public Qcow2Disk {
 protected:
  void exercise_all_shapes();
};

INSTANTIATE_TEST_SUITE_P(Engines, Qcow2DiskOfAnyShape, testing::Values(Engine::kUring),
                         engine_name);

TEST_P(Qcow2DiskOfAnyShape, IsCleanAndEqualToQemuAfterRandomRequests) { exercise_all_shapes(); }

// Tables are evicted and written back all the time.
TEST_P(Qcow2DiskOfAnyShape, IsCleanAndEqualToQemuWithTheSmallestCache) {
  cache_bytes_ = 1;
  exercise_all_shapes();
}

void Qcow2DiskOfAnyShape::exercise_all_shapes() {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.name);
    create(shape);
    reopen();
    std::minstd_rand random(7);
    for (int batch = 0; batch < 4; ++batch) {
      for (int i = 0; i < 100; ++i) {
        step(random);
        if (HasFatalFailure()) return;
      }
      compare();
      if (HasFatalFailure()) return;
      reopen();
    }
    disk_.reset();
    std::filesystem::remove(path_);
  }
}

TEST_P(Qcow2Disk, ReadsCompressedClusters) {
  for (const char* type : {"zlib", "zstd"}) {
    std::vector<std::byte> content(3 << 20);
    for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(i / 977);
    make_file(directory_ / "plain.raw", content);
    ASSERT_TRUE(shell("qemu-img convert -c -O qcow2 -o compression_type=" + std::string(type) +
                      " " + directory_ / "plain.raw" + " " + path_));
    reopen();
    EXPECT_EQ(read_bytes(0, content.size()), content) << type;
    // A write replaces a compressed cluster by a plain one.
    model_ = content;
    const auto data = pattern(5000, 3);
    ASSERT_TRUE(write(70'000, data));
    std::ranges::copy(data, model_.begin() + 70'000);
    compare();
    disk_.reset();
    std::filesystem::remove(path_);
  }
}

TEST_P(Qcow2Disk, LeavesInternalSnapshotsAlone) {
  create(kShapes[0]);
  ASSERT_TRUE(shell("qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 3M 200k' " + path_));
  ASSERT_TRUE(shell("qemu-img snapshot -c before " + path_));
  reopen();
  ASSERT_TRUE(write(4096, pattern(300'000, 5)));
  ASSERT_TRUE(discard(3 << 20, 1 << 20));
  ASSERT_TRUE(flush());
  disk_.reset();
  ASSERT_TRUE(shell("qemu-img check " + path_));
  ASSERT_TRUE(shell("qemu-img snapshot -a before " + path_));
  ASSERT_TRUE(shell("qemu-io -c 'read -P 1 0 1M' -c 'read -P 2 3M 200k' " + path_ +
                    " | tee /dev/stderr | (! grep -q 'Pattern verification failed')"));
}

TEST_P(Qcow2Disk, UsesAnExternalDataFile) {
  ASSERT_TRUE(shell("cd " + directory_.path() + " && qemu-img create -f qcow2 -o data_file=" +
                    directory_.path() + "/data.raw,data_file_raw=on disk.img 4M"));
  model_.assign(4 << 20, std::byte{0});
  reopen();
  const auto data = pattern(500'000, 8);
  ASSERT_TRUE(write(123'456, data));
  std::ranges::copy(data, model_.begin() + 123'456);
  ASSERT_TRUE(write_zeroes(200'000, 100'000, true));
  std::fill_n(model_.begin() + 200'000, 100'000, std::byte{0});
  compare();
  ASSERT_TRUE(shell("cmp " + directory_ / "data.raw" + " " + directory_ / "model.raw"));
}

TEST_P(Qcow2Disk, ThatBacksItselfIsRefused) {
  create(kShapes[0]);
  ASSERT_TRUE(shell("cd " + directory_.path() +
                    " && qemu-img rebase -u -f qcow2 -b disk.img -F qcow2 disk.img"));
  const auto opened = open({.format = Format::kQcow2});
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), testing::HasSubstr("form a loop"));
}

TEST_P(Qcow2Disk, ServesOverlappingRequestsAllAtOnce) {
  create(kShapes[3]);
  reopen();
  // Each writes its own sectors of shared clusters.
  std::vector<std::vector<std::byte>> data;
  for (uint32_t i = 0; i < 64; ++i) data.push_back(pattern(2048, i));
  std::counting_semaphore<> done(0);
  int failures = 0;
  loop().post([&] {
    for (uint64_t i = 0; i < data.size(); ++i)
      spawn([](Backend& disk, uint64_t offset, std::vector<std::byte>& bytes, int& failed,
               std::counting_semaphore<>& finished) -> Task<void> {
        const iovec buffer = to_iovec(bytes);
        if (!co_await disk.write(offset, {&buffer, 1})) ++failed;
        finished.release();
      }(*disk_, i * 4096, data[i], failures, done));
  });
  for (size_t i = 0; i < data.size(); ++i) done.acquire();
  EXPECT_EQ(failures, 0);
  for (size_t i = 0; i < data.size(); ++i)
    std::ranges::copy(data[i], model_.begin() + static_cast<std::ptrdiff_t>(i * 4096));
  compare();
}

TEST_P(Qcow2Disk, WithTablesOverOneAnotherIsNotWritten) {
  constexpr uint64_t kCopied = 1ull << 63;
  create(kShapes[0]);
  const uint64_t l1 = 3 << 16;
  for (const uint64_t entry :
       {kCopied, kCopied | (1 << 16), kCopied | l1, kCopied | ((7 << 16) + 512)}) {
    patch(l1, entry);
    const auto before = file_content();
    reopen();
    std::vector<std::byte> sector(512, std::byte{1});
    for (const Result<void>& result :
         {write(0, sector), read(0, {to_iovec(sector)}), write_zeroes(0, 1 << 16, true)}) {
      ASSERT_FALSE(result) << entry;
      EXPECT_THAT(result.error().message(), testing::HasSubstr("corrupt"));
    }
    EXPECT_TRUE(flush());
    disk_.reset();
    EXPECT_EQ(file_content(), before) << entry;
  }
}

TEST_P(Qcow2Disk, WhoseBaseIsMissingSaysWhich) {
  create(kShapes[3]);
  std::filesystem::remove(directory_ / "base.qcow2");
  const auto opened = open({.format = {}});
  ASSERT_FALSE(opened);
  EXPECT_THAT(
      opened.error().message(),
      testing::AllOf(testing::HasSubstr("backing file of " + path_),
                     testing::HasSubstr("base.qcow2"), testing::HasSubstr("wick image info")));
}

TEST_P(Qcow2Disk, DoesNotFollowABaseWhoseFormatIsImplied) {
  create(kShapes[3]);
  ASSERT_TRUE(shell("cd " + directory_.path() +
                    " && qemu-img rebase -u -f qcow2 -b base.raw base.qcow2 -F raw"
                    " && qemu-img create -f qcow2 -o compat=0.10 -b base.qcow2 -F qcow2 disk.img"));
  // No tool leaves the format out, so its header extension becomes an unknown one.
  patch(72, 0x1234'5678'0000'0005);
  const auto opened = open({.format = Format::kQcow2});
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), testing::HasSubstr("wick image rebase"));
}

TEST(RangeLock, GivesRangesInTheOrderOfAsking) {
  RangeLock lock;
  std::string order;
  std::optional<RangeLock::Held> first;
  const auto take = [&](char name, uint64_t from, uint64_t to, bool alone) {
    spawn([](RangeLock& what, std::string& out, char me, uint64_t low, uint64_t high,
             bool exclusive) -> Task<void> {
      const auto held = co_await what.enter(low, high, exclusive);
      out += me;
    }(lock, order, name, from, to, alone));
  };
  spawn([](RangeLock& what, std::optional<RangeLock::Held>& held) -> Task<void> {
    held.emplace(co_await what.shared(5, 9));
  }(lock, first));
  take('a', 9, 9, false);    // shares
  take('b', 9, 12, true);    // waits
  take('c', 5, 6, false);    // no conflict
  take('d', 12, 12, false);  // waits behind b
  take('e', 13, 13, true);
  EXPECT_EQ(order, "ace");
  first.reset();
  EXPECT_EQ(order, "acebd");
}

TEST(RangeLock, LetsAnyNumberOfWaitersGoWithoutNesting) {
  RangeLock lock;
  std::optional<RangeLock::Held> first;
  spawn([](RangeLock& what, std::optional<RangeLock::Held>& held) -> Task<void> {
    held.emplace(co_await what.exclusive(0, 0));
  }(lock, first));
  int depth = 0, deepest = 0, done = 0;
  for (int i = 0; i < 2000; ++i)
    spawn([](RangeLock& what, int& now, int& most, int& count) -> Task<void> {
      auto held = co_await what.exclusive(0, 0);
      most = std::max(most, ++now);
      held.release();
      --now;
      ++count;
    }(lock, depth, deepest, done));
  first.reset();
  EXPECT_EQ(done, 2000);
  EXPECT_EQ(deepest, 1);
}

using qcow2::Header;

std::vector<std::byte> header_bytes(const Header& header) {
  return qcow2::format_header(header).value();
}

Header plain_header() {
  Header header;
  header.size_bytes = 1 << 20;
  header.l1_entries = 1;
  header.l1_offset = 3 << 16;
  header.refcount_table_offset = 1 << 16;
  header.refcount_table_clusters = 1;
  return header;
}

constexpr uint64_t kFileBytes = 4 << 16;

TEST(Qcow2Header, ReadsWhatItWrote) {
  Header header = plain_header();
  header.backing_path = "base.raw";
  header.backing_format = "raw";
  header.unknown.push_back({0x12345678, {std::byte{1}, std::byte{2}}});
  const auto read = qcow2::parse_header(header_bytes(header), kFileBytes, "a");
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(header_bytes(*read), header_bytes(header));
  EXPECT_EQ(read->backing_path, "base.raw");
  EXPECT_EQ(read->unknown.size(), 1u);
}

}  // namespace
}  // namespace wick::block

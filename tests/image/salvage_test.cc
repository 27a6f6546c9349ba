// Copies of disks with unreadable parts.
#include <gtest/gtest.h>

#include <cstring>

#include "image/copy.h"
#include "image/read_only_disk.h"
#include "image/vmdk_reader.h"
#include "tests/block/qcow2/images.h"

namespace wick::image {
namespace {

using namespace block;  // the disks, and their fixture

using fakes::FileOperation;
using fakes::finish;
using fakes::MemoryStore;

constexpr uint64_t kDiskBytes = 1 << 20;

// A disk without zeroes, in compressed blocks of 64 KiB.
class Salvage : public testing::TestWithParam<const char*> {
 protected:
  Salvage() {
    content_ = pattern(kDiskBytes, 1);
    folder_.write("content.raw", {reinterpret_cast<const char*>(content_.data()), kDiskBytes});
    // In base64, so that it can be compressed.
    EXPECT_TRUE(shell("cd " + folder_.path() +
                      " && base64 -w 0 content.raw | head -c 1M >a.raw &&"
                      "qemu-img convert -f raw " +
                      GetParam() + " a.raw image"));
    fakes::SparseBytes raw = folder_.load("a.raw");
    raw.read(0, content_);
    store_.bytes = folder_.load("image");
    store_.fault = [this](const FileOperation& operation) {
      if (operation.kind == FileOperation::Kind::kRead) read_bytes_ += operation.length_bytes;
      return 0;
    };
  }

  std::unique_ptr<Backend> open() {
    auto file = std::make_unique<fakes::MemoryFile>(store_);
    if (std::string(GetParam()).find("vmdk") == std::string::npos)
      return finish(Qcow2::open(std::move(file), {.read_only = true, .cache_bytes = 64 << 10}))
          .value();
    return finish(open_vmdk(std::move(file),
                            [](const std::string&) {
                              return Result<std::unique_ptr<File>>(fail("no file beside"));
                            }))
        .value()
        .disk;
  }

  ImageFolder folder_;
  std::vector<std::byte> content_;
  MemoryStore store_;
  MemoryStore copy_;
  uint64_t read_bytes_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Formats, Salvage,
                         testing::Values("-O vmdk -o subformat=streamOptimized", "-O qcow2 -c"),
                         [](const auto& param) {
                           return std::string(param.index == 0 ? "Vmdk" : "Qcow2");
                         });

TEST_P(Salvage, ReadsEachCompressedBlockAFewTimesAndNotForEachOfItsSectors) {
  store_.bytes.clear(300 << 10, 100 << 10);
  const auto source = open();
  copy_.bytes.grow(kDiskBytes);
  const auto disk = open_raw(std::make_unique<fakes::MemoryFile>(copy_), {}).value();
  const auto target = copy_to(*disk, 4096, true);
  int told = 0;
  CopyRules rules;
  rules.salvage = [&](uint64_t, const Error&) { ++told; };
  read_bytes_ = 0;
  ASSERT_TRUE(finish(copy_disks({source.get()}, *target, {}, rules)));
  EXPECT_LT(read_bytes_, 4 * kDiskBytes);
  EXPECT_GT(told, 0);
  EXPECT_LT(told, 8);  // once for each block
  // Undamaged blocks are copied, the others are zeroes.
  const auto copied = read_now(*disk, 0, kDiskBytes).value();
  int lost = 0;
  for (uint64_t at = 0; at < kDiskBytes; at += 64 << 10) {
    const auto there = std::span(copied).subspan(at, 64 << 10);
    if (std::ranges::equal(there, std::span(content_).subspan(at, 64 << 10))) continue;
    EXPECT_TRUE(is_zero(there)) << at;
    ++lost;
  }
  EXPECT_EQ(lost, told);
}

// A disk without any extents, whose content is unreadable except for its end.
class Damaged final : public ReadOnlyDisk {
 public:
  Damaged() : ReadOnlyDisk("damaged") {}
  uint64_t size_bytes() const override { return kDiskBytes; }
  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    if (offset < kDiskBytes - 4096) co_return fail_errno(EIO, "damaged at {}", offset);
    for (const iovec& buffer : buffers) std::memset(buffer.iov_base, 7, buffer.iov_len);
    co_return Result<void>();
  }
  Task<Result<Extent>> extent(uint64_t offset, uint64_t) override {
    ++asked;
    co_return fail_errno(EIO, "no table at {}", offset);
  }

  int asked = 0;
};

TEST(SalvageOfADamagedTable, AsksWhereTheContentIsOnceForEachPieceAndNotForEachSector) {
  Damaged source;
  MemoryStore store;
  store.bytes.grow(kDiskBytes);
  const auto disk = open_raw(std::make_unique<fakes::MemoryFile>(store), {}).value();
  const auto target = copy_to(*disk, 4096, true);
  uint64_t told = 0;
  CopyRules rules;
  rules.salvage = [&](uint64_t, const Error&) { ++told; };
  ASSERT_TRUE(finish(copy_disks({&source}, *target, {}, rules)));
  EXPECT_EQ(told, (kDiskBytes - 4096) / 512);
  EXPECT_LE(source.asked, 8);  // four pieces, two calls for each
  const auto copied = read_now(*disk, 0, kDiskBytes).value();
  EXPECT_TRUE(is_zero(std::span(copied).first(kDiskBytes - 4096)));
  EXPECT_EQ(copied.back(), std::byte{7});
}

}  // namespace
}  // namespace wick::image

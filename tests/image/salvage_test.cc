// Copies of disks of which a part cannot be read.
#include <gtest/gtest.h>

#include "image/copy.h"
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
    std::ofstream(folder_.path() + "/content.raw", std::ios::binary)
        .write(reinterpret_cast<const char*>(content_.data()), kDiskBytes);
    // So that it can be compressed at all.
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
  // All blocks that are whole are there, and the others are zeroes.
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

}  // namespace
}  // namespace wick::image

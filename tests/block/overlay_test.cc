#include "block/overlay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/block/disk_fixture.h"

namespace wick::block {
namespace {

class EphemeralDisk : public DiskFixture {
 protected:
  EphemeralDisk() {
    lock_ = true;
    content_ = pattern(1 << 20, 1);
    make_file(path_, content_);
  }
  std::vector<std::byte> content_;
};

INSTANTIATE_TEST_SUITE_P(Engines, EphemeralDisk, testing::Values(Engine::kUring), engine_name);

TEST_P(EphemeralDisk, ReadsWhatWasWrittenAndLeavesTheImageAlone) {
  for (const Format format : {Format::kRaw, Format::kQcow2}) {
    if (format == Format::kQcow2) {
      ASSERT_TRUE(shell("cd " + directory_.path() +
                        " && qemu-img convert -O qcow2 disk.img new && mv new disk.img"));
    }
    const auto before = file_content();
    ASSERT_TRUE(open({.format = format, .ephemeral = true}));
    EXPECT_FALSE(disk_->read_only());
    EXPECT_EQ(disk_->size_bytes(), content_.size());
    auto model = content_;
    const auto data = pattern(70'000, 2);
    ASSERT_TRUE(write(12'345, data));
    std::ranges::copy(data, model.begin() + 12'345);
    ASSERT_TRUE(write_zeroes(500'000, 100'000, true));
    std::fill_n(model.begin() + 500'000, 100'000, std::byte{0});
    ASSERT_TRUE(flush());
    EXPECT_EQ(read_bytes(0, model.size()), model);
    disk_.reset();
    EXPECT_EQ(file_content(), before);
    ASSERT_TRUE(open({.format = format, .ephemeral = true}));
    EXPECT_EQ(read_bytes(0, content_.size()), content_);
    disk_.reset();
  }
}

TEST_P(EphemeralDisk, SharesItsImageWithOthersOfItsKind) {
  ASSERT_TRUE(open({.format = Format::kRaw, .ephemeral = true}));
  const auto first = std::move(disk_);
  EXPECT_TRUE(open({.format = Format::kRaw, .ephemeral = true}));
  disk_.reset();
  EXPECT_FALSE(open({.format = Format::kRaw}));
}

TEST_P(EphemeralDisk, LeavesNoFileBehind) {
  ::setenv("TMPDIR", directory_.path().c_str(), 1);
  const auto opened = open({.format = Format::kRaw, .ephemeral = true});
  ::setenv("TMPDIR", "/nonexistent", 1);
  const auto first = std::move(disk_);
  const auto refused = open({.format = Format::kRaw, .ephemeral = true});
  ::unsetenv("TMPDIR");
  EXPECT_TRUE(opened);
  EXPECT_TRUE(shell("[ $(ls -A " + directory_.path() + " | wc -l) = 1 ]"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(),
              testing::AllOf(testing::HasSubstr("/nonexistent"), testing::HasSubstr("TMPDIR")));
}

}  // namespace
}  // namespace wick::block

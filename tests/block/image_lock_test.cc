#include "block/image_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/block/disk_fixture.h"

namespace wick::block {
namespace {

class ImageLock : public DiskFixture {
 protected:
  ImageLock() {
    lock_ = true;
    make_file(1 << 20);
  }

  ImageOptions options(bool read_only) const {
    return {.format = Format::kRaw, .read_only = read_only};
  }
  // A second open, as by another program, while disk_ stays open.
  Result<void> open_again(bool read_only) {
    auto first = std::move(disk_);
    auto result = open(path_, options(read_only));
    disk_ = std::move(first);
    return result;
  }
};

INSTANTIATE_TEST_SUITE_P(Engines, ImageLock, testing::Values(Engine::kUring), engine_name);

TEST_P(ImageLock, GivesAWriterTheImageForItself) {
  ASSERT_TRUE(open(options(false)));
  for (const bool read_only : {false, true}) {
    const auto again = open_again(read_only);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EAGAIN);
    EXPECT_THAT(again.error().message(),
                testing::AllOf(testing::HasSubstr(path_), testing::HasSubstr("writes to it")));
  }
  disk_.reset();
  EXPECT_TRUE(open(options(false)));
}

// An io_uring has such a reference for a while after the last request.
TEST_P(ImageLock, EndsWithTheImageDespiteReferencesToItsFile) {
  Fd file(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  const Fd reference(::dup(file.get()));
  ASSERT_TRUE(lock_image(file, false, path_));
  auto image = open_host_file(std::move(file), path_, Cache::kWriteback, false, *io_);
  ASSERT_TRUE(image);
  EXPECT_FALSE(open(options(false)));
  image->reset();
  EXPECT_TRUE(open(options(false)));
}

TEST_P(ImageLock, LetsReadersShareTheImageAndKeepsWritersOut) {
  ASSERT_TRUE(open(options(true)));
  EXPECT_TRUE(open_again(true));
  const auto writer = open_again(false);
  ASSERT_FALSE(writer);
  EXPECT_THAT(writer.error().message(), testing::HasSubstr("uses it"));
}

TEST_P(ImageLock, KeepsQemuOut) {
  ASSERT_TRUE(open(options(false)));
  EXPECT_FALSE(shell("qemu-io -f raw -c 'write 0 512' " + path_));
  disk_.reset();
  ASSERT_TRUE(open(options(true)));
  EXPECT_TRUE(shell("qemu-io -f raw -r -c 'read 0 512' " + path_));
  EXPECT_FALSE(shell("qemu-io -f raw -c 'write 0 512' " + path_));
}

TEST_P(ImageLock, IsKeptOutByQemu) {
  // qemu-io has the image open once it answers.
  const std::string answers = directory_ / "answers";
  FILE* const qemu = ::popen(("stdbuf -o0 qemu-io -f raw " + path_ + " > " + answers).c_str(), "w");
  ASSERT_NE(qemu, nullptr);
  std::fputs("length\n", qemu);
  std::fflush(qemu);
  for (int i = 0; i < 1000 && !shell("grep -q MiB " + answers); ++i) ::usleep(10'000);
  for (const bool read_only : {false, true}) EXPECT_FALSE(open(options(read_only)));
  ::pclose(qemu);
  EXPECT_TRUE(open(options(false)));
}

}  // namespace
}  // namespace wick::block

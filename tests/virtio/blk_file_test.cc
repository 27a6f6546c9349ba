// Tests virtio-blk over a real file.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "block/image.h"
#include "tests/fakes/pattern.h"
#include "tests/virtio/blk_fixture.h"

namespace wick::virtio {
namespace {

using fakes::pattern;

enum class Engine { kUring, kThreaded };

class BlkOnFile : public BlkDriver, public testing::WithParamInterface<Engine> {
 protected:
  BlkOnFile() {
    file_ = Fd(::mkostemp(path_.data(), O_CLOEXEC));
    EXPECT_EQ(::ftruncate(file_.get(), kDiskBytes), 0);
    loop().call([&] {
      io_ = (GetParam() == Engine::kUring ? block::AsyncIo::create_uring(loop())
                                          : block::AsyncIo::create_threaded(loop()))
                .value();
    });
    backend_ =
        run_on(loop(), block::open_image(path_, {.format = block::Format::kRaw}, *io_)).value();
    attach(*backend_);
    start();
  }
  ~BlkOnFile() override {
    regs().reset();
    thread_->stop();
    ::unlink(path_.c_str());
  }

  std::string path_ = testing::TempDir() + "wick-blk-XXXXXX";
  Fd file_;
  std::unique_ptr<block::AsyncIo> io_;
  std::unique_ptr<block::Backend> backend_;
};

TEST_P(BlkOnFile, ReadsBackWhatItWrote) {
  const auto data = pattern(65536, 7);
  EXPECT_EQ(finish(publish_write(100, data)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_FLUSH)), VIRTIO_BLK_S_OK);
  const auto request = publish_read(100, 65536);
  EXPECT_EQ(finish(request), VIRTIO_BLK_S_OK);
  EXPECT_TRUE(std::ranges::equal(request.writable[0], data));
  std::vector<std::byte> in_file(65536);
  ASSERT_EQ(::pread(file_.get(), in_file.data(), in_file.size(), 51200), 65536);
  EXPECT_EQ(in_file, data);
}

TEST_P(BlkOnFile, GivesSpaceBack) {
  EXPECT_EQ(finish(publish_write(0, pattern(1 << 19, 7))), VIRTIO_BLK_S_OK);
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_DISCARD, segment(0, 512, 0))), VIRTIO_BLK_S_OK);
  EXPECT_EQ(finish(publish_out(VIRTIO_BLK_T_WRITE_ZEROES, segment(512, 512, 0))), VIRTIO_BLK_S_OK);
  const auto request = publish_read(512, 4096);
  EXPECT_EQ(finish(request), VIRTIO_BLK_S_OK);
  EXPECT_THAT(request.writable[0], testing::Each(std::byte{0}));
}

TEST_P(BlkOnFile, DrainsAtReset) {
  for (int life = 0; life < 50; ++life) {
    for (uint64_t i = 0; i < 32; ++i) publish_write(i * 8, pattern(4096, static_cast<uint32_t>(i)));
    kick();
    regs().reset();
    const uint16_t done = driver_->used_index();
    for (int i = 0; i < 10; ++i) loop().call([] {});
    EXPECT_EQ(driver_->used_index(), done);
    driver_->forget();
    start();
  }
}

INSTANTIATE_TEST_SUITE_P(, BlkOnFile, testing::Values(Engine::kUring, Engine::kThreaded),
                         [](const auto& param) {
                           return param.param == Engine::kUring ? "Uring" : "Threaded";
                         });

}  // namespace
}  // namespace wick::virtio

// The files that headers name: which ones are opened; and chains of many images.
#include "block/named_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/stat.h>

#include <filesystem>

#include "block/qcow2/qcow2.h"
#include "image/new_image.h"
#include "tests/block/disk_fixture.h"
#include "tests/fakes/files.h"

namespace wick::block {
namespace {

using fakes::read_file;
using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kClusterBytes = 64 << 10;

// The folder `images` holds downloaded images, `elsewhere` the user's files.
class NamedFiles : public DiskFixture {
 protected:
  NamedFiles() {
    images_ = directory_ / "images";
    elsewhere_ = directory_ / "elsewhere";
    std::filesystem::create_directories(images_ + "/sub");
    std::filesystem::create_directories(elsewhere_);
    path_ = images_ + "/disk.qcow2";
    secret_ = elsewhere_ + "/secret";
    fakes::write_file(secret_, std::string(4096, 's'));
  }

  void make(const std::string& path, const Qcow2CreateOptions& options) {
    const auto made = run([&] { return image::create_image(path, options, *io_); });
    ASSERT_TRUE(made) << made.error().message();
  }
  // Makes an image that names `name`, without any check of the name.
  void make_overlay(const std::string& path, const std::string& name,
                    const std::string& format = "raw") {
    make(path, {.size_bytes = 1 << 20, .backing_path = name, .backing_format = format});
  }
  void make_with_data_file(const std::string& path, const std::string& name) {
    make(path, {.size_bytes = 1 << 20, .data_path = "placeholder.raw", .raw_data = true});
    // The name is in the header's extension, with its length before it.
    ASSERT_LE(name.size(), 200u);
    std::string bytes = read_file(path);
    const auto at = bytes.find("placeholder.raw");
    ASSERT_NE(at, std::string::npos);
    bytes.replace(at, 208, std::string(208, '\0'));
    bytes.replace(at, name.size(), name);
    bytes[at - 1] = static_cast<char>(name.size());
    fakes::write_file(path, bytes);
  }
  // The error message; "" if the image is opened, and then a guest writes to it.
  std::string complaint(const ImageOptions& options = {}) {
    disk_.reset();
    const auto opened = open(options);
    if (!opened) return opened.error().message();
    if (!disk_->read_only()) {
      EXPECT_TRUE(write(0, pattern(4096, 1)));
      EXPECT_TRUE(flush());
    }
    read_bytes(0, 4096);
    disk_.reset();
    return "";
  }

  std::string images_;
  std::string elsewhere_;
  std::string secret_;
};

TEST_P(NamedFiles, ADataFileElsewhereIsNotWritten) {
  make_with_data_file(path_, secret_);
  const std::string before = read_file(secret_);
  EXPECT_THAT(complaint(), AllOf(HasSubstr(secret_), HasSubstr("data-file=")));
  ImageOptions options;
  options.names = Names::kRead;  // backing=any allows only reading
  EXPECT_THAT(complaint(options), HasSubstr("data-file="));
  EXPECT_EQ(read_file(secret_), before);
  options = {};
  options.data_path = secret_;
  EXPECT_EQ(complaint(options), "");
  EXPECT_NE(read_file(secret_), before);
}

TEST_P(NamedFiles, ABackingFileElsewhereIsNotRead) {
  make_overlay(path_, secret_);
  for (const bool read_only : {false, true}) {
    ImageOptions options;
    options.read_only = read_only;
    EXPECT_THAT(complaint(options), AllOf(HasSubstr(secret_), HasSubstr("backing=any")));
    options.names = Names::kRead;
    EXPECT_EQ(complaint(options), "");
  }
  EXPECT_EQ(read_file(secret_), std::string(4096, 's'));
}

// A program with the right to rename the image's folder replaces it after the image is opened,
// and before the files that it names are opened.
TEST_P(NamedFiles, TheFolderIsThatOfTheImageWhichIsOpen) {
  for (const bool by_link : {false, true})
    for (const bool data : {false, true}) {
      SCOPED_TRACE(testing::Message() << by_link << data);
      make_file(images_ + "/named.raw", 1 << 20);
      make_file(elsewhere_ + "/named.raw", 1 << 20);
      std::filesystem::remove(path_);
      if (data)
        make_with_data_file(path_, "named.raw");
      else
        make_overlay(path_, "named.raw");
      std::filesystem::copy_file(path_, elsewhere_ + "/disk.qcow2");
      const Fd opened(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
      ImageOptions options;
      options.pinned = &opened;
      std::filesystem::rename(images_, directory_ / "moved");
      if (by_link)
        std::filesystem::create_symlink("elsewhere", images_);
      else
        std::filesystem::rename(elsewhere_, images_);
      EXPECT_THAT(complaint(options), HasSubstr("is no longer at its path"));
      const std::string there = (by_link ? elsewhere_ : images_) + "/named.raw";
      EXPECT_TRUE(read_file(there) == std::string(1 << 20, '\0'));
      if (by_link)
        std::filesystem::remove(images_);
      else
        std::filesystem::rename(images_, elsewhere_);
      std::filesystem::remove(elsewhere_ + "/disk.qcow2");
      std::filesystem::rename(directory_ / "moved", images_);
      EXPECT_EQ(complaint(options), "");  // it is there again
    }
}

TEST_P(NamedFiles, WhatCountsIsWhereANameLeads) {
  make_file(images_ + "/base.raw", 4096);
  make_file(images_ + "/sub/base.raw", 4096);
  std::filesystem::create_symlink("sub/base.raw", images_ + "/link-below");
  std::filesystem::create_symlink(images_ + "/base.raw", images_ + "/sub/link-to-absolute");
  std::filesystem::create_symlink(secret_, images_ + "/link-out");
  std::filesystem::create_symlink(elsewhere_, images_ + "/folder-out");
  for (const std::string& name :
       {std::string("base.raw"), std::string("sub/base.raw"), images_ + "/base.raw",
        std::string("sub/../base.raw"), std::string("link-below"),
        std::string("sub/link-to-absolute"), std::string("file:base.raw")}) {
    make_overlay(path_, name);
    EXPECT_EQ(complaint(), "") << name;
  }
  for (const std::string& name :
       {std::string("../elsewhere/secret"), secret_, std::string("sub/../../elsewhere/secret"),
        std::string("link-out"), std::string("folder-out/secret"),
        images_ + "/../elsewhere/secret"}) {
    make_overlay(path_, name);
    EXPECT_THAT(complaint(), HasSubstr("backing=any")) << name;
  }
  // A folder whose name has the same beginning is a different folder.
  std::filesystem::create_directory(images_ + "2");
  make_file(images_ + "2/base.raw", 4096);
  make_overlay(path_, "../images2/base.raw");
  EXPECT_THAT(complaint(), HasSubstr("backing=any"));
}

TEST_P(NamedFiles, AnImageGivenByALinkOrFromWithinItsFolder) {
  make_file(images_ + "/base.raw", 4096);
  make_overlay(path_, "base.raw");
  std::filesystem::create_symlink(images_, directory_ / "way");
  EXPECT_EQ(std::exchange(path_, directory_ / "way/disk.qcow2"), images_ + "/disk.qcow2");
  EXPECT_EQ(complaint(), "");
  const auto old = std::filesystem::current_path();
  std::filesystem::current_path(images_);
  path_ = "disk.qcow2";
  EXPECT_EQ(complaint(), "");
  make_overlay("out.qcow2", "../elsewhere/secret");
  path_ = "out.qcow2";
  EXPECT_THAT(complaint(), HasSubstr("backing=any"));
  std::filesystem::current_path(old);
}

TEST_P(NamedFiles, EachImageOfAChainHasItsOwnFolder) {
  make_file(images_ + "/base.raw", 4096);
  make_overlay(images_ + "/sub/middle.qcow2", "../base.raw");
  make_overlay(path_, "sub/middle.qcow2", "qcow2");
  EXPECT_THAT(complaint(), AllOf(HasSubstr("sub/middle.qcow2"), HasSubstr("backing=any")));
  make_file(images_ + "/sub/base.raw", 4096);
  make_overlay(images_ + "/sub/middle.qcow2", "base.raw");
  EXPECT_EQ(complaint(), "");
  // The data file of a backing file is only read.
  make_with_data_file(images_ + "/sub/middle.qcow2", secret_);
  EXPECT_THAT(complaint(), HasSubstr("names the data file"));
  ImageOptions options;
  options.names = Names::kRead;
  EXPECT_EQ(complaint(options), "");
  EXPECT_EQ(read_file(secret_), std::string(4096, 's'));
}

TEST_P(NamedFiles, ThatAreNotFilesInAFolderAreRefused) {
  const std::string fifo = images_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  make_file(images_ + "/base.raw", 4096);
  const Fd in_folder(::open((images_ + "/base.raw").c_str(), O_RDWR | O_CLOEXEC));
  const std::string number = std::to_string(in_folder.get());
  for (const std::string& name :
       {fifo, std::string("/dev/zero"), std::string("/dev/null"), "/proc/self/fd/" + number,
        "/dev/fd/" + number, std::string("json:{\"driver\":\"file\",\"filename\":\"base.raw\"}"),
        std::string("nbd:localhost:10809"), std::string("nbd+unix:///x?socket=/tmp/s"),
        std::string("fat:rw:/"), std::string("."), std::string("/dev/stdin"), images_}) {
    make_overlay(path_, name);
    EXPECT_NE(complaint(), "") << name;
    if (name.starts_with("json:")) continue;  // has a quote; refused in the same way
    make_with_data_file(path_, name);
    EXPECT_NE(complaint(), "") << name;
  }
}

TEST_P(NamedFiles, ADataFileThatWasGivenReplacesTheNamedOne) {
  const std::string given = elsewhere_ + "/with,comma.raw";
  make_file(given, 1 << 20);
  make_with_data_file(path_, "missing.raw");
  EXPECT_THAT(complaint(), HasSubstr("No such file"));
  ImageOptions options;
  options.data_path = given;
  EXPECT_EQ(complaint(options), "");
  const auto written = pattern(4096, 1);
  EXPECT_EQ(read_file(given).substr(0, 4096),
            std::string(reinterpret_cast<const char*>(written.data()), written.size()));
  make_with_data_file(path_, given);
  EXPECT_THAT(complaint(), HasSubstr("with,,comma.raw"));  // as a SPEC needs it
  make(path_, {.size_bytes = 1 << 20});
  EXPECT_THAT(complaint(options), HasSubstr("has no data file"));
  make_file(path_, 4096);
  options.format = Format::kRaw;
  EXPECT_THAT(complaint(options), HasSubstr("has no data file"));
}

TEST_P(NamedFiles, AnImageIsNotItsOwnDataFile) {
  lock_ = true;
  make_with_data_file(path_, "disk.qcow2");
  EXPECT_THAT(complaint(), HasSubstr("part of the same disk"));
}

TEST_P(NamedFiles, ThatCannotBeOpenedAreReportedByName) {
  make_overlay(path_, "missing.raw");
  EXPECT_THAT(complaint(), AllOf(HasSubstr("backing file of " + path_), HasSubstr("No such file"),
                                 HasSubstr("wick image info")));
}

INSTANTIATE_TEST_SUITE_P(, NamedFiles, testing::Values(Engine::kUring), engine_name);

class Chain : public DiskFixture {
 protected:
  std::string layer(size_t number) const {
    return fmt::format("{}/{}.qcow2", directory_.path(), number);
  }

  // 0.qcow2 and `count` images over it, each with a cluster of its own.
  void make(size_t count) {
    for (size_t i = 0; i <= count; ++i) {
      Qcow2CreateOptions options{.size_bytes = (count + 2) * kClusterBytes};
      if (i > 0) {
        options.backing_path = fmt::format("{}.qcow2", i - 1);
        options.backing_format = "qcow2";
      }
      const auto made = run([&] { return image::create_image(layer(i), options, *io_); });
      ASSERT_TRUE(made) << made.error().message();
      auto file = open_image_file(layer(i), {}, *io_);
      ASSERT_TRUE(file) << file.error().message();
      auto opened = run_on(loop(), Qcow2::open(std::move(file->file), {.cache_bytes = 1 << 20}));
      ASSERT_TRUE(opened) << opened.error().message();
      const auto image = *std::move(opened);
      const auto data = pattern(kClusterBytes, static_cast<uint32_t>(i));
      const iovec buffer = to_iovec(data);
      ASSERT_TRUE(run([&] { return image->write(i * kClusterBytes, {&buffer, 1}); }));
      ASSERT_TRUE(run([&] { return image->flush(); }));
    }
  }
};

// On a stack as small as wick's threads have.
TEST_P(Chain, OfTwoHundredBackingFilesIsReadAndWritten) {
  constexpr size_t kDepth = kMaxBackingFiles;
  make(kDepth);
  pthread_attr_t old, small;
  pthread_getattr_default_np(&old);
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 256 << 10);
  pthread_setattr_default_np(&small);
  const auto thread = LoopThread::start("small").value();
  pthread_setattr_default_np(&old);
  Result<std::unique_ptr<AsyncIo>> created;
  thread->loop().call([&] { created = AsyncIo::create_uring(thread->loop()); });
  ASSERT_TRUE(created) << created.error().message();
  std::unique_ptr<AsyncIo> io = *std::move(created);
  auto opened = run_on(thread->loop(), open_image(layer(kDepth), {}, *io));
  ASSERT_TRUE(opened) << opened.error().message();
  auto disk = *std::move(opened);
  ASSERT_EQ(disk->size_bytes(), (kDepth + 2) * kClusterBytes);

  // All clusters at once, then each alone; then clusters that are copied up from the bottom.
  std::vector<std::byte> all(disk->size_bytes());
  const iovec whole = to_iovec(all);
  ASSERT_TRUE(run_on(thread->loop(), disk->read(0, {&whole, 1})));
  const auto changed = pattern(512, 999);
  const iovec small_write = to_iovec(changed);
  for (size_t i = 0; i <= kDepth; ++i) {
    const auto expected = pattern(kClusterBytes, static_cast<uint32_t>(i));
    ASSERT_TRUE(
        std::ranges::equal(std::span(all).subspan(i * kClusterBytes, kClusterBytes), expected))
        << i;
    const auto extent = run_on(thread->loop(), disk->extent(i * kClusterBytes, kClusterBytes));
    ASSERT_TRUE(extent);
    EXPECT_EQ(extent->depth, static_cast<int>(kDepth - i));
    EXPECT_EQ(extent->path, layer(i));
    ASSERT_TRUE(run_on(thread->loop(), disk->write(i * kClusterBytes + 512, {&small_write, 1})));
    std::ranges::copy(changed, all.begin() + static_cast<std::ptrdiff_t>(i * kClusterBytes) + 512);
  }
  const auto hole = run_on(thread->loop(), disk->extent((kDepth + 1) * kClusterBytes, 4096));
  ASSERT_TRUE(hole);
  EXPECT_TRUE(hole->zero);
  EXPECT_FALSE(hole->present);
  std::vector<std::byte> again(all.size());
  const iovec back = to_iovec(again);
  ASSERT_TRUE(run_on(thread->loop(), disk->read(0, {&back, 1})));
  EXPECT_TRUE(again == all);
  ASSERT_TRUE(run_on(thread->loop(), disk->flush()));
  thread->stop();
  disk.reset();
  io.reset();
  make_file(path_, all);
  EXPECT_TRUE(shell("qemu-img compare -f qcow2 -F raw " + layer(kDepth) + " " + path_));
}

TEST_P(Chain, ThatIsALoopIsReportedAsOne) {
  lock_ = true;
  make(2);
  // By any name: 0.qcow2 names its overlay by a link.
  std::filesystem::create_symlink("2.qcow2", directory_ / "link");
  ASSERT_TRUE(shell("qemu-img rebase -u -b link -F qcow2 " + layer(0)));
  for (const bool read_only : {false, true})
    for (const size_t first : {0, 1, 2}) {
      ImageOptions options;
      options.read_only = read_only;
      const auto refused = open(layer(first), options);
      ASSERT_FALSE(refused);
      const std::string message = refused.error().message();
      EXPECT_THAT(message, HasSubstr("loop"));
      EXPECT_EQ(message.find("backing file of"), message.rfind("backing file of")) << message;
    }
  ASSERT_TRUE(shell("qemu-img rebase -u -b 0.qcow2 -F qcow2 " + layer(0)));
  EXPECT_THAT(open(layer(0), {}).error().message(), HasSubstr("loop"));
}

INSTANTIATE_TEST_SUITE_P(, Chain, testing::Values(Engine::kUring), engine_name);

}  // namespace
}  // namespace wick::block

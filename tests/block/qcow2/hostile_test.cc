// Hostile qcow2 images: each is refused with a message that names the file and the fault, and
// costs little memory (PITFALLS 8, 14, 16). The verdict is compared with that of QEMU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "block/qcow2/create.h"
#include "block/qcow2/resize.h"
#include "tests/block/hostile_images.h"
#include "tests/block/qcow2/images.h"

namespace {
std::atomic<size_t> now_bytes = 0;
std::atomic<size_t> peak_bytes = 0;

void* counted(void* block) {
  if (block == nullptr) std::abort();
  const size_t now = now_bytes += ::malloc_usable_size(block);
  for (size_t peak = peak_bytes; now > peak && !peak_bytes.compare_exchange_weak(peak, now);) {
  }
  return block;
}
void discounted(void* block) {
  now_bytes -= ::malloc_usable_size(block);
  std::free(block);
}
}  // namespace

void* operator new(size_t size) { return counted(std::malloc(size)); }
// Defined here, because otherwise AddressSanitizer's would be called.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return counted(std::malloc(size));
}
void* operator new(size_t size, std::align_val_t alignment) {
  return counted(::memalign(static_cast<size_t>(alignment), size));
}
void operator delete(void* block) noexcept { discounted(block); }
void operator delete(void* block, size_t) noexcept { discounted(block); }
void operator delete(void* block, std::align_val_t) noexcept { discounted(block); }
void operator delete(void* block, size_t, std::align_val_t) noexcept { discounted(block); }

namespace wick::block {
namespace {

using fakes::finish;
using testing::HasSubstr;

constexpr size_t kMaxBytes = 64 << 20;

class HostileQcow2 : public testing::Test {
 protected:
  // Opens the image for writing, and reads or writes its first cluster. Returns the first
  // error message, or "".
  std::string complaint(HostileImage& image, bool writes) {
    const size_t before = now_bytes;
    peak_bytes = before;
    std::string told;
    {
      auto disk = finish(Qcow2::open(std::make_unique<fakes::MemoryFile>(image.store), {}));
      if (!disk) {
        told = disk.error().message();
      } else {
        std::vector<std::byte> cluster((*disk)->header().cluster_bytes());
        const iovec buffer = to_iovec(cluster);
        auto done = writes ? finish((*disk)->write(0, {&buffer, 1}))
                           : finish((*disk)->read(0, {&buffer, 1}));
        if (!done) told = done.error().message();
      }
    }
    EXPECT_LE(peak_bytes - before, kMaxBytes);
    return told;
  }

  bool qemu_reads(const HostileImage& image) {
    folder_.store("hostile.img", image.store.bytes);
    return static_cast<bool>(shell("cd " + folder_.path() +
                                   " && qemu-io -r -f qcow2 -c 'read 0 4k' hostile.img | tee " +
                                   "/dev/stderr | grep -q '^read 4096/4096'"));
  }

  void expect_zeroes(HostileImage& image) {
    const auto disk = finish(Qcow2::open(std::make_unique<fakes::MemoryFile>(image.store), {}));
    ASSERT_TRUE(disk) << disk.error().message();
    EXPECT_EQ(read_now(**disk, 0, 4096).value(), std::vector<std::byte>(4096));
    folder_.store("hostile.img", image.store.bytes);
    EXPECT_TRUE(shell("cd " + folder_.path() + " && qemu-io -r -f qcow2 -c 'read -P 0 0 4k' " +
                      "hostile.img | tee /dev/stderr | (! grep -q failed)"));
  }

  ImageFolder folder_;
};

TEST_F(HostileQcow2, IsMadeFromASoundImage) {
  for (const bool extended : {false, true}) {
    HostileImage image(extended ? 14 : 12, extended);
    EXPECT_EQ(complaint(image, false), "");
    EXPECT_EQ(complaint(image, true), "");
    EXPECT_TRUE(qemu_reads(image));
    folder_.store("sound.img", image.store.bytes);
    EXPECT_TRUE(shell("qemu-img check -f qcow2 " + folder_.path() + "/sound.img"));
  }
}

TEST_F(HostileQcow2, IsRefusedByTheNameOfItsFault) {
  int refused = 0;
  for (const HostileCase& wrong : hostile_cases()) {
    SCOPED_TRACE(wrong.name);
    HostileImage image(wrong.extended_l2 ? 14 : 12, wrong.extended_l2);
    wrong.harm(image);
    const std::string told = complaint(image, wrong.writes);
    EXPECT_THAT(told, HasSubstr(wrong.told));
    EXPECT_THAT(told, HasSubstr(image.store.path));
    EXPECT_EQ(qemu_reads(image), qemu_is_milder(wrong.name));
    ++refused;
  }
  EXPECT_GE(refused, 40);
}

TEST_F(HostileQcow2, OfAnyShorterLengthIsRefused) {
  for (uint64_t length = 0; length < 112; ++length) {
    HostileImage image;
    std::vector<std::byte> bytes(length);
    image.store.bytes.read(0, bytes);
    image.store.bytes = {};
    image.store.bytes.write(0, bytes);
    EXPECT_THAT(complaint(image, false), HasSubstr(image.store.path)) << length;
  }
}

TEST_F(HostileQcow2, MarkedAsCorruptIsOpenedForReadingOnly) {
  HostileImage image;
  image.put64(72, 2);
  EXPECT_THAT(complaint(image, false), HasSubstr("wick image check -r all"));
  EXPECT_TRUE(
      finish(Qcow2::open(std::make_unique<fakes::MemoryFile>(image.store), {.read_only = true})));
}

// qemu-io 7.2 reads the same.
TEST_F(HostileQcow2, ReadsZeroesWhereADataClusterIsBeyondTheEndAsQemuDoes) {
  HostileImage image;
  image.put64(HostileImage::kL2 << 12, uint64_t{1000} << 12 | kHostileCopied);
  expect_zeroes(image);
}

TEST_F(HostileQcow2, ReadsZeroesWhereAnL2TableIsBeyondTheEndAsQemuDoes) {
  HostileImage image;
  image.put64(HostileImage::kL1 << 12, uint64_t{1000} << 12 | kHostileCopied);
  expect_zeroes(image);
}

// A zstd frame of one 64 KiB run that asks for a window of 128 MiB.
TEST_F(HostileQcow2, AskingForALargeWindowToUnpackIsRefused) {
  HostileImage image;
  image.put64(72, 8);
  image.put8(104, 1);
  image.put_bytes(6 << 12, {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x03, 0x80, 0x00, 0x55});
  image.put64(HostileImage::kL2 << 12, kHostileCompressed | 6 << 12);
  EXPECT_THAT(complaint(image, false), HasSubstr("cannot be decompressed"));
}

// Tables of the maximum size, all holes.
TEST_F(HostileQcow2, WithTheLargestTablesOpensInLittleMemory) {
  HostileImage image;
  image.put64(24, uint64_t{1} << 40);
  image.put32(36, (32 << 20) / 8);
  image.put64(40, 1 << 20);
  image.put32(56, (8 << 20) >> 12);
  image.put64(48, 64 << 20);
  image.store.bytes.grow(128 << 20);
  EXPECT_EQ(complaint(image, false), "");
}

// Metadata that refers to itself: writing to it damages only this image.
TEST_F(HostileQcow2, SurvivesAnL2TableThatMapsItself) {
  HostileImage image;
  image.put64(HostileImage::kL2 << 12, HostileImage::kL2 << 12 | kHostileCopied);
  auto disk = *finish(Qcow2::open(std::make_unique<fakes::MemoryFile>(image.store), {}));
  for (uint64_t i = 0; i < 64; ++i) {
    auto bytes = pattern(4096, static_cast<uint32_t>(i));
    const iovec buffer = to_iovec(bytes);
    (void)finish(disk->write(i % 3 << 12, {&buffer, 1}));
    (void)finish(disk->flush());
    (void)finish(disk->discard(i % 5 << 12, 4096));
    (void)read_now(*disk, 0, 64 << 10);
  }
}

TEST_F(HostileQcow2, DoesNotLoseTheTablesThatItsEntriesName) {
  for (const uint64_t place : {0, 1, 3})
    for (const uint64_t flag : {0, 1}) {
      HostileImage image;
      // In the header's cluster, but not at offset 0, which means "no table".
      const uint64_t named = place == 0 ? 0x200 | flag : place << 12 | flag;
      image.put64(HostileImage::kL2 << 12, named | kHostileCopied);
      const auto table = [&] {
        std::vector<std::byte> bytes(4096);
        image.store.bytes.read(place << 12, bytes);
        return bytes;
      };
      const auto before = table();
      auto disk = *finish(Qcow2::open(std::make_unique<fakes::MemoryFile>(image.store), {}));
      const auto bytes = pattern(4096, 1);
      const iovec buffer = to_iovec(bytes);
      EXPECT_FALSE(finish(disk->write(0, {&buffer, 1}))) << named;
      (void)finish(disk->discard(0, 4096));
      (void)finish(disk->flush());
      EXPECT_EQ(table(), before) << named;
    }
}

TEST_F(HostileQcow2, IsNotMadeLargerThanItCouldBeOpened) {
  fakes::MemoryStore store;
  fakes::MemoryFile file(store);
  Qcow2CreateOptions options;
  options.size_bytes = 1 << 20;
  options.cluster_bytes = 2 << 20;
  ASSERT_TRUE(finish(create_qcow2(file, nullptr, options)));
  auto disk = *finish(Qcow2::open(std::make_unique<fakes::MemoryFile>(store), {}));
  const auto refused = finish(qcow2::resize(*disk, 1ull << 56));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr(store.path));
  disk.reset();
  EXPECT_TRUE(finish(Qcow2::open(std::make_unique<fakes::MemoryFile>(store), {})));
}

// Chains need real files with names.
class HostileChain : public DiskFixture {
 protected:
  // The images NAME(0) over NAME(1) and so on; the last has no base or `last_base`.
  void make_chain(int images, const std::string& last_base) {
    for (int i = 0; i < images; ++i) {
      HostileImage image;
      const std::string base = i + 1 < images ? name(i + 1) : last_base;
      if (!base.empty()) image.put_backing(base, "qcow2");
      std::vector<std::byte> bytes(image.store.bytes.size_bytes());
      image.store.bytes.read(0, bytes);
      make_file(directory_ / name(i), bytes);
    }
  }
  static std::string name(int i) { return fmt::format("{}.qcow2", i); }
};

TEST_P(HostileChain, OfTwoHundredBasesIsOpenedAndOfMoreIsRefused) {
  make_chain(201, "");
  const auto opened = open(directory_ / "0.qcow2", {});
  EXPECT_TRUE(opened) << opened.error().message();
  disk_.reset();
  make_chain(202, "");
  const auto refused = open(directory_ / "0.qcow2", {});
  ASSERT_FALSE(refused);
  const std::string message = refused.error().message();
  EXPECT_THAT(message, HasSubstr("201.qcow2: more than 200 backing files"));
  EXPECT_THAT(message, HasSubstr("wick image convert"));
  EXPECT_EQ(message.find("backing file of"), message.rfind("backing file of")) << message;
}

TEST_P(HostileChain, ThatLoopsIsRefused) {
  make_chain(3, name(1));
  const auto refused = open(directory_ / "0.qcow2", {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("1.qcow2: the backing files form a loop"));
}

INSTANTIATE_TEST_SUITE_P(, HostileChain, testing::Values(Engine::kUring), engine_name);

}  // namespace
}  // namespace wick::block

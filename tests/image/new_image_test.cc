// New images, compared with those of qemu-img: byte by byte where possible.
#include "image/new_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/block/disk_fixture.h"

namespace wick::image {
namespace {

using namespace block;  // the disks, and their fixture

class Create : public DiskFixture {
 protected:
  int shell(const std::string& command) const {
    return fakes::run_shell("cd " + directory_.path() + " && (" + command + ")").status;
  }
  Result<void> create(const CreateOptions& options) {
    return run([&] { return create_image(path_, options, *io_); });
  }
  std::string refusal(const Qcow2CreateOptions& options) {
    const auto made = create(options);
    EXPECT_FALSE(std::filesystem::exists(path_));
    return made ? "made" : made.error().message();
  }
};

INSTANTIATE_TEST_SUITE_P(Engines, Create, testing::Values(Engine::kUring), engine_name);

TEST_P(Create, MakesWhatQemuMakes) {
  struct Case {
    const char* qemu;
    Qcow2CreateOptions ours;
  };
  constexpr auto kZstd = qcow2::Compression::kZstd;
  const uint64_t size = 50 << 20;
  for (const auto& [qemu, ours] : {
           Case{"compat=1.1", {.size_bytes = size}},
           Case{"compat=0.10", {.size_bytes = size, .version = 2}},
           Case{"cluster_size=2M", {.size_bytes = size, .cluster_bytes = 2 << 20}},
           Case{"cluster_size=128k,refcount_bits=1",
                {.size_bytes = size, .cluster_bytes = 128 << 10, .refcount_bits = 1}},
           Case{"refcount_bits=64", {.size_bytes = size, .refcount_bits = 64}},
           Case{"lazy_refcounts=on", {.size_bytes = size, .lazy_refcounts = true}},
           Case{"extended_l2=on", {.size_bytes = size, .extended_l2 = true}},
           Case{"compression_type=zstd", {.size_bytes = size, .compression = kZstd}},
           Case{"preallocation=metadata",
                {.size_bytes = size, .preallocation = Preallocation::kMetadata}},
           Case{"extended_l2=on,preallocation=metadata",
                {.size_bytes = size,
                .extended_l2 = true,
                .preallocation = Preallocation::kMetadata}},
       }) {
    ASSERT_EQ(shell(fmt::format("qemu-img create -f qcow2 -o {} qemu.img {}", qemu, size)), 0);
    const auto made = create(ours);
    ASSERT_TRUE(made) << made.error().message();
    EXPECT_EQ(shell("cmp disk.img qemu.img && qemu-img check disk.img"), 0) << qemu;
  }
}

TEST_P(Create, IsCleanAndNoLargerThanQemusInEveryShape) {
  for (uint32_t bits = qcow2::kMinClusterBits; bits <= qcow2::kMaxClusterBits; bits += 3)
    for (const uint64_t refcount_bits : {1, 16, 64})
      for (const auto preallocation : {Preallocation::kOff, Preallocation::kMetadata}) {
        const bool maps = preallocation == Preallocation::kMetadata;
        ASSERT_EQ(shell(fmt::format("qemu-img create -f qcow2 -o cluster_size={},refcount_bits={},"
                                    "preallocation={} qemu.img 9M",
                                    1 << bits, refcount_bits, maps ? "metadata" : "off")),
                  0);
        Qcow2CreateOptions options{.size_bytes = 9 << 20, .preallocation = preallocation};
        options.cluster_bytes = 1ull << bits;
        options.refcount_bits = refcount_bits;
        ASSERT_TRUE(create(options));
        EXPECT_EQ(shell("qemu-img check disk.img"), 0) << bits;
        EXPECT_LE(std::filesystem::file_size(path_),
                  std::filesystem::file_size(directory_ / "qemu.img"))
            << bits << " " << refcount_bits;
      }
}

TEST_P(Create, ReservesSpaceWhenAskedTo) {
  for (const auto preallocation : {Preallocation::kFalloc, Preallocation::kFull}) {
    ASSERT_TRUE(create(RawCreateOptions{3 << 20, preallocation}));
    EXPECT_GE(allocated_bytes(), 3u << 20);
    ASSERT_TRUE(create(Qcow2CreateOptions{.size_bytes = 3 << 20, .preallocation = preallocation}));
    EXPECT_GE(allocated_bytes(), 3u << 20);
    EXPECT_EQ(shell("qemu-img check disk.img"), 0);
  }
}

TEST_P(Create, PutsDataBesideTheImage) {
  ASSERT_TRUE(
      create(Qcow2CreateOptions{.size_bytes = 3 << 20, .data_path = "data.raw", .raw_data = true}));
  EXPECT_EQ(std::filesystem::file_size(directory_ / "data.raw"), 3u << 20);
  EXPECT_EQ(shell("qemu-io -f qcow2 -c 'write -P 4 1M 64k' disk.img && qemu-img check disk.img && "
                  "qemu-io -f raw -c 'read -P 4 1M 64k' data.raw"),
            0);
}

TEST_P(Create, RefusesImpossibleOptionsByName) {
  using testing::HasSubstr;
  EXPECT_THAT(refusal({.size_bytes = 1, .cluster_bytes = 3072}), HasSubstr("cluster_size"));
  EXPECT_THAT(refusal({.size_bytes = 1, .cluster_bytes = 256}), HasSubstr("cluster_size"));
  EXPECT_THAT(refusal({.size_bytes = 1, .refcount_bits = 3}), HasSubstr("refcount_bits"));
  EXPECT_THAT(refusal({.size_bytes = 1, .version = 2, .extended_l2 = true}),
              HasSubstr("extended_l2 needs compat=1.1"));
  EXPECT_THAT(refusal({.size_bytes = 1, .cluster_bytes = 4096, .extended_l2 = true}),
              HasSubstr("16k"));
  EXPECT_THAT(refusal({.size_bytes = 1, .raw_data = true}), HasSubstr("data_file"));
  EXPECT_THAT(
      refusal({.size_bytes = 1, .preallocation = Preallocation::kFull, .backing_path = "base"}),
      HasSubstr("backing file"));
  EXPECT_THAT(refusal({.size_bytes = 1ull << 40, .cluster_bytes = 512}), HasSubstr("too many"));
  EXPECT_THAT(refusal({.size_bytes = ~0ull}), HasSubstr("too many"));
}

}  // namespace
}  // namespace wick::image

// Copies of disks, against the sources' content and against qemu-img.
#include "image/copy.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "block/compression.h"
#include "image/vdi.h"
#include "image/vmdk.h"
#include "tests/block/disk_fixture.h"

namespace wick::image {
namespace {

using namespace block;  // the disks, and their fixture

class CopyDisks : public DiskFixture {
 protected:
  CopyDisks() {
    loop().call([&] { io_->enable_inline_completion(); });
  }
  ~CopyDisks() override {
    thread_->stop();
    opened_.clear();
  }

  std::string file(const std::string& name) const { return directory_ / name; }

  Backend& opened(const std::string& name, bool read_only) {
    ImageOptions options{.format = {}, .read_only = read_only, .cache = Cache::kUnsafe};
    options.lock = lock_;
    if (name.ends_with(".raw")) options.format = Format::kRaw;
    auto disk = run_on(loop(), open_image(file(name), options, *io_));
    if (!disk) throw std::runtime_error(disk.error().message());
    opened_.push_back(*std::move(disk));
    return *opened_.back();
  }

  Result<void> copy(std::vector<Backend*> from, CopyTarget& to) {
    return run_on(loop(), copy_disks(std::move(from), to, {}));
  }
  Result<void> copy(const std::string& from, const std::string& to, bool is_new = true) {
    Backend& target = opened(to, false);
    const auto into = copy_to(target, to.ends_with(".raw") ? 4096 : 65536, is_new);
    auto done = copy({&opened(from, true)}, *into);
    opened_.clear();
    return done;
  }
  Result<void> copy_compressed(const std::string& from, const std::string& to) {
    const auto workers = Workers::start(loop()).value();
    auto& image = dynamic_cast<Qcow2&>(opened(to, false));
    const auto into = copy_compressed_to(image, *workers, true);
    auto done = copy({&opened(from, true)}, *into);
    opened_.clear();
    return done;
  }

  void create(const std::string& name, uint64_t size_bytes, const std::string& options = "") {
    ASSERT_TRUE(shell("cd " + directory_.path() + " && qemu-img create -q -f qcow2 " + options +
                      " " + name + " " + std::to_string(size_bytes)));
  }
  testing::AssertionResult same(const std::string& a, const std::string& b) const {
    const auto format = [](const std::string& name) {
      return name.ends_with(".raw") ? std::string("raw") : std::string("qcow2");
    };
    return shell("qemu-img compare -f " + format(a) + " -F " + format(b) + " " + file(a) + " " +
                 file(b));
  }
  testing::AssertionResult clean(const std::string& name) const {
    return shell("qemu-img check " + file(name));
  }
  uint64_t space(const std::string& name) const {
    struct stat status {};
    EXPECT_EQ(::stat(file(name).c_str(), &status), 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }

  // Random bytes, text, written zeroes, holes and small islands, in turn.
  void make_mixed(const std::string& name, uint64_t size_bytes, uint32_t seed = 1) const {
    make_file(file(name), size_bytes);
    const Fd out(::open(file(name).c_str(), O_WRONLY | O_CLOEXEC));
    std::minstd_rand random(seed);
    for (uint64_t at = 0; at < size_bytes;) {
      std::vector<std::byte> bytes(std::min<uint64_t>(1 + random() % 400'000, size_bytes - at));
      switch (random() % 5) {
        case 0:
          bytes = pattern(bytes.size(), static_cast<uint32_t>(random()));
          break;
        case 1:
          for (std::byte& byte : bytes) byte = std::byte("wick "[random() % 5]);
          break;
        case 2:
          break;
        case 3:
          at += bytes.size();
          continue;
        default:
          for (size_t i = 0; i < bytes.size(); i += 20'000) bytes[i] = std::byte{7};
      }
      ASSERT_EQ(::pwrite(out.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
                static_cast<ssize_t>(bytes.size()));
      at += bytes.size();
    }
  }

  std::vector<std::unique_ptr<Backend>> opened_;
};

TEST_P(CopyDisks, RawAndQcow2IntoEachOther) {
  for (const uint64_t size : {0x100'0000ull, 0x120'0200ull, 0x3'fe00ull, 0x200ull}) {
    make_mixed("a.raw", size, static_cast<uint32_t>(size));
    create("b.qcow2", size);
    make_file(file("c.raw"), size);
    ASSERT_TRUE(copy("a.raw", "b.qcow2"));
    ASSERT_TRUE(copy("b.qcow2", "c.raw"));
    EXPECT_TRUE(clean("b.qcow2"));
    EXPECT_TRUE(same("a.raw", "b.qcow2"));
    EXPECT_TRUE(same("a.raw", "c.raw"));
  }
}

TEST_P(CopyDisks, LeavesHolesWhereTheSourceHasZeroes) {
  make_mixed("a.raw", 32 << 20);
  create("b.qcow2", 32 << 20);
  make_file(file("c.raw"), 32 << 20);
  ASSERT_TRUE(copy("a.raw", "b.qcow2"));
  ASSERT_TRUE(copy("b.qcow2", "c.raw"));
  EXPECT_LT(space("c.raw"), space("a.raw"));
  ASSERT_TRUE(shell("qemu-img convert -O raw " + file("a.raw") + " " + file("d.raw")));
  EXPECT_LE(space("c.raw"), space("d.raw"));
  ASSERT_TRUE(shell("qemu-img convert -O qcow2 " + file("a.raw") + " " + file("e.qcow2")));
  EXPECT_LE(space("b.qcow2"), space("e.qcow2") + (64 << 10));
}

TEST_P(CopyDisks, ReadsNothingOfALargeHole) {
  make_file(file("a.raw"), uint64_t{4} << 40);
  create("b.qcow2", uint64_t{4} << 40);
  ASSERT_TRUE(copy("a.raw", "b.qcow2"));
  EXPECT_LT(space("b.qcow2"), 1 << 20);
  create("c.qcow2", uint64_t{4} << 40);
  ASSERT_TRUE(copy("b.qcow2", "c.qcow2"));
  EXPECT_TRUE(clean("c.qcow2"));
}

TEST_P(CopyDisks, CompressesAsWellAsQemu) {
  for (const char* type : {"zlib", "zstd"})
    for (const char* more :
         {"", ",cluster_size=4k", ",refcount_bits=1", ",extended_l2=on", ",cluster_size=2M"}) {
      const std::string options = std::string("-o compression_type=") + type + more;
      make_mixed("a.raw", (16 << 20) + 512);
      create("b.qcow2", (16 << 20) + 512, options);
      ASSERT_TRUE(copy_compressed("a.raw", "b.qcow2"));
      EXPECT_TRUE(clean("b.qcow2")) << options;
      EXPECT_TRUE(same("a.raw", "b.qcow2")) << options;
      ASSERT_TRUE(shell("qemu-img convert -c -O qcow2 " + options + " " + file("a.raw") + " " +
                        file("c.qcow2")));
      EXPECT_LT(std::filesystem::file_size(file("b.qcow2")),
                std::filesystem::file_size(file("c.qcow2")) * 105 / 100)
          << options;
      make_file(file("d.raw"), (16 << 20) + 512);
      ASSERT_TRUE(copy("b.qcow2", "d.raw"));
      EXPECT_TRUE(same("a.raw", "d.raw")) << options;
    }
}

TEST_P(CopyDisks, ACompressedClusterMayBeWrittenAgain) {
  create("b.qcow2", 1 << 20);
  auto& image = dynamic_cast<Qcow2&>(opened("b.qcow2", false));
  const std::vector<std::byte> text(65536, std::byte{'x'});
  const auto packed = qcow2::compress(qcow2::Compression::kZlib, text);
  for (int round = 0; round < 3; ++round) {
    for (uint64_t at = 0; at < 1 << 20; at += 65536)
      ASSERT_TRUE(run([&] { return image.write_compressed(at, packed); }));
    const auto other = pattern(5000, 3);
    const iovec buffer = to_iovec(other);
    ASSERT_TRUE(run([&] { return image.write(65536 * 3 + 100, {&buffer, 1}); }));
    ASSERT_TRUE(run([&] { return image.flush(); }));
    ASSERT_TRUE(clean("b.qcow2"));
  }
  std::vector<std::byte> model(1 << 20, std::byte{'x'});
  std::ranges::copy(pattern(5000, 3), model.begin() + 65536 * 3 + 100);
  make_file(file("m.raw"), model);
  EXPECT_TRUE(same("m.raw", "b.qcow2"));
  EXPECT_FALSE(run([&] { return image.write_compressed(512, packed); }));
  EXPECT_FALSE(run([&] { return image.write_compressed(1 << 20, packed); }));
}

TEST_P(CopyDisks, SourcesFollowEachOther) {
  make_mixed("a.raw", 1'000'448, 1);
  make_mixed("b.raw", 512, 2);
  make_mixed("c.raw", 3'000'320, 3);
  create("d.qcow2", 4'001'280);
  const auto into = copy_to(opened("d.qcow2", false), 65536, true);
  ASSERT_TRUE(
      copy({&opened("a.raw", true), &opened("b.raw", true), &opened("c.raw", true)}, *into));
  opened_.clear();
  ASSERT_TRUE(shell("cd " + directory_.path() + " && cat a.raw b.raw c.raw > all.raw"));
  EXPECT_TRUE(same("all.raw", "d.qcow2"));
}

TEST_P(CopyDisks, FlattensAChainOfSixteen) {
  make_mixed("0.raw", 3 << 20);
  std::string base = "0.raw -F raw";
  for (int i = 1; i <= 16; ++i) {
    const std::string name = std::to_string(i) + ".qcow2";
    // Longer and shorter than their bases in turn.
    create(name, (3 << 20) + (i % 3) * 100'352, "-b " + base);
    ASSERT_TRUE(shell("qemu-io -c 'write -P " + std::to_string(i) + " " + std::to_string(i * 150) +
                      "k 100k' -c 'write -z " + std::to_string(i * 170) + "k 30k' " + file(name)));
    base = name + " -F qcow2";
  }
  const uint64_t size = (3 << 20) + 100'352;
  create("flat.qcow2", size);
  make_file(file("flat.raw"), size);
  ASSERT_TRUE(copy("16.qcow2", "flat.qcow2"));
  ASSERT_TRUE(copy("16.qcow2", "flat.raw"));
  EXPECT_TRUE(clean("flat.qcow2"));
  EXPECT_TRUE(same("16.qcow2", "flat.qcow2"));
  EXPECT_TRUE(same("16.qcow2", "flat.raw"));
}

TEST_P(CopyDisks, ATargetThatIsNotNewLosesItsOldContent) {
  make_mixed("a.raw", 8 << 20, 1);
  make_mixed("b.raw", 8 << 20, 2);
  ASSERT_TRUE(shell("qemu-img convert -O qcow2 " + file("b.raw") + " " + file("c.qcow2")));
  ASSERT_TRUE(copy("a.raw", "b.raw", false));
  ASSERT_TRUE(copy("a.raw", "c.qcow2", false));
  EXPECT_TRUE(same("a.raw", "b.raw"));
  EXPECT_TRUE(same("a.raw", "c.qcow2"));
  EXPECT_TRUE(clean("c.qcow2"));
}

TEST_P(CopyDisks, ReportsItsProgress) {
  make_mixed("a.raw", 5 << 20);
  create("b.qcow2", 5 << 20);
  const auto into = copy_to(opened("b.qcow2", false), 65536, true);
  uint64_t last = 0;
  ASSERT_TRUE(run_on(
      loop(), copy_disks({&opened("a.raw", true)}, *into, [&](uint64_t done, uint64_t total) {
        EXPECT_GE(done, last);
        EXPECT_EQ(total, 5u << 20);
        last = done;
      })));
  EXPECT_EQ(last, 5u << 20);
}

TEST_P(CopyDisks, QemuReadsOurVdiAndVmdk) {
  for (const std::string format : {"vdi", "vmdk"})
    for (const uint64_t size : {0x140'0000ull, 0x121'0200ull, 0x200ull, 0x0ull}) {
      if (format == "vmdk" && size == 0) continue;
      make_mixed("a.raw", size, static_cast<uint32_t>(size) + 5);
      make_file(file("b." + format), 0);
      {
        ImageOptions options{.format = Format::kRaw, .cache = Cache::kUnsafe};
        auto image = open_image_file(file("b." + format), options, *io_).value().file;
        const auto into = (format == "vdi" ? new_vdi : new_vmdk)(*image, size).value();
        std::vector<Backend*> from;
        if (size > 0) from.push_back(&opened("a.raw", true));
        ASSERT_TRUE(copy(from, *into));
      }
      opened_.clear();
      EXPECT_TRUE(shell("qemu-img check -f " + format + " " + file("b." + format)));
      EXPECT_TRUE(shell("qemu-img compare -f raw -F " + format + " " + file("a.raw") + " " +
                        file("b." + format)))
          << size;
      EXPECT_TRUE(shell("qemu-img info -f " + format + " " + file("b." + format) + " | grep -F '(" +
                        std::to_string(size) + " bytes)'"));
    }
}

TEST_P(CopyDisks, RefusesDisksThatVdiAndVmdkCannotHold) {
  make_file(file("b.img"), 0);
  ImageOptions options{.format = Format::kRaw, .cache = Cache::kUnsafe};
  auto image = open_image_file(file("b.img"), options, *io_).value().file;
  EXPECT_FALSE(new_vdi(*image, 1ull << 50));
  EXPECT_FALSE(new_vmdk(*image, 0));
  const auto full = new_vmdk(*image, (1ull << 50) + 512);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().message(),
            file("b.img") +
                ": the disk has 1125899906843136 bytes; a vmdk image holds at most "
                "1125899906842624");
  EXPECT_TRUE(new_vmdk(*image, 1ull << 50));
}

// A target that is full after `room_bytes`.
class FullTarget final : public CopyTarget {
 public:
  uint64_t granule_bytes() const override { return 65536; }
  bool is_new() const override { return true; }
  Task<Result<void>> write(uint64_t, std::span<const std::byte> piece) override {
    if (finished || piece.size() > room_bytes) co_return fail_errno(ENOSPC, "full.img");
    room_bytes -= piece.size();
    co_return Result<void>();
  }
  Task<Result<void>> write_zeroes(uint64_t, uint64_t) override { co_return Result<void>(); }
  Task<Result<void>> finish() override {
    finished = true;
    co_return Result<void>();
  }
  uint64_t room_bytes = 3 << 20;
  bool finished = false;
};

TEST_P(CopyDisks, AFullTargetIsAnErrorAndStopsTheCopy) {
  make_file(file("a.raw"), pattern(16 << 20, 1));
  FullTarget full;
  const auto done = copy({&opened("a.raw", true)}, full);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message(), "full.img: No space left on device");
  EXPECT_FALSE(full.finished);
}

INSTANTIATE_TEST_SUITE_P(Engines, CopyDisks, testing::Values(Engine::kUring, Engine::kThreaded),
                         engine_name);

}  // namespace
}  // namespace wick::image

// qcow2 images against a plain copy in memory and against qemu-img: whatever is
// done through our code, qemu-img finds the image clean and equal to the copy.
#include "block/qcow2.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <random>

#include "base/bytes.h"
#include "tests/block/disk_fixture.h"

namespace wick::block {
namespace {

// Runs `command` in a shell; its output must be read when it fails.
testing::AssertionResult shell(const std::string& command) {
  const std::string log = std::filesystem::current_path() / "qcow2-test.log";
  if (std::system((command + " >" + log + " 2>&1").c_str()) == 0)
    return testing::AssertionSuccess();
  std::ifstream file(log);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  return testing::AssertionFailure() << command << "\n" << text;
}

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
      make_file(directory_ + "/base.raw", base);
      ASSERT_TRUE(shell("qemu-img convert -O qcow2 " + directory_ + "/base.raw " + directory_ +
                        "/base.qcow2"));
      std::ranges::copy(base, model_.begin());
      more = " -b base.qcow2 -F qcow2";
    }
    ASSERT_TRUE(shell("cd " + directory_ + " && qemu-img create -f qcow2 -o " + shape.options +
                      more + " disk.img " + std::to_string(shape.size_bytes)));
  }

  void reopen() {
    if (disk_) {
      ASSERT_TRUE(flush());
      disk_.reset();
    }
    const auto opened = open({.format = Format::kQcow2});
    ASSERT_TRUE(opened) << opened.error().message();
  }

  void compare() {
    ASSERT_TRUE(flush());
    ASSERT_TRUE(shell("qemu-img check -f qcow2 " + path_));
    make_file(directory_ + "/model.raw", model_);
    ASSERT_TRUE(
        shell("qemu-img compare -f qcow2 -F raw " + path_ + " " + directory_ + "/model.raw"));
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
        // Indefinite, so made definite again.
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

TEST_P(Qcow2Disk, RandomRequestsLeaveAnImageThatQemuFindsCleanAndEqual) {
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

}  // namespace
}  // namespace wick::block

// Small qcow2 images of all shapes, made by qemu-img and held in memory, and disks
// opened over them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"
#include "block/raw.h"
#include "tests/block/disk_fixture.h"
#include "tests/block/sector_history.h"
#include "tests/fakes/memory_file.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::block {

struct SmallShape {
  const char* name;
  const char* options;  // qemu-img create -o
  uint64_t size_bytes;
  bool backing = false;     // a raw file of three quarters of the size
  const char* filled = "";  // qemu-io commands
  bool snapshot = false;    // after `filled`
  int weight = 1;           // multiplies the number of random requests
  bool data_file = false;
};

constexpr SmallShape kSmallShapes[] = {
    {"Default", "compat=1.1", 1 << 20},
    {"Version2", "compat=0.10,cluster_size=4k", 512 << 10},
    {"Version2Backing", "compat=0.10,cluster_size=4k", 512 << 10, true},
    {"Backing", "compat=1.1,cluster_size=8k", 512 << 10, true},
    {"SmallClusters", "cluster_size=512", 256 << 10, false, "", false, 3},
    {"SmallClustersBacking", "cluster_size=512", 256 << 10, true, "", false, 3},
    {"Clusters4KRefcounts1", "cluster_size=4k,refcount_bits=1", 512 << 10, true},
    {"LargeClusters", "cluster_size=2M,refcount_bits=64", 8 << 20, true},
    {"Refcounts8", "cluster_size=1k,refcount_bits=8", 256 << 10},
    {"Refcounts64", "cluster_size=512,refcount_bits=64", 256 << 10},
    {"ExtendedL2", "extended_l2=on,cluster_size=16k", 512 << 10, false, "", false, 2},
    {"ExtendedL2Backing", "extended_l2=on,cluster_size=16k", 512 << 10, true, "", false, 2},
    {"LazyRefcounts", "lazy_refcounts=on,cluster_size=4k", 256 << 10},
    {"Preallocated", "preallocation=metadata,cluster_size=4k", 256 << 10},
    {"Snapshot", "cluster_size=4k", 512 << 10, false, "-c 'write -P 7 0 300k'", true, 2},
    {"SnapshotSmall", "cluster_size=512", 128 << 10, false, "-c 'write -P 7 0 100k'", true, 2},
    {"SnapshotExtended", "extended_l2=on,cluster_size=16k", 512 << 10, true,
     "-c 'write -P 7 0 60k' -c 'write -P 8 100k 90k' -c 'write -z 300k 20k'", true, 2},
    {"Compressed", "cluster_size=4k", 256 << 10, true,
     "-c 'write -c -P 7 0 64k' -c 'write -c -P 9 128k 32k'"},
    // So full that the refcount table has to move.
    {"RefcountTableGrows", "cluster_size=512,refcount_bits=64", 1984 << 10, false,
     "-c 'write -P 7 0 1932k'", true, 3},
    {"DataFile", "cluster_size=4k", 512 << 10, false, "-c 'write -P 7 0 300k'", false, 1, true},
    {"DataFileBacking", "cluster_size=4k", 512 << 10, true, "", false, 1, true},
    {"DataFileRaw", "cluster_size=4k,data_file_raw=on", 512 << 10, false, "", false, 1, true},
    {"DataFileExtended", "cluster_size=16k,extended_l2=on", 512 << 10, true, "", false, 1, true},
};

inline std::string name_of(const testing::TestParamInfo<SmallShape>& param) {
  return param.param.name;
}
inline void PrintTo(const SmallShape& shape, std::ostream* out) { *out << shape.name; }

// A folder for qemu-img, with the other file that the images name: base.raw or data.raw.
class ImageFolder : public fakes::TempDir {
 public:
  struct Files {
    fakes::SparseBytes image;
    std::optional<fakes::SparseBytes> beside;
  };

  Files create(const SmallShape& shape) {
    std::string more = shape.data_file ? ",data_file=data.raw" : "";
    if (shape.backing) {
      const auto base = pattern(shape.size_bytes * 3 / 4 / 512 * 512, 99);
      write("base.raw", {reinterpret_cast<const char*>(base.data()), base.size()});
      more += " -b base.raw -F raw";
    }
    std::string command = "cd " + path() + " && qemu-img create -q -f qcow2 -o " + shape.options +
                          more + " disk.img " + std::to_string(shape.size_bytes);
    if (*shape.filled != '\0') command += std::string(" && qemu-io ") + shape.filled + " disk.img";
    if (shape.snapshot) command += " && qemu-img snapshot -c before disk.img";
    EXPECT_TRUE(shell(command));
    Files files{load("disk.img"), {}};
    if (shape.data_file) files.beside = load("data.raw");
    if (shape.backing && !shape.data_file) files.beside = load("base.raw");
    if (shape.backing) base_.bytes = load("base.raw");
    return files;
  }

  static void fill(fakes::MemoryStore& store, const Files& files) {
    store.bytes = store.stable = files.image;
    if (!files.beside) return;
    fakes::MemoryStore& beside = store.add_beside();
    beside.bytes = beside.stable = *files.beside;
  }

  fakes::SparseBytes load(const std::string& name) const {
    std::ifstream file(*this / name, std::ios::binary);
    fakes::SparseBytes bytes;
    std::vector<char> chunk(64 << 10);
    for (uint64_t offset = 0;; offset += static_cast<uint64_t>(file.gcount())) {
      file.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
      if (file.gcount() == 0) return bytes;
      bytes.write(offset, as_bytes(chunk.data(), static_cast<size_t>(file.gcount())));
    }
  }
  void store(const std::string& name, const fakes::SparseBytes& bytes) const {
    std::vector<std::byte> content(bytes.size_bytes());
    bytes.read(0, content);
    write(name, {reinterpret_cast<const char*>(content.data()), content.size()});
  }

  // The disk that fill() has put into `store`.
  Result<std::unique_ptr<Qcow2>> open(fakes::MemoryStore& store, uint64_t cache_bytes) {
    auto disk = fakes::finish(
        Qcow2::open(std::make_unique<fakes::MemoryFile>(store), {.cache_bytes = cache_bytes}));
    if (!disk) return disk;
    const qcow2::Header& header = (*disk)->header();
    if (header.external_data())
      (*disk)->set_data_file(std::make_unique<fakes::MemoryFile>(*store.beside));
    if (!header.backing_path.empty())
      (*disk)->set_backing(open_base(header.external_data() ? base_ : *store.beside, true));
    return disk;
  }
  static std::unique_ptr<Backend> open_base(fakes::MemoryStore& store, bool read_only) {
    return open_raw(std::make_unique<fakes::MemoryFile>(store), {.read_only = read_only}).value();
  }

 private:
  std::string path_;
  fakes::MemoryStore base_;
};

inline Result<std::vector<std::byte>> read_now(Backend& disk, uint64_t offset, size_t size) {
  std::vector<std::byte> bytes(size, std::byte{0xcc});
  const iovec buffer = to_iovec(bytes);
  auto got = fakes::finish(disk.read(offset, {&buffer, 1}));
  if (!got) return std::unexpected(std::move(got).error());
  return bytes;
}

// Whether `history` allows the content of each touched sector at moment `at`.
inline testing::AssertionResult holds_what_it_may(Backend& disk, const SectorHistory& history,
                                                  size_t at, uint64_t max_bytes = ~0ull) {
  constexpr size_t kSectorBytes = SectorHistory::kSectorBytes;
  const std::set<uint64_t>& touched = history.touched();
  const uint64_t sectors = std::min(disk.size_bytes(), max_bytes) / kSectorBytes;
  for (auto sector = touched.begin(); sector != touched.end() && *sector < sectors;) {
    const uint64_t first = *sector;
    uint64_t end = first;
    for (; sector != touched.end() && *sector == end && end < sectors; ++sector) ++end;
    const auto bytes = read_now(disk, first * kSectorBytes, (end - first) * kSectorBytes);
    if (!bytes) return testing::AssertionFailure() << bytes.error().message();
    for (uint64_t i = first; i < end; ++i)
      if (!history.allows(i, std::span(*bytes).subspan((i - first) * kSectorBytes, kSectorBytes),
                          at))
        return testing::AssertionFailure() << "sector " << i << " has wrong content";
  }
  return testing::AssertionSuccess();
}

}  // namespace wick::block

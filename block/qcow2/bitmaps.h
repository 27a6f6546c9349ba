// The dirty bitmaps in a qcow2 image (qcow2 specification, "Bitmaps extension", "Bitmap
// directory"), for wick image bitmap. wick does not record writes in bitmaps.
//
// Thread rule: as for File.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "block/file.h"
#include "block/qcow2/format.h"
#include "block/qcow2/refcounts.h"

namespace wick::block::qcow2 {

struct Bitmap {
  std::string name;
  uint64_t table_offset = 0;
  uint32_t table_entries = 0;
  uint32_t flags = 0;
  uint8_t type = 1;
  uint8_t granularity_bits = 16;
  std::vector<std::byte> extra = {};

  static constexpr uint32_t kInUse = 1;  // a program changed it and did not store the result
  static constexpr uint32_t kAuto = 2;   // programs that support bitmaps record writes in it
  uint64_t granularity_bytes() const { return uint64_t{1} << (granularity_bits % 64); }
  // Returns the size of the bitmap's data and table in an image with a disk and clusters of these
  // sizes.
  uint64_t stored_bytes(uint64_t disk_bytes, uint64_t cluster_bytes) const;
  // Returns the size of the bitmap's entry in the bitmap directory.
  uint64_t entry_bytes() const;
};

// Returns the bitmaps of an image. Returns none if a program that does not support bitmaps wrote to
// the image, because its bitmaps are not valid then.
Task<Result<std::vector<Bitmap>>> read_bitmaps(File& file, const Header& header);

// Changes the bitmaps of an image while nobody uses its disk. All changes take effect at once,
// by finish().
class BitmapEditor {
 public:
  // `file` must outlive it.
  static Task<Result<std::unique_ptr<BitmapEditor>>> open(File& file);

  // Adds a bitmap. granularity_bytes 0 stands for the cluster size, but at least 4 KiB and at most
  // 64 KiB.
  Task<Result<void>> add(const std::string& name, uint64_t granularity_bytes);
  Task<Result<void>> remove(const std::string& name);
  Task<Result<void>> clear(const std::string& name);
  Result<void> enable(const std::string& name, bool on);
  // Adds the writes that the bitmap `source` of `from` has recorded. `from` may be this editor.
  Task<Result<void>> merge(const std::string& name, BitmapEditor& from, const std::string& source);

  Task<Result<void>> finish();

 private:
  BitmapEditor(File& file, Header header, std::vector<uint64_t> l1,
               std::vector<uint64_t> refcount_table, std::vector<Bitmap> bitmaps);
  Result<std::vector<Bitmap>::iterator> find(const std::string& name);
  Result<std::vector<Bitmap>::iterator> find_sound(const std::string& name);
  Result<void> check_in_file(const Bitmap& bitmap, uint64_t offset, uint64_t length) const;
  Task<Result<std::vector<std::byte>>> read_bits(const Bitmap& bitmap);
  Task<Result<void>> write_bits(Bitmap& bitmap, std::span<const std::byte> bits);
  Task<Result<uint64_t>> write_new(std::span<const std::byte> bytes);
  Task<Result<void>> make_table(Bitmap& bitmap);
  Task<Result<void>> drop_table(const Bitmap& bitmap);
  Task<Result<void>> write_counts();

  File& file_;
  Header header_;
  const std::vector<uint64_t> l1_;
  Refcounts refcounts_;
  std::vector<Bitmap> bitmaps_;
  std::vector<ClusterRun> old_;  // to be freed when the header no longer points to them
};

}  // namespace wick::block::qcow2

// The dirty bitmaps that an image keeps ("Bitmaps extension", "Bitmap directory" of
// the qcow2 specification). wick records nothing in them: it shows, makes, empties and
// removes them.
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

  static constexpr uint32_t kInUse = 1;  // not stored by its last user
  static constexpr uint32_t kAuto = 2;   // writes to the disk are to be recorded
  uint64_t granularity_bytes() const { return uint64_t{1} << (granularity_bits % 64); }
  // Bytes that it takes in an image with such clusters, but for the directory.
  uint64_t stored_bytes(uint64_t disk_bytes, uint64_t cluster_bytes) const;
  // Bytes of its entry in the directory.
  uint64_t entry_bytes() const;
};

// Those that are valid; none if a program that does not know them wrote to the image.
Task<Result<std::vector<Bitmap>>> read_bitmaps(File& file, const Header& header);

// Changes bitmaps of an image whose disk nobody uses. What was done takes effect by
// finish(), at once.
class BitmapEditor {
 public:
  // `file` must outlive it.
  static Task<Result<std::unique_ptr<BitmapEditor>>> open(File& file);

  // granularity_bytes 0: a cluster's, within 4 to 64 KiB.
  Task<Result<void>> add(const std::string& name, uint64_t granularity_bytes);
  Task<Result<void>> remove(const std::string& name);
  Task<Result<void>> clear(const std::string& name);
  Result<void> enable(const std::string& name, bool on);
  // Adds what `source` of `from`, which may be this, has recorded.
  Task<Result<void>> merge(const std::string& name, BitmapEditor& from, const std::string& source);

  Task<Result<void>> finish();

 private:
  BitmapEditor(File& file, Header header, std::vector<uint64_t> refcount_table,
               std::vector<Bitmap> bitmaps);
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
  Refcounts refcounts_;
  std::vector<Bitmap> bitmaps_;
  std::vector<ClusterRun> old_;  // free when the header leads there no more
};

}  // namespace wick::block::qcow2

// A qcow2 image as a disk: reads and writes of the guest's data, copying from backing files,
// compressed clusters. Metadata (metadata.h) maps the disk to the file.
//
// Thread rule: as for Backend. Each request holds clusters_ for the guest's clusters that it
// touches: shared if it does not change their mapping, exclusively if it does. So requests that
// change no mapping run in parallel, and the mapping of their clusters stays the same meanwhile.
// Metadata::lock() is taken after clusters_.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "block/backend.h"
#include "block/byte_budget.h"
#include "block/file.h"
#include "block/qcow2/metadata.h"
#include "block/range_lock.h"

namespace wick::block {

// Bounds the bounce buffers of all images of a chain together. A request takes from `copied_up`
// before it takes from `decompressed`, never in the reverse order.
struct BounceBudget {
  // For old content: a guest's write to a new cluster may cover only a part, and the old content
  // fills the rest.
  ByteBudget copied_up{32 << 20};
  // For compressed clusters that are being read: the packed bytes, and the unpacked cluster.
  ByteBudget decompressed{32 << 20};
};

struct Qcow2Options {
  bool read_only = false;
  uint64_t cache_bytes = 0;                        // for L2 tables and refcount blocks
  std::shared_ptr<BounceBudget> bounce = nullptr;  // nullptr: the image gets its own
};

class Qcow2 final : public Backend {
 public:
  // Fails if wick cannot read the image or, unless `read_only`, must not write it. If the header
  // names a backing file or a data file, the caller opens and sets it before the first request. To
  // close the image, flush() and destroy it.
  static Task<Result<std::unique_ptr<Qcow2>>> open(std::unique_ptr<File> file,
                                                   const Qcow2Options& options);

  const qcow2::Header& header() const { return metadata_.header(); }
  const std::string& path() const { return file_->path(); }
  // For the commands that work on a whole image (resize.h, snapshot_commands.h, empty.h).
  qcow2::Metadata& metadata() { return metadata_; }
  // This image owns `backing` and only reads it, until take_backing().
  void set_backing(std::unique_ptr<Backend> backing) {
    backing_ = std::move(backing);
    backing_image_ = dynamic_cast<Qcow2*>(backing_.get());
  }
  Backend* backing() const { return backing_.get(); }
  std::unique_ptr<Backend> take_backing() {
    backing_image_ = nullptr;
    return std::move(backing_);
  }
  void set_data_file(std::unique_ptr<File> data) {
    data_file_ = std::move(data);
    metadata_.set_data_file(data_file_.get());
  }

  uint64_t size_bytes() const override { return header().size_bytes / 512 * 512; }
  bool read_only() const override { return metadata_.read_only(); }
  Fd pin() const override { return file_->pin(); }
  bool can_discard() const override { return !read_only(); }
  // Version 2 has no zero clusters.
  bool zeroes_fast(bool may_unmap) const override {
    return header().version >= 3 && (!data_file_ || data_file_->zeroes_fast(may_unmap));
  }
  Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) override;
  Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) override;
  Task<Result<void>> flush() override;
  Task<Result<void>> discard(uint64_t offset_bytes, uint64_t length_bytes) override;
  Task<Result<void>> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                  bool may_unmap) override;
  Task<Result<Extent>> extent(uint64_t offset_bytes, uint64_t length_bytes) override;
  // Applies the announced size (announced_size.h) or, with a raw data file, that file's length;
  // the disk can only grow. After an error the old size remains, except if the final checkpoint
  // fails: then the new size is in effect. The disk remains usable.
  Task<Result<void>> update_size() override;
  Task<Result<void>> resize(uint64_t size_bytes) override;

  // Replaces the cluster at `offset_bytes` by `packed`, the result of compress().
  Task<Result<void>> write_compressed(uint64_t offset_bytes, std::span<const std::byte> packed);
  // Must be called after the last write_compressed(). Flushes, and extends the file to a
  // multiple of the sector size, which O_DIRECT readers need. Nobody else may use the disk
  // meanwhile.
  Task<Result<void>> end_compressed();

  // How clear() treats allocated clusters.
  enum class Clear : uint8_t {
    kDiscard,  // frees them; in a data file their content is undefined
    kUnmap,    // frees them; in a data file they become zeroes
    kKeep,     // makes them zeroes that stay allocated
  };
  // Makes whole clusters read as zeroes, also behind the disk's end. In version 2, freed
  // clusters read as the backing file.
  Task<Result<void>> clear(uint64_t offset_bytes, uint64_t length_bytes, Clear how);

  // As Metadata::map().
  Task<Result<Mapping>> map(uint64_t offset_bytes, uint64_t length_bytes) {
    return metadata_.map(offset_bytes, length_bytes);
  }
  // Returns true if the metadata alone shows that the range reads as zeroes. Reads no data, so a
  // range that the backing file may provide gives false.
  Task<Result<bool>> reads_as_zeroes(uint64_t offset_bytes, uint64_t length_bytes);

 private:
  Qcow2(std::unique_ptr<File> file, const Qcow2Options& options, qcow2::Header header,
        std::vector<uint64_t> l1, std::vector<uint64_t> refcount_table);

  Result<void> check_range(uint64_t offset, uint64_t length) const;
  Result<void> check_write(uint64_t offset, uint64_t length) const;
  RangeLock::Awaiter lock_clusters(uint64_t offset, uint64_t length, bool exclusive) {
    return clusters_.enter(header().cluster_of(offset), header().cluster_of(offset + length - 1),
                           exclusive);
  }
  File& data() const { return data_file_ ? *data_file_ : *file_; }

  // Reads (qcow2.cc). The caller holds the clusters.
  Task<Result<void>> read_locked(uint64_t offset, std::span<const iovec> buffers);
  Task<Result<void>> read_mapped(const Mapping& mapping, uint64_t offset,
                                 std::span<const iovec> buffers);
  Task<Result<void>> read_backing(uint64_t offset, std::span<const iovec> buffers);
  Task<Result<void>> read_compressed(const Mapping& mapping, uint64_t offset,
                                     std::span<const iovec> buffers);
  // The source of a range that is not allocated in this image. It is the first image below that has
  // the range, or the disk at the end of the chain, or zeroes.
  struct BackingSource {
    uint64_t length_bytes = 0;  // of the first part of the range, which has this source
    Qcow2* image = nullptr;
    Mapping mapping = {};  // where the range is in `image`
    Backend* disk = nullptr;
    int depth = 0;         // position in the chain, from this image (0) down
    bool present = false;  // false: the chain ended without a source
  };
  Task<Result<BackingSource>> find_backing_source(uint64_t offset, uint64_t length);
  Task<Result<Extent>> extent_of(Mapping mapping);

  // Writes (write.cc)
  struct Surroundings;
  Task<Result<uint64_t>> write_some(uint64_t offset, std::span<const iovec> buffers);
  Task<Result<void>> write_in_place(const Mapping& mapping, std::span<const iovec> buffers);
  Task<Result<uint64_t>> write_allocating(uint64_t offset, std::span<const iovec> buffers,
                                          uint64_t length);
  Task<Result<void>> read_surroundings(const qcow2::Allocation& to, Surroundings& around);
  Task<Result<void>> write_allocated(const qcow2::Allocation& to, const Surroundings& around,
                                     std::span<const iovec> buffers);
  Task<Result<bool>> old_content(uint64_t offset, std::span<std::byte> to, bool fresh);
  Task<Result<void>> zero_part(uint64_t offset, uint64_t length);

  const std::unique_ptr<File> file_;
  const std::shared_ptr<BounceBudget> bounce_;
  std::unique_ptr<File> data_file_;
  std::unique_ptr<Backend> backing_;
  Qcow2* backing_image_ = nullptr;  // backing_ if it is a qcow2 image
  qcow2::Metadata metadata_;
  std::optional<bool> preallocated_;  // is_preallocated(), cached by extent()

  RangeLock clusters_;  // locks clusters of the guest's disk

  // The compressed cluster that was read last, unpacked. It is valid while its generation is the
  // current one.
  uint64_t decompressed_offset_ = 0;
  uint64_t decompressed_generation_ = 0;  // Metadata::compressed_generation()
  std::vector<std::byte> decompressed_;
};

}  // namespace wick::block

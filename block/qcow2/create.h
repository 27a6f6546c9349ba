// Creates qcow2 images. The layout of a new image: header, refcount table, refcount blocks, L1
// table, and with preallocation the L2 tables and the data (qcow2 specification, "Header" to
// "Cluster mapping").
//
// Thread rule: as for File.
#pragma once

#include <cstdint>
#include <string>

#include "block/file.h"
#include "block/qcow2/format.h"

namespace wick::block {

enum class Preallocation : uint8_t {
  kOff,
  kMetadata,  // the tables map the whole disk; the data is a hole
  kFalloc,    // as kMetadata, and host space for the data is reserved
  kFull,      // as kMetadata, and zeroes are written as data
};

struct Qcow2CreateOptions {
  uint64_t size_bytes = 0;
  uint32_t version = 3;
  uint64_t cluster_bytes = 64 << 10;
  uint64_t refcount_bits = 16;
  bool lazy_refcounts = false;
  bool extended_l2 = false;
  qcow2::Compression compression = qcow2::Compression::kZlib;
  Preallocation preallocation = Preallocation::kOff;
  std::string backing_path = {};    // empty: no backing file
  std::string backing_format = {};  // empty: not in the header
  std::string data_path = {};       // empty: the data is in the image
  bool raw_data = false;            // the data file is the disk, byte by byte
};

// Refuses what qemu-img would refuse. Errors use the names of qemu-img's options.
Result<void> check_create_options(const Qcow2CreateOptions& options);

// Writes a new image to an empty file. `data` is the data file, which must be empty too;
// nullptr if `options.data_path` is empty.
Task<Result<void>> create_qcow2(File& file, File* data, const Qcow2CreateOptions& options);

// Returns the size of an image with preallocated metadata and data.
uint64_t preallocated_bytes(Qcow2CreateOptions options);

// Allocates host space for the range, if `preallocation` is kFalloc or kFull.
Task<Result<void>> preallocate(File& file, uint64_t offset_bytes, uint64_t length_bytes,
                               Preallocation preallocation);

}  // namespace wick::block

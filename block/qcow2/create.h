// A new qcow2 image, all of whose tables are laid out at once: header, refcount
// table, refcount blocks, L1 table, and with preallocation the L2 tables and the
// data (qcow2 specification, "Header" to "Cluster mapping").
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
  kFalloc,    // and its space is reserved
  kFull,      // by writing zeroes
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
  std::string backing_path = {};    // empty: none
  std::string backing_format = {};  // empty: not said
  std::string data_path = {};       // empty: the data is in the image
  bool raw_data = false;            // the data file is the disk, byte by byte
};

// What qemu-img would refuse is refused, by the names of its options.
Result<void> check_create_options(const Qcow2CreateOptions& options);

// Makes the image in an empty file. `data`, empty too, is there when
// `options.data_path` is.
Task<Result<void>> create_qcow2(File& file, File* data, const Qcow2CreateOptions& options);

// Bytes of an image with all of its disk in it.
uint64_t preallocated_bytes(Qcow2CreateOptions options);

// Gives the range the space that `preallocation` asks for.
Task<Result<void>> preallocate(File& file, uint64_t offset_bytes, uint64_t length_bytes,
                               Preallocation preallocation);

}  // namespace wick::block

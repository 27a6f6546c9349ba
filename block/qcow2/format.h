// The header of a qcow2 image as a value, and what can be calculated from it (qcow2
// specification, "Header" to "Host cluster management": QEMU's docs/interop/qcow2.txt).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace wick::block::qcow2 {

constexpr uint32_t kMinClusterBits = 9;
constexpr uint32_t kMaxClusterBits = 21;
constexpr uint64_t kMaxL1Bytes = 32 << 20;            // QEMU's limit
constexpr uint64_t kMaxRefcountTableBytes = 8 << 20;  // QEMU's limit
constexpr uint32_t kMaxSnapshots = 65536;             // QEMU's limit
// The largest disk: host offsets have 56 bits. kMaxL1Bytes usually allows far less.
constexpr uint64_t kMaxDiskBytes = (1ull << 56) - 512;
constexpr uint32_t kSubclusters = 32;  // of a cluster, with extended L2 entries

enum class Compression : uint8_t { kZlib = 0, kZstd = 1 };

// Incompatible features.
constexpr uint64_t kDirty = 1 << 0;
constexpr uint64_t kCorrupt = 1 << 1;
constexpr uint64_t kExternalData = 1 << 2;
constexpr uint64_t kCompressionType = 1 << 3;
constexpr uint64_t kExtendedL2 = 1 << 4;
// Compatible features.
constexpr uint64_t kLazyRefcounts = 1 << 0;
// Auto-clear features.
constexpr uint64_t kBitmaps = 1 << 0;
constexpr uint64_t kRawExternalData = 1 << 1;

// L1 and L2 entries, "Cluster mapping".
constexpr uint64_t kOffsetMask = 0x00ff'ffff'ffff'fe00;
constexpr uint64_t kCopied = 1ull << 63;
constexpr uint64_t kCompressed = 1ull << 62;
constexpr uint64_t kZero = 1;  // in a standard L2 entry of version 3

// Neighbouring clusters, counted from the file's start.
struct ClusterRun {
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t end() const { return first + count; }
};

struct Extension {
  uint32_t type = 0;
  std::vector<std::byte> data;
};

struct Header {
  uint32_t version = 3;
  uint32_t cluster_bits = 16;
  uint64_t size_bytes = 0;
  uint32_t crypt_method = 0;  // 0: none
  uint32_t l1_entries = 0;
  uint64_t l1_offset = 0;
  uint64_t refcount_table_offset = 0;
  uint32_t refcount_table_clusters = 0;
  uint32_t snapshot_count = 0;
  uint64_t snapshots_offset = 0;
  uint64_t incompatible = 0;
  uint64_t compatible = 0;
  uint64_t autoclear = 0;
  uint32_t refcount_order = 4;
  Compression compression = Compression::kZlib;

  std::string backing_path;    // empty: no backing file
  std::string backing_format;  // empty: not in the header
  std::string data_path;       // of the external data file; empty: not in the header
  struct Bitmaps {
    uint32_t count = 0;
    uint64_t directory_bytes = 0;
    uint64_t directory_offset = 0;
  };
  std::optional<Bitmaps> bitmaps;
  struct Luks {
    uint64_t offset = 0;
    uint64_t length_bytes = 0;
  };
  std::optional<Luks> luks;
  std::vector<Extension> unknown;  // extensions that wick does not know, kept as they are
  // Set by parse_header(): where the header, its extensions and the backing file's name end.
  uint64_t used_bytes = 0;

  // Set by a lenient parse: why these tables cannot be used. Empty: they can be used.
  std::string refcount_table_fault;
  std::string snapshots_fault;

  uint64_t cluster_bytes() const { return 1ull << cluster_bits; }
  bool extended_l2() const { return (incompatible & kExtendedL2) != 0; }
  bool external_data() const { return (incompatible & kExternalData) != 0; }
  uint64_t l2_entry_bytes() const { return extended_l2() ? 16 : 8; }
  uint64_t l2_entries() const { return cluster_bytes() / l2_entry_bytes(); }
  // The unit in which the guest's data is mapped: with extended L2 entries a subcluster, else a
  // cluster.
  uint64_t unit_bytes() const {
    return extended_l2() ? cluster_bytes() / kSubclusters : cluster_bytes();
  }
  uint32_t refcount_bits() const { return 1u << refcount_order; }
  uint64_t refcounts_per_block() const { return cluster_bytes() * 8 / refcount_bits(); }
  uint64_t max_refcount() const {
    return refcount_order == 6 ? ~0ull : (1ull << refcount_bits()) - 1;
  }
  uint64_t clusters_for(uint64_t bytes) const {
    return (bytes >> cluster_bits) + ((bytes & (cluster_bytes() - 1)) != 0);
  }
  uint64_t cluster_of(uint64_t offset) const { return offset >> cluster_bits; }
  // Returns the clusters that contain a part of the range; none if the range is empty.
  ClusterRun clusters_of(uint64_t offset, uint64_t length_bytes) const {
    const uint64_t first = cluster_of(offset);
    return {first, length_bytes == 0 ? 0 : cluster_of(offset + length_bytes - 1) - first + 1};
  }
  // Returns how many bytes of the disk one L2 table maps.
  uint64_t l2_table_span() const { return l2_entries() << cluster_bits; }
  // Returns how many entries an L1 table needs for a disk of that size.
  uint64_t l1_entries_for(uint64_t disk_bytes) const {
    const uint64_t clusters = clusters_for(disk_bytes);
    return clusters / l2_entries() + (clusters % l2_entries() != 0);
  }
};

// The host range of a compressed cluster ("Compressed Clusters Descriptor").
struct CompressedRange {
  uint64_t offset = 0;
  uint64_t length_bytes = 0;  // the data ends in the last 512 of these bytes
};
CompressedRange compressed_range(const Header& header, uint64_t l2_entry);
uint64_t compressed_entry(const Header& header, const CompressedRange& range);

// Returns the size of the first cluster of a file that starts with `start`, or the file's size if
// that is smaller. It is at most the largest cluster size, whatever the header says.
size_t first_cluster_bytes(std::span<const std::byte> start, uint64_t file_bytes);

// A lenient parse is for examining and repairing an image: it accepts a header that is wrong about
// the refcount table or the snapshots, and a file that was cut.
enum class Parse : uint8_t { kStrict, kLenient };
// Parses the header at the start of `first_cluster` (first_cluster_bytes()). Checks each field by
// itself and against the file's size. Errors name the field, or the unknown incompatible features.
// Encrypted images can be parsed.
Result<Header> parse_header(std::span<const std::byte> first_cluster, uint64_t file_bytes,
                            const std::string& path, Parse parse = Parse::kStrict);

// Refuses an image with an external data file whose name is not in the header.
Result<void> check_data_file_named(const Header& header, const std::string& path);

// Returns the first cluster of an image with this header. Fails if the backing file's name and the
// extensions do not fit. Also adds the feature name table, which is used only in error messages, if
// the header then has at most `names_within_bytes`.
Result<std::vector<std::byte>> format_header(const Header& header,
                                             uint64_t names_within_bytes = ~0ull);

}  // namespace wick::block::qcow2

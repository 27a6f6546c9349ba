// A small valid qcow2 image, laid out by hand, and many kinds of damage to it.
#pragma once

#include <array>
#include <initializer_list>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "tests/fakes/memory_file.h"

namespace wick::block {

constexpr uint64_t kHostileCopied = 1ull << 63;
constexpr uint64_t kHostileCompressed = 1ull << 62;

// A disk of 1 MiB whose first cluster has data; version 3.
struct HostileImage {
  // In clusters.
  static constexpr uint64_t kRefcountTable = 1;
  static constexpr uint64_t kRefcountBlock = 2;
  static constexpr uint64_t kL1 = 3;
  static constexpr uint64_t kL2 = 4;
  static constexpr uint64_t kData = 5;
  static constexpr uint64_t kClusters = 6;

  explicit HostileImage(uint32_t cluster_bits = 12, bool extended_l2 = false) {
    store.path = "hostile.qcow2";
    store.bytes.grow(kClusters << cluster_bits);
    put32(0, 0x514649fb);
    put32(4, 3);
    put32(20, cluster_bits);
    put64(24, 1 << 20);
    put32(36, 1);
    put64(40, kL1 << cluster_bits);
    put64(48, kRefcountTable << cluster_bits);
    put32(56, 1);
    put64(72, extended_l2 ? 0x10 : 0);
    put32(96, 4);
    put32(100, 112);
    put64(kRefcountTable << cluster_bits, kRefcountBlock << cluster_bits);
    for (uint64_t i = 0; i < kClusters; ++i) put16((kRefcountBlock << cluster_bits) + i * 2, 1);
    put64(kL1 << cluster_bits, kL2 << cluster_bits | kHostileCopied);
    put64(kL2 << cluster_bits, kData << cluster_bits | kHostileCopied);
    if (extended_l2) put64((kL2 << cluster_bits) + 8, 0xffff'ffff);
    put64(kData << cluster_bits, 0x1234);
  }

  void put8(uint64_t offset, uint8_t value) { put(offset, value); }
  void put16(uint64_t offset, uint16_t value) { put(offset, value); }
  void put32(uint64_t offset, uint32_t value) { put(offset, value); }
  void put64(uint64_t offset, uint64_t value) { put(offset, value); }
  void put_bytes(uint64_t offset, std::initializer_list<uint8_t> bytes) {
    store.bytes.write(offset, as_bytes(bytes.begin(), bytes.size()));
  }
  void put_text(uint64_t offset, const std::string& text) {
    store.bytes.write(offset, as_bytes(text.data(), text.size()));
  }
  // The first starts at 112, where the header ends.
  void put_extension(uint64_t offset, uint32_t type, uint32_t length) {
    put32(offset, type);
    put32(offset + 4, length);
  }
  void put_backing(const std::string& name, const std::string& format) {
    put_extension(112, 0xe2792aca, static_cast<uint32_t>(format.size()));
    put_text(120, format);
    put64(8, 512);
    put32(16, static_cast<uint32_t>(name.size()));
    put_text(512, name);
  }

  fakes::MemoryStore store;

 private:
  template <typename T>
  void put(uint64_t offset, T value) {
    std::array<std::byte, sizeof(T)> bytes{};
    store_be(std::span(bytes), value);
    store.bytes.write(offset, bytes);
  }
};

struct HostileCase {
  const char* name;
  const char* told;
  void (*harm)(HostileImage&);
  bool writes = false;       // found when the first cluster is written, not read
  bool extended_l2 = false;  // in an image with subclusters
};

// Whether QEMU 7.2 opens the image in spite of the damage, and reads its first cluster.
inline bool qemu_is_milder(std::string_view name) {
  static const std::set<std::string_view> names = {
      "RefcountBlockTwice",
      "HeaderOdd",
      "BackingNameWithNul",
      "L1BeyondTheEnd",
      "L1InHeader",
      "L1OverRefcountTable",
      "RefcountTableBeyondTheEnd",
      "RefcountTableInHeader",
      "RefcountBlockUnaligned",
      "RefcountBlockOverL1",
      "RefcountBlockBeyondTheEnd",
      "SnapshotsBeyondTheEnd",
      "SnapshotsInHeader",
      "SnapshotsOverL1",
      "L2InHeader",
      "L2OverRefcountTable",
      "L2OverItsL1",
      "DataInL1",
      "CountsMissing",
      "CountsOfMetadataZero",
  };
  return names.contains(name);
}

inline std::vector<HostileCase> hostile_cases() {
  using Image = HostileImage;
  return {
      // The header.
      {"Magic", "magic", [](Image& i) { i.put32(0, 0x514649fa); }},
      {"Version1", "version 1", [](Image& i) { i.put32(4, 1); }},
      {"Version4", "version 4", [](Image& i) { i.put32(4, 4); }},
      {"Clusters256", "clusters of 2^8 bytes", [](Image& i) { i.put32(20, 8); }},
      {"Clusters4M", "clusters of 2^22 bytes", [](Image& i) { i.put32(20, 22); }},
      {"ClustersHuge", "clusters of 2^4294967295", [](Image& i) { i.put32(20, ~0u); }},
      {"SizeHuge", "claims a disk of", [](Image& i) { i.put64(24, ~0ull); }},
      {"SizeBeyondL1", "L1 entries, too few", [](Image& i) { i.put64(24, 1ull << 40); }},
      {"EncryptionAes", "encrypted (AES)", [](Image& i) { i.put32(32, 1); }},
      {"EncryptionLuks", "encrypted (LUKS)", [](Image& i) { i.put32(32, 2); }},
      {"EncryptionUnknown", "encryption method 3", [](Image& i) { i.put32(32, 3); }},
      {"HeaderOdd", "header of 105 bytes", [](Image& i) { i.put32(100, 105); }},
      {"HeaderShort", "header of 96 bytes", [](Image& i) { i.put32(100, 96); }},
      {"HeaderOverCluster", "header of 4104 bytes", [](Image& i) { i.put32(100, 4104); }},
      {"HeaderHuge", "header of 4294967288", [](Image& i) { i.put32(100, 0xfffffff8); }},
      {"RefcountOrder7", "counts of 2^7 bits", [](Image& i) { i.put32(96, 7); }},
      {"RefcountOrderHuge", "counts of 2^4294967295 bits", [](Image& i) { i.put32(96, ~0u); }},
      // Features.
      {"Incompatible", "bit 5, bit 63", [](Image& i) { i.put64(72, 1ull << 63 | 1 << 5); }},
      {"IncompatibleNamed", "bit 5 (\"time travel\")",
       [](Image& i) {
         i.put64(72, 1 << 5);
         i.put_extension(112, 0x6803f857, 48);
         i.put8(121, 5);
         i.put_text(122, "time travel");
       }},
      {"CompressionUnknown", "compression type 2",
       [](Image& i) {
         i.put64(72, 8);
         i.put8(104, 2);
       }},
      {"CompressionWithoutBit", "compression type 1, but its", [](Image& i) { i.put8(104, 1); }},
      {"CompressionWithoutType", "compression type 0, but its", [](Image& i) { i.put64(72, 8); }},
      {"SubclustersTooSmall", "subclusters of less", [](Image& i) { i.put64(72, 0x10); }},
      {"RawDataWithoutFile", "raw external data", [](Image& i) { i.put64(88, 2); }},
      // Extensions and names.
      {"ExtensionTooLong", "extension 0x12345678 that is too long",
       [](Image& i) { i.put_extension(112, 0x12345678, 4000); }},
      {"ExtensionWraps", "extension 0x12345678 that is too long",
       [](Image& i) { i.put_extension(112, 0x12345678, 0xffff'fff9); }},
      {"BitmapsShort", "bitmaps extension of 8 bytes",
       [](Image& i) { i.put_extension(112, 0x23852875, 8); }},
      {"LuksShort", "encryption extension of 8 bytes",
       [](Image& i) { i.put_extension(112, 0x0537be77, 8); }},
      {"BackingNameTooLong", "backing file name of 1024",
       [](Image& i) {
         i.put64(8, 512);
         i.put32(16, 1024);
       }},
      {"BackingNameHuge", "backing file name of 4294967295",
       [](Image& i) {
         i.put64(8, 512);
         i.put32(16, ~0u);
       }},
      {"BackingNameBeyondCluster", "backing file name of 5 bytes at 0xffe",
       [](Image& i) {
         i.put64(8, 4094);
         i.put32(16, 5);
       }},
      {"BackingNameWraps", "backing file name",
       [](Image& i) {
         i.put64(8, ~0ull);
         i.put32(16, 5);
       }},
      {"BackingNameWithNul", "NUL",
       [](Image& i) {
         i.put64(8, 512);
         i.put32(16, 5);
       }},
      // Tables that the header points to.
      {"L1Missing", "0 L1 entries, too few", [](Image& i) { i.put32(36, 0); }},
      {"L1TooLarge", "bytes of L1 table", [](Image& i) { i.put32(36, ~0u); }},
      {"L1BeyondTheEnd", "L1 table (8388608 bytes at 0x3000) beyond",
       [](Image& i) { i.put32(36, 1 << 20); }},
      {"L1Unaligned", "L1 table at 0x3008", [](Image& i) { i.put64(40, 0x3008); }},
      {"L1FarAway", "L1 table (8 bytes at 0x8000000000000000) beyond",
       [](Image& i) { i.put64(40, 1ull << 63); }},
      {"L1Wraps", "L1 table (8 bytes at 0xfffffffffffff000) beyond",
       [](Image& i) { i.put64(40, ~0xfffull); }},
      {"L1InHeader", "L1 table where its header is", [](Image& i) { i.put64(40, 0); }},
      {"L1OverRefcountTable", "L1 table that overlaps its refcount table",
       [](Image& i) { i.put64(40, 1 << 12); }},
      {"RefcountTableMissing", "no refcount table", [](Image& i) { i.put32(56, 0); }},
      {"RefcountTableTooLarge", "bytes of refcount table", [](Image& i) { i.put32(56, ~0u); }},
      {"RefcountTableBeyondTheEnd", "refcount table (4096 bytes at 0x6000) beyond",
       [](Image& i) { i.put64(48, 6 << 12); }},
      {"RefcountTableUnaligned", "refcount table at 0x1200", [](Image& i) { i.put64(48, 0x1200); }},
      {"RefcountTableInHeader", "refcount table where its header is",
       [](Image& i) { i.put64(48, 0); }},
      {"RefcountBlockUnaligned", "refcount block at 0x2200",
       [](Image& i) { i.put64(1 << 12, 0x2200); }},
      {"RefcountBlockOverL1", "refcount block at 0x3000",
       [](Image& i) { i.put64(1 << 12, 3 << 12); }},
      {"RefcountBlockTwice", "refcount block at 0x2000 twice",
       [](Image& i) { i.put64((1 << 12) + 8, 2 << 12); }},
      {"RefcountBlockBeyondTheEnd", "refcount block at 0x6000",
       [](Image& i) { i.put64(1 << 12, 6 << 12); }},
      {"SnapshotsTooMany", "claims 65537 snapshots", [](Image& i) { i.put32(60, 65537); }},
      {"SnapshotsBeyondTheEnd", "snapshot table (80 bytes at 0x6000) beyond",
       [](Image& i) {
         i.put32(60, 2);
         i.put64(64, 6 << 12);
       }},
      {"SnapshotsUnaligned", "snapshot table at 0x5001",
       [](Image& i) {
         i.put32(60, 1);
         i.put64(64, 0x5001);
       }},
      {"SnapshotsInHeader", "snapshot table where its header is", [](Image& i) { i.put32(60, 1); }},
      {"SnapshotsOverL1", "L1 table that overlaps its snapshot table",
       [](Image& i) {
         i.put32(60, 1);
         i.put64(64, 3 << 12);
       }},
      {"BitmapDirectoryBeyondTheEnd", "bitmap directory (64 bytes at 0x6000) beyond",
       [](Image& i) {
         i.put64(88, 1);
         i.put_extension(112, 0x23852875, 24);
         i.put32(120, 1);
         i.put64(128, 64);
         i.put64(136, 6 << 12);
       }},
      {"BitmapDirectoryUnaligned", "bitmap directory at 0x5001",
       [](Image& i) {
         i.put64(88, 1);
         i.put_extension(112, 0x23852875, 24);
         i.put32(120, 1);
         i.put64(128, 64);
         i.put64(136, 0x5001);
       }},
      {"BitmapDirectoryHuge", "bytes of bitmap directory",
       [](Image& i) {
         i.put64(88, 1);
         i.put_extension(112, 0x23852875, 24);
         i.put32(120, 1);
         i.put64(128, ~0ull);
         i.put64(136, 5 << 12);
       }},
      // Entries of tables.
      {"L2Unaligned", "L2 table at an impossible place",
       [](Image& i) { i.put64(3 << 12, 0x4200 | kHostileCopied); }},
      {"L2InHeader", "L2 table at an impossible place",
       [](Image& i) { i.put64(3 << 12, kHostileCopied); }},
      {"L2OverRefcountTable", "L2 table at an impossible place",
       [](Image& i) { i.put64(3 << 12, 1 << 12 | kHostileCopied); }},
      {"L2OverItsL1", "L2 table at an impossible place",
       [](Image& i) { i.put64(3 << 12, 3 << 12 | kHostileCopied); }},
      {"DataUnaligned", "cluster not at a cluster's start",
       [](Image& i) { i.put64(4 << 12, 0x5200 | kHostileCopied); }},
      {"DataInL1", "metadata mapped as data",
       [](Image& i) { i.put64(4 << 12, 3 << 12 | kHostileCopied); }},
      {"ZeroFlagInVersion2", "zero cluster in version 2",
       [](Image& i) {
         i.put32(4, 2);
         i.put64(4 << 12, 5 << 12 | kHostileCopied | 1);
       }},
      {"SubclustersBothWays", "subclusters that contradict each other",
       [](Image& i) { i.put64((4 << 14) + 8, 1ull << 32 | 1); }, false, true},
      {"SubclustersWithoutCluster", "subclusters that contradict each other",
       [](Image& i) { i.put64(4 << 14, 0); }, false, true},
      {"CompressedGarbage", "cannot be decompressed",
       [](Image& i) {
         i.put64(5 << 12, ~0ull);
         i.put64(4 << 12, kHostileCompressed | 5 << 12);
       }},
      {"CompressedBeyondTheEnd", "cannot be decompressed",
       [](Image& i) { i.put64(4 << 12, kHostileCompressed | 100 << 12); }},
      // One stored block of four bytes.
      {"CompressedTooLittle", "cannot be decompressed",
       [](Image& i) {
         i.put_bytes(5 << 12, {1, 4, 0, 0xfb, 0xff, 1, 2, 3, 4});
         i.put64(4 << 12, kHostileCompressed | 5 << 12);
       }},
      // Wrong refcounts, which matter only to writers.
      {"CountsMissing", "counts of its metadata at 0x0 are missing",
       [](Image& i) {
         i.put64(1 << 12, 0);
         i.put64(4 << 12, 0);
       },
       true},
      {"CountsOfMetadataZero", "say that metadata at 0x3000 is free",
       [](Image& i) {
         i.put16((2 << 12) + 6, 0);
         i.put64(4 << 12, 0);
       },
       true},
  };
}

}  // namespace wick::block

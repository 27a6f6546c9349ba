#include "block/qcow2/format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>

#include "base/bytes.h"

namespace wick::block::qcow2 {

namespace {

using namespace std::string_view_literals;

constexpr uint32_t kMagic = 0x514649fb;
constexpr size_t kVersion2Bytes = 72;
constexpr size_t kVersion3Bytes = 104;
constexpr size_t kWrittenBytes = 112;  // with the compression type and its padding
constexpr size_t kMaxBackingPath = 1023;
constexpr uint64_t kMaxBitmapDirectoryBytes = 64 << 20;
constexpr uint64_t kKnownIncompatible =
    kDirty | kCorrupt | kExternalData | kCompressionType | kExtendedL2;

enum ExtensionType : uint32_t {
  kEnd = 0,
  kBackingFormat = 0xe2792aca,
  kFeatureNames = 0x6803f857,
  kBitmapsExtension = 0x23852875,
  kLuksExtension = 0x0537be77,
  kDataFile = 0x44415441,
};

struct FeatureName {
  uint8_t kind;  // 0: incompatible, 1: compatible, 2: auto-clear
  uint8_t bit;
  std::string_view name;
};

// The feature name table that is written into an image. QEMU shows these names to users when it
// does not know a feature; they are the names that QEMU itself writes.
constexpr std::array kFeatureTable = {
    FeatureName{0, 0, "dirty bit"sv},
    FeatureName{0, 1, "corrupt bit"sv},
    FeatureName{0, 2, "external data file"sv},
    FeatureName{0, 3, "compression type"sv},
    FeatureName{0, 4, "extended L2 entries"sv},
    FeatureName{1, 0, "lazy refcounts"sv},
    FeatureName{2, 0, "bitmaps"sv},
    FeatureName{2, 1, "raw external data"sv},
};
constexpr size_t kFeatureEntryBytes = 48;

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return as_bytes(text.data(), text.size());
}

// Describes unknown feature bits, with the names from the image's own table.
std::string name_features(uint64_t bits, std::span<const std::byte> names) {
  std::string text;
  for (; bits != 0; bits &= bits - 1) {
    const auto bit = static_cast<unsigned>(std::countr_zero(bits));
    std::string name = fmt::format("bit {}", bit);
    for (auto rest = names; rest.size() >= kFeatureEntryBytes;
         rest = rest.subspan(kFeatureEntryBytes))
      if (rest[0] == std::byte{0} && rest[1] == std::byte(bit)) {
        const std::string shown = text_of(rest.subspan(2, 46));
        name = fmt::format("{} (\"{}\")", name, shown.c_str());
      }
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, uint64_t file_bytes, const std::string& path,
         Parse parse)
      : bytes_(bytes), file_bytes_(file_bytes), path_(path), parse_(parse) {}

  Result<Header> run() {
    if (bytes_.size() < kVersion2Bytes)
      return bad("is {} bytes long, too short for a header", bytes_.size());
    if (at<uint32_t>(0) != kMagic)
      return with_hint(fail("{}: is not a qcow2 image: it does not start with the magic", path_),
                       "leave out the format if the image has another one");
    header_.version = at<uint32_t>(4);
    if (header_.version != 2 && header_.version != 3)
      return bad("has version {}; wick knows 2 and 3", header_.version);
    header_.cluster_bits = at<uint32_t>(20);
    if (header_.cluster_bits < kMinClusterBits || header_.cluster_bits > kMaxClusterBits)
      return bad("has clusters of 2^{} bytes; 2^{} to 2^{} are possible", header_.cluster_bits,
                 kMinClusterBits, kMaxClusterBits);
    header_.size_bytes = at<uint64_t>(24);
    header_.crypt_method = at<uint32_t>(32);
    header_.l1_entries = at<uint32_t>(36);
    header_.l1_offset = at<uint64_t>(40);
    header_.refcount_table_offset = at<uint64_t>(48);
    header_.refcount_table_clusters = at<uint32_t>(56);
    header_.snapshot_count = at<uint32_t>(60);
    header_.snapshots_offset = at<uint64_t>(64);
    size_t header_bytes = kVersion2Bytes;
    if (header_.version == 3) header_bytes = TRY(version_3());
    TRY(extensions(header_bytes));
    TRY(features());
    TRY(backing());
    TRY(tables());
    return std::move(header_);
  }

 private:
  template <typename T>
  T at(size_t offset) const {
    return load_be<T>(bytes_.subspan(offset));
  }

  template <typename... Args>
  std::unexpected<Error> bad(fmt::format_string<Args...> format, Args&&... args) const {
    return with_hint(
        fail("{}: the qcow2 image {}", path_, fmt::format(format, std::forward<Args>(args)...)),
        "its header is damaged, or of a newer kind than this wick knows: try a copy of it");
  }

  Result<size_t> version_3() {
    if (bytes_.size() < kVersion3Bytes) return bad("ends within its header");
    header_.incompatible = at<uint64_t>(72);
    header_.compatible = at<uint64_t>(80);
    header_.autoclear = at<uint64_t>(88);
    header_.refcount_order = at<uint32_t>(96);
    const size_t header_bytes = at<uint32_t>(100);
    if (header_bytes < kVersion3Bytes || header_bytes % 8 != 0 || header_bytes > bytes_.size() ||
        header_bytes > header_.cluster_bytes())
      return bad("has a header of {} bytes", header_bytes);
    if (header_.refcount_order > 6)
      return bad("has reference counts of 2^{} bits", header_.refcount_order);
    uint8_t compression = 0;
    if (header_bytes > kVersion3Bytes) compression = static_cast<uint8_t>(bytes_[kVersion3Bytes]);
    if (compression > 1)
      return bad("has compression type {}; wick knows zlib (0) and zstd (1)", compression);
    if (((header_.incompatible & kCompressionType) != 0) != (compression != 0))
      return bad("contradicts itself: compression type {}, but its feature bit is {}", compression,
                 compression != 0 ? "not set" : "set");
    header_.compression = static_cast<Compression>(compression);
    return header_bytes;
  }

  Result<void> extensions(size_t offset) {
    // The extensions end at the backing file's name or, if there is none, at the cluster's end.
    const uint64_t backing_offset = at<uint64_t>(8);
    uint64_t end = std::min<uint64_t>(bytes_.size(), header_.cluster_bytes());
    if (backing_offset != 0) end = std::min(end, backing_offset);
    while (offset + 8 <= end) {
      const auto type = at<uint32_t>(offset);
      const auto length = at<uint32_t>(offset + 4);
      offset += 8;
      if (type == kEnd) break;
      if (length > end - offset) return bad("has a header extension {:#x} that is too long", type);
      TRY(extension(type, bytes_.subspan(offset, length)));
      offset += align_up(length, 8);
    }
    header_.used_bytes = std::min<uint64_t>(offset, end);
    return {};
  }

  Result<void> extension(uint32_t type, std::span<const std::byte> data) {
    switch (type) {
      case kBackingFormat:
        header_.backing_format = text_of(data);
        return {};
      case kFeatureNames:
        feature_names_ = data;
        return {};
      case kDataFile:
        header_.data_path = text_of(data);
        return {};
      case kBitmapsExtension:
        if (data.size() < 24) return bad("has a bitmaps extension of {} bytes", data.size());
        header_.bitmaps = Header::Bitmaps{.count = load_be<uint32_t>(data),
                                          .directory_bytes = load_be<uint64_t>(data.subspan(8)),
                                          .directory_offset = load_be<uint64_t>(data.subspan(16))};
        return {};
      case kLuksExtension:
        if (data.size() < 16) return bad("has an encryption extension of {} bytes", data.size());
        header_.luks = Header::Luks{.offset = load_be<uint64_t>(data),
                                    .length_bytes = load_be<uint64_t>(data.subspan(8))};
        return {};
      default:
        header_.unknown.push_back({type, {data.begin(), data.end()}});
        return {};
    }
  }

  Result<void> features() const {
    if (const uint64_t unknown = header_.incompatible & ~kKnownIncompatible; unknown != 0)
      return bad("needs features that wick does not know: {}",
                 name_features(unknown, feature_names_));
    if (header_.crypt_method > 2) return bad("has encryption method {}", header_.crypt_method);
    if (header_.extended_l2() && header_.cluster_bits < 14)
      return bad("has subclusters of less than 512 bytes");
    if ((header_.autoclear & kRawExternalData) != 0 && !header_.external_data())
      return bad("claims raw external data without an external data file");
    return {};
  }

  Result<void> backing() {
    const uint64_t offset = at<uint64_t>(8);
    const uint32_t length = at<uint32_t>(16);
    if (offset == 0) return {};
    const uint64_t end = std::min<uint64_t>(bytes_.size(), header_.cluster_bytes());
    if (length > kMaxBackingPath || offset > end || length > end - offset)
      return bad("has a backing file name of {} bytes at {:#x}", length, offset);
    header_.used_bytes = std::max(header_.used_bytes, offset + length);
    header_.backing_path = text_of(bytes_.subspan(offset, length));
    if (header_.backing_path.find('\0') != std::string::npos)
      return bad("has a backing file name with a NUL in it");
    return {};
  }

  struct Table {
    const char* what;
    uint64_t offset;
    uint64_t bytes;
  };

  Result<void> table(const Table& table, uint64_t most) const {
    const auto& [what, offset, bytes] = table;
    if (offset % header_.cluster_bytes() != 0)
      return bad("has its {} at {:#x}, not at a cluster's start", what, offset);
    if (bytes > most) return bad("has {} bytes of {}; {} are possible", bytes, what, most);
    if (bytes > 0 && offset == 0) return bad("has its {} where its header is", what);
    return {};
  }

  Result<void> within_file(const Table& table) const {
    const auto& [what, offset, bytes] = table;
    if (bytes > 0 && (offset > file_bytes_ || bytes > file_bytes_ - offset))
      return bad("has its {} ({} bytes at {:#x}) beyond the end of the file", what, bytes, offset);
    return {};
  }

  Result<void> apart(const Table& table, const Table& other) const {
    for (const auto& [one, two] : {std::pair(table, other), std::pair(other, table)})
      if (one.offset >= two.offset && one.offset - two.offset < two.bytes && one.bytes > 0)
        return bad("has a {} that overlaps its {}", one.what, two.what);
    return {};
  }

  Table l1_table() const {
    return {"L1 table", header_.l1_offset, uint64_t{header_.l1_entries} * 8};
  }
  Table refcount_table() const {
    return {"refcount table", header_.refcount_table_offset,
            uint64_t{header_.refcount_table_clusters} << header_.cluster_bits};
  }
  // The table with its minimum size: an entry has 40 bytes or more.
  Table snapshot_table() const {
    return {"snapshot table", header_.snapshots_offset, uint64_t{header_.snapshot_count} * 40};
  }

  Result<void> check_refcount_table() const {
    if (header_.refcount_table_clusters == 0) return bad("has no refcount table");
    TRY(table(refcount_table(), std::max(kMaxRefcountTableBytes, header_.cluster_bytes())));
    TRY(within_file(refcount_table()));
    return apart(l1_table(), refcount_table());
  }

  Result<void> check_snapshot_table() const {
    if (header_.snapshot_count > kMaxSnapshots)
      return bad("claims {} snapshots; {} are possible", header_.snapshot_count, kMaxSnapshots);
    TRY(table(snapshot_table(), uint64_t{kMaxSnapshots} * 40));
    TRY(within_file(snapshot_table()));
    return apart(l1_table(), snapshot_table());
  }

  Result<void> tables() {
    if (header_.size_bytes >= 1ull << 56)
      return bad("claims a disk of {} bytes", header_.size_bytes);
    if (header_.l1_entries < header_.l1_entries_for(header_.size_bytes))
      return bad("has {} L1 entries, too few for a disk of {} bytes", header_.l1_entries,
                 header_.size_bytes);
    TRY(table(l1_table(), kMaxL1Bytes));
    const auto refcounts = check_refcount_table();
    const auto snapshots = check_snapshot_table();
    if (parse_ == Parse::kLenient) {
      if (!refcounts) header_.refcount_table_fault = refcounts.error().context;
      if (!snapshots) header_.snapshots_fault = snapshots.error().context;
      return {};
    }
    TRY(within_file(l1_table()));
    TRY(Result<void>(refcounts));
    TRY(Result<void>(snapshots));
    TRY(apart(refcount_table(), snapshot_table()));
    if (header_.bitmaps && (header_.autoclear & kBitmaps) != 0) {
      const Table directory{"bitmap directory", header_.bitmaps->directory_offset,
                            header_.bitmaps->directory_bytes};
      TRY(table(directory, kMaxBitmapDirectoryBytes));
      TRY(within_file(directory));
    }
    return {};
  }

  const std::span<const std::byte> bytes_;
  const uint64_t file_bytes_;
  const std::string& path_;
  const Parse parse_;
  Header header_;
  std::span<const std::byte> feature_names_;
};

void append_extension(std::vector<std::byte>& to, uint32_t type, std::span<const std::byte> data) {
  const size_t start = to.size();
  to.resize(start + 8 + align_up(data.size(), 8));
  store_be(std::span(to).subspan(start), type);
  store_be(std::span(to).subspan(start + 4), static_cast<uint32_t>(data.size()));
  std::ranges::copy(data, to.begin() + static_cast<std::ptrdiff_t>(start + 8));
}

std::vector<std::byte> feature_table() {
  std::vector<std::byte> table(kFeatureTable.size() * kFeatureEntryBytes);
  for (size_t i = 0; i < kFeatureTable.size(); ++i) {
    std::byte* entry = table.data() + i * kFeatureEntryBytes;
    entry[0] = std::byte{kFeatureTable[i].kind};
    entry[1] = std::byte{kFeatureTable[i].bit};
    std::memcpy(entry + 2, kFeatureTable[i].name.data(), kFeatureTable[i].name.size());
  }
  return table;
}

}  // namespace

CompressedRange compressed_range(const Header& header, uint64_t l2_entry) {
  const uint32_t shift = 62 - (header.cluster_bits - 8);
  const uint64_t offset = l2_entry & ((1ull << shift) - 1);
  const uint64_t sectors = ((l2_entry & ~(kCopied | kCompressed)) >> shift) + 1;
  return {offset, sectors * 512 - offset % 512};
}

uint64_t compressed_entry(const Header& header, const CompressedRange& range) {
  const uint32_t shift = 62 - (header.cluster_bits - 8);
  const uint64_t sectors = (range.offset + range.length_bytes - 1) / 512 - range.offset / 512;
  return kCompressed | sectors << shift | range.offset;
}

size_t first_cluster_bytes(std::span<const std::byte> start, uint64_t file_bytes) {
  const uint32_t bits = start.size() < 24 ? 0 : load_be<uint32_t>(start.subspan(20));
  return std::min(file_bytes, uint64_t{1} << std::clamp(bits, kMinClusterBits, kMaxClusterBits));
}

Result<void> check_data_file_named(const Header& header, const std::string& path) {
  if (!header.external_data() || !header.data_path.empty()) return {};
  return with_hint(fail("{}: does not name its data file", path),
                   "look at it with wick image info");
}

Result<Header> parse_header(std::span<const std::byte> first_cluster, uint64_t file_bytes,
                            const std::string& path, Parse parse) {
  return Parser(first_cluster, file_bytes, path, parse).run();
}

namespace {

void append_extensions(std::vector<std::byte>& bytes, const Header& header,
                       bool with_feature_names) {
  if (!header.backing_format.empty())
    append_extension(bytes, kBackingFormat, bytes_of(header.backing_format));
  if (!header.data_path.empty()) append_extension(bytes, kDataFile, bytes_of(header.data_path));
  if (header.luks) {
    std::array<std::byte, 16> data{};
    store_be(std::span(data), header.luks->offset);
    store_be(std::span(data).subspan(8), header.luks->length_bytes);
    append_extension(bytes, kLuksExtension, data);
  }
  if (with_feature_names) append_extension(bytes, kFeatureNames, feature_table());
  if (header.bitmaps) {
    std::array<std::byte, 24> data{};
    store_be(std::span(data), header.bitmaps->count);
    store_be(std::span(data).subspan(8), header.bitmaps->directory_bytes);
    store_be(std::span(data).subspan(16), header.bitmaps->directory_offset);
    append_extension(bytes, kBitmapsExtension, data);
  }
  for (const Extension& extension : header.unknown)
    append_extension(bytes, extension.type, extension.data);
  append_extension(bytes, kEnd, {});
}

Result<std::vector<std::byte>> format_header(const Header& header, bool with_feature_names,
                                             uint64_t max_bytes) {
  std::vector<std::byte> bytes(header.version == 2 ? kVersion2Bytes : kWrittenBytes);
  const auto put = [&](size_t offset, auto value) {
    store_be(std::span(bytes).subspan(offset), value);
  };
  put(0, kMagic);
  put(4, header.version);
  put(20, header.cluster_bits);
  put(24, header.size_bytes);
  put(32, header.crypt_method);
  put(36, header.l1_entries);
  put(40, header.l1_offset);
  put(48, header.refcount_table_offset);
  put(56, header.refcount_table_clusters);
  put(60, header.snapshot_count);
  put(64, header.snapshots_offset);
  if (header.version == 3) {
    put(72, header.incompatible);
    put(80, header.compatible);
    put(88, header.autoclear);
    put(96, header.refcount_order);
    put(100, static_cast<uint32_t>(kWrittenBytes));
    bytes[kVersion3Bytes] = static_cast<std::byte>(header.compression);
  }
  append_extensions(bytes, header, with_feature_names);
  if (!header.backing_path.empty()) {
    const size_t offset = bytes.size();
    const auto name = bytes_of(header.backing_path);
    if (name.size() > kMaxBackingPath)
      return fail("the backing file's name has {} bytes; {} are possible", name.size(),
                  kMaxBackingPath);
    bytes.insert(bytes.end(), name.begin(), name.end());
    put(8, static_cast<uint64_t>(offset));
    put(16, static_cast<uint32_t>(name.size()));
  }
  if (bytes.size() > max_bytes)
    return fail("header, backing file name and extensions have {} bytes; a cluster has {}",
                bytes.size(), max_bytes);
  bytes.resize(header.cluster_bytes());
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> format_header(const Header& header, uint64_t names_within_bytes) {
  const uint64_t cluster = header.cluster_bytes();
  if (header.version == 3)
    if (auto bytes = format_header(header, true, std::min(cluster, names_within_bytes)))
      return bytes;
  return format_header(header, false, cluster);
}

}  // namespace wick::block::qcow2

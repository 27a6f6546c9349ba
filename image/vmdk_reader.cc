#include "image/vmdk_reader.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "base/buffers.h"
#include "base/bytes.h"
#include "block/compression.h"
#include "image/joined_disk.h"
#include "image/mapped_source.h"

namespace wick::image {

namespace {

constexpr uint64_t kSector = 512;
constexpr uint64_t kMaxSectors = uint64_t{1} << 53;  // of an extent; sums cannot overflow
constexpr uint64_t kMaxGrainBytes = 16 << 20;
constexpr uint64_t kMaxEntriesPerTable = 512;  // QEMU's limit
constexpr uint64_t kMaxDescriptorBytes = 2 << 20;
constexpr size_t kMaxExtents = 8192;
constexpr uint64_t kAtEnd = ~0ull;  // the grain directory's offset is in the footer
constexpr uint32_t kNoParent = 0xffff'ffff;

// Flags of a sparse extent's header.
constexpr uint32_t kZeroGrains = 1 << 2;  // a grain table's entry 1 stands for zeroes
constexpr uint32_t kCompressed = 1 << 16;
constexpr uint32_t kMarkers = 1 << 17;
constexpr uint64_t kMarkerBytes = 12;  // before a compressed grain: its sector, its size

using Bytes = std::vector<std::byte>;

Task<Result<Bytes>> read_part(block::File& file, uint64_t offset, uint64_t length) {
  Bytes bytes(length);
  const iovec buffer = block::to_iovec(bytes);
  if (auto got = co_await file.read(offset, {&buffer, 1}); !got) co_return failure(got);
  co_return bytes;
}

struct SparseHeader {
  uint32_t flags = 0;
  uint64_t sectors = 0;
  uint64_t grain_bytes = 0;
  uint64_t descriptor_offset = 0;
  uint64_t descriptor_bytes = 0;
  uint64_t entries_per_table = 0;
  uint64_t directory_sector = 0;

  bool compressed() const { return (flags & kCompressed) != 0; }
  uint64_t grains() const {
    const uint64_t grain_sectors = grain_bytes / kSector;
    return sectors / grain_sectors + (sectors % grain_sectors != 0);
  }
  uint64_t tables() const {
    return grains() / entries_per_table + (grains() % entries_per_table != 0);
  }
};

// Does not check the grain directory's offset, because the valid one may be in the footer.
Result<SparseHeader> parse_sparse(std::span<const std::byte> bytes, const std::string& path) {
  const auto u32 = [&](size_t offset) { return load_le<uint32_t>(bytes.subspan(offset, 4)); };
  const auto u64 = [&](size_t offset) { return load_le<uint64_t>(bytes.subspan(offset, 8)); };
  if (std::memcmp(bytes.data(), "KDMV", 4) != 0) return fail("{}: is not a sparse vmdk", path);
  if (u32(4) < 1 || u32(4) > 3) return fail("{}: vmdk version {} is unknown", path, u32(4));
  SparseHeader header{.flags = u32(8),
                      .sectors = u64(12),
                      .descriptor_offset = u64(28),
                      .descriptor_bytes = u64(36),
                      .entries_per_table = u32(44),
                      .directory_sector = u64(56)};
  const uint64_t grain_sectors = u64(20);
  if (header.sectors == 0 || header.sectors > kMaxSectors)
    return fail("{}: {} sectors are not a valid size", path, header.sectors);
  if (!std::has_single_bit(grain_sectors) || grain_sectors > kMaxGrainBytes / kSector)
    return fail("{}: grains of {} sectors; wick reads powers of two up to {}", path, grain_sectors,
                kMaxGrainBytes / kSector);
  header.grain_bytes = grain_sectors * kSector;
  if (header.entries_per_table == 0 || header.entries_per_table > kMaxEntriesPerTable)
    return fail("{}: grain tables of {} entries; wick reads up to {}", path,
                header.entries_per_table, kMaxEntriesPerTable);
  const auto method = load_le<uint16_t>(bytes.subspan(77, 2));
  if (header.compressed() && method != 1)
    return fail("{}: compression method {} is unknown", path, method);
  if (header.descriptor_offset > kMaxSectors || header.descriptor_bytes > kMaxSectors)
    return fail("{}: the descriptor at sector {} is out of range", path, header.descriptor_offset);
  header.descriptor_offset *= kSector;
  header.descriptor_bytes *= kSector;
  return header;
}

// The footer is the header again, between two markers, at the end of the file.
Task<Result<SparseHeader>> read_sparse(block::File& file) {
  auto bytes = co_await read_part(file, 0, kSector);
  if (!bytes) co_return failure(bytes);
  auto header = parse_sparse(*bytes, file.path());
  if (!header) co_return failure(header);
  if (header->directory_sector == kAtEnd) {
    const uint64_t end = file.size_bytes() / kSector * kSector;
    if (end < 4 * kSector) co_return fail("{}: has no footer", file.path());
    bytes = co_await read_part(file, end - 2 * kSector, kSector);
    if (!bytes) co_return failure(bytes);
    auto footer = parse_sparse(*bytes, file.path());
    if (!footer) {
      footer.error().context = "the footer of " + footer.error().context;
      co_return failure(footer);
    }
    if (footer->sectors != header->sectors || footer->grain_bytes != header->grain_bytes ||
        footer->flags != header->flags || footer->entries_per_table != header->entries_per_table)
      co_return fail("{}: the footer contradicts the header", file.path());
    header->directory_sector = footer->directory_sector;
  }
  const uint64_t sector = header->directory_sector;
  const uint64_t end = file.size_bytes();
  if (sector > kMaxSectors || sector * kSector > end ||
      header->tables() > (end - sector * kSector) / 4)
    co_return fail("{}: the directory of {} grain tables at sector {} is not inside the file",
                   file.path(), header->tables(), sector);
  co_return header;
}

class Sparse final : public MappedSource {
 public:
  Sparse(std::unique_ptr<block::File> file, const SparseHeader& header)
      : MappedSource(std::move(file), header.sectors * kSector, header.grain_bytes),
        header_(header) {}

 private:
  Task<Result<std::vector<Block>>> find(uint64_t first, uint64_t most) override {
    const uint64_t per_table = header_.entries_per_table;
    const uint64_t at = first % per_table;
    const uint64_t count = std::min({most, per_table - at, header_.grains() - first});
    const auto table = co_await load(header_.directory_sector * kSector + first / per_table * 4, 1);
    if (!table) co_return std::unexpected(table.error());
    const uint64_t table_offset = table->front() * kSector;
    if (table_offset == 0) co_return std::vector<Block>(count);
    if (!in_file(table_offset, per_table * 4))
      co_return fail_errno(EIO, "{}: the grain table at {:#x} is not inside the file", path(),
                           table_offset);
    const auto entries = co_await load(table_offset + at * 4, count);
    if (!entries) co_return std::unexpected(entries.error());
    std::vector<Block> blocks;
    for (const uint32_t entry : *entries) {
      const auto block = classify(entry, first + blocks.size());
      if (!block && !blocks.empty()) break;  // reported when this grain is read
      if (!block) co_return std::unexpected(block.error());
      blocks.push_back(*block);
    }
    co_return blocks;
  }

  Result<Block> classify(uint32_t entry, uint64_t grain) const {
    if (entry == 0) return Block{};
    if (entry == 1 && (header_.flags & kZeroGrains) != 0) return Block{Block::Kind::kZero, 0};
    const uint64_t offset = entry * kSector;
    const uint64_t least = header_.compressed()
                               ? kMarkerBytes
                               : std::min(block_bytes_, size_bytes_ - grain * block_bytes_);
    if (!in_file(offset, least))
      return fail_errno(EIO, "{}: the grain at {:#x} is not inside the file", path(), offset);
    return Block{header_.compressed() ? Block::Kind::kCompressed : Block::Kind::kData, offset};
  }

  Task<Result<void>> unpack(uint64_t offset, std::span<std::byte> block) override {
    uint64_t length = std::min(2 * block_bytes_, file_->size_bytes() - offset);
    if ((header_.flags & kMarkers) != 0) {
      const auto marker = co_await read_part(*file_, offset, kMarkerBytes);
      if (!marker) co_return std::unexpected(marker.error());
      offset += kMarkerBytes;
      length = load_le<uint32_t>(std::span(*marker).subspan(8, 4));
      if (length > 2 * block_bytes_ || !in_file(offset, length))
        co_return fail_errno(EIO, "{}: bad size {} of the compressed grain at {:#x}", path(),
                             length, offset);
    }
    const auto packed = co_await read_part(*file_, offset, length);
    if (!packed) co_return std::unexpected(packed.error());
    // Only a part of the last grain may belong to the disk.
    if (!block::inflate_zlib(*packed, block, block.size() == block_bytes_))
      co_return fail_errno(EIO, "{}: the compressed grain at {:#x} is damaged", path(), offset);
    co_return Result<void>();
  }

  const SparseHeader header_;
};

// A flat part of a file, or zeroes if there is no file.
class Flat final : public ReadOnlyDisk {
 public:
  Flat(std::unique_ptr<block::File> file, uint64_t start, uint64_t size_bytes)
      : ReadOnlyDisk(file ? file->path() : "zeroes"),
        file_(std::move(file)),
        start_(start),
        size_bytes_(size_bytes) {}

  uint64_t size_bytes() const override { return size_bytes_; }
  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    if (auto checked = check_range(offset, total_bytes(buffers)); !checked) co_return checked;
    if (file_) co_return co_await file_->read(start_ + offset, buffers);
    block::fill_zeroes(buffers);
    co_return Result<void>();
  }
  Task<Result<block::Extent>> extent(uint64_t offset, uint64_t length) override {
    if (auto checked = check_range(offset, length); !checked) co_return failure(checked);
    if (!file_) co_return block::Extent{.length_bytes = length, .zero = true, .data = false};
    const uint64_t at = start_ + offset;
    const block::File::Piece piece = file_->piece_at(at);
    const uint64_t known = piece.end > at ? std::min(length, piece.end - at) : length;
    co_return block::Extent{
        .length_bytes = known, .zero = piece.hole, .host_offset = at, .path = file_->path()};
  }

 private:
  const std::unique_ptr<block::File> file_;
  const uint64_t start_;
  const uint64_t size_bytes_;
};

// A line of the descriptor: RW 4194304 SPARSE "disk-s001.vmdk"
struct ExtentLine {
  uint64_t sectors = 0;
  std::string type;
  std::string name;
  uint64_t start_sector = 0;
};

struct Descriptor {
  VmdkInfo info;
  std::vector<ExtentLine> lines;
};

std::string_view take_word(std::string_view& text) {
  const size_t start = std::min(text.find_first_not_of(" \t"), text.size());
  text.remove_prefix(start);
  const std::string_view word = text.substr(0, text.find_first_of(" \t"));
  text.remove_prefix(word.size());
  return word;
}

template <typename T>
bool to_number(std::string_view text, T& value, int base = 10) {
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && rest == text.data() + text.size();
}

Result<ExtentLine> parse_extent(std::string_view text, const std::string& path) {
  const std::string line(text);
  const auto wrong = [&](const char* why) { return fail("{}: '{}': {}", path, line, why); };
  if (take_word(text) == "NOACCESS") return wrong("a part of the disk that cannot be read");
  ExtentLine extent;
  if (!to_number(take_word(text), extent.sectors) || extent.sectors == 0 ||
      extent.sectors > kMaxSectors)
    return wrong("not a number of sectors");
  extent.type = take_word(text);
  if (extent.type == "ZERO") return extent;
  if (extent.type != "SPARSE" && extent.type != "FLAT" && extent.type != "VMFS")
    return wrong("wick cannot read extents of this type");
  const size_t open = text.find('"'), close = text.rfind('"');
  if (open == text.npos || close == open) return wrong("no file name in quotes");
  extent.name = text.substr(open + 1, close - open - 1);
  text.remove_prefix(close + 1);
  if (const std::string_view start = take_word(text); !start.empty())
    if (!to_number(start, extent.start_sector) || extent.start_sector > kMaxSectors)
      return wrong("not a valid start sector");
  // The author of an image must not choose among the host's files (PITFALLS 21).
  const std::filesystem::path name(extent.name);
  if (name.empty() || name.is_absolute() || std::ranges::find(name, "..") != name.end() ||
      extent.name.find('\0') != extent.name.npos)
    return with_hint(wrong("names a file outside the image's folder"),
                     "put the files into one folder, and the bare name into the descriptor");
  return extent;
}

Result<Descriptor> parse_descriptor(std::string_view text, const std::string& path) {
  Descriptor descriptor;
  text = text.substr(0, text.find('\0'));
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    for (const char* const access : {"RW ", "RDONLY ", "NOACCESS "}) {
      if (!line.starts_with(access)) continue;
      if (descriptor.lines.size() == kMaxExtents)
        return fail("{}: more than {} extents", path, kMaxExtents);
      descriptor.lines.push_back(TRY(parse_extent(line, path)));
    }
    const size_t equal = line.find('=');
    if (equal == line.npos) continue;
    const std::string_view key = line.substr(0, equal);
    std::string_view value = line.substr(equal + 1);
    if (key == "CID" && !to_number(value, descriptor.info.cid, 16))
      return fail("{}: CID '{}' is not a number", path, value);
    if (key == "parentCID" && !to_number(value, descriptor.info.parent_cid, 16))
      return fail("{}: parentCID '{}' is not a number", path, value);
    if (key == "createType") {
      if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
        value = value.substr(1, value.size() - 2);
      descriptor.info.create_type = value;
    }
  }
  if (descriptor.info.create_type.empty())
    return fail("{}: is not a vmdk: its descriptor has no createType", path);
  if (descriptor.info.parent_cid != kNoParent)
    return with_hint(fail("{}: has a parent image, which wick cannot follow", path),
                     "merge them first, with the program that made them");
  return descriptor;
}

class Opening {
 public:
  explicit Opening(OpenBeside open_beside) : open_beside_(std::move(open_beside)) {}

  Task<Result<VmdkDisk>> run(std::unique_ptr<block::File> file) {
    const std::string path = file->path();
    auto start = co_await read_part(*file, 0, kSector);
    if (!start) co_return failure(start);
    Result<void> done;
    if (std::memcmp(start->data(), "KDMV", 4) == 0) {
      done = co_await add_single(std::move(file));
    } else {
      done = co_await add_all(std::move(file));
    }
    if (!done) co_return failure(done);
    std::vector<block::Backend*> disks;
    for (const auto& disk : disks_) disks.push_back(disk.get());
    VmdkDisk made{nullptr, std::move(info_)};
    if (disks_.size() == 1)
      made.disk = std::move(disks_.front());
    else
      made.disk = std::make_unique<JoinedDisk>(std::move(disks), std::move(disks_));
    co_return made;
  }

 private:
  // Adds the disk of an image that is one sparse file with the descriptor inside.
  Task<Result<void>> add_single(std::unique_ptr<block::File> file) {
    auto header = co_await read_sparse(*file);
    if (!header) co_return failure(header);
    const uint64_t end = file->size_bytes();
    if (header->descriptor_bytes == 0 || header->descriptor_bytes > kMaxDescriptorBytes ||
        header->descriptor_offset > end ||
        header->descriptor_bytes > end - header->descriptor_offset)
      co_return fail("{}: a descriptor of {} bytes at {:#x} is not inside the file", file->path(),
                     header->descriptor_bytes, header->descriptor_offset);
    if (auto read =
            co_await read_descriptor(*file, header->descriptor_offset, header->descriptor_bytes);
        !read)
      co_return read;
    add_sparse(std::move(file), *header, "");
    co_return Result<void>();
  }

  // Reads a file that contains only the descriptor, and adds the extent files that it names.
  Task<Result<void>> add_all(std::unique_ptr<block::File> file) {
    if (file->size_bytes() > kMaxDescriptorBytes)
      co_return fail("{}: is not a vmdk that wick can read", file->path());
    if (auto read = co_await read_descriptor(*file, 0, file->size_bytes()); !read) co_return read;
    info_.allocated_bytes += file->allocated_bytes();
    if (lines_.empty()) co_return fail("{}: a vmdk without extents", file->path());
    uint64_t total = 0;
    for (const ExtentLine& line : lines_) {
      total += line.sectors;
      if (total > kMaxSectors) co_return fail("{}: the disk is too large", file->path());
      if (auto added = co_await add(line); !added) co_return added;
    }
    co_return Result<void>();
  }

  Task<Result<void>> add(const ExtentLine& line) {
    const uint64_t size = line.sectors * kSector;
    if (line.type == "ZERO") {
      info_.extents.push_back({.path = "", .type = line.type, .size_bytes = size});
      disks_.push_back(std::make_unique<Flat>(nullptr, 0, size));
      co_return Result<void>();
    }
    auto opened = open_beside_(line.name);
    if (!opened) co_return failure(opened);
    std::unique_ptr<block::File> file = *std::move(opened);
    const std::string path = file->path();
    if (line.type == "SPARSE") {
      const auto header = co_await read_sparse(*file);
      if (!header) co_return std::unexpected(header.error());
      if (header->sectors != line.sectors)
        co_return fail("{}: has {} sectors, but its descriptor says {}", path, header->sectors,
                       line.sectors);
      add_sparse(std::move(file), *header, line.type);
      co_return Result<void>();
    }
    const uint64_t start = line.start_sector * kSector;
    const uint64_t end = align_up(file->size_bytes(), kSector);
    if (start > end || size > end - start)
      co_return fail("{}: has {} bytes, fewer than its descriptor says", path, end);
    info_.allocated_bytes += file->allocated_bytes();
    info_.extents.push_back({.path = path, .type = line.type, .size_bytes = size});
    disks_.push_back(std::make_unique<Flat>(std::move(file), start, size));
    co_return Result<void>();
  }

  void add_sparse(std::unique_ptr<block::File> file, const SparseHeader& header, std::string type) {
    info_.allocated_bytes += file->allocated_bytes();
    info_.extents.push_back({.path = file->path(),
                             .type = std::move(type),
                             .size_bytes = header.sectors * kSector,
                             .grain_bytes = header.grain_bytes,
                             .compressed = header.compressed()});
    disks_.push_back(std::make_unique<Sparse>(std::move(file), header));
  }

  Task<Result<void>> read_descriptor(block::File& file, uint64_t offset, uint64_t length) {
    const auto bytes = co_await read_part(file, offset, length);
    if (!bytes) co_return std::unexpected(bytes.error());
    auto descriptor = parse_descriptor(
        {reinterpret_cast<const char*>(bytes->data()), bytes->size()}, file.path());
    if (!descriptor) co_return failure(descriptor);
    info_ = std::move(descriptor->info);
    lines_ = std::move(descriptor->lines);
    co_return Result<void>();
  }

  const OpenBeside open_beside_;
  VmdkInfo info_;
  std::vector<ExtentLine> lines_;
  std::vector<std::unique_ptr<block::Backend>> disks_;
};

}  // namespace

Task<Result<VmdkDisk>> open_vmdk(std::unique_ptr<block::File> file, OpenBeside open_beside) {
  Opening opening(std::move(open_beside));
  co_return co_await opening.run(std::move(file));
}

}  // namespace wick::image

#include "image/vdi_reader.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "image/mapped_source.h"

namespace wick::image {

namespace {

constexpr uint64_t kHeaderBytes = 512;
constexpr uint32_t kSignature = 0xbeda'107f;
constexpr uint32_t kVersion = 0x0001'0001;
constexpr uint64_t kBlockBytes = 1 << 20;  // the only size that VirtualBox and QEMU make
// Entries from here on have no block in the file: this one stands for zeroes, 0xffffffff for an
// absent block.
constexpr uint32_t kZeroBlock = 0xffff'fffe;

struct Header {
  bool fixed = false;
  uint64_t map_offset = 0;
  uint64_t data_offset = 0;
  uint64_t size_bytes = 0;
};

Result<Header> parse(std::span<const std::byte> bytes, uint64_t file_bytes,
                     const std::string& path) {
  const auto u32 = [&](size_t offset) { return load_le<uint32_t>(bytes.subspan(offset, 4)); };
  if (file_bytes < kHeaderBytes || u32(0x40) != kSignature)
    return fail("{}: is not a vdi image", path);
  if (u32(0x44) != kVersion) return fail("{}: vdi version {:#x} is unknown", path, u32(0x44));
  if (u32(0x4c) != 1 && u32(0x4c) != 2)
    return fail("{}: vdi type {} is neither dynamic nor fixed", path, u32(0x4c));
  const auto parents = bytes.subspan(0x1a8, 32);  // UUIDs of the previous image and of the parent
  if (std::ranges::any_of(parents, [](std::byte byte) { return byte != std::byte{0}; }))
    return with_hint(fail("{}: has a parent image, which wick cannot follow", path),
                     "merge them first: VBoxManage clonemedium");
  if (u32(0x168) != 512 || u32(0x178) != kBlockBytes || u32(0x17c) != 0)
    return fail("{}: sectors of {} bytes, blocks of {} + {} bytes; wick reads only 512, {} + 0",
                path, u32(0x168), u32(0x178), u32(0x17c), kBlockBytes);
  Header header{.fixed = u32(0x4c) == 2,
                .map_offset = u32(0x154),
                .data_offset = u32(0x158),
                .size_bytes = load_le<uint64_t>(bytes.subspan(0x170, 8))};
  const uint64_t blocks = u32(0x180);
  if (header.size_bytes > blocks * kBlockBytes)
    return fail("{}: {} blocks are too few for {} bytes", path, blocks, header.size_bytes);
  header.size_bytes = align_up(header.size_bytes, 512);
  if (header.map_offset % 512 != 0 || header.data_offset % 512 != 0 ||
      header.map_offset > file_bytes || blocks * 4 > file_bytes - header.map_offset)
    return fail("{}: the map of {} blocks at {:#x} is not inside the file", path, blocks,
                header.map_offset);
  return header;
}

class Vdi final : public MappedSource {
 public:
  Vdi(std::unique_ptr<block::File> file, const Header& header)
      : MappedSource(std::move(file), header.size_bytes, kBlockBytes), header_(header) {}

 private:
  Task<Result<std::vector<Block>>> find(uint64_t first, uint64_t most) override {
    const auto entries = co_await load(header_.map_offset + first * 4, most);
    if (!entries) co_return std::unexpected(entries.error());
    std::vector<Block> blocks;
    for (const uint32_t entry : *entries) {
      if (entry >= kZeroBlock) {
        blocks.push_back({Block::Kind::kZero, 0});
        continue;
      }
      const Block block{Block::Kind::kData, header_.data_offset + entry * kBlockBytes};
      const uint64_t start = (first + blocks.size()) * kBlockBytes;
      if (!in_file(block.offset_bytes, std::min(kBlockBytes, size_bytes_ - start))) {
        if (!blocks.empty()) break;  // reported when this block is read
        co_return fail_errno(EIO, "{}: block {} is not inside the file", path(), entry);
      }
      blocks.push_back(block);
    }
    co_return blocks;
  }
  bool tells_holes() const override { return header_.fixed; }

  const Header header_;
};

}  // namespace

Task<Result<VdiDisk>> open_vdi(std::unique_ptr<block::File> file) {
  std::array<std::byte, kHeaderBytes> bytes{};
  const iovec buffer = block::to_iovec(bytes);
  if (auto got = co_await file->read(0, {&buffer, 1}); !got) co_return failure(got);
  const auto header = parse(bytes, file->size_bytes(), file->path());
  if (!header) co_return std::unexpected(header.error());
  co_return VdiDisk{std::make_unique<Vdi>(std::move(file), *header), kBlockBytes};
}

}  // namespace wick::image

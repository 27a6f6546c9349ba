#include "image/image_info.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/bytes.h"
#include "block/named_file.h"
#include "block/qcow2/header.h"

namespace wick::image {

namespace {

constexpr size_t kLuksHeaderBytes = 592;

Task<Result<std::vector<std::byte>>> read_part(block::File& file, uint64_t offset,
                                               uint64_t length) {
  std::vector<std::byte> bytes(length);
  const iovec buffer = block::to_iovec(bytes);
  if (auto got = co_await file.read(offset, {&buffer, 1}); !got) co_return failure(got);
  co_return bytes;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Returns the text up to the first NUL.
std::string c_text(std::span<const std::byte> bytes) { return text_of(bytes).c_str(); }

ImageInfo::Luks parse_luks(std::span<const std::byte> bytes) {
  constexpr uint64_t kSectorBytes = 512;
  ImageInfo::Luks luks;
  luks.cipher = c_text(bytes.subspan(8, 32));
  luks.mode = c_text(bytes.subspan(40, 32));
  luks.hash = c_text(bytes.subspan(72, 32));
  luks.payload_offset = load_be<uint32_t>(bytes.subspan(104)) * kSectorBytes;
  luks.key_bytes = load_be<uint32_t>(bytes.subspan(108));
  luks.iterations = load_be<uint32_t>(bytes.subspan(164));
  luks.uuid = c_text(bytes.subspan(168, 40));
  for (size_t i = 0; i < 8; ++i) {
    const auto slot = bytes.subspan(208 + i * 48, 48);
    luks.slots.push_back({.active = load_be<uint32_t>(slot) == 0x00ac71f3,
                          .iterations = load_be<uint32_t>(slot.subspan(4)),
                          .key_offset = load_be<uint32_t>(slot.subspan(40)) * kSectorBytes,
                          .stripes = load_be<uint32_t>(slot.subspan(44))});
  }
  return luks;
}

Task<Result<void>> inspect_qcow2(block::File& file, ImageInfo& info) {
  auto header = co_await block::qcow2::read_header(file, block::qcow2::Parse::kLenient);
  if (!header) co_return failure(header);
  auto snapshots =
      co_await block::qcow2::read_snapshots(file, *header, block::qcow2::Parse::kLenient);
  if (!snapshots) co_return failure(snapshots);
  info.size_bytes = header->size_bytes;
  if (!header->backing_path.empty())
    // A name that only another program understands is shown unchanged.
    info.full_backing_path =
        block::named_file(info.path, header->backing_path).value_or(header->backing_path);
  auto bitmaps = co_await block::qcow2::read_bitmaps(file, *header);
  if (!bitmaps) co_return failure(bitmaps);
  std::optional<ImageInfo::Luks> luks;
  if (header->crypt_method == 2 && header->luks) {
    const auto bytes = co_await read_part(file, header->luks->offset, kLuksHeaderBytes);
    if (!bytes) co_return std::unexpected(bytes.error());
    luks = parse_luks(*bytes);
  }
  info.qcow2 = ImageInfo::Qcow2{*std::move(header), std::move(snapshots->snapshots),
                                *std::move(bitmaps), std::move(luks)};
  co_return Result<void>();
}

}  // namespace

Task<Result<ImageInfo>> inspect_image(std::string path, std::optional<block::Format> format,
                                      block::AsyncIo& io) {
  block::ImageOptions options;
  options.format = format;
  options.read_only = true;
  options.lock = false;  // L1, L2 and refcounts are not read, so the image may be in use
  auto opened = block::open_image_file(path, options, io);
  if (!opened) co_return failure(opened);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) co_return fail_errno(errno, "{}: cannot stat", path);
  ImageInfo info;
  info.path = path;
  info.format = opened->format;
  info.size_bytes = align_up(opened->file->size_bytes(), 512);
  info.allocated_bytes = static_cast<uint64_t>(status.st_blocks) * 512;
  if (info.format == block::Format::kQcow2)
    if (auto done = co_await inspect_qcow2(*opened->file, info); !done) co_return failure(done);
  co_return info;
}

}  // namespace wick::image

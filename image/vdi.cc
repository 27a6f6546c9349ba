#include "image/vdi.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "base/bytes.h"
#include "image/mapped_target.h"

namespace wick::image {

namespace {

constexpr uint64_t kBlockBytes = 1 << 20;
constexpr uint64_t kMaxBlocks = 1 << 26;  // 64 TiB; the map is in memory
constexpr uint64_t kHeaderBytes = 512;

class Vdi final : public MappedTarget {
 public:
  Vdi(block::File& file, uint64_t size)
      : MappedTarget(
            file, size, kBlockBytes,
            align_up(kHeaderBytes + align_up(size, kBlockBytes) / kBlockBytes * 4, kBlockBytes),
            kMaxBlocks) {}

 private:
  Task<Result<void>> write_tables() override {
    const uint64_t blocks = align_up(size_bytes_, kBlockBytes) / kBlockBytes;
    std::vector<std::byte> map(align_up(blocks * 4, 512));
    std::fill_n(map.begin(), blocks * 4, std::byte{0xff});  // 0xffffffff: no block
    for (const auto& [number, part] : parts_)
      for (uint64_t i = 0; i < part.size(); ++i)
        if (part[i] != 0)
          store_le(std::span(map).subspan((number * kPartBlocks + i) * 4, 4), part[i] - 1);
    if (auto done = co_await put(kHeaderBytes, map); !done) co_return done;

    std::array<std::byte, kHeaderBytes> header{};
    const auto store = [&](size_t offset, auto value) {
      store_le(std::span(header).subspan(offset, sizeof(value)), value);
    };
    constexpr std::string_view kText = "<<< wick VM Virtual Disk Image >>>\n";
    std::memcpy(header.data(), kText.data(), kText.size());
    store(0x40, uint32_t{0xbeda'107f});
    store(0x44, uint32_t{0x0001'0001});  // version 1.1
    store(0x48, uint32_t{0x180});        // bytes of the header from here
    store(0x4c, uint32_t{1});            // dynamic
    store(0x154, static_cast<uint32_t>(kHeaderBytes));
    store(0x158, static_cast<uint32_t>(data_offset_));
    store(0x168, uint32_t{512});  // bytes of a sector
    store(0x170, size_bytes_);
    store(0x178, static_cast<uint32_t>(kBlockBytes));
    store(0x180, static_cast<uint32_t>(blocks));
    store(0x184, static_cast<uint32_t>(added_));
    // The UUIDs of the image and of its last change, random (RFC 4122, version 4).
    for (const size_t uuid : {0x188, 0x198}) {
      if (::getrandom(header.data() + uuid, 16, 0) != 16)
        co_return fail_errno(errno, "{}: no random numbers", file_.path());
      header[uuid + 7] = (header[uuid + 7] & std::byte{0x0f}) | std::byte{0x40};
      header[uuid + 8] = (header[uuid + 8] & std::byte{0x3f}) | std::byte{0x80};
    }
    co_return co_await put(0, header);
  }
};

}  // namespace

Result<std::unique_ptr<CopyTarget>> new_vdi(block::File& file, uint64_t size_bytes) {
  if (size_bytes > kMaxBlocks * kBlockBytes)
    return fail("{}: the disk has {} bytes; wick makes vdi images of at most {}", file.path(),
                size_bytes, kMaxBlocks * kBlockBytes);
  return std::make_unique<Vdi>(file, size_bytes);
}

}  // namespace wick::image

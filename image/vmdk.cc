#include "image/vmdk.h"

#include <sys/random.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "base/bytes.h"
#include "image/mapped_target.h"

namespace wick::image {

namespace {

constexpr uint64_t kSector = 512;
constexpr uint64_t kGrainBytes = 64 << 10;
constexpr uint64_t kGrainsPerTable = 512;
constexpr uint64_t kTableSectors = kGrainsPerTable * 4 / kSector;
constexpr uint64_t kDescriptorSector = 1;
constexpr uint64_t kDescriptorSectors = 20;
constexpr uint64_t kMaxFileBytes = uint64_t{2} << 40;  // sector numbers have 32 bits
constexpr uint64_t kMaxTables = 32 << 20;              // QEMU's limit: 1 PiB

// Offsets in the file, in sectors. Each of the two grain directories is followed by its
// grain tables; the first directory is the redundant one.
struct Layout {
  uint64_t tables;
  uint64_t directory_sectors;
  uint64_t copy;
  uint64_t directory;
  uint64_t grains;

  explicit Layout(uint64_t size_bytes)
      : tables((size_bytes + kGrainBytes * kGrainsPerTable - 1) / (kGrainBytes * kGrainsPerTable)),
        directory_sectors((tables * 4 + kSector - 1) / kSector),
        copy(kDescriptorSector + kDescriptorSectors),
        directory(copy + directory_sectors + tables * kTableSectors),
        grains(align_up(directory + directory_sectors + tables * kTableSectors,
                        kGrainBytes / kSector)) {}
};

class Vmdk final : public MappedTarget {
 public:
  Vmdk(block::File& file, uint64_t size)
      : MappedTarget(file, size, kGrainBytes, Layout(size).grains * kSector,
                     (kMaxFileBytes - Layout(size).grains * kSector) / kGrainBytes),
        layout_(size) {}

 private:
  Task<Result<void>> write_tables() override {
    for (const uint64_t start : {layout_.copy, layout_.directory}) {
      const uint64_t first_table = start + layout_.directory_sectors;
      std::vector<std::byte> directory(layout_.directory_sectors * kSector);
      for (uint64_t i = 0; i < layout_.tables; ++i)
        store_le(std::span(directory).subspan(i * 4, 4),
                 static_cast<uint32_t>(first_table + i * kTableSectors));
      if (auto done = co_await put(start * kSector, directory); !done) co_return done;
      // Tables that are not written are holes of the file: all zeroes.
      for (const auto& [number, part] : parts_) {
        std::array<std::byte, kTableSectors * kSector> table{};
        for (uint64_t i = 0; i < part.size(); ++i)
          if (part[i] != 0)
            store_le(std::span(table).subspan(i * 4, 4),
                     static_cast<uint32_t>((data_offset_ + (part[i] - 1) * kGrainBytes) / kSector));
        if (auto done = co_await put((first_table + number * kTableSectors) * kSector, table);
            !done)
          co_return done;
      }
    }
    const std::string text = descriptor();
    if (text.size() > kDescriptorSectors * kSector)
      co_return fail("{}: the file's name is too long for a vmdk image", file_.path());
    if (auto done = co_await put(kDescriptorSector * kSector, as_bytes(text.data(), text.size()));
        !done)
      co_return done;

    std::array<std::byte, kSector> header{};
    const auto store = [&](size_t offset, auto value) {
      store_le(std::span(header).subspan(offset, sizeof(value)), value);
    };
    std::memcpy(header.data(), "KDMV", 4);
    store(4, uint32_t{1});  // version
    store(8, uint32_t{3});  // the newline test is valid; redundant tables exist
    store(12, size_bytes_ / kSector);
    store(20, kGrainBytes / kSector);
    store(28, kDescriptorSector);
    store(36, kDescriptorSectors);
    store(44, static_cast<uint32_t>(kGrainsPerTable));
    store(48, layout_.copy);
    store(56, layout_.directory);
    store(64, layout_.grains);
    std::memcpy(header.data() + 73, "\n \r\n", 4);
    co_return co_await put(0, header);
  }

  std::string descriptor() const {
    uint32_t id = 0;  // of the content; must differ from the value for "no parent"
    while (id == 0 || id >= 0xffff'fffe)
      if (::getrandom(&id, sizeof(id), 0) != sizeof(id)) id = 1;
    constexpr uint64_t kHeads = 16, kSectorsPerTrack = 63;
    return fmt::format(
        R"(# Disk DescriptorFile
version=1
CID={:08x}
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW {} SPARSE "{}"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "{}"
ddb.geometry.heads = "{}"
ddb.geometry.sectors = "{}"
ddb.adapterType = "ide"
ddb.toolsVersion = "2147483647"
)",
        id, size_bytes_ / kSector, std::filesystem::path(file_.path()).filename().string(),
        size_bytes_ / (kHeads * kSectorsPerTrack * kSector), kHeads, kSectorsPerTrack);
  }

  const Layout layout_;
};

}  // namespace

Result<std::unique_ptr<CopyTarget>> new_vmdk(block::File& file, uint64_t size_bytes) {
  constexpr uint64_t kMaxBytes = kMaxTables * kGrainsPerTable * kGrainBytes;
  if (size_bytes > kMaxBytes)
    return fail("{}: the disk has {} bytes; a vmdk image holds at most {}", file.path(), size_bytes,
                kMaxBytes);
  // With a capacity of 0, readers would take the file for a descriptor of other files.
  if (size_bytes == 0) return fail("{}: vmdk cannot hold an empty disk", file.path());
  // The descriptor holds the name in quotes.
  for (const char character : std::filesystem::path(file.path()).filename().string())
    if (character == '"' || static_cast<unsigned char>(character) < ' ')
      return with_hint(fail("{}: vmdk cannot hold this name", file.path()), "choose another one");
  return std::make_unique<Vmdk>(file, size_bytes);
}

}  // namespace wick::image

// The kdump-compressed format of a core, version 6: a header, a sub-header followed by the notes,
// two bitmaps of page frames, a descriptor for each page, and the data of the pages. The first
// bitmap names the frames that exist, the second those that are in the core; here both are equal.
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "debug/core_image.h"

namespace wick::debug {

namespace {

constexpr uint32_t kHeaderVersion = 6;
constexpr uint32_t kCompressedZlib = 1;
constexpr size_t kUtsnameBytes = 65;

// The format's disk_dump_header on 64-bit machines.
struct Header {
  char signature[8];
  uint32_t version;
  char sysname[kUtsnameBytes];
  char nodename[kUtsnameBytes];
  char release[kUtsnameBytes];
  char kernel_version[kUtsnameBytes];
  char machine[kUtsnameBytes];
  char domainname[kUtsnameBytes];
  int64_t seconds;
  int64_t microseconds;
  uint32_t status;
  uint32_t block_bytes;
  uint32_t sub_header_blocks;
  uint32_t bitmap_blocks;
  uint32_t max_frame;  // superseded by SubHeader::max_frame
  uint32_t total_ram_blocks;
  uint32_t device_blocks;
  uint32_t written_blocks;
  uint32_t current_cpu;
  uint32_t cpus;
};
static_assert(sizeof(Header) == 464);

// The format's kdump_sub_header on 64-bit machines.
struct SubHeader {
  uint64_t phys_base;
  uint32_t dump_level;  // 0: no page is left out
  uint32_t split;
  uint64_t start_frame, end_frame;  // only for a core that was split into several files
  uint64_t vmcoreinfo_offset, vmcoreinfo_bytes;
  uint64_t notes_offset, notes_bytes;
  uint64_t eraseinfo_offset, eraseinfo_bytes;
  uint64_t start_frame_64, end_frame_64;
  uint64_t max_frame;
};
static_assert(sizeof(SubHeader) == 104);

struct PageDescriptor {
  uint64_t offset;
  uint32_t size_bytes;
  uint32_t flags;
  uint64_t page_flags;
};
static_assert(sizeof(PageDescriptor) == 24);

uint64_t blocks_of(uint64_t bytes) { return align_up(bytes, kCorePageBytes) / kCorePageBytes; }

// Where the parts of the file are. Offsets and sizes are in bytes.
struct Layout {
  uint64_t frames = 0;                    // the number of the last page frame, plus 1
  uint64_t pages = 0;                     // the number of pages in the core
  uint64_t bitmap = 0, bitmap_bytes = 0;  // the first bitmap, and the size of each of the two
  uint64_t descriptors = 0;
  uint64_t data = 0;
};

template <size_t kSize>
void copy_text(char (&to)[kSize], std::string_view text) {
  std::memcpy(to, text.data(), std::min(text.size(), kSize - 1));
}

// Appends to the file in large writes.
class Buffered {
 public:
  Buffered(CoreFile& file, uint64_t offset) : file_(file), offset_(offset) {
    bytes_.reserve(kBytes);
  }
  uint64_t offset() const { return offset_ + bytes_.size(); }

  Result<void> append(std::span<const std::byte> bytes) {
    if (bytes_.size() + bytes.size() > kBytes) TRY(flush());
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return {};
  }
  Result<void> flush() {
    if (!bytes_.empty()) TRY(file_.write(offset_, bytes_));
    offset_ += bytes_.size();
    bytes_.clear();
    return {};
  }

 private:
  static constexpr size_t kBytes = 256 << 10;
  CoreFile& file_;
  uint64_t offset_;
  std::vector<std::byte> bytes_;
};

// Compresses pages, each by itself, but all with one zlib state.
class Compressor {
 public:
  Compressor() { ready_ = ::deflateInit(&stream_, Z_BEST_SPEED) == Z_OK; }
  ~Compressor() {
    if (ready_) ::deflateEnd(&stream_);
  }
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  // Returns the page in zlib's format; empty if that would not be smaller than the page.
  std::span<const std::byte> compress(std::span<const std::byte> page) {
    if (!ready_ || ::deflateReset(&stream_) != Z_OK) return {};
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(page.data()));
    stream_.avail_in = static_cast<uInt>(page.size());
    stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
    stream_.avail_out = static_cast<uInt>(buffer_.size());
    if (::deflate(&stream_, Z_FINISH) != Z_STREAM_END) return {};
    return std::span(buffer_).first(buffer_.size() - stream_.avail_out);
  }

 private:
  z_stream stream_{};
  bool ready_ = false;
  std::array<std::byte, kCorePageBytes - 1> buffer_;
};

Layout lay_out(const CoreImage& image, uint64_t notes_bytes) {
  Layout layout;
  for (const GuestMemory::Region& block : image.blocks) {
    layout.frames = (block.start.value + block.size_bytes) / kCorePageBytes;
    layout.pages += block.size_bytes / kCorePageBytes;
  }
  layout.bitmap = kCorePageBytes * (1 + blocks_of(sizeof(SubHeader) + notes_bytes));
  layout.bitmap_bytes = align_up((layout.frames + 7) / 8, kCorePageBytes);
  layout.descriptors = layout.bitmap + 2 * layout.bitmap_bytes;
  layout.data = layout.descriptors + layout.pages * sizeof(PageDescriptor);
  return layout;
}

Header header(const CoreImage& image, const Layout& layout) {
  Header header{};
  std::memcpy(header.signature, "KDUMP   ", sizeof(header.signature));
  header.version = kHeaderVersion;
  copy_text(header.machine, "x86_64");
  const GuestNote* const note = image.note();
  const auto release = note == nullptr ? std::nullopt : note->value("OSRELEASE");
  if (release) {
    // libkdumpfile, and therefore drgn, uses `machine` only if sysname, release and kernel_version
    // look like those of a Linux.
    copy_text(header.sysname, "Linux");
    copy_text(header.release, *release);
    copy_text(header.kernel_version, "unknown");
  }
  header.status = kCompressedZlib;
  header.block_bytes = kCorePageBytes;
  header.sub_header_blocks = static_cast<uint32_t>(layout.bitmap / kCorePageBytes - 1);
  header.bitmap_blocks = static_cast<uint32_t>(2 * layout.bitmap_bytes / kCorePageBytes);
  header.max_frame = static_cast<uint32_t>(std::min<uint64_t>(layout.frames, UINT32_MAX));
  header.cpus = static_cast<uint32_t>(image.cpus.size());
  return header;
}

SubHeader sub_header(const CoreImage& image, const Layout& layout, uint64_t notes_bytes) {
  SubHeader header{};
  header.max_frame = layout.frames;
  header.notes_offset = kCorePageBytes + sizeof(SubHeader);
  header.notes_bytes = notes_bytes;
  const GuestNote* const note = image.note();
  if (note != nullptr && note->name() == "VMCOREINFO") {
    header.phys_base = static_cast<uint64_t>(note->phys_base().value_or(0));
    header.vmcoreinfo_offset =
        header.notes_offset + notes_bytes - note->bytes().size() + note->description_offset();
    header.vmcoreinfo_bytes = note->description().size();
  }
  return header;
}

Result<void> write_bitmaps(const CoreImage& image, const Layout& layout, CoreFile& file) {
  constexpr uint64_t kFramesPerPart = kCorePageBytes * 8;
  for (uint64_t first = 0; first < layout.bitmap_bytes * 8; first += kFramesPerPart) {
    std::array<std::byte, kCorePageBytes> part{};
    for (const GuestMemory::Region& block : image.blocks) {
      const uint64_t start = std::max(first, block.start.value / kCorePageBytes);
      const uint64_t end =
          std::min(first + kFramesPerPart, (block.start.value + block.size_bytes) / kCorePageBytes);
      for (uint64_t frame = start; frame < end; ++frame)
        part[(frame - first) / 8] |= std::byte{1} << (frame % 8);
    }
    TRY(file.write(layout.bitmap + first / 8, part));
    TRY(file.write(layout.bitmap + layout.bitmap_bytes + first / 8, part));
  }
  return {};
}

// Writes the page descriptors and the data of the pages. All zero pages share the same data.
// Returns the offset of the end of the data.
Result<uint64_t> write_pages(const CoreImage& image, const Layout& layout, CoreFile& file,
                             CoreCounter& counter) {
  static constexpr std::array<std::byte, kCorePageBytes> kZeroes{};
  const auto compressor = std::make_unique<Compressor>();
  Buffered descriptors(file, layout.descriptors);
  Buffered data(file, layout.data);
  TRY(data.append(kZeroes));
  const PageDescriptor zero_page{layout.data, kCorePageBytes, 0, 0};
  for (const GuestMemory::Region& block : image.blocks) {
    for (uint64_t at = 0; at < block.size_bytes; at += kCorePageBytes) {
      const std::span<const std::byte> page(block.host + at, kCorePageBytes);
      PageDescriptor descriptor = zero_page;
      if (!is_zero(page)) {
        const auto compressed = compressor->compress(page);
        const auto stored = compressed.empty() ? page : compressed;
        descriptor = {data.offset(), static_cast<uint32_t>(stored.size()),
                      compressed.empty() ? 0 : kCompressedZlib, 0};
        TRY(data.append(stored));
      }
      TRY(descriptors.append(as_bytes(&descriptor, sizeof(descriptor))));
      counter.add(kCorePageBytes);
    }
  }
  TRY(descriptors.flush());
  TRY(data.flush());
  return data.offset();
}

}  // namespace

Result<void> write_kdump_core(const CoreImage& image, CoreFile& file, CoreCounter& counter) {
  const std::vector<std::byte> notes = core_notes(image.cpus, NoteLayout::kX86_64, image.note());
  const Layout layout = lay_out(image, notes.size());
  const Header first = header(image, layout);
  const SubHeader second = sub_header(image, layout, notes.size());
  TRY(file.write(0, as_bytes(&first, sizeof(first))));
  TRY(file.write(kCorePageBytes, as_bytes(&second, sizeof(second))));
  TRY(file.write(second.notes_offset, notes));
  TRY(write_bitmaps(image, layout, file));
  return file.finish(TRY(write_pages(image, layout, file, counter)));
}

}  // namespace wick::debug

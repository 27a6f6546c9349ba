#include "boot/decompress.h"

#include <bzlib.h>
#include <lz4.h>
#include <lz4frame.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "boot/memory_map.h"

namespace wick::boot {

namespace {

using namespace std::string_view_literals;

// Truncated data count as damaged, because not every library distinguishes the two.
enum class Outcome { kWhole, kDamaged, kNoRoom };

// A decompressor reads one stream from the start of `in`, writes to the start of `out`, and
// removes what it has read and written from both.
struct Buffers {
  std::span<const std::byte> in;
  std::span<std::byte> out;

  void advance(size_t read, size_t written) {
    in = in.subspan(read);
    out = out.subspan(written);
  }
  const uint8_t* from() const { return reinterpret_cast<const uint8_t*>(in.data()); }
  uint8_t* to() const { return reinterpret_cast<uint8_t*>(out.data()); }
};

Outcome gunzip(Buffers& buffers) {
  z_stream stream{};
  stream.next_in = const_cast<Bytef*>(buffers.from());  // zlib only reads its input
  stream.avail_in = static_cast<uInt>(buffers.in.size());
  stream.next_out = buffers.to();
  stream.avail_out = static_cast<uInt>(buffers.out.size());
  constexpr int kGzipOnly = 16 + MAX_WBITS;
  if (inflateInit2(&stream, kGzipOnly) != Z_OK) return Outcome::kDamaged;
  const int result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  buffers.advance(stream.total_in, stream.total_out);
  if (result == Z_STREAM_END) return Outcome::kWhole;
  return buffers.out.empty() ? Outcome::kNoRoom : Outcome::kDamaged;
}

// Runs a decoder of liblzma, and then frees the decoder.
Outcome run_lzma(lzma_stream& stream, Buffers& buffers) {
  stream.next_in = buffers.from();
  stream.avail_in = buffers.in.size();
  stream.next_out = buffers.to();
  stream.avail_out = buffers.out.size();
  const lzma_ret result = lzma_code(&stream, LZMA_FINISH);
  buffers.advance(stream.total_in, stream.total_out);
  lzma_end(&stream);
  if (result == LZMA_STREAM_END) return Outcome::kWhole;
  return buffers.out.empty() ? Outcome::kNoRoom : Outcome::kDamaged;
}

// The formats allow a dictionary of 4 GiB; Linux's build uses 32 MiB (xz) and 64 MiB (lzma).
constexpr uint64_t kMaxLzmaMemoryBytes = 256 << 20;

Outcome unxz(Buffers& buffers) {
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_stream_decoder(&stream, kMaxLzmaMemoryBytes, 0) != LZMA_OK) return Outcome::kDamaged;
  return run_lzma(stream, buffers);
}

Outcome unlzma(Buffers& buffers) {
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_alone_decoder(&stream, kMaxLzmaMemoryBytes) != LZMA_OK) return Outcome::kDamaged;
  return run_lzma(stream, buffers);
}

Outcome bunzip2(Buffers& buffers) {
  constexpr size_t kMaxUnsigned = std::numeric_limits<unsigned>::max();
  bz_stream stream{};
  if (BZ2_bzDecompressInit(&stream, 0, 0) != BZ_OK) return Outcome::kDamaged;
  const auto in_bytes = static_cast<unsigned>(std::min(buffers.in.size(), kMaxUnsigned));
  const auto out_bytes = static_cast<unsigned>(std::min(buffers.out.size(), kMaxUnsigned));
  // The library only reads its input.
  stream.next_in = reinterpret_cast<char*>(const_cast<uint8_t*>(buffers.from()));
  stream.avail_in = in_bytes;
  stream.next_out = reinterpret_cast<char*>(buffers.to());
  stream.avail_out = out_bytes;
  const int result = BZ2_bzDecompress(&stream);
  buffers.advance(in_bytes - stream.avail_in, out_bytes - stream.avail_out);
  BZ2_bzDecompressEnd(&stream);
  if (result == BZ_STREAM_END) return Outcome::kWhole;
  return buffers.out.empty() ? Outcome::kNoRoom : Outcome::kDamaged;
}

// Reads the big-endian fields of lzop's format.
class LzopReader {
 public:
  explicit LzopReader(Buffers& buffers) : buffers_(buffers) {}

  // Skips `size_bytes`. If the data end before that, this call and all later calls return false.
  bool skip(size_t size_bytes) {
    if (size_bytes > buffers_.in.size()) ended_ = true;
    if (!ended_) buffers_.advance(size_bytes, 0);
    return !ended_;
  }
  // Reads a number of `size_bytes`. Returns 0 if the data end before its last byte.
  uint32_t number(size_t size_bytes) {
    const auto bytes = buffers_.in;
    if (!skip(size_bytes)) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < size_bytes; ++i)
      value = value << 8 | std::to_integer<uint32_t>(bytes[i]);
    return value;
  }
  bool ended() const { return ended_; }

 private:
  Buffers& buffers_;
  bool ended_ = false;
};

constexpr uint32_t kLzopSums = 0x101;            // Adler-32 or CRC-32 of the decompressed block
constexpr uint32_t kLzopSumsCompressed = 0x202;  // Adler-32 or CRC-32 of the compressed block
constexpr uint32_t kLzopFilter = 0x800;
constexpr uint32_t kLzopMaxBlockBytes = 64 << 20;

// Skips the header and returns its flags, which are valid only if !reader.ended().
uint32_t read_lzop_header(LzopReader& reader) {
  // The version that added the level and the upper half of the time to the header.
  constexpr uint32_t kHasLevel = 0x940;
  reader.skip(9);  // magic
  const uint32_t version = reader.number(2);
  reader.skip(5);  // the library's version, the version needed, the method
  if (version >= kHasLevel) reader.skip(1);
  const uint32_t flags = reader.number(4);
  if ((flags & kLzopFilter) != 0) reader.skip(4);
  reader.skip(version >= kHasLevel ? 12 : 8);  // mode and time
  reader.skip(reader.number(1) + 4);           // name and checksum
  return flags;
}

Outcome unlzo(Buffers& buffers) {
  LzopReader reader(buffers);
  const uint32_t flags = read_lzop_header(reader);
  while (true) {
    const uint32_t size = reader.number(4);
    if (reader.ended() || size > kLzopMaxBlockBytes) return Outcome::kDamaged;
    if (size == 0) return Outcome::kWhole;
    const uint32_t stored = reader.number(4);
    for (uint32_t sums = flags & kLzopSums; sums != 0; sums &= sums - 1) reader.skip(4);
    if (stored < size)
      for (uint32_t sums = flags & kLzopSumsCompressed; sums != 0; sums &= sums - 1) reader.skip(4);
    if (size > buffers.out.size()) return Outcome::kNoRoom;
    const uint8_t* const from = buffers.from();
    if (stored == 0 || stored > size || !reader.skip(stored)) return Outcome::kDamaged;
    lzo_uint written = size;
    if (stored == size)
      std::memcpy(buffers.to(), from, size);
    else if (lzo1x_decompress_safe(from, stored, buffers.to(), &written, nullptr) != LZO_E_OK)
      return Outcome::kDamaged;
    if (written != size) return Outcome::kDamaged;
    buffers.advance(0, size);
  }
}

Outcome unzstd(Buffers& buffers) {
  const size_t read = ZSTD_findFrameCompressedSize(buffers.from(), buffers.in.size());
  if (ZSTD_isError(read)) return Outcome::kDamaged;
  const size_t written = ZSTD_decompress(buffers.to(), buffers.out.size(), buffers.from(), read);
  if (ZSTD_getErrorCode(written) == ZSTD_error_dstSize_tooSmall) return Outcome::kNoRoom;
  if (ZSTD_isError(written)) return Outcome::kDamaged;
  buffers.advance(read, written);
  return Outcome::kWhole;
}

Outcome unlz4(Buffers& buffers) {
  LZ4F_dctx* made = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&made, LZ4F_VERSION))) return Outcome::kDamaged;
  const std::unique_ptr<LZ4F_dctx, decltype(&LZ4F_freeDecompressionContext)> context(
      made, &LZ4F_freeDecompressionContext);
  constexpr LZ4F_decompressOptions_t kOutputStays{
      .stableDst = 1, .skipChecksums = 0, .reserved1 = 0, .reserved0 = 0};
  while (true) {
    size_t read = buffers.in.size();
    size_t written = buffers.out.size();
    const size_t wanted = LZ4F_decompress(context.get(), buffers.to(), &written, buffers.from(),
                                          &read, &kOutputStays);
    if (LZ4F_isError(wanted)) return Outcome::kDamaged;
    buffers.advance(read, written);
    if (wanted == 0) return Outcome::kWhole;
    if (read == 0 && written == 0)
      return buffers.out.empty() ? Outcome::kNoRoom : Outcome::kDamaged;
  }
}

// Decompresses the format of `lz4 -l`. It consists of blocks, each preceded by its compressed
// length; each decompresses to 8 MiB, except the last. The format has no end mark.
Outcome unlz4_legacy(Buffers& buffers) {
  constexpr size_t kMagicBytes = 4;
  constexpr size_t kBlockBytes = 8 << 20;
  constexpr size_t kSizeBytes = sizeof(uint32_t);
  constexpr uint32_t kMagic = 0x184c'2102;
  buffers.advance(kMagicBytes, 0);
  while (!buffers.in.empty()) {
    if (buffers.in.size() < kSizeBytes) return Outcome::kDamaged;
    const auto length = load_le<uint32_t>(buffers.in);
    // The data ends here: these four bytes are the magic of another stream, which is left to the
    // caller, or the total size that Linux's build appends.
    if (length == kMagic || buffers.in.size() == kSizeBytes) return Outcome::kWhole;
    if (length > LZ4_COMPRESSBOUND(kBlockBytes) || length > buffers.in.size() - kSizeBytes)
      return Outcome::kDamaged;
    const size_t room = std::min(kBlockBytes, buffers.out.size());
    const int written = LZ4_decompress_safe(
        reinterpret_cast<const char*>(buffers.from() + kSizeBytes),
        reinterpret_cast<char*>(buffers.to()), static_cast<int>(length), static_cast<int>(room));
    // LZ4 returns the same error for a full buffer and for damaged data.
    if (written < 0) return room < kBlockBytes ? Outcome::kNoRoom : Outcome::kDamaged;
    buffers.advance(kSizeBytes + length, static_cast<size_t>(written));
  }
  return Outcome::kWhole;
}

struct Format {
  std::string_view magic;
  std::string_view name;
  Outcome (*decompress)(Buffers&);
  Compression compression = Compression::kSlow;
};

constexpr std::array kFormats = {
    Format{"\x1f\x8b"sv, "gzip", gunzip},
    Format{"\xfd"
           "7zXZ\0"sv,
           "xz", unxz},
    Format{"\x5d\0\0"sv, "lzma", unlzma},
    Format{"\x28\xb5\x2f\xfd"sv, "zstd", unzstd},
    Format{"BZh"sv, "bzip2", bunzip2},
    Format{"\x89LZO\0\r\n\x1a\n"sv, "lzo", unlzo, Compression::kQuick},
    Format{"\x04\x22\x4d\x18"sv, "lz4", unlz4, Compression::kQuick},
    Format{"\x02\x21\x4c\x18"sv, "lz4", unlz4_legacy, Compression::kQuick},
};
constexpr size_t kLongestMagic = 9;

const Format* find_format(std::span<const std::byte> bytes) {
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()),
                               std::min(bytes.size(), kLongestMagic));
  const auto* const found = std::ranges::find_if(
      kFormats, [&](const Format& format) { return start.starts_with(format.magic); });
  return found == kFormats.end() ? nullptr : found;
}

std::unexpected<Error> damaged(const Format& format, const std::string& name) {
  return with_hint(fail("{}: the {} data are damaged or cut short", name, format.name),
                   "copy it again");
}

// Decompresses all streams of `buffers.in`. `format` is that of the first stream.
Result<void> decompress(Buffers& buffers, const Format* format, const std::string& name) {
  const size_t room_bytes = buffers.out.size();
  for (; format != nullptr; format = find_format(buffers.in)) {
    switch (format->decompress(buffers)) {
      case Outcome::kWhole:
        break;
      case Outcome::kDamaged:
        return damaged(*format, name);
      case Outcome::kNoRoom:
        return with_hint(fail("{}: the {} data decompress to more than {} MiB, too much for a "
                              "kernel",
                              name, format->name, mebibytes(room_bytes)),
                         "decompress it yourself");
    }
  }
  return {};
}

}  // namespace

Result<InputFile> decompressed(InputFile file, uint64_t limit_bytes) {
  std::array<std::byte, kLongestMagic> start;
  const auto magic = std::span(start).first(std::min<uint64_t>(start.size(), file.size_bytes()));
  TRY(file.read(0, magic));
  const Format* const format = find_format(magic);
  if (format == nullptr) return file;
  if (file.size_bytes() > limit_bytes)
    return fail("{}: {} MiB of {} data are too much for a kernel", file.name(),
                mebibytes(file.size_bytes()), format->name);
  std::vector<std::byte> compressed(file.size_bytes());
  TRY(file.read(0, compressed));

  // The file is sparse: only pages that are written take memory.
  Fd fd(::memfd_create("kernel", MFD_CLOEXEC));
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(limit_bytes)) != 0)
    return fail_errno(errno, "{}: cannot create a memfd to decompress into", file.name());
  void* const area = ::mmap(nullptr, limit_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (area == MAP_FAILED)
    return fail_errno(errno, "{}: cannot map memory to decompress into", file.name());
  Buffers buffers{compressed, {static_cast<std::byte*>(area), limit_bytes}};
  const auto done = decompress(buffers, format, file.name());
  ::munmap(area, limit_bytes);
  TRY(done);
  if (::ftruncate(fd.get(), static_cast<off_t>(limit_bytes - buffers.out.size())) != 0)
    return fail_errno(errno, "{}: cannot truncate the memfd", file.name());
  return InputFile::adopt(std::move(fd), file.path(), " (decompressed)");
}

Compression compression_of(std::span<const std::byte> data) {
  const Format* const format = find_format(data);
  return format == nullptr ? Compression::kNone : format->compression;
}

Result<uint64_t> decompress_stream(std::span<const std::byte> data, std::span<std::byte> out,
                                   const std::string& name) {
  const Format& format = *find_format(data);
  Buffers buffers{data, out};
  if (format.decompress(buffers) != Outcome::kWhole) return damaged(format, name);
  return out.size() - buffers.out.size();
}

}  // namespace wick::boot

#include "block/compression.h"

#include <zlib.h>
#include <zstd.h>

#include <array>

namespace wick::block::qcow2 {

namespace {

constexpr int kZlibWindowBits = 15;
constexpr int kWindowBits = -12;  // raw deflate with a window of 4 KiB, as QEMU writes it
// The largest window that a frame may ask the decoder to allocate. zstd's usual levels ask for up
// to this size if they do not know the content's size.
constexpr int kMaxZstdWindowBits = 23;

Bytef* bytes_of(std::span<const std::byte> bytes) {
  return reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));  // zlib's API lacks const
}

// If `ends` is true, the data must end with the cluster, and its checksum must be correct.
bool inflate_all(int window_bits, std::span<const std::byte> packed, std::span<std::byte> cluster,
                 bool ends) {
  z_stream stream{};
  if (::inflateInit2(&stream, window_bits) != Z_OK) return false;
  stream.next_in = bytes_of(packed);
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = bytes_of(cluster);
  stream.avail_out = static_cast<uInt>(cluster.size());
  const int result = ::inflate(&stream, Z_FINISH);
  ::inflateEnd(&stream);
  // The output must be full. Other bytes may follow the compressed data; without `ends`, the data
  // may also be longer than the output.
  return stream.avail_out == 0 && (result == Z_STREAM_END || (!ends && result == Z_BUF_ERROR));
}

bool decompress_zstd(std::span<const std::byte> packed, std::span<std::byte> cluster) {
  ZSTD_DCtx* const context = ::ZSTD_createDCtx();
  if (context == nullptr) return false;
  ::ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, kMaxZstdWindowBits);
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  ZSTD_outBuffer out{cluster.data(), cluster.size(), 0};
  while (out.pos < out.size) {
    const size_t before = in.pos + out.pos;
    if (::ZSTD_isError(::ZSTD_decompressStream(context, &out, &in)) || in.pos + out.pos == before)
      break;
  }
  ::ZSTD_freeDCtx(context);
  return out.pos == out.size;
}

std::vector<std::byte> deflate_raw(std::span<const std::byte> cluster) {
  // Level 6, the default of zlib and QEMU, takes up to a third longer and makes images only
  // 1% smaller.
  constexpr int kLevel = 5;
  constexpr int kMemoryLevel = 9;
  std::vector<std::byte> packed(cluster.size() - 1);
  z_stream stream{};
  if (::deflateInit2(&stream, kLevel, Z_DEFLATED, kWindowBits, kMemoryLevel, Z_DEFAULT_STRATEGY) !=
      Z_OK)
    return {};
  stream.next_in = bytes_of(cluster);
  stream.avail_in = static_cast<uInt>(cluster.size());
  stream.next_out = bytes_of(packed);
  stream.avail_out = static_cast<uInt>(packed.size());
  const int result = ::deflate(&stream, Z_FINISH);
  packed.resize(result == Z_STREAM_END ? packed.size() - stream.avail_out : 0);
  ::deflateEnd(&stream);
  return packed;
}

std::vector<std::byte> compress_zstd(std::span<const std::byte> cluster, int level) {
  std::vector<std::byte> packed(::ZSTD_compressBound(cluster.size()));
  const size_t size =
      ::ZSTD_compress(packed.data(), packed.size(), cluster.data(), cluster.size(), level);
  if (::ZSTD_isError(size) || size >= cluster.size()) return {};
  packed.resize(size);
  return packed;
}

// Returns whether all byte values are about equally frequent, as in compressed or encrypted data.
bool looks_random(std::span<const std::byte> cluster) {
  constexpr size_t kStride = 3;
  std::array<uint32_t, 256> counts{};
  uint64_t total = 0;
  for (size_t i = 0; i < cluster.size(); i += kStride, ++total) ++counts[size_t(cluster[i])];
  uint64_t squares = 0;
  for (const uint64_t count : counts) squares += count * count;
  // For random bytes the sum is close to total^2 / 256 + total.
  return squares * 256 < (total + 256) * total + total * total / 64;
}

}  // namespace

bool decompress(Compression method, std::span<const std::byte> packed,
                std::span<std::byte> cluster) {
  return method == Compression::kZstd ? decompress_zstd(packed, cluster)
                                      : inflate_all(kWindowBits, packed, cluster, false);
}

std::vector<std::byte> compress(Compression method, std::span<const std::byte> cluster) {
  if (method == Compression::kZstd) return compress_zstd(cluster, ZSTD_CLEVEL_DEFAULT);
  // zlib is slowest on incompressible data, and zstd detects such data ten times faster.
  if (looks_random(cluster) && compress_zstd(cluster, 1).empty()) return {};
  return deflate_raw(cluster);
}

}  // namespace wick::block::qcow2

namespace wick::block {

bool inflate_zlib(std::span<const std::byte> packed, std::span<std::byte> block, bool ends) {
  return qcow2::inflate_all(qcow2::kZlibWindowBits, packed, block, ends);
}

}  // namespace wick::block

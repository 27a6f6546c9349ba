#include "block/compression.h"

#include <zlib.h>
#include <zstd.h>

namespace wick::block::qcow2 {

namespace {

constexpr int kWindowBits = -12;  // raw deflate with a window of 4 KiB, as QEMU writes it
// A frame's reader allocates the window that it asks for. As much as zstd's usual
// levels ask for without knowing how little a cluster is.
constexpr int kMostZstdWindowBits = 23;

Bytef* bytes_of(std::span<const std::byte> bytes) {
  return reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));  // zlib's API is older
}

bool inflate_raw(std::span<const std::byte> packed, std::span<std::byte> cluster) {
  z_stream stream{};
  if (::inflateInit2(&stream, kWindowBits) != Z_OK) return false;
  stream.next_in = bytes_of(packed);
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = bytes_of(cluster);
  stream.avail_out = static_cast<uInt>(cluster.size());
  const int result = ::inflate(&stream, Z_FINISH);
  ::inflateEnd(&stream);
  // The input may go on behind the data, and the output may be full before its end.
  return stream.avail_out == 0 && (result == Z_STREAM_END || result == Z_BUF_ERROR);
}

bool decompress_zstd(std::span<const std::byte> packed, std::span<std::byte> cluster) {
  ZSTD_DCtx* const context = ::ZSTD_createDCtx();
  if (context == nullptr) return false;
  ::ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, kMostZstdWindowBits);
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

}  // namespace

bool decompress(Compression method, std::span<const std::byte> packed,
                std::span<std::byte> cluster) {
  return method == Compression::kZstd ? decompress_zstd(packed, cluster)
                                      : inflate_raw(packed, cluster);
}

}  // namespace wick::block::qcow2

// Compressed clusters: reading them, and writing them for wick image convert.
#include <cstring>

#include "base/bytes.h"
#include "block/compression.h"
#include "block/qcow2/qcow2.h"

namespace wick::block {

using namespace qcow2;

Task<Result<void>> Qcow2::read_compressed(const Mapping& mapping, uint64_t offset,
                                          std::span<const iovec> buffers) {
  const auto is_there = [&] {
    return decompressed_offset_ == mapping.host_offset && !decompressed_.empty() &&
           decompressed_generation_ == metadata_.compressed_generation();
  };
  const uint64_t needed = mapping.compressed_bytes + header().cluster_bytes();
  const auto room = co_await bounce_->decompressed.take(is_there() ? 0 : needed);
  if (!is_there()) {
    std::vector<std::byte> packed(mapping.compressed_bytes);
    auto got = co_await read_bytes(*file_, mapping.host_offset, packed);
    if (!got) co_return got;
    std::vector<std::byte> cluster(header().cluster_bytes());
    if (!decompress(header().compression, packed, cluster))
      co_return metadata_.corrupt("a compressed cluster that cannot be decompressed, at",
                                  mapping.host_offset);
    decompressed_ = std::move(cluster);
    decompressed_offset_ = mapping.host_offset;
    decompressed_generation_ = metadata_.compressed_generation();
  }
  uint64_t from = offset % header().cluster_bytes();
  for (const iovec& buffer : buffers) {
    if (buffer.iov_len == 0) continue;  // an empty buffer may have no address
    std::memcpy(buffer.iov_base, decompressed_.data() + from, buffer.iov_len);
    from += buffer.iov_len;
  }
  co_return Result<void>();
}

// Writes the data first, and then the entry that maps it (PITFALLS 5).
Task<Result<void>> Qcow2::write_compressed(uint64_t offset, std::span<const std::byte> packed) {
  if (auto checked = check_write(offset, 1); !checked) co_return checked;
  if (offset % header().cluster_bytes() != 0 || packed.empty() ||
      packed.size() >= header().cluster_bytes())
    co_return fail_errno(EINVAL, "{}: not a compressed cluster: {} bytes at {:#x}", path(),
                         packed.size(), offset);
  if (data_file_)
    co_return fail("{}: an image with a data file has no compressed clusters", path());
  if (!metadata_.writing())
    if (auto begun = co_await metadata_.begin_writing(); !begun) co_return begun;
  const auto held = co_await lock_clusters(offset, 1, true);
  if (auto ready = co_await metadata_.prepare_change(offset); !ready) co_return ready;
  const auto place = co_await metadata_.allocate_compressed(packed.size());
  if (!place) co_return std::unexpected(place.error());
  const CompressedRange range{*place, packed.size()};
  auto written = co_await write_bytes(*file_, range.offset, packed);
  if (written) written = co_await metadata_.map_compressed(offset, range);
  if (!written) {
    const ClusterRun clusters = header().clusters_of(range.offset, range.length_bytes);
    if (auto freed = co_await metadata_.give_back(clusters); !freed) co_return freed;
  }
  co_return written;
}

Task<Result<void>> Qcow2::end_compressed() {
  if (const uint64_t end = file_->size_bytes(); end % 512 != 0)
    if (auto done = file_->truncate(align_up(end, 512)); !done) co_return done;
  co_return co_await flush();
}

}  // namespace wick::block

// A virtio-blk request of any bytes in any buffers.
#include <fuzzer/FuzzedDataProvider.h>

#include <vector>

#include "tests/fuzz/harness.h"
#include "virtio/blk_request.h"

namespace {

using namespace wick::virtio;
using wick::fuzz::require;

struct Buffers {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<iovec> views;

  explicit Buffers(FuzzedDataProvider& input) {
    const auto count = input.ConsumeIntegralInRange(0, 20);
    for (int i = 0; i < count; ++i) {
      // Mostly the lengths that drivers use.
      constexpr size_t kUsual[] = {1, 16, 20, 512, 1024};
      const size_t size = input.ConsumeBool() ? input.PickValueInArray(kUsual)
                                              : input.ConsumeIntegralInRange<size_t>(0, 40);
      bytes.push_back(input.ConsumeBytes<std::byte>(size));
      bytes.back().resize(size);
    }
    for (auto& buffer : bytes) views.push_back({buffer.data(), buffer.size()});
  }
};

uint64_t total_bytes(std::span<const iovec> buffers) {
  uint64_t total = 0;
  for (const iovec& buffer : buffers) total += buffer.iov_len;
  return total;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  BlkLimits limits = {
      .capacity_sectors = input.ConsumeBool() ? input.ConsumeIntegral<uint8_t>() : (~0ull >> 9),
      .read_only = input.ConsumeBool(),
      .flush = input.ConsumeBool(),
      .discard = input.ConsumeBool(),
      .write_zeroes = input.ConsumeBool(),
      .max_discard_sectors = input.ConsumeIntegral<uint32_t>(),
      .max_write_zeroes_sectors = input.ConsumeIntegral<uint32_t>()};
  Buffers readable(input);
  Buffers writable(input);
  const auto readable_before = readable.bytes;
  const auto writable_before = writable.bytes;

  const BlkRequest request = BlkRequest::parse(readable.views, writable.views, limits);

  require(readable.bytes == readable_before && writable.bytes == writable_before);
  const uint64_t room = total_bytes(writable.views);
  require((request.status_byte != nullptr) == (room > 0));
  require(request.written_before_status == (room > 0 ? room - 1 : 0));
  require(request.kind == BlkRequest::Kind::kRefused || request.status_byte != nullptr);
  const uint64_t capacity_bytes = limits.capacity_sectors * kSectorBytes;
  require(request.offset_bytes <= capacity_bytes &&
          request.length_bytes <= capacity_bytes - request.offset_bytes);
  switch (request.kind) {
    case BlkRequest::Kind::kRead:
      require(total_bytes(request.data) == request.length_bytes);
      break;
    case BlkRequest::Kind::kWrite:
      require(total_bytes(request.data) == request.length_bytes && !limits.read_only);
      break;
    case BlkRequest::Kind::kDiscard:
      require(limits.discard && !limits.read_only &&
              request.length_bytes <= limits.max_discard_sectors * kSectorBytes);
      break;
    case BlkRequest::Kind::kWriteZeroes:
      require(limits.write_zeroes && !limits.read_only &&
              request.length_bytes <= limits.max_write_zeroes_sectors * kSectorBytes);
      break;
    case BlkRequest::Kind::kGetId:
      require(total_bytes(request.data) >= 20);
      break;
    case BlkRequest::Kind::kFlush:
      require(limits.flush);
      break;
    case BlkRequest::Kind::kRefused:
      require(request.refusal == 1 || request.refusal == 2);
  }
  return 0;
}

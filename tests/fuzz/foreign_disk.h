// Shared by the fuzzers of formats that are only read: makes a file with fields from the input,
// and reads all of a disk.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "block/backend.h"
#include "block/file.h"
#include "tests/fakes/memory_file.h"
#include "tests/fuzz/harness.h"

namespace wick::fuzz {

// Makes a file of some size that begins with `start`. The input changes some of the `fields` in
// it, and some of the bytes after it.
inline void make_file(FuzzedDataProvider& input, std::vector<std::byte> start,
                      std::span<const size_t> fields, fakes::MemoryStore& store) {
  for (int changes = input.ConsumeIntegralInRange(0, 6); changes > 0; --changes) {
    const size_t field = input.PickValueInArray({0, 1, 2, 3, 4, 5, 6, 7}) % fields.size();
    const auto value = input.ConsumeBool() ? input.ConsumeIntegralInRange<uint64_t>(0, 4096)
                                           : input.ConsumeIntegral<uint64_t>();
    const size_t width = input.ConsumeBool() ? 4 : 8;
    store_le(std::span(start).subspan(fields[field], width), value);
  }
  store.bytes.write(0, start);
  store.bytes.resize(input.ConsumeIntegralInRange<uint64_t>(0, 8 << 20));
  for (int numbers = input.ConsumeIntegralInRange(0, 40); numbers > 0; --numbers) {
    std::array<std::byte, 4> bytes{};
    store_le(std::span(bytes), input.ConsumeBool() ? input.ConsumeIntegralInRange<uint32_t>(0, 64)
                                                   : input.ConsumeIntegral<uint32_t>());
    const uint64_t offset = input.ConsumeIntegralInRange<uint64_t>(0, 1024) * 4 +
                            (input.ConsumeBool() ? 512 : uint64_t{64} << 10);
    if (offset + 4 <= store.bytes.size_bytes()) store.bytes.write(offset, bytes);
  }
}

// Every result must be data, or an error with a text. Extents must not be empty, and end inside
// the disk.
inline void read_all_over(FuzzedDataProvider& input, block::Backend& disk) {
  const uint64_t size = disk.size_bytes();
  require(size % 512 == 0 && disk.read_only());
  uint64_t offset = 0;
  for (int steps = 0; steps < 64 && offset < size; ++steps) {
    const auto extent = fakes::finish(disk.extent(offset, size - offset));
    if (!extent) {
      require(!extent.error().message().empty());
      break;
    }
    require(extent->length_bytes > 0 && extent->length_bytes <= size - offset);
    offset += extent->length_bytes;
  }
  for (int reads = input.ConsumeIntegralInRange(0, 8); reads > 0; --reads) {
    std::vector<std::byte> bytes(input.ConsumeIntegralInRange<size_t>(0, 256 << 10));
    uint64_t at = input.ConsumeIntegralInRange<uint64_t>(0, 1 << 20);
    if (input.ConsumeBool()) at = size - std::min(size, at);
    const iovec buffer = block::to_iovec(bytes);
    const auto got = fakes::finish(disk.read(at, {&buffer, 1}));
    require(got || !got.error().message().empty());
    if (at > size || bytes.size() > size - at) require(!got);
  }
}

}  // namespace wick::fuzz

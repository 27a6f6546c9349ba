// A vmlinux that may be anything: reads stay within the file.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "debug/kaslr_slide.h"
#include "tests/fuzz/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto read = [&](uint64_t offset, std::span<std::byte> to) {
    wick::fuzz::require(offset <= size && to.size() <= size - offset);
    if (!to.empty()) std::memcpy(to.data(), data + offset, to.size());
    return true;
  };
  (void)wick::debug::find_symbol({"vmlinux", size, read}, "a");
  return 0;
}

// The kernel inside a bzImage. Even first byte: the rest is the compressed payload, with the
// size that its last four bytes give. Odd: the rest changes an unpacked payload, by pairs of
// offset (24 bits) and value, which is then loaded at a slide. The result is an error, or a
// kernel whose entry is inside of what was loaded.

#include "boot/unpacked_kernel.h"

#include "tests/boot/kernel_files.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using wick::fuzz::require;

void load_changed(std::span<const uint8_t> input) {
  static const GuestMemory memory = boot::memory_of(64 * boot::kMiB);
  boot::Bytes bytes = boot::Payload().bytes();
  for (; input.size() >= 4; input = input.subspan(4)) {
    const size_t offset = input[0] | size_t{input[1]} << 8 | size_t{input[2]} << 16;
    bytes[offset % bytes.size()] = std::byte{input[3]};
  }
  const auto kernel = boot::UnpackedKernel::parse(boot::input_file(bytes, "payload"),
                                                  boot::Payload::kStart, "kernel");
  if (!kernel || !*kernel) return;
  const GuestAddress start{32 * boot::kMiB};
  const auto entry = (*kernel)->load(memory, start, 0x1000'0000);
  if (entry) require(*entry >= start && entry->value < start.value + (*kernel)->memory_bytes());
}

void load_packed(std::span<const uint8_t> input) {
  static const GuestMemory memory = boot::memory_of(64 * boot::kMiB);
  const auto payload = as_bytes(input.data(), input.size());
  const auto loaded = boot::unpack_and_load(
      memory, {boot::input_file(boot::bzimage_with({payload.begin(), payload.end()}), "kernel"),
               std::nullopt,
               "console=ttyS0",
               {0xe0000}});
  if (!loaded) return;
  const auto& [kernel, bytes] = loaded->kernel_range;
  require(memory.slice(kernel, bytes).has_value());
  require(loaded->cpu.rip >= kernel.value && loaded->cpu.rip < kernel.value + bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span input(data + 1, size - 1);
  if ((data[0] & 1) != 0)
    load_changed(input);
  else
    load_packed(input);
  return 0;
}

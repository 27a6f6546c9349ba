// A bzImage with some header bytes changed and the end cut off, with and without an initrd.
// The result is an error, or a kernel and an initrd inside memory that do not overlap.
//
// Input: the number of bytes to cut off (16 bits), then pairs of header offset and value.

#include "boot/bzimage.h"
#include "tests/boot/kernel_files.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using wick::fuzz::require;

void check(const GuestMemory& memory, const boot::BootImage& loaded) {
  const auto& [kernel, kernel_bytes] = loaded.kernel_range;
  const auto& [initrd, initrd_bytes] = loaded.initrd_range;
  require(memory.slice(kernel, kernel_bytes).has_value());
  require(memory.slice(initrd, initrd_bytes).has_value());
  const bool is_64bit = loaded.cpu.efer != 0;
  require(loaded.cpu.rip == kernel.value + (is_64bit ? 0x200 : 0));
  require(loaded.cpu.rip < kernel.value + kernel_bytes);
  require(initrd_bytes == 0 || initrd.value + initrd_bytes <= kernel.value ||
          kernel.value + kernel_bytes <= initrd.value);
}

boot::Bytes changed_kernel(std::span<const uint8_t> input) {
  boot::BzImage image;
  image.header.pref_address = 2 * boot::kMiB;
  image.header.init_size = boot::kMiB;
  boot::Bytes bytes = image.bytes();
  if (input.size() < 2) return bytes;
  for (size_t i = 2; i + 1 < input.size(); i += 2)
    bytes[0x1f1 + input[i]] = std::byte{input[i + 1]};
  bytes.resize(bytes.size() - (input[0] | size_t{input[1]} << 8) % bytes.size());
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const GuestMemory memory = boot::memory_of(16 * boot::kMiB);
  boot::BootFiles files{boot::input_file(changed_kernel({data, size}), "kernel"),
                        std::nullopt,
                        "console=ttyS0",
                        {0xe0000}};
  if (const auto loaded = boot::load_bzimage(memory, files)) check(memory, *loaded);
  files.initrd = boot::input_file(boot::Bytes(5000), "initrd");
  if (const auto loaded = boot::load_bzimage(memory, files)) check(memory, *loaded);
  return 0;
}

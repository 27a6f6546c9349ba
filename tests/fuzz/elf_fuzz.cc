// An ELF kernel with some bytes of its headers and notes changed and the end cut off, with an
// initrd. The result is an error, or a kernel and an initrd inside memory, above the first
// megabyte, that do not overlap.
//
// Input: the number of bytes to cut off (16 bits), then pairs of offset and value. Small
// offsets are in the headers, counted from the start; larger ones are in the notes, counted
// from the end.

#include "boot/elf.h"
#include "tests/boot/kernel_files.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using wick::fuzz::require;

void check(const boot::BootImage& loaded) {
  const auto& [kernel, kernel_bytes] = loaded.kernel_range;
  const auto& [initrd, initrd_bytes] = loaded.initrd_range;
  constexpr uint64_t kEnd = 16 * boot::kMiB;
  require(kernel.value >= boot::kMiB && kernel.value + kernel_bytes <= kEnd);
  require(initrd.value >= boot::kMiB && initrd.value + initrd_bytes <= kEnd);
  require(loaded.cpu.rip >= kernel.value && loaded.cpu.rip < kernel.value + kernel_bytes);
  require(initrd.value + initrd_bytes <= kernel.value ||
          kernel.value + kernel_bytes <= initrd.value);
}

boot::Bytes changed_kernel(std::span<const uint8_t> input) {
  boot::ElfImage image(2 * boot::kMiB);
  boot::Bytes bytes = image.bytes();
  if (input.size() < 2) return bytes;
  const size_t header_bytes = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
  for (size_t i = 2; i + 1 < input.size(); i += 2) {
    const size_t offset = input[i];
    const size_t at = offset < header_bytes ? offset : bytes.size() - 1 - (offset - header_bytes);
    bytes[at] = std::byte{input[i + 1]};
  }
  bytes.resize(bytes.size() - (input[0] | size_t{input[1]} << 8) % bytes.size());
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const GuestMemory memory = boot::memory_of(16 * boot::kMiB);
  boot::BootFiles files = boot::ElfImage::files(changed_kernel({data, size}));
  files.initrd = boot::input_file(boot::Bytes(5000), "initrd");
  if (const auto loaded = boot::load_elf(memory, files)) check(*loaded);
  return 0;
}

// A Multiboot kernel, flat or of ELF, with some bytes changed and the end cut off, with two
// modules. The result is an error, or a kernel and modules inside memory, above the first
// megabyte, that do not overlap, and an information structure below it.
//
// Input: a byte that is odd for ELF, the number of bytes to cut off (16 bits), then triples of
// offset (16 bits) and value. Offsets are taken modulo the size of the file, at most 8 KiB.

#include "boot/multiboot.h"
#include "tests/boot/kernel_files.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using wick::fuzz::require;

constexpr uint64_t kEnd = 16 * boot::kMiB;

void check(const GuestMemory& memory, const boot::BootImage& loaded) {
  const uint64_t start = loaded.kernel_range.start.value;
  const uint64_t end = start + loaded.kernel_range.size_bytes;
  require(start >= boot::kMiB && end > start && end <= kEnd);
  require(loaded.cpu.rip >= start && loaded.cpu.rip < end);
  require(loaded.cpu.rbx < boot::kMiB);
  const auto info = memory.read<boot::MultibootInfo>({loaded.cpu.rbx}).value();
  require(info.mods_count == 2);
  uint64_t previous_end = end;
  for (uint32_t i = 0; i < info.mods_count; ++i) {
    const auto module =
        memory.read<boot::MultibootModule>({info.mods_addr + i * sizeof(boot::MultibootModule)})
            .value();
    require(module.mod_start >= previous_end && module.mod_start % 4096 == 0);
    require(module.mod_end > module.mod_start && module.mod_end <= kEnd);
    previous_end = module.mod_end;
  }
}

boot::Bytes changed_kernel(std::span<const uint8_t> input) {
  boot::MultibootImage image;
  const bool elf = !input.empty() && (input[0] & 1) != 0;
  if (elf) image.header.flags = 0;
  boot::Bytes bytes = elf ? image.elf() : image.flat();
  if (input.size() < 3) return bytes;
  const auto number = [&](size_t i) { return input[i] | size_t{input[i + 1]} << 8; };
  for (size_t i = 3; i + 2 < input.size(); i += 3)
    bytes[number(i) % bytes.size()] = std::byte{input[i + 2]};
  bytes.resize(bytes.size() - number(1) % bytes.size());
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const GuestMemory memory = boot::memory_of(kEnd);
  boot::BootFiles files = boot::MultibootImage::files(changed_kernel({data, size}), "arguments");
  if (!files.multiboot) return 0;
  files.modules.push_back({boot::input_file(boot::Bytes(5000), "one"), "one a"});
  files.modules.push_back({boot::input_file(boot::Bytes(1), "two"), "two"});
  if (const auto loaded = boot::load_multiboot(memory, files)) check(memory, *loaded);
  return 0;
}

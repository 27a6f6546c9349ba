// A kernel file compressed in any of the formats. The result is an error, or a file that is
// not larger than allowed.
#include <cstdlib>

#include "boot/decompress.h"
#include "tests/boot/kernel_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace wick;
  if (size == 0) return 0;
  const auto file =
      boot::decompressed(boot::input_file(as_bytes(data, size), "kernel"), boot::kMiB);
  if (file && file->size_bytes() > std::max<uint64_t>(size, boot::kMiB)) abort();
  return 0;
}

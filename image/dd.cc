// wick image dd
#include <fmt/format.h>

#include <algorithm>

#include "base/printable.h"
#include "image/commands.h"

namespace wick::image {

// As in qemu-img 7.2, `count` sets the end of the part and not its length: skipped blocks
// count too.
Result<int> execute(const ImageDd& command) {
  ImageConvert convert;
  convert.sources = {command.source};
  convert.target = command.target;
  convert.format = command.format;
  convert.output = command.output;
  convert.share = command.share;
  convert.cache = block::Cache::kWriteback;
  if (command.output == ImageFormat::kQcow2) convert.options = block::Qcow2CreateOptions{};
  const auto bytes = [&](uint64_t blocks) {
    uint64_t product = 0;
    return __builtin_mul_overflow(blocks, command.block_bytes, &product) ? ~uint64_t{0} : product;
  };
  convert.part = ImageConvert::Part{.start = bytes(command.skip),
                                    .end = command.count ? bytes(*command.count) : ~uint64_t{0}};
  return execute(convert);
}

}  // namespace wick::image

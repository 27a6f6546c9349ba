// wick image resize
#include <fmt/format.h>

#include "block/qcow2.h"
#include "cli/image.h"
#include "cli/image_files.h"
#include "cli/image_runner.h"

namespace wick::cli {

namespace {

Result<uint64_t> new_size(const ImageResize& command, uint64_t old_bytes) {
  uint64_t bytes = command.bytes;
  switch (command.sign) {
    case ImageResize::Sign::kTo:
      break;
    case ImageResize::Sign::kBy:
      if (__builtin_add_overflow(old_bytes, command.bytes, &bytes))
        return fail("{}: too large a size", command.path);
      break;
    case ImageResize::Sign::kLessBy:
      if (command.bytes > old_bytes)
        return fail("{}: has {} bytes, less than it shall lose", command.path, old_bytes);
      bytes = old_bytes - command.bytes;
      break;
  }
  if (bytes == 0) return fail("{}: the new size must be above zero", command.path);
  if (bytes % 512 != 0)
    return fail("{}: the new size, {} bytes, must be a multiple of 512", command.path, bytes);
  if (bytes < old_bytes && !command.shrink)
    return with_hint(fail("{}: would lose all data beyond {} bytes", command.path, bytes),
                     "add --shrink if nothing important is there");
  return bytes;
}

}  // namespace

Result<int> carry_out(const ImageResize& command) {
  const auto runner = TRY(ImageRunner::create());
  auto options = writing(command.format, command.trust_names);
  options.lock = !command.in_use;
  {
    auto opened = TRY(block::open_image_file(command.path, options, runner->io()));
    options.format = opened.format;
    if (opened.format == block::Format::kRaw) {
      const uint64_t bytes = TRY(new_size(command, opened.file->size_bytes()));
      TRY(opened.file->truncate(bytes));
    } else if (command.in_use) {
      block::File& file = *opened.file;
      const auto header = TRY(runner->run([&] { return block::qcow2::read_header(file); }));
      const uint64_t bytes = TRY(new_size(command, header.size_bytes));
      TRY(runner->run([&] { return block::qcow2::announce_size(file, bytes); }));
    }
  }
  if (options.format == block::Format::kQcow2 && !command.in_use) {
    const auto disk =
        TRY(runner->run([&] { return block::open_qcow2(command.path, options, runner->io()); }));
    const uint64_t bytes = TRY(new_size(command, disk->size_bytes()));
    TRY(runner->run([&] { return disk->resize(bytes); }));
    TRY(runner->run([&] { return disk->flush(); }));
  }
  if (!command.quiet) std::fputs("Image resized.\n", stdout);
  return 0;
}

}  // namespace wick::cli

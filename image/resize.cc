// wick image resize
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "block/image_lock.h"
#include "block/io_thread.h"
#include "block/qcow2/announced_size.h"
#include "block/qcow2/header.h"
#include "block/qcow2/resize.h"
#include "image/commands.h"
#include "image/files.h"

namespace wick::image {

namespace {

Result<uint64_t> new_size(const ImageResize& command, uint64_t old_bytes) {
  uint64_t bytes = command.bytes;
  switch (command.sign) {
    case ImageResize::Sign::kTo:
      break;
    case ImageResize::Sign::kBy:
      if (__builtin_add_overflow(old_bytes, command.bytes, &bytes))
        return fail("{}: the new size is too large", command.path);
      break;
    case ImageResize::Sign::kLessBy:
      if (command.bytes > old_bytes)
        return fail("{}: has only {} bytes, and cannot lose more", command.path, old_bytes);
      bytes = old_bytes - command.bytes;
      break;
  }
  if (bytes == 0) return fail("{}: the new size must be above zero", command.path);
  if (bytes % 512 != 0)
    return fail("{}: the new size, {} bytes, must be a multiple of 512", command.path, bytes);
  if (bytes < old_bytes && !command.shrink)
    return with_hint(fail("{}: would lose all data beyond {} bytes", command.path, bytes),
                     "add --shrink if nothing important is there");
  if (bytes < old_bytes && command.preallocation != block::Preallocation::kOff)
    return fail("{}: only a disk that grows can be preallocated", command.path);
  return bytes;
}

// Writes zeroes to the added part, so that space is allocated for it.
Task<Result<void>> fill(block::Backend& disk, uint64_t offset) {
  const std::vector<std::byte> zeroes(1 << 20);
  for (const uint64_t end = disk.size_bytes(); offset < end;) {
    const uint64_t step = std::min<uint64_t>(zeroes.size(), end - offset);
    const iovec buffer = block::to_iovec(std::span(zeroes).first(step));
    if (auto written = co_await disk.write(offset, {&buffer, 1}); !written) co_return written;
    offset += step;
  }
  co_return Result<void>();
}

// Refuses --in-use if no machine has the image open. The option only leaves the new size in the
// file for a running machine, so it would have no effect.
Result<void> check_in_use(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file.valid()) return fail_errno(errno, "{}: cannot open", path);
  if (block::lock_image(file, false, path))
    return with_hint(fail("{}: no program has it open", path), "leave out --in-use");
  return {};
}

}  // namespace

Result<int> execute(const ImageResize& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  auto options = writing(command.format, command.trust_names);
  options.lock = !command.in_use;
  {
    auto opened = TRY(block::open_image_file(command.path, options, thread->io()));
    options.format = opened.format;
    if (command.in_use) TRY(check_in_use(command.path));
    if (opened.format == block::Format::kRaw) {
      const uint64_t old_bytes = opened.file->size_bytes();
      const uint64_t bytes = TRY(new_size(command, old_bytes));
      if (command.in_use && bytes < old_bytes)
        return with_hint(fail("{}: cannot become smaller while it is in use", command.path),
                         "stop the machine first");
      if (command.preallocation == block::Preallocation::kMetadata)
        return fail("{}: raw has no metadata; use falloc or full", command.path);
      TRY(opened.file->truncate(bytes));
      if (bytes > old_bytes)
        TRY(thread->run([&] {
          return block::preallocate(*opened.file, old_bytes, bytes - old_bytes,
                                    command.preallocation);
        }));
    } else if (command.in_use) {
      block::File& file = *opened.file;
      const auto header = TRY(thread->run([&] { return block::qcow2::read_header(file); }));
      const uint64_t bytes = TRY(new_size(command, header.size_bytes));
      TRY(thread->run([&] { return block::qcow2::announce_size(file, bytes); }));
    }
  }
  if (options.format == block::Format::kQcow2 && !command.in_use) {
    const auto disk =
        TRY(thread->run([&] { return block::open_qcow2(command.path, options, thread->io()); }));
    const uint64_t old_bytes = disk->size_bytes();
    const uint64_t bytes = TRY(new_size(command, old_bytes));
    TRY(thread->run([&] { return block::qcow2::resize(*disk, bytes); }));
    if (command.preallocation != block::Preallocation::kOff)
      TRY(thread->run([&] { return fill(*disk, old_bytes); }));
    TRY(thread->run([&] { return disk->flush(); }));
  }
  if (!command.quiet && command.in_use)
    std::fputs("The size is taken over when the wick that has the image open gets SIGUSR1.\n",
               stdout);
  else if (!command.quiet)
    std::fputs("Image resized.\n", stdout);
  return 0;
}

}  // namespace wick::image

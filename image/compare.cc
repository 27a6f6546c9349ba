// wick image compare
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/output.h"
#include "block/io_thread.h"
#include "image/commands.h"
#include "image/files.h"
#include "image/source.h"

namespace wick::image {

namespace {

using block::Backend;
using block::Extent;

// qemu-img's exit statuses.
constexpr int kEqual = 0;
constexpr int kDiffer = 1;
constexpr int kCannotOpen = 2;
constexpr int kCannotRead = 4;

constexpr uint64_t kAtOnceBytes = 1 << 20;

class Comparison {
 public:
  Comparison(block::IoThread& thread, Backend& first, Backend& second, const ImageCompare& command)
      : thread_(thread), disks_{&first, &second}, command_(command) {}

  Result<int> run() {
    const uint64_t sizes[2] = {disks_[0]->size_bytes(), disks_[1]->size_bytes()};
    if (sizes[0] != sizes[1] && command_.strict)
      return differ("Strict mode: Image size mismatch!\n");
    const uint64_t common = std::min(sizes[0], sizes[1]);
    for (uint64_t offset = 0; offset < common;) {
      const Extent first = TRY(extent(0, offset, common - offset));
      const Extent second = TRY(extent(1, offset, common - offset));
      const uint64_t length = std::min(first.length_bytes, second.length_bytes);
      if (command_.strict && first.present != second.present)
        return differ(fmt::format("Strict mode: Offset {} block status mismatch!\n", offset));
      if (!(first.zero && second.zero))
        if (const auto at = TRY(first_difference(offset, length)))
          return differ(fmt::format("Content mismatch at offset {}!\n", *at));
      offset += length;
    }
    if (sizes[0] != sizes[1]) say("Warning: Image size mismatch!\n");
    // The rest of the longer disk must be zeroes.
    const size_t longer = sizes[0] > sizes[1] ? 0 : 1;
    for (uint64_t offset = common; offset < sizes[longer];) {
      const Extent rest = TRY(extent(longer, offset, sizes[longer] - offset));
      if (!rest.zero)
        if (const auto at = TRY(first_nonzero(longer, offset, rest.length_bytes)))
          return differ(fmt::format("Content mismatch at offset {}!\n", *at));
      offset += rest.length_bytes;
    }
    say("Images are identical.\n");
    return kEqual;
  }

 private:
  void say(const std::string& text) const {
    if (!command_.quiet) std::fputs(text.c_str(), stdout);
  }
  int differ(const std::string& text) const {
    say(text);
    return kDiffer;
  }

  Result<Extent> extent(size_t which, uint64_t offset, uint64_t length) {
    return thread_.run([&] { return disks_[which]->extent(offset, length); });
  }

  Result<void> read(size_t which, uint64_t offset, uint64_t length) {
    buffers_[which].resize(length);
    const iovec buffer = block::to_iovec(buffers_[which]);
    return thread_.run([&] { return disks_[which]->read(offset, {&buffer, 1}); });
  }

  // The start of the first sector that differs, as qemu-img reports it.
  Result<std::optional<uint64_t>> first_difference(uint64_t offset, uint64_t length) {
    while (length > 0) {
      const uint64_t step = std::min(length, kAtOnceBytes);
      TRY(read(0, offset, step));
      TRY(read(1, offset, step));
      const auto at = std::ranges::mismatch(buffers_[0], buffers_[1]).in1;
      if (at != buffers_[0].end()) return sector(offset, at - buffers_[0].begin());
      offset += step;
      length -= step;
    }
    return std::nullopt;
  }

  Result<std::optional<uint64_t>> first_nonzero(size_t which, uint64_t offset, uint64_t length) {
    while (length > 0) {
      const uint64_t step = std::min(length, kAtOnceBytes);
      TRY(read(which, offset, step));
      const auto at = std::ranges::find_if(buffers_[which],
                                           [](std::byte byte) { return byte != std::byte{0}; });
      if (at != buffers_[which].end()) return sector(offset, at - buffers_[which].begin());
      offset += step;
      length -= step;
    }
    return std::nullopt;
  }

  static std::optional<uint64_t> sector(uint64_t offset, std::ptrdiff_t within) {
    return offset + static_cast<uint64_t>(within) / 512 * 512;
  }

  block::IoThread& thread_;
  Backend* const disks_[2];
  const ImageCompare& command_;
  std::vector<std::byte> buffers_[2];
};

int cannot(const Error& error, int status) {
  report_error(error.message());
  return status;
}

}  // namespace

Result<int> execute(const ImageCompare& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  std::unique_ptr<Backend> disks[2];
  for (size_t i = 0; i < 2; ++i) {
    auto opened = open_source(*thread, command.paths[i],
                              {.format = command.formats[i], .share = command.share});
    if (!opened) return cannot(opened.error(), kCannotOpen);
    disks[i] = std::move(opened->disk);
  }
  const auto status = Comparison(*thread, *disks[0], *disks[1], command).run();
  return status ? *status : cannot(status.error(), kCannotRead);
}

}  // namespace wick::image

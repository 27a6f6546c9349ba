#include "image/files.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdio>
#include <thread>

namespace wick::image {

block::ImageOptions reading(std::optional<block::Format> format) {
  block::ImageOptions options;
  options.format = format;
  options.read_only = true;
  options.names = block::Names::kRead;
  return options;
}

block::ImageOptions writing(std::optional<block::Format> format, bool trust_names) {
  block::ImageOptions options;
  options.format = format;
  options.trust_option = "--trust-names";
  if (trust_names) options.names = block::Names::kAny;
  return options;
}

Result<std::vector<std::string>> files_of(block::IoThread& thread, const std::string& image,
                                          std::optional<block::Format> format) {
  block::ImageOptions options = reading(format);
  options.lock = false;
  const auto layers =
      TRY(thread.run([&] { return block::open_layers(image, options, thread.io()); }));
  std::vector<std::string> files;
  for (const block::ImageLayer& layer : layers) {
    files.push_back(layer.image.file->path());
    if (layer.data) files.push_back(layer.data->path());
  }
  return files;
}

std::string same_file(std::span<const std::string> files, const std::string& path) {
  struct stat wanted {};
  if (::stat(path.c_str(), &wanted) != 0) return {};
  for (const std::string& file : files) {
    struct stat status {};
    if (::stat(file.c_str(), &status) == 0 && status.st_dev == wanted.st_dev &&
        status.st_ino == wanted.st_ino)
      return file;
  }
  return {};
}

Result<std::string> format_by_magic(const std::string& path, block::AsyncIo& io) {
  block::ImageOptions options;
  options.read_only = true;
  const auto opened = TRY(block::open_image_file(path, options, io));
  if (opened.format == block::Format::kRaw)
    return with_hint(fail("{}: the format cannot be told from the content", path),
                     "if it is a raw disk, add -F raw");
  return format_name(opened.format);
}

CopyProgress progress(bool shown, uint64_t rate) {
  if (!shown && rate == 0) return {};
  using Clock = std::chrono::steady_clock;
  return [=, last = -1.0, start = Clock::now()](uint64_t done, uint64_t total) mutable {
    if (rate > 0)
      std::this_thread::sleep_until(
          start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                      static_cast<double>(done) / static_cast<double>(rate))));
    if (!shown) return;
    const double percent =
        total == 0 ? 100 : 100 * static_cast<double>(done) / static_cast<double>(total);
    if (percent - last < 1 && (done < total || last >= percent)) return;
    last = percent;
    fmt::print("    ({:.2f}/100%)\r", percent);
    std::fflush(stdout);
  };
}

}  // namespace wick::image

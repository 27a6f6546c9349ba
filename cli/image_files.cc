#include "cli/image_files.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cstdio>

#include "block/image_info.h"

namespace wick::cli {

Result<std::vector<std::string>> files_of(ImageRunner& runner, const std::string& image,
                                          std::optional<block::Format> format) {
  std::vector<std::string> files;
  std::string path = image;
  for (int depth = 0; depth <= block::kMostBackingFiles; ++depth) {
    files.push_back(path);
    const auto info =
        TRY(runner.run([&] { return block::inspect_image(path, format, runner.io()); }));
    if (!info.qcow2) break;
    const block::qcow2::Header& header = info.qcow2->header;
    if (header.external_data()) files.push_back(TRY(block::named_file(path, header.data_path)));
    if (info.full_backing_path.empty()) break;
    path = info.full_backing_path;
    format = TRY(block::named_format(info.path, header.backing_format));
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
    return with_hint(fail("{}: has no magic that would say what it is", path),
                     "if it is a raw disk, add -F raw");
  return format_name(opened.format);
}

block::CopyProgress progress(bool shown) {
  if (!shown) return {};
  return [last = -1.0](uint64_t done, uint64_t total) mutable {
    const double percent =
        total == 0 ? 100 : 100 * static_cast<double>(done) / static_cast<double>(total);
    if (percent - last < 1 && (done < total || last >= percent)) return;
    last = percent;
    fmt::print("    ({:.2f}/100%)\r", percent);
    std::fflush(stdout);
  };
}

}  // namespace wick::cli

#include "block/image_info.h"

#include <sys/stat.h>

#include "base/bytes.h"
#include "block/qcow2.h"

namespace wick::block {

namespace {

Task<Result<void>> inspect_qcow2(File& file, ImageInfo& info) {
  auto header = co_await qcow2::read_header(file);
  if (!header) co_return std::unexpected(std::move(header).error());
  auto snapshots = co_await qcow2::read_snapshots(file, *header);
  if (!snapshots) co_return std::unexpected(std::move(snapshots).error());
  info.size_bytes = header->size_bytes;
  if (!header->backing_path.empty())
    // A name of another program's is shown as it is.
    info.full_backing_path =
        named_file(info.path, header->backing_path).value_or(header->backing_path);
  info.qcow2 = ImageInfo::Qcow2{*std::move(header), std::move(snapshots->snapshots)};
  co_return Result<void>();
}

}  // namespace

Task<Result<ImageInfo>> inspect_image(std::string path, std::optional<Format> format, AsyncIo& io) {
  ImageOptions options;
  options.format = format;
  options.read_only = true;
  auto opened = open_image_file(path, options, io);
  if (!opened) co_return std::unexpected(std::move(opened).error());
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) co_return fail_errno(errno, "{}: cannot stat", path);
  ImageInfo info;
  info.path = path;
  info.format = opened->format;
  info.size_bytes = align_up(opened->file->size_bytes(), 512);
  info.allocated_bytes = static_cast<uint64_t>(status.st_blocks) * 512;
  if (info.format == Format::kQcow2)
    if (auto done = co_await inspect_qcow2(*opened->file, info); !done)
      co_return std::unexpected(std::move(done).error());
  co_return info;
}

}  // namespace wick::block

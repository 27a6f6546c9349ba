#include "control/image_details.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "base/fd.h"

namespace wick::control {

namespace {

std::optional<block::qcow2::Header> read_qcow2(const Fd& file, uint64_t file_bytes,
                                               const std::string& path) {
  std::vector<std::byte> start(512);
  if (::pread(file.get(), start.data(), start.size(), 0) != static_cast<ssize_t>(start.size()))
    return std::nullopt;
  start.resize(block::qcow2::first_cluster_bytes(start, file_bytes));
  if (::pread(file.get(), start.data(), start.size(), 0) != static_cast<ssize_t>(start.size()))
    return std::nullopt;
  auto header = block::qcow2::parse_header(start, file_bytes, path, block::qcow2::Parse::kLenient);
  if (!header) return std::nullopt;
  return *std::move(header);
}

}  // namespace

ImageDetails read_image_details(const vmm::DiskInfo& disk) {
  // O_NONBLOCK, because the path may name a FIFO by now.
  const Fd file(::open(disk.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat info {};
  if (!file.valid() || ::fstat(file.get(), &info) != 0) return {};
  ImageDetails details;
  details.allocated_bytes = static_cast<uint64_t>(info.st_blocks) * 512;
  details.file_bytes = static_cast<uint64_t>(info.st_size);
  if (disk.format == "qcow2" && S_ISREG(info.st_mode))
    details.qcow2 = read_qcow2(file, details.file_bytes, disk.path);
  return details;
}

}  // namespace wick::control

#include "debug/core_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>

#include "base/bytes.h"

namespace wick::debug {

namespace {

constexpr size_t kFlatHeaderBytes = 4096;
// A pipe that poll() reports as writable takes this many bytes without blocking (pipe(7)).
constexpr size_t kStreamBytes = PIPE_BUF;

}  // namespace

Result<Fd> open_core_file(const std::string& path) {
  Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                 S_IRUSR | S_IWUSR));
  if (!file.valid() && errno == ENXIO)
    return with_hint(fail_errno(errno, "{}: cannot open for a core", path),
                     "start the reader of the FIFO first");
  if (!file.valid()) return fail_errno(errno, "{}: cannot open for a core", path);
  const int flags = ::fcntl(file.get(), F_GETFL);
  if (flags < 0 || ::fcntl(file.get(), F_SETFL, flags & ~O_NONBLOCK) < 0)
    return fail_errno(errno, "{}: cannot open for a core", path);
  return file;
}

Result<CoreFile> CoreFile::create(Fd file, std::string name, Order order, std::stop_token stop) {
  CoreFile core;
  core.file_ = std::move(file);
  core.name_ = std::move(name);
  core.stop_ = std::move(stop);
  struct stat status {};
  if (::fstat(core.file_.get(), &status) != 0) return core.failed(errno);
  const int flags = ::fcntl(core.file_.get(), F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) return core.failed(EBADF);
  core.socket_ = S_ISSOCK(status.st_mode);
  // With O_APPEND, pwrite() ignores its offset, so such a file is written as a stream.
  core.regular_ = S_ISREG(status.st_mode) && (flags & O_APPEND) == 0;
  if (core.regular_) {
    const off_t base = ::lseek(core.file_.get(), 0, SEEK_CUR);
    if (base < 0 || ::ftruncate(core.file_.get(), base) != 0) return core.failed(errno);
    core.base_bytes_ = static_cast<uint64_t>(base);
    return core;
  }
  core.stopped_ = TRY(EventFd::create());
  core.flattened_ = order == Order::kFlattened;
  return core;
}

std::unexpected<Error> CoreFile::failed(int code) const {
  auto refusal = fail_errno(code, "{}: cannot write the core", name_);
  if (code == ENOSPC || code == EDQUOT)
    return with_hint(std::move(refusal), "make room, or choose the format kdump-zlib");
  if (code == EFBIG) return with_hint(std::move(refusal), "see ulimit -f");
  return refusal;
}

Result<void> CoreFile::write(uint64_t offset, std::span<const std::byte> bytes) {
  if (stop_.stop_requested()) return failed(ECANCELED);
  if (flattened_) {
    if (!std::exchange(started_, true)) TRY(append_flat_header());
    TRY(append_record_header(offset, bytes.size()));
    return append(bytes);
  }
  if (!regular_) {
    TRY(append_zeroes(offset - position_bytes_));
    return append(bytes);
  }
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(base_bytes_ + offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed(errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return {};
}

Result<void> CoreFile::finish(uint64_t size_bytes) {
  if (flattened_) return append_record_header(UINT64_MAX, UINT64_MAX);
  if (!regular_) return append_zeroes(size_bytes - position_bytes_);
  if (::ftruncate(file_.get(), static_cast<off_t>(base_bytes_ + size_bytes)) != 0)
    return failed(errno);
  // Some file systems report only at this call that no space is left.
  if (::fdatasync(file_.get()) != 0) return failed(errno);
  return {};
}

void CoreFile::abandon() {
  if (regular_) (void)!::ftruncate(file_.get(), static_cast<off_t>(base_bytes_));
}

Result<void> CoreFile::append_record_header(uint64_t offset, uint64_t size_bytes) {
  std::array<std::byte, 16> header;
  store_be(std::span(header), offset);
  store_be(std::span(header).subspan(8), size_bytes);
  return append(header);
}

Result<void> CoreFile::append_zeroes(uint64_t size_bytes) {
  static constexpr std::array<std::byte, 64 << 10> kZeroes{};
  while (size_bytes > 0) {
    const auto part = std::span(kZeroes).first(std::min<uint64_t>(size_bytes, kZeroes.size()));
    TRY(append(part));
    size_bytes -= part.size();
  }
  return {};
}

// Writes the header of the flattened form. create() cannot do that, because it must not wait for a
// reader.
Result<void> CoreFile::append_flat_header() {
  // The header's type and version are both 1.
  std::array<std::byte, kFlatHeaderBytes> header{};
  std::memcpy(header.data(), "makedumpfile", 12);
  store_be<uint64_t>(std::span(header).subspan(16), 1);
  store_be<uint64_t>(std::span(header).subspan(24), 1);
  return append(header);
}

Result<void> CoreFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    TRY(wait_for_room());
    const size_t size = std::min(bytes.size(), kStreamBytes);
    const ssize_t written =
        socket_ ? ::send(file_.get(), bytes.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL)
                : ::write(file_.get(), bytes.data(), size);
    if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (written < 0) return failed(errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
    position_bytes_ += static_cast<uint64_t>(written);
  }
  return {};
}

Result<void> CoreFile::wait_for_room() {
  const std::stop_callback wake(stop_, [this] { stopped_->signal(); });
  std::array<pollfd, 2> polled = {pollfd{file_.get(), POLLOUT, 0},
                                  pollfd{stopped_->fd(), POLLIN, 0}};
  while (::poll(polled.data(), polled.size(), -1) < 0)
    if (errno != EINTR) return failed(errno);
  if (stop_.stop_requested()) return failed(ECANCELED);
  return {};
}

}  // namespace wick::debug

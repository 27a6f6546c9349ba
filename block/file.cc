#include "block/file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "base/bytes.h"

namespace wick::block {

namespace {

// One for all requests, of which a guest may have hundreds write zeroes at
// once; aligned for O_DIRECT.
alignas(4096) constexpr std::array<std::byte, 4096> kZeroPage{};

// The first `most` bytes of 256 KiB of zeroes.
std::vector<iovec> zeroes(uint64_t most) {
  std::vector<iovec> pages;
  while (most > 0 && pages.size() < 64) {
    const size_t size = std::min<uint64_t>(most, kZeroPage.size());
    pages.push_back({const_cast<std::byte*>(kZeroPage.data()), size});  // only written from
    most -= size;
  }
  return pages;
}

class HostFile final : public File {
 public:
  HostFile(Fd buffered, Fd direct, uint64_t direct_alignment, bool punches, bool syncs,
           std::string path, AsyncIo& io)
      : buffered_(std::move(buffered)),
        direct_(std::move(direct)),
        direct_alignment_(direct_alignment),
        can_punch_(punches),
        syncs_(syncs),
        path_(std::move(path)),
        io_(io) {}

  uint64_t size_bytes() const override {
    const off_t end = ::lseek(buffered_.get(), 0, SEEK_END);  // of a block device too
    return end < 0 ? 0 : static_cast<uint64_t>(end);
  }
  bool can_punch() const override { return can_punch_; }
  const std::string& path() const override { return path_; }
  Piece piece_at(uint64_t offset) const override {
    const off_t at = static_cast<off_t>(offset);
    const off_t data = ::lseek(buffered_.get(), at, SEEK_DATA);
    if (data < 0) return {errno == ENXIO, size_bytes()};  // else nobody knows
    if (data > at) return {true, static_cast<uint64_t>(data)};
    const off_t hole = ::lseek(buffered_.get(), at, SEEK_HOLE);
    return {false, hole < 0 ? size_bytes() : static_cast<uint64_t>(hole)};
  }

  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    const uint64_t length = total_bytes(buffers);
    const int fd = descriptor_for(offset, buffers);
    int64_t got = co_await io_.read(fd, offset, buffers, fd == buffered_.get());
    if (got == static_cast<int64_t>(length)) co_return Result<void>();
    std::vector<iovec> rest(buffers.begin(), buffers.end());
    for (uint64_t done = 0;;) {
      if (got == -EINTR) got = 0;
      if (got < 0) co_return failed("read", static_cast<int>(-got), offset, length);
      done += static_cast<uint64_t>(got);
      rest = slice(rest, static_cast<uint64_t>(got), length);
      if (got == 0 && offset + done >= size_bytes()) fill_zeroes(rest), rest.clear();
      if (rest.empty()) co_return Result<void>();
      got = co_await io_.read(buffered_.get(), offset + done, rest, true);
    }
  }

  Task<Result<void>> write(uint64_t offset, std::span<const iovec> buffers) override {
    const uint64_t length = total_bytes(buffers);
    const int fd = descriptor_for(offset, buffers);
    int64_t put = co_await io_.write(fd, offset, buffers, fd == buffered_.get());
    if (put == static_cast<int64_t>(length)) co_return Result<void>();
    std::vector<iovec> rest(buffers.begin(), buffers.end());
    for (uint64_t done = 0;;) {
      if (put == 0) put = -ENOSPC;
      if (put == -EINTR) put = 0;
      if (put < 0) co_return failed("write", static_cast<int>(-put), offset, length);
      done += static_cast<uint64_t>(put);
      rest = slice(rest, static_cast<uint64_t>(put), length);
      if (rest.empty()) co_return Result<void>();
      put = co_await io_.write(buffered_.get(), offset + done, rest, true);
    }
  }

  Task<Result<void>> sync() override {
    if (!syncs_) co_return Result<void>();
    const int64_t result = co_await io_.sync(buffered_.get());
    // The kernel tells a failure once, and then that all is well.
    if (result < 0 && sync_error_ == 0) sync_error_ = static_cast<int>(-result);
    if (sync_error_ != 0)
      co_return with_hint(fail_errno(sync_error_, "{}: flush", path_),
                          "the host has lost data; look at its log, and start wick again");
    co_return Result<void>();
  }

  Task<Result<void>> punch(uint64_t offset, uint64_t length) override {
    return deallocate(can_punch_ ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE, offset, length);
  }

  Task<Result<void>> zero(uint64_t offset, uint64_t length) override {
    return deallocate(FALLOC_FL_ZERO_RANGE, offset, length);
  }

  Result<void> truncate(uint64_t size) override {
    if (::ftruncate(buffered_.get(), static_cast<off_t>(size)) != 0)
      return fail_errno(errno, "{}: cannot be made {} bytes long", path_, size);
    return {};
  }

 private:
  std::unexpected<Error> failed(const char* what, int code, uint64_t offset,
                                uint64_t length) const {
    return fail_errno(code, "{}: {} of {} bytes at {}", path_, what, length, offset);
  }

  // What O_DIRECT cannot carry goes through the page cache; the kernel keeps
  // the two views of a file coherent (PITFALLS 18).
  int descriptor_for(uint64_t offset, std::span<const iovec> buffers) const {
    if (!direct_.valid()) return buffered_.get();
    uint64_t bits = offset;
    for (const iovec& buffer : buffers)
      bits |= reinterpret_cast<uint64_t>(buffer.iov_base) | buffer.iov_len;
    return bits % direct_alignment_ == 0 ? direct_.get() : buffered_.get();
  }

  Task<Result<void>> deallocate(int mode, uint64_t offset, uint64_t length) {
    if (length == 0) co_return Result<void>();
    const int64_t result =
        co_await io_.allocate(buffered_.get(), mode | FALLOC_FL_KEEP_SIZE, offset, length);
    if (result >= 0) co_return Result<void>();
    if (result != -EOPNOTSUPP && result != -EINVAL)
      co_return failed(mode == FALLOC_FL_PUNCH_HOLE ? "discard" : "write zeroes",
                       static_cast<int>(-result), offset, length);
    while (length > 0) {
      const std::vector<iovec> chunk = zeroes(length);
      const uint64_t bytes = total_bytes(chunk);
      auto written = co_await write(offset, chunk);
      if (!written) co_return written;
      offset += bytes;
      length -= bytes;
    }
    co_return Result<void>();
  }

  const Fd buffered_;
  const Fd direct_;  // invalid unless Cache::kNone
  const uint64_t direct_alignment_;
  const bool can_punch_;
  const bool syncs_;
  const std::string path_;
  AsyncIo& io_;
  int sync_error_ = 0;
};

// Asks without touching data: a hole beyond the end of a file, the queue limit
// of a device.
bool supports_punch(int fd, const struct stat& status) {
  if (S_ISREG(status.st_mode))
    return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(align_up(static_cast<uint64_t>(status.st_size), 4096)),
                       4096) == 0;
  const std::string limit = fmt::format("/sys/dev/block/{}:{}/queue/discard_max_bytes",
                                        major(status.st_rdev), minor(status.st_rdev));
  unsigned long long bytes = 0;
  if (std::FILE* file = std::fopen(limit.c_str(), "re")) {
    if (std::fscanf(file, "%llu", &bytes) != 1) bytes = 0;
    std::fclose(file);
  }
  return bytes > 0;
}

}  // namespace

Result<std::unique_ptr<File>> open_host_file(Fd file, const std::string& path, Cache cache,
                                             bool read_only, AsyncIo& io) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "{}: cannot stat", path);
  int alignment = 4096;
  if (S_ISBLK(status.st_mode) && ::ioctl(file.get(), BLKSSZGET, &alignment) != 0)
    return fail_errno(errno, "{}: cannot get the sector size of the device", path);
  Fd direct;
  if (cache == Cache::kNone) {
    direct = Fd(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC));
    if (!direct.valid())
      return with_hint(fail_errno(errno, "{}: cannot open for cache=none (O_DIRECT)", path),
                       "use cache=writeback");
  }
  const bool punches = !read_only && supports_punch(file.get(), status);
  return std::unique_ptr<File>(new HostFile(std::move(file), std::move(direct),
                                            static_cast<uint64_t>(alignment), punches,
                                            cache != Cache::kUnsafe && !read_only, path, io));
}

uint64_t total_bytes(std::span<const iovec> buffers) {
  uint64_t total = 0;
  for (const iovec& buffer : buffers) total += buffer.iov_len;
  return total;
}

std::vector<iovec> slice(std::span<const iovec> buffers, uint64_t offset, uint64_t length) {
  std::vector<iovec> part;
  for (const iovec& buffer : buffers) {
    const uint64_t skip = std::min<uint64_t>(offset, buffer.iov_len);
    offset -= skip;
    const uint64_t size = std::min<uint64_t>(buffer.iov_len - skip, length);
    if (size > 0) part.push_back({static_cast<std::byte*>(buffer.iov_base) + skip, size});
    length -= size;
  }
  return part;
}

void fill_zeroes(std::span<const iovec> buffers) {
  for (const iovec& buffer : buffers) std::memset(buffer.iov_base, 0, buffer.iov_len);
}

}  // namespace wick::block

#include "block/raw.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "base/bytes.h"
#include "block/image.h"

namespace wick::block {

namespace {

constexpr uint64_t kSectorBytes = 512;

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

uint64_t total_bytes(std::span<const iovec> buffers) {
  uint64_t total = 0;
  for (const iovec& buffer : buffers) total += buffer.iov_len;
  return total;
}

// The buffers without their first `skipped` bytes.
std::vector<iovec> tail(std::span<const iovec> buffers, uint64_t skipped) {
  std::vector<iovec> rest;
  for (const iovec& buffer : buffers) {
    const uint64_t skip = std::min<uint64_t>(skipped, buffer.iov_len);
    skipped -= skip;
    if (skip < buffer.iov_len)
      rest.push_back({static_cast<std::byte*>(buffer.iov_base) + skip, buffer.iov_len - skip});
  }
  return rest;
}

void fill_zeroes(std::span<const iovec> buffers) {
  for (const iovec& buffer : buffers) std::memset(buffer.iov_base, 0, buffer.iov_len);
}

class Raw final : public Backend {
 public:
  Raw(Fd buffered, Fd direct, uint64_t direct_alignment, uint64_t size, bool discards,
      const RawOptions& options, std::string path, AsyncIo& io)
      : buffered_(std::move(buffered)),
        direct_(std::move(direct)),
        direct_alignment_(direct_alignment),
        size_bytes_(size),
        can_discard_(discards),
        options_(options),
        path_(std::move(path)),
        io_(io) {}

  uint64_t size_bytes() const override { return size_bytes_; }
  bool read_only() const override { return options_.read_only; }
  bool can_discard() const override { return can_discard_; }

  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    const uint64_t length = total_bytes(buffers);
    if (auto checked = check_range(offset, length); !checked) co_return checked;
    const int fd = descriptor_for(offset, buffers);
    int64_t got = co_await io_.read(fd, offset, buffers);
    if (got == static_cast<int64_t>(length)) co_return Result<void>();
    std::vector<iovec> rest(buffers.begin(), buffers.end());
    for (uint64_t done = 0;;) {
      if (got == -EINTR) got = 0;
      if (got < 0) co_return failed("read", static_cast<int>(-got), offset, length);
      done += static_cast<uint64_t>(got);
      rest = tail(rest, static_cast<uint64_t>(got));
      // The file may end within the last sector, or file or device have been
      // cut under us.
      if (got == 0 && offset + done >= file_end()) fill_zeroes(rest), rest.clear();
      if (rest.empty()) co_return Result<void>();
      got = co_await io_.read(buffered_.get(), offset + done, rest);
    }
  }

  Task<Result<void>> write(uint64_t offset, std::span<const iovec> buffers) override {
    const uint64_t length = total_bytes(buffers);
    if (auto checked = check_write(offset, length); !checked) co_return checked;
    if (options_.refuse_foreign_magic && offset < kSectorBytes && length > 0)
      co_return co_await write_first_sector(offset, buffers, length);
    co_return co_await write_all(offset, buffers, length);
  }

  Task<Result<void>> flush() override {
    if (options_.cache == Cache::kUnsafe || options_.read_only) co_return Result<void>();
    const int64_t result = co_await io_.sync(buffered_.get());
    if (result < 0) co_return failed("flush", static_cast<int>(-result), 0, size_bytes_);
    co_return Result<void>();
  }

  Task<Result<void>> discard(uint64_t offset, uint64_t length) override {
    if (auto checked = check_write(offset, length); !checked) co_return checked;
    if (!can_discard_ || length == 0) co_return Result<void>();
    const int64_t result = co_await io_.allocate(
        buffered_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    if (result < 0) co_return failed("discard", static_cast<int>(-result), offset, length);
    co_return Result<void>();
  }

  Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) override {
    if (auto checked = check_write(offset, length); !checked) co_return checked;
    if (length == 0) co_return Result<void>();
    const int mode = may_unmap && can_discard_ ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                                               : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    const int64_t result = co_await io_.allocate(buffered_.get(), mode, offset, length);
    if (result >= 0) co_return Result<void>();
    if (result != -EOPNOTSUPP && result != -EINVAL)
      co_return failed("write zeroes", static_cast<int>(-result), offset, length);

    while (length > 0) {
      const std::vector<iovec> chunk = zeroes(length);
      const uint64_t bytes = total_bytes(chunk);
      auto written = co_await write_all(offset, chunk, bytes);
      if (!written) co_return written;
      offset += bytes;
      length -= bytes;
    }
    co_return Result<void>();
  }

 private:
  Result<void> check_range(uint64_t offset, uint64_t length) const {
    if (offset > size_bytes_ || length > size_bytes_ - offset)
      return fail_errno(EINVAL, "{}: {:#x} + {:#x} is outside the disk", path_, offset, length);
    return {};
  }

  Result<void> check_write(uint64_t offset, uint64_t length) const {
    if (options_.read_only) return fail_errno(EROFS, "{}", path_);
    return check_range(offset, length);
  }

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

  uint64_t file_end() const {
    const off_t end = ::lseek(buffered_.get(), 0, SEEK_END);  // of a block device too
    return end < 0 ? 0 : static_cast<uint64_t>(end);
  }

  Task<Result<void>> write_all(uint64_t offset, std::span<const iovec> buffers, uint64_t length) {
    const int fd = descriptor_for(offset, buffers);
    int64_t put = co_await io_.write(fd, offset, buffers, fd == buffered_.get());
    if (put == static_cast<int64_t>(length)) co_return Result<void>();
    std::vector<iovec> rest(buffers.begin(), buffers.end());
    for (uint64_t done = 0;;) {
      if (put == 0) put = -ENOSPC;
      if (put == -EINTR) put = 0;
      if (put < 0) co_return failed("write", static_cast<int>(-put), offset, length);
      done += static_cast<uint64_t>(put);
      rest = tail(rest, static_cast<uint64_t>(put));
      if (rest.empty()) co_return Result<void>();
      put = co_await io_.write(buffered_.get(), offset + done, rest, true);
    }
  }

  // Looks at a private copy: the guest may change its buffer meanwhile.
  Task<Result<void>> write_first_sector(uint64_t offset, std::span<const iovec> buffers,
                                        uint64_t length) {
    std::array<std::byte, kSectorBytes> sector{};
    const uint64_t head = std::min(length, kSectorBytes - offset);
    if (head < kSectorBytes) {  // it may complete a magic that is there in part
      const iovec old{sector.data(), sector.size()};
      if (auto filled = co_await read(0, {&old, 1}); !filled) co_return filled;
    }
    uint64_t copied = 0;
    for (const iovec& buffer : buffers) {
      const uint64_t part = std::min<uint64_t>(buffer.iov_len, head - copied);
      if (part > 0) std::memcpy(sector.data() + offset + copied, buffer.iov_base, part);
      copied += part;
    }
    if (const char* format = format_of_magic(sector); format != nullptr)
      co_return with_hint(
          fail_errno(EPERM, "{}: the guest writes the magic of a {} image into it", path_, format),
          "give the disk with format=raw to allow that");
    const iovec first{sector.data() + offset, head};
    auto written = co_await write_all(offset, {&first, 1}, head);
    if (!written || head == length) co_return written;
    const std::vector<iovec> rest = tail(buffers, head);
    co_return co_await write_all(offset + head, rest, length - head);
  }

  const Fd buffered_;
  const Fd direct_;  // invalid unless Cache::kNone
  const uint64_t direct_alignment_;
  const uint64_t size_bytes_;
  const bool can_discard_;
  const RawOptions options_;
  const std::string path_;
  AsyncIo& io_;
};

// Asks without touching data: a hole beyond the end of a file, the queue limit
// of a device.
bool supports_discard(int fd, const struct stat& status) {
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

Result<std::unique_ptr<Backend>> open_raw(Fd file, const std::string& path,
                                          const RawOptions& options, AsyncIo& io) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "{}: cannot stat", path);
  auto size_bytes = static_cast<uint64_t>(status.st_size);
  int direct_alignment = 4096;
  if (S_ISBLK(status.st_mode)) {
    if (::ioctl(file.get(), BLKGETSIZE64, &size_bytes) != 0 ||
        ::ioctl(file.get(), BLKSSZGET, &direct_alignment) != 0)
      return fail_errno(errno, "{}: cannot get the size of the device", path);
  }
  if (size_bytes == 0)
    return with_hint(fail("{}: the disk is empty (0 bytes)", path),
                     fmt::format("give it a size: truncate -s 1G {}", path));

  Fd direct;
  if (options.cache == Cache::kNone) {
    const int access = options.read_only ? O_RDONLY : O_RDWR;
    direct = Fd(::open(path.c_str(), access | O_DIRECT | O_CLOEXEC));
    if (!direct.valid())
      return with_hint(fail_errno(errno, "{}: cannot open for cache=none (O_DIRECT)", path),
                       "use cache=writeback");
  }
  const bool discards = !options.read_only && supports_discard(file.get(), status);
  return std::unique_ptr<Backend>(
      new Raw(std::move(file), std::move(direct), static_cast<uint64_t>(direct_alignment),
              align_up(size_bytes, kSectorBytes), discards, options, path, io));
}

}  // namespace wick::block

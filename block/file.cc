#include "block/file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "base/bytes.h"
#include "block/image_lock.h"

namespace wick::block {

namespace {

// Shared by all requests, since a guest may have hundreds that write zeroes; aligned for
// O_DIRECT.
alignas(4096) constexpr std::array<std::byte, 4096> kZeroPage{};

constexpr uint64_t kMaxCopyBytes = 64 << 10;

class HostFile final : public File {
 public:
  HostFile(Fd buffered, Fd direct, const FileAbilities& abilities, bool syncs, std::string path,
           AsyncIo& io)
      : buffered_(std::move(buffered)),
        direct_(std::move(direct)),
        abilities_(abilities),
        syncs_(syncs),
        path_(std::move(path)),
        io_(io),
        zeroes_fast_(abilities.zeroes_fast) {}
  ~HostFile() override { unlock_image(buffered_); }

  uint64_t size_bytes() const override {
    const off_t end = ::lseek(buffered_.get(), 0, SEEK_END);  // also works for a block device
    return end < 0 ? 0 : static_cast<uint64_t>(end);
  }
  uint64_t allocated_bytes() const override {
    struct stat status {};
    if (::fstat(buffered_.get(), &status) != 0 || !S_ISREG(status.st_mode)) return size_bytes();
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }
  bool can_discard() const override { return abilities_.discards; }
  bool zeroes_fast(bool may_unmap) const override {
    return zeroes_fast_ || (may_unmap && abilities_.discards && !abilities_.is_device);
  }
  const std::string& path() const override { return path_; }
  Fd pin() const override {
    return Fd(::open(fmt::format("/proc/self/fd/{}", buffered_.get()).c_str(), O_PATH | O_CLOEXEC));
  }
  Piece piece_at(uint64_t offset) const override {
    const off_t at = static_cast<off_t>(offset);
    const off_t data = ::lseek(buffered_.get(), at, SEEK_DATA);
    if (data < 0) return {errno == ENXIO, size_bytes()};  // any other error: assume data
    if (data > at) return {true, static_cast<uint64_t>(data)};
    const off_t hole = ::lseek(buffered_.get(), at, SEEK_HOLE);
    return {false, hole < 0 ? size_bytes() : static_cast<uint64_t>(hole)};
  }

  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    const uint64_t length = total_bytes(buffers);
    const int fd = descriptor_for(offset, buffers);
    int64_t got = co_await io_.read(fd, offset, buffers, medium_of(fd));
    if (got == static_cast<int64_t>(length)) co_return Result<void>();
    std::vector<iovec> rest(buffers.begin(), buffers.end());
    for (uint64_t done = 0;;) {
      if (got == -EINTR) got = 0;
      if (got < 0) co_return failed("read", static_cast<int>(-got), offset, length);
      done += static_cast<uint64_t>(got);
      rest = slice(rest, static_cast<uint64_t>(got), length);
      if (got == 0 && offset + done >= size_bytes()) fill_zeroes(rest), rest.clear();
      if (rest.empty()) co_return Result<void>();
      got = co_await io_.read(buffered_.get(), offset + done, rest, medium_of(buffered_.get()));
    }
  }

  Task<Result<void>> write(uint64_t offset, std::span<const iovec> buffers) override {
    const uint64_t length = total_bytes(buffers);
    const int fd = descriptor_for(offset, buffers);
    int64_t put = co_await io_.write(fd, offset, buffers, medium_of(fd));
    if (put == static_cast<int64_t>(length)) co_return Result<void>();
    std::vector<iovec> rest(buffers.begin(), buffers.end());
    for (uint64_t done = 0;;) {
      if (put == 0) put = -ENOSPC;
      if (put == -EINTR) put = 0;
      if (put < 0) co_return failed("write", static_cast<int>(-put), offset, length);
      done += static_cast<uint64_t>(put);
      rest = slice(rest, static_cast<uint64_t>(put), length);
      if (rest.empty()) co_return Result<void>();
      put = co_await io_.write(buffered_.get(), offset + done, rest, medium_of(buffered_.get()));
    }
  }

  Task<Result<void>> sync() override {
    if (!syncs_) co_return Result<void>();
    const int64_t result = co_await io_.sync(buffered_.get());
    // The kernel reports a failure only once; later calls succeed.
    if (result < 0 && sync_error_ == 0) sync_error_ = static_cast<int>(-result);
    if (sync_error_ != 0)
      co_return with_hint(fail_errno(sync_error_, "{}: flush", path_),
                          "the host has lost data; look at its log, and start wick again");
    co_return Result<void>();
  }

  Task<Result<void>> punch(uint64_t offset, uint64_t length) override {
    return make_zero(abilities_.discards ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE, offset,
                     length);
  }

  Task<Result<void>> zero(uint64_t offset, uint64_t length) override {
    return make_zero(FALLOC_FL_ZERO_RANGE, offset, length);
  }

  // PUNCH_HOLE on a device is write-zeroes, and many devices that can discard write real zeroes
  // for it (PITFALLS 42).
  Task<Result<void>> discard(uint64_t offset, uint64_t length) override {
    int64_t result = 0;
    if (!abilities_.discards || length == 0) co_return Result<void>();
    if (!abilities_.is_device) {
      result = co_await io_.allocate(buffered_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     offset, length);
    } else {
      const uint64_t sector = abilities_.sector_bytes;
      const uint64_t from = align_up(offset, sector);
      const uint64_t to = (offset + length) / sector * sector;
      if (from < to) result = co_await io_.discard(buffered_.get(), from, to - from);
    }
    if (result < 0 && result != -EOPNOTSUPP)
      co_return failed("discard", static_cast<int>(-result), offset, length);
    co_return Result<void>();
  }

  Task<Result<void>> reserve(uint64_t offset, uint64_t length) override {
    const int64_t result =
        co_await io_.allocate(buffered_.get(), FALLOC_FL_KEEP_SIZE, offset, length);
    if (result >= 0) co_return Result<void>();
    if (result != -EOPNOTSUPP && result != -EINVAL)
      co_return failed("reserve", static_cast<int>(-result), offset, length);
    // If the host cannot reserve space, writing the present content allocates it.
    std::vector<std::byte> content(std::min(length, kMaxCopyBytes));
    while (length > 0) {
      const iovec part = to_iovec(std::span(content).first(std::min(length, kMaxCopyBytes)));
      auto done = co_await read(offset, {&part, 1});
      if (done) done = co_await write(offset, {&part, 1});
      if (!done) co_return done;
      offset += part.iov_len;
      length -= part.iov_len;
    }
    co_return Result<void>();
  }

  Result<void> truncate(uint64_t size) override {
    if (::ftruncate(buffered_.get(), static_cast<off_t>(size)) != 0)
      return fail_errno(errno, "{}: cannot set the size to {} bytes", path_, size);
    return {};
  }

 private:
  std::unexpected<Error> failed(const char* what, int code, uint64_t offset,
                                uint64_t length) const {
    return fail_errno(code, "{}: {} of {} bytes at {}", path_, what, length, offset);
  }

  // Requests that are not aligned for O_DIRECT go through the page cache; the kernel keeps the
  // two views of a file coherent (PITFALLS 18).
  int descriptor_for(uint64_t offset, std::span<const iovec> buffers) const {
    if (!direct_.valid()) return buffered_.get();
    uint64_t bits = offset;
    for (const iovec& buffer : buffers)
      bits |= reinterpret_cast<uint64_t>(buffer.iov_base) | buffer.iov_len;
    return bits % abilities_.sector_bytes == 0 ? direct_.get() : buffered_.get();
  }

  Medium medium_of(int fd) const {
    if (abilities_.in_memory) return Medium::kMemory;
    return fd == buffered_.get() ? Medium::kPageCache : Medium::kDevice;
  }

  Task<Result<void>> make_zero(int mode, uint64_t offset, uint64_t length) {
    if (length == 0) co_return Result<void>();
    const int64_t result =
        co_await io_.allocate(buffered_.get(), mode | FALLOC_FL_KEEP_SIZE, offset, length);
    if (result >= 0) co_return Result<void>();
    if (result == -EOPNOTSUPP) zeroes_fast_ = false;
    if (result != -EOPNOTSUPP && result != -EINVAL)
      co_return failed("write zeroes", static_cast<int>(-result), offset, length);
    const uint64_t size = size_bytes();
    length = offset < size ? std::min(length, size - offset) : 0;
    while (length > 0) {
      const std::vector<iovec> chunk = zero_buffers(length);
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
  const FileAbilities abilities_;
  const bool syncs_;
  const std::string path_;
  AsyncIo& io_;
  bool zeroes_fast_;
  int sync_error_ = 0;
};

// Returns a limit of a device's request queue, from sysfs; 0 if there is none. A partition uses its
// disk's queue.
uint64_t queue_limit(const std::string& device, const char* name) {
  unsigned long long value = 0;
  for (const char* const folder : {"/queue/", "/../queue/"})
    if (std::FILE* const file = std::fopen((device + folder + name).c_str(), "re")) {
      if (std::fscanf(file, "%llu", &value) != 1) value = 0;
      std::fclose(file);
      break;
    }
  return value;
}

// Finds the abilities that depend on the file system.
void find_abilities_of_system(const Fd& file, FileAbilities& abilities) {
  struct statfs system {};
  if (::fstatfs(file.get(), &system) != 0) return;
  switch (static_cast<uint32_t>(system.f_type)) {
    case BTRFS_SUPER_MAGIC:
    case EXT4_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
      abilities.zeroes_fast = true;  // not tried out: a trial would allocate space
      break;
    case HUGETLBFS_MAGIC:
    case RAMFS_MAGIC:
    case TMPFS_MAGIC:
      abilities.in_memory = true;
      break;
    default:
      break;
  }
}

}  // namespace

Result<FileAbilities> find_abilities(const Fd& file, const std::string& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "{}: cannot stat", path);
  FileAbilities abilities;
  if (!S_ISBLK(status.st_mode)) {
    // Tries to punch a hole behind the file's end.
    abilities.discards =
        ::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(align_up(static_cast<uint64_t>(status.st_size), 4096)),
                    4096) == 0;
    find_abilities_of_system(file, abilities);
    return abilities;
  }
  int sector_bytes = 0;
  if (::ioctl(file.get(), BLKSSZGET, &sector_bytes) != 0 || sector_bytes <= 0)
    return fail_errno(errno, "{}: cannot get the sector size of the device", path);
  abilities = device_abilities(
      fmt::format("/sys/dev/block/{}:{}", major(status.st_rdev), minor(status.st_rdev)));
  abilities.sector_bytes = static_cast<uint64_t>(sector_bytes);
  return abilities;
}

FileAbilities device_abilities(const std::string& device) {
  return {.is_device = true,
          .discards = queue_limit(device, "discard_max_bytes") > 0,
          .zeroes_fast = queue_limit(device, "write_zeroes_max_bytes") > 0};
}

std::unique_ptr<File> make_host_file(Fd file, Fd direct, const FileAbilities& abilities, bool syncs,
                                     std::string path, AsyncIo& io) {
  return std::make_unique<HostFile>(std::move(file), std::move(direct), abilities, syncs,
                                    std::move(path), io);
}

Result<std::unique_ptr<File>> open_host_file(Fd file, const std::string& path, Cache cache,
                                             bool read_only, AsyncIo& io) {
  FileAbilities abilities = TRY(find_abilities(file, path));
  if (read_only) abilities.discards = false;
  Fd direct;
  if (cache == Cache::kNone) {
    // Opens the same file, even if `path` leads to another one by now.
    direct = Fd(::open(fmt::format("/proc/self/fd/{}", file.get()).c_str(),
                       (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC));
    if (!direct.valid())
      return with_hint(fail_errno(errno, "{}: cannot open for cache=none (O_DIRECT)", path),
                       "use cache=writeback");
  }
  return make_host_file(std::move(file), std::move(direct), abilities,
                        cache != Cache::kUnsafe && !read_only, path, io);
}

std::vector<iovec> zero_buffers(uint64_t most) {
  std::vector<iovec> pages;
  while (most > 0 && pages.size() < 64) {
    const size_t size = std::min<uint64_t>(most, kZeroPage.size());
    pages.push_back({const_cast<std::byte*>(kZeroPage.data()), size});  // never written to
    most -= size;
  }
  return pages;
}

void fill_zeroes(std::span<const iovec> buffers) {
  for (const iovec& buffer : buffers)  // an empty buffer may have no address
    if (buffer.iov_len > 0) std::memset(buffer.iov_base, 0, buffer.iov_len);
}

}  // namespace wick::block

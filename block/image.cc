#include "block/image.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <string_view>

namespace wick::block {

namespace {

using namespace std::string_view_literals;

struct Magic {
  const char* format;
  size_t offset_bytes;
  std::string_view bytes;
};

constexpr std::array kMagics = {
    Magic{"qcow", 0, "QFI\xfb"sv},
    Magic{"qed", 0, "QED\0"sv},
    Magic{"vmdk", 0, "KDMV"sv},
    Magic{"vmdk", 0, "COWD"sv},
    Magic{"vmdk", 0, "# Disk Descriptor"sv},
    Magic{"vhd", 0, "conectix"sv},
    Magic{"vhdx", 0, "vhdxfile"sv},
    Magic{"luks", 0, "LUKS\xba\xbe"sv},
    Magic{"parallels", 0, "WithoutFreeSpace"sv},
    Magic{"parallels", 0, "WithouFreSpacExt"sv},
    Magic{"vdi", 64, "\x7f\x10\xda\xbe"sv},
};

constexpr std::array kForeignSuffixes = {".qcow2"sv, ".qcow"sv, ".qed"sv,  ".vmdk"sv,
                                         ".vdi"sv,   ".vhd"sv,  ".vhdx"sv, ".iso.gz"sv};

std::string_view foreign_suffix(std::string_view path) {
  for (const std::string_view suffix : kForeignSuffixes)
    if (path.ends_with(suffix)) return suffix;
  return {};
}

const char* describe_type(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return "a directory";
    case S_IFIFO:
      return "a FIFO";
    case S_IFCHR:
      return "a character device";
    case S_IFSOCK:
      return "a socket";
    default:
      return "not a file";
  }
}

std::unexpected<Error> not_a_disk(const std::string& path, mode_t mode) {
  return with_hint(fail("disk {}: is {}", path, describe_type(mode)),
                   "give an image file or a block device");
}

}  // namespace

const char* format_of_magic(std::span<const std::byte> sector) {
  for (const Magic& magic : kMagics)
    if (sector.size() >= magic.offset_bytes + magic.bytes.size() &&
        std::memcmp(sector.data() + magic.offset_bytes, magic.bytes.data(), magic.bytes.size()) ==
            0)
      return magic.format;
  return nullptr;
}

Result<std::unique_ptr<Backend>> open_image(const std::string& path, const ImageOptions& options,
                                            AsyncIo& io) {
  const int access = options.read_only ? O_RDONLY : O_RDWR;
  // O_NONBLOCK: a FIFO must be refused, not waited for.
  Fd file(::open(path.c_str(), access | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) {
    const int code = errno;
    struct stat status {};
    if (code == ENXIO && ::stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode))
      return not_a_disk(path, status.st_mode);
    auto failure = fail_errno(code, "disk {}: cannot open", path);
    if (code == EACCES || code == EROFS)
      return with_hint(std::move(failure),
                       options.read_only ? "check the file's permissions"
                                         : "check the file's permissions, or add readonly=on");
    if (code == ENOENT) return with_hint(std::move(failure), "check the path given with --disk");
    return failure;
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "disk {}: cannot stat", path);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) return not_a_disk(path, status.st_mode);
  // io_uring would answer EAGAIN where it should wait.
  if (::fcntl(file.get(), F_SETFL, 0) != 0) return fail_errno(errno, "disk {}: fcntl", path);

  if (!options.format) {
    std::array<std::byte, 512> sector{};
    const ssize_t got = ::pread(file.get(), sector.data(), sector.size(), 0);
    if (got < 0) return fail_errno(errno, "disk {}: cannot read", path);
    if (const char* format = format_of_magic(std::span(sector).first(static_cast<size_t>(got))))
      return with_hint(fail("disk {}: is a {} image, which wick cannot read yet", path, format),
                       "convert it: qemu-img convert -O raw");
    if (const auto suffix = foreign_suffix(path); !suffix.empty())
      return with_hint(fail("disk {}: is called {} but has no such header", path, suffix),
                       "add format=raw if it is a raw disk");
  }
  return open_raw(std::move(file), path,
                  {.read_only = options.read_only,
                   .cache = options.cache,
                   .refuse_foreign_magic = !options.format},
                  io);
}

}  // namespace wick::block

#include "block/image.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "block/image_lock.h"
#include "block/overlay.h"
#include "block/qcow2.h"
#include "block/raw.h"

namespace wick::block {

namespace {

using namespace std::string_view_literals;

struct Magic {
  const char* format;
  size_t offset_bytes;
  std::string_view bytes;
};

constexpr std::array kMagics = {
    Magic{"qcow2", 0, "QFI\xfb\0\0\0\2"sv},
    Magic{"qcow2", 0, "QFI\xfb\0\0\0\3"sv},
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

Result<Fd> open_file(const std::string& path, bool read_only, bool lock) {
  const int access = read_only ? O_RDONLY : O_RDWR;
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
                       read_only ? "check the file's permissions"
                                 : "check the file's permissions, or add readonly=on");
    if (code == ENOENT) return with_hint(std::move(failure), "check the path");
    if (code == EISDIR)
      return with_hint(std::move(failure), "give an image file, or a block device");
    return failure;
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "disk {}: cannot stat", path);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) return not_a_disk(path, status.st_mode);
  // io_uring would answer EAGAIN where it should wait.
  if (::fcntl(file.get(), F_SETFL, 0) != 0) return fail_errno(errno, "disk {}: fcntl", path);
  if (lock) TRY(lock_image(file, read_only, "disk " + path));
  return file;
}

Result<Format> probe(const Fd& file, const std::string& path) {
  std::array<std::byte, 512> sector{};
  const ssize_t got = ::pread(file.get(), sector.data(), sector.size(), 0);
  if (got < 0) return fail_errno(errno, "disk {}: cannot read", path);
  if (const char* format = format_of_magic(std::span(sector).first(static_cast<size_t>(got)))) {
    if (format == "qcow2"sv) return Format::kQcow2;
    return with_hint(fail("disk {}: is a {} image, which wick cannot read", path, format),
                     "convert it: qemu-img convert -O qcow2 OLD NEW");
  }
  if (const auto suffix = foreign_suffix(path); !suffix.empty())
    return with_hint(fail("disk {}: is called {} but has no such header", path, suffix),
                     "add format=raw if it is a raw disk");
  return Format::kRaw;
}

Task<Result<std::unique_ptr<Backend>>> open_chain(std::string path, ImageOptions options,
                                                  AsyncIo& io, int depth);

// A raw base that a guest once wrote may have become an image of that guest's
// making, so one whose format its overlay does not tell leads no further (PITFALLS 21).
Result<void> check_implied(const qcow2::Header& header, const ImageOptions& options, int depth,
                           const std::string& path) {
  if (depth == 0 || options.format || (header.backing_path.empty() && !header.external_data()))
    return {};
  return with_hint(fail("{}: looks like qcow2 and names more files, but the image over it does "
                        "not say that it is",
                        path),
                   "if it is, say so there: wick image rebase -u -b BASE -F qcow2 IMAGE");
}

Task<Result<std::unique_ptr<Qcow2>>> open_layer(std::unique_ptr<File> file,
                                                const ImageOptions& options, AsyncIo& io,
                                                int depth) {
  const std::string path = file->path();
  Qcow2Options qcow2_options{.read_only = options.read_only, .cache_bytes = options.cache_bytes};
  auto opened = co_await Qcow2::open(std::move(file), qcow2_options);
  if (!opened) co_return failure(opened);
  std::unique_ptr<Qcow2> image = *std::move(opened);
  const qcow2::Header& header = image->header();
  if (auto checked = check_implied(header, options, depth, path); !checked)
    co_return failure(checked);
  if (header.external_data()) {
    if (header.data_path.empty())
      co_return with_hint(fail("{}: does not name its data file", path),
                          "look at it with wick image info");
    auto name = named_file(path, header.data_path);
    if (!name) co_return failure(name);
    auto data = open_file(*name, options.read_only, options.lock);
    if (!data) co_return failure(data);
    auto data_file = open_host_file(*std::move(data), *name, options.cache, options.read_only, io);
    if (!data_file) co_return failure(data_file);
    image->set_data_file(*std::move(data_file));
  }
  if (!header.backing_path.empty()) {
    auto name = named_file(path, header.backing_path);
    if (!name) co_return failure(name);
    auto format = named_format(path, header.backing_format);
    if (!format) co_return failure(format);
    ImageOptions read_only = options;
    read_only.read_only = true;
    read_only.format = *format;
    auto backing = co_await open_chain(*name, read_only, io, depth + 1);
    if (!backing) {
      Error error = std::move(backing).error();
      error.context = fmt::format("backing file of {}: {}", path, error.context);
      if (error.code == ENOENT) error.hint = fmt::format("see wick image info {}", path);
      co_return std::unexpected(std::move(error));
    }
    image->set_backing(*std::move(backing));
  }
  co_return image;
}

Task<Result<std::unique_ptr<Backend>>> open_chain(std::string path, ImageOptions options,
                                                  AsyncIo& io, int depth) {
  if (depth > kMostBackingFiles)
    co_return with_hint(fail("{}: is deeper than {} backing files", path, kMostBackingFiles),
                        "make the chain shorter: wick image commit or convert");
  auto opened = open_image_file(path, options, io);
  if (!opened) co_return failure(opened);
  if (opened->format == Format::kQcow2) {
    auto image = co_await open_layer(std::move(opened->file), options, io, depth);
    if (!image) co_return failure(image);
    co_return std::unique_ptr<Backend>(*std::move(image));
  }
  co_return open_raw(std::move(opened->file), {.read_only = options.read_only,
                                               .refuse_foreign_magic = !options.format,
                                               .may_be_empty = options.may_be_empty});
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

const char* format_name(Format format) { return format == Format::kQcow2 ? "qcow2" : "raw"; }

std::optional<Format> format_of_name(std::string_view name) {
  for (const Format format : {Format::kRaw, Format::kQcow2})
    if (name == format_name(format)) return format;
  return std::nullopt;
}

Result<ImageFile> open_image_file(const std::string& path, const ImageOptions& options,
                                  AsyncIo& io) {
  Fd file = TRY(open_file(path, options.read_only, options.lock));
  const Format format = options.format ? *options.format : TRY(probe(file, path));
  return ImageFile{TRY(open_host_file(std::move(file), path, options.cache, options.read_only, io)),
                   format};
}

Result<std::string> named_file(const std::string& image, std::string name) {
  if (name.starts_with("file:")) name.erase(0, 5);
  const size_t colon = name.find(':');
  if (colon != std::string::npos && colon < name.find('/'))
    return with_hint(
        fail("{}: names the file {}, of a protocol that wick does not know", image, name),
        "make it one file: qemu-img convert -O qcow2");
  const std::filesystem::path path(name);
  return path.is_absolute() ? name : (std::filesystem::path(image).parent_path() / path).string();
}

Result<std::optional<Format>> named_format(const std::string& image, const std::string& name) {
  if (name.empty()) return std::nullopt;
  if (const auto format = format_of_name(name)) return format;
  return with_hint(fail("{}: has a backing file of format {}, which wick cannot read", image, name),
                   "make it one file: qemu-img convert -O qcow2");
}

Task<Result<std::unique_ptr<Backend>>> open_image(std::string path, ImageOptions options,
                                                  AsyncIo& io) {
  options.read_only |= options.ephemeral;
  auto image = co_await open_chain(std::move(path), options, io, 0);
  if (!image || !options.ephemeral) co_return image;
  co_return co_await open_overlay(*std::move(image), options.cache_bytes, io);
}

Task<Result<std::unique_ptr<Qcow2>>> open_qcow2(std::string path, ImageOptions options,
                                                AsyncIo& io) {
  auto opened = open_image_file(path, options, io);
  if (!opened) co_return failure(opened);
  if (opened->format != Format::kQcow2)
    co_return with_hint(
        fail("{}: is {}, and only qcow2 can do that", path, format_name(opened->format)),
        "make it one: wick image convert -O qcow2");
  co_return co_await open_layer(std::move(opened->file), options, io, 0);
}

}  // namespace wick::block

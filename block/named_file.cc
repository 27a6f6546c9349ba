#include "block/named_file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <filesystem>

namespace wick::block {

namespace {

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

std::unexpected<Error> cannot_open(int code, const std::string& path, bool read_only) {
  auto failure = fail_errno(code, "disk {}: cannot open", path);
  if (code == EACCES || code == EROFS)
    return with_hint(
        std::move(failure),
        read_only ? "check the file's permissions"
                  : "check the file's permissions, or add readonly=on (-r with wick image io)");
  if (code == ENOENT) return with_hint(std::move(failure), "check the path");
  return failure;
}

// Opens the file at the path `opened`; messages call it `path`.
Result<Fd> open_disk(const std::string& path, const std::string& opened, bool read_only) {
  const auto is_disk = [](mode_t mode) { return S_ISREG(mode) || S_ISBLK(mode); };
  struct stat status {};
  // Check the type before opening, because opening a device can have an effect.
  if (::stat(opened.c_str(), &status) == 0 && !is_disk(status.st_mode))
    return not_a_disk(path, status.st_mode);
  const int access = read_only ? O_RDONLY : O_RDWR;
  // O_NONBLOCK: a FIFO must be refused, not waited for.
  Fd file(::open(opened.c_str(), access | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return cannot_open(errno, path, read_only);
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "disk {}: cannot stat", path);
  if (!is_disk(status.st_mode)) return not_a_disk(path, status.st_mode);
  // With O_NONBLOCK, io_uring would return EAGAIN instead of waiting.
  if (::fcntl(file.get(), F_SETFL, 0) != 0) return fail_errno(errno, "disk {}: fcntl", path);
  return file;
}

std::string name_in_proc(const Fd& file) { return fmt::format("/proc/self/fd/{}", file.get()); }

// Returns the path of an open file, without symbolic links.
std::string real_path(const Fd& file) {
  char path[PATH_MAX];
  const ssize_t length = ::readlink(name_in_proc(file).c_str(), path, sizeof(path));
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : std::string();
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// Opens the folder of the image's path, and checks that the image is still there. After that,
// renaming or replacing the path or a part of it has no effect.
Result<Fd> open_folder(const NamingImage& image) {
  Fd folder(::open(folder_of(image.path).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const std::string name = std::filesystem::path(image.path).filename().string();
  struct stat opened {};
  struct stat there {};
  if (!folder.valid() || ::fstat(image.pin.get(), &opened) != 0 ||
      ::fstatat(folder.get(), name.c_str(), &there, 0) != 0 || opened.st_dev != there.st_dev ||
      opened.st_ino != there.st_ino)
    return with_hint(
        fail("{}: is no longer at its path, which is needed to find the files that it names",
             image.path),
        "run the command again");
  return folder;
}

// Returns a named_file() of the image. If this path begins with the image's folder, as for all
// relative names, returns it relative to that folder.
std::string path_from_folder(const std::string& image, const std::string& path) {
  const std::string folder = std::filesystem::path(image).parent_path().string();
  const bool below = !folder.empty() && path.starts_with(folder + "/");
  return below ? "." + path.substr(folder.size()) : path;
}

// Opens the regular file at `path` with O_PATH, if it is in `folder` or below it. Does not
// follow magic links of /proc, which lead to files that other programs have open.
Fd find_in_folder(const Fd& folder, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  Fd file(static_cast<int>(::syscall(SYS_openat2, folder.get(), path.c_str(), &how, sizeof(how))));
  struct stat status {};
  if (!file.valid() || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  std::string beginning = real_path(folder);
  if (!beginning.ends_with('/')) beginning += '/';
  return real_path(file).starts_with(beginning) ? std::move(file) : Fd();
}

// Doubles commas: the text becomes a value in a SPEC.
std::string with_doubled_commas(const std::string& text) {
  std::string doubled;
  for (const char c : text) doubled += c == ',' ? std::string(",,") : std::string(1, c);
  return doubled;
}

}  // namespace

Result<Fd> open_given_file(const std::string& path, bool read_only) {
  return open_disk(path, path, read_only);
}

Result<Fd> open_pinned_file(const Fd& pin, const std::string& path, bool read_only) {
  return open_disk(path, name_in_proc(pin), read_only);
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

Result<Fd> open_named_file(const NamingImage& image, NamedFileKind kind, const std::string& path,
                           const ImageOptions& options) {
  Fd found(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!found.valid()) return cannot_open(errno, path, options.read_only);
  const bool anywhere =
      options.names == Names::kAny || (options.names == Names::kRead && options.read_only);
  if (!anywhere) {
    const std::string place = real_path(found);
    const Fd folder = TRY(open_folder(image));
    found = find_in_folder(folder, path_from_folder(image.path, path));
    if (!found.valid()) {
      const bool data = kind == NamedFileKind::kData;
      const std::string word = options.trust_option != nullptr ? options.trust_option
                               : data ? "data-file=" + with_doubled_commas(place)
                                      : "backing=any";
      return with_hint(
          fail("{}: names the {} {}, which is not a file in the image's folder or below it",
               image.path, data ? "data file" : "backing file", place),
          fmt::format("if you trust the image with that file, add {}", word));
    }
  }
  return open_disk(path, name_in_proc(found), options.read_only);
}

}  // namespace wick::block

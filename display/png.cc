#include "display/png.h"

#include <fcntl.h>
#include <png.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <span>
#include <utility>

#include "base/fd.h"
#include "base/shared_library.h"
#include "base/write_all.h"

namespace wick::display {

namespace {

constexpr const char* kLibrary = "libpng16.so.16";

using WriteToMemory = decltype(&::png_image_write_to_memory);

// Loads libpng, which stays loaded for the life of the process.
Result<WriteToMemory> load() {
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return with_hint(fail("PNG: {}", ::dlerror()), "install the package libpng16-16");
  WriteToMemory write = nullptr;
  if (!find_symbol(library, "png_image_write_to_memory", write))
    return with_hint(fail("PNG: {} lacks a function", kLibrary), "install libpng16-16");
  return write;
}

Result<std::vector<std::byte>> rgb(const Picture& picture) {
  if (picture.width == 0 || picture.height == 0 ||
      picture.pixels.size() != size_t{picture.width} * picture.height)
    return fail("the screen is off, so there is no picture");
  std::vector<std::byte> bytes;
  bytes.reserve(picture.pixels.size() * 3);
  for (const uint32_t pixel : picture.pixels) {
    bytes.push_back(static_cast<std::byte>(pixel >> 16 & 0xff));
    bytes.push_back(static_cast<std::byte>(pixel >> 8 & 0xff));
    bytes.push_back(static_cast<std::byte>(pixel & 0xff));
  }
  return bytes;
}

Result<void> write_picture(const Fd& file, std::span<const std::byte> bytes,
                           const std::string& path) {
  if (const int error = write_all(file.get(), bytes); error != 0)
    return fail_errno(error, "{}: cannot write the picture", path);
  // Some file systems report only now that they have no room.
  if (::fsync(file.get()) != 0 && errno != EINVAL && errno != EROFS)
    return fail_errno(errno, "{}: cannot write the picture", path);
  return {};
}

Result<void> write_file(const std::string& path, std::span<const std::byte> bytes) {
  // O_NONBLOCK: the caller's loop must not wait for the reader of a FIFO.
  const Fd file(::open(path.c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                       S_IRUSR | S_IWUSR));
  if (!file.valid() && errno == ENXIO)
    return with_hint(fail_errno(errno, "{}: cannot open for a picture", path),
                     "start the reader of the FIFO first");
  if (!file.valid()) return fail_errno(errno, "{}: cannot open for a picture", path);
  auto written = write_picture(file, bytes, path);
  struct stat status {};
  if (!written && ::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode))
    (void)::unlink(path.c_str());
  return written;
}

}  // namespace

Result<std::vector<std::byte>> encode_png(const Picture& picture) {
  static const Result<WriteToMemory> library = load();
  if (!library) return std::unexpected(library.error());
  const auto pixels = TRY(rgb(picture));
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = picture.width;
  image.height = picture.height;
  image.format = PNG_FORMAT_RGB;
  image.flags = PNG_IMAGE_FLAG_FAST;  // the caller is often the main loop
  std::vector<std::byte> file(PNG_IMAGE_PNG_SIZE_MAX(image));
  png_alloc_size_t size = file.size();
  if ((*library)(&image, file.data(), &size, 0, pixels.data(), 0, nullptr) == 0)
    return fail("PNG: {}", image.message);
  file.resize(size);
  return file;
}

Result<std::vector<std::byte>> encode_ppm(const Picture& picture) {
  const auto pixels = TRY(rgb(picture));
  const std::string header = fmt::format("P6\n{} {}\n255\n", picture.width, picture.height);
  std::vector<std::byte> file(header.size() + pixels.size());
  std::memcpy(file.data(), header.data(), header.size());
  std::memcpy(file.data() + header.size(), pixels.data(), pixels.size());
  return file;
}

Result<void> write_png(const Picture& picture, const std::string& path) {
  return write_file(path, TRY(encode_png(picture)));
}

Result<void> write_ppm(const Picture& picture, const std::string& path) {
  return write_file(path, TRY(encode_ppm(picture)));
}

}  // namespace wick::display

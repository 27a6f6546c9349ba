#include "image/source.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "block/image_lock.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/snapshot_commands.h"
#include "image/files.h"
#include "image/vdi_reader.h"

namespace wick::image {

namespace {

using block::File;

constexpr std::array<std::pair<std::string_view, ImageFormat>, 4> kFormats = {
    {{"raw", ImageFormat::kRaw},
     {"qcow2", ImageFormat::kQcow2},
     {"vdi", ImageFormat::kVdi},
     {"vmdk", ImageFormat::kVmdk}}};

// Opens the file of an image whose format is not known yet.
Result<std::unique_ptr<File>> open_plain(block::IoThread& thread, const std::string& path,
                                         const SourceOptions& options) {
  block::ImageOptions how;
  how.format = block::Format::kRaw;
  how.read_only = true;
  how.lock = !options.share;
  how.cache = options.cache;
  return TRY(block::open_image_file(path, how, thread.io())).file;
}

Result<std::optional<ImageFormat>> foreign_magic(block::IoThread& thread, File& file) {
  std::array<std::byte, 512> sector{};
  const iovec buffer = block::to_iovec(sector);
  TRY(thread.run([&] { return file.read(0, {&buffer, 1}); }));
  const char* const name = block::format_of_magic(sector);
  const auto format = name != nullptr ? image_format_of_name(name) : std::nullopt;
  return format && is_foreign(*format) ? format : std::nullopt;
}

// Opens a file that an image names. It must lie in the image's folder or below it, also
// after following symbolic links.
Result<std::unique_ptr<File>> open_beside(const std::string& image, const std::string& name,
                                          const SourceOptions& options, block::AsyncIo& io) {
  const std::filesystem::path parent = std::filesystem::path(image).parent_path();
  const std::string path = (parent / name).string();
  const Fd folder(::open(parent.empty() ? "." : parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return fail_errno(errno, "{}: cannot open its folder", image);
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // do not wait for a FIFO's writer
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  Fd file(static_cast<int>(::syscall(SYS_openat2, folder.get(), name.c_str(), &how, sizeof(how))));
  if (!file.valid()) {
    const int code = errno;
    auto failure = fail_errno(code, "{}: cannot open {}, a part of it", image, path);
    if (code == EXDEV)
      return with_hint(std::move(failure), "a part must lie in the image's folder: copy it there");
    return with_hint(std::move(failure), "all parts of the image must be there");
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "{}: cannot stat", path);
  if (!S_ISREG(status.st_mode)) return fail("{}: is not a regular file", path);
  if (!options.share) TRY(block::lock_image(file, true, path));
  return block::open_host_file(std::move(file), path, options.cache, true, io);
}

std::string chosen_snapshot(const std::vector<block::qcow2::Snapshot>& snapshots,
                            const std::string& text) {
  std::optional<std::string> id, name;
  for (size_t at = 0; at < text.size();) {
    const std::string part = text.substr(at, text.find(',', at) - at);
    if (part.starts_with("snapshot.id=")) id = part.substr(12);
    if (part.starts_with("snapshot.name=")) name = part.substr(14);
    at += part.size() + 1;
  }
  if (!id && !name) return text;
  for (const auto& snapshot : snapshots)
    if (id.value_or(snapshot.id) == snapshot.id && name.value_or(snapshot.name) == snapshot.name)
      return snapshot.id;
  return text;
}

}  // namespace

const char* format_name(ImageFormat format) { return kFormats[size_t(format)].first.data(); }

std::optional<ImageFormat> image_format_of_name(std::string_view name) {
  for (const auto& [known, format] : kFormats)
    if (name == known) return format;
  return std::nullopt;
}

std::optional<block::Format> block_format(std::optional<ImageFormat> format) {
  return format ? block::format_of_name(format_name(*format)) : std::nullopt;
}

Result<ImageFormat> format_of(block::IoThread& thread, const std::string& path,
                              std::optional<ImageFormat> given) {
  if (given) return *given;
  SourceOptions options;
  options.share = true;
  const auto file = TRY(open_plain(thread, path, options));
  if (const auto foreign = TRY(foreign_magic(thread, *file))) return *foreign;
  block::ImageOptions how;
  how.read_only = true;
  how.lock = false;
  const auto opened = TRY(block::open_image_file(path, how, thread.io()));
  return opened.format == block::Format::kQcow2 ? ImageFormat::kQcow2 : ImageFormat::kRaw;
}

Result<Source> open_source(block::IoThread& thread, const std::string& path,
                           const SourceOptions& options) {
  Source source;
  std::optional<ImageFormat> format = options.format;
  if (!format || is_foreign(*format)) {
    auto file = TRY(open_plain(thread, path, options));
    if (!format) format = TRY(foreign_magic(thread, *file));
    if (format) {
      source.format = *format;
      source.allocated_bytes = file->allocated_bytes();
    }
    if (format == ImageFormat::kVdi) {
      auto vdi = TRY(thread.run([&] { return open_vdi(std::move(file)); }));
      source.disk = std::move(vdi.disk);
      source.block_bytes = vdi.block_bytes;
      source.files = {path};
      return source;
    }
    if (format == ImageFormat::kVmdk) {
      auto vmdk = TRY(thread.run([&] {
        return open_vmdk(std::move(file), [&](const std::string& name) {
          return open_beside(path, name, options, thread.io());
        });
      }));
      source.disk = std::move(vmdk.disk);
      source.block_bytes = vmdk.info.extents.front().grain_bytes;
      source.allocated_bytes = vmdk.info.allocated_bytes;
      source.files = {path};
      for (const auto& extent : vmdk.info.extents) source.files.push_back(extent.path);
      source.vmdk = std::move(vmdk.info);
      return source;
    }
  }
  auto how = reading(block_format(format));
  how.may_be_empty = true;
  how.lock = !options.share;
  how.cache = options.cache;
  source.disk = TRY(thread.run([&] { return block::open_image(path, how, thread.io()); }));
  source.format = dynamic_cast<block::Qcow2*>(source.disk.get()) != nullptr ? ImageFormat::kQcow2
                                                                            : ImageFormat::kRaw;
  return source;
}

Result<void> show_snapshot(block::IoThread& thread, Source& source, const std::string& snapshot) {
  auto* const qcow2 = dynamic_cast<block::Qcow2*>(source.disk.get());
  if (qcow2 == nullptr) return fail("-l: only qcow2 has snapshots");
  const auto all = TRY(thread.run([&] { return block::qcow2::list_snapshots(qcow2->metadata()); }));
  const std::string chosen = chosen_snapshot(all, snapshot);
  return thread.run([&] { return block::qcow2::show_snapshot(qcow2->metadata(), chosen); });
}

}  // namespace wick::image

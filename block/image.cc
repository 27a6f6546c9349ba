#include "block/image.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "block/image_lock.h"
#include "block/named_file.h"
#include "block/overlay.h"
#include "block/qcow2/header.h"
#include "block/qcow2/qcow2.h"
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

Result<Format> probe(const Fd& file, const std::string& path) {
  std::array<std::byte, 512> sector{};
  const ssize_t got = ::pread(file.get(), sector.data(), sector.size(), 0);
  if (got < 0) return fail_errno(errno, "disk {}: cannot read", path);
  if (const char* format = format_of_magic(std::span(sector).first(static_cast<size_t>(got)))) {
    if (format == "qcow2"sv) return Format::kQcow2;
    const bool ours = format == "vdi"sv || format == "vmdk"sv;
    return with_hint(
        fail("disk {}: is a {} image, which is no guest's disk here", path, format),
        fmt::format("convert it: {} convert -O qcow2 OLD NEW", ours ? "wick image" : "qemu-img"));
  }
  if (const auto suffix = foreign_suffix(path); !suffix.empty())
    return with_hint(fail("disk {}: is called {} but has no such header", path, suffix),
                     "add format=raw if it is a raw disk");
  return Format::kRaw;
}

// A raw base that a guest once wrote may have become an image of that guest's
// making, so one whose format its overlay does not tell leads no further (PITFALLS 21).
Result<void> check_implied(const qcow2::Header& header, bool told, const std::string& path) {
  if (told || (header.backing_path.empty() && !header.external_data())) return {};
  return with_hint(fail("{}: looks like qcow2 and names more files, but the image over it does "
                        "not say that it is",
                        path),
                   "if it is, say so there: wick image rebase -u -b BASE -F qcow2 IMAGE");
}

Result<Fd> open_first_file(const std::string& path, const ImageOptions& options) {
  if (options.pinned != nullptr) return open_pinned_file(*options.pinned, path, options.read_only);
  return open_given_file(path, options.read_only);
}

// Takes over an open descriptor.
Result<ImageFile> make_image_file(Fd file, const std::string& path, const ImageOptions& options,
                                  AsyncIo& io) {
  if (options.lock) TRY(lock_image(file, options.read_only, "disk " + path));
  const Format format = options.format ? *options.format : TRY(probe(file, path));
  return ImageFile{TRY(open_host_file(std::move(file), path, options.cache, options.read_only, io)),
                   format};
}

// The walk down a chain. What it refuses is told with the image that names it.
class LayerOpener {
 public:
  LayerOpener(std::string path, ImageOptions options, AsyncIo& io)
      : path_(std::move(path)), options_(std::move(options)), io_(io) {}

  Task<Result<std::vector<ImageLayer>>> run() {
    std::string image;  // the one that names path_; none yet
    for (bool more = true; more;) {
      auto opened = co_await open_next(image, more);
      if (!opened) {
        Error error = std::move(opened).error();
        if (!image.empty()) {
          if (!error.context.starts_with(image + ":"))  // what is wrong is in that one's header
            error.context = fmt::format("backing file of {}: {}", image, error.context);
          if (error.code == ENOENT) error.hint = fmt::format("see wick image info {}", image);
        }
        co_return std::unexpected(std::move(error));
      }
      image = *std::move(opened);
    }
    co_return std::move(layers_);
  }

 private:
  struct Identity {
    dev_t device;
    ino_t inode;
    bool operator==(const Identity&) const = default;
  };

  static NamingImage naming(const std::string& path, const ImageLayer& layer) {
    return {path, layer.image.file->pin()};
  }

  // Whether the file was not met before.
  Result<bool> note(const Fd& file, const std::string& path) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "disk {}: cannot stat", path);
    const Identity identity{status.st_dev, status.st_ino};
    if (std::ranges::find(met_, identity) != met_.end()) return false;
    met_.push_back(identity);
    return true;
  }

  // Opens the files of the image at path_, which `image` names, and says what it is called.
  // If there is `more`, path_ and options_ are then those of its backing file.
  Task<Result<std::string>> open_next(const std::string& image, bool& more) {
    const bool first = image.empty();
    if (layers_.size() > kMaxBackingFiles) co_return too_deep();
    auto file = first ? open_first_file(path_, options_)
                      : open_named_file(naming(image, layers_.back()), NamedFileKind::kBacking,
                                        path_, options_);
    if (!file) co_return failure(file);
    const auto is_new = note(*file, path_);  // before its lock, which it may hold already
    if (!is_new) co_return std::unexpected(is_new.error());
    if (!*is_new)
      co_return with_hint(fail("{}: the backing files form a loop, this file is met again", path_),
                          fmt::format("see wick image info {}", path_));
    auto made = make_image_file(*std::move(file), path_, options_, io_);
    if (!made) co_return failure(made);
    layers_.push_back({*std::move(made), nullptr, options_.format.has_value()});
    ImageLayer& layer = layers_.back();
    more = false;
    if (layer.image.format != Format::kQcow2) {
      if (first && !options_.data_path.empty())
        co_return with_hint(fail("{}: is a raw disk, which has no data file", path_),
                            "leave out data-file");
      co_return path_;
    }
    const auto header = co_await qcow2::read_header(*layer.image.file);
    if (!header) co_return std::unexpected(header.error());
    if (!first)
      if (auto checked = check_implied(*header, layer.format_was_told, path_); !checked)
        co_return failure(checked);
    if (auto opened = open_data(*header, layer, first); !opened) co_return failure(opened);
    std::string path = path_;
    if (header->backing_path.empty()) co_return path;
    auto next = named_file(path, header->backing_path);
    if (!next) co_return failure(next);
    auto format = named_format(path, header->backing_format);
    if (!format) co_return failure(format);
    path_ = *std::move(next);
    options_.format = *format;
    options_.read_only = true;
    more = true;
    co_return path;
  }

  Result<void> open_data(const qcow2::Header& header, ImageLayer& layer, bool first) {
    const bool given = first && !options_.data_path.empty();
    if (!header.external_data()) {
      if (!given) return {};
      return with_hint(fail("{}: has no data file", path_), "leave out data-file");
    }
    if (!given && header.data_path.empty())
      return with_hint(fail("{}: does not name its data file", path_),
                       "look at it with wick image info");
    const std::string path = given ? options_.data_path : TRY(named_file(path_, header.data_path));
    Fd file =
        TRY(given ? open_given_file(path, options_.read_only)
                  : open_named_file(naming(path_, layer), NamedFileKind::kData, path, options_));
    if (!TRY(note(file, path)))
      return with_hint(fail("{}: its data file {} is part of the same disk", path_, path),
                       "look at it with wick image info");
    if (options_.lock) TRY(lock_image(file, options_.read_only, "disk " + path));
    layer.data =
        TRY(open_host_file(std::move(file), path, options_.cache, options_.read_only, io_));
    return {};
  }

  // The images in the middle can still be read alone.
  std::unexpected<Error> too_deep() const {
    const size_t middle = layers_.size() / 2;
    const auto path = [&](size_t layer) { return layers_[layer].image.file->path(); };
    return with_hint(
        fail("{}: is below {} backing files, and no more are read", path_, kMaxBackingFiles),
        fmt::format("make the chain shorter: wick image convert -O qcow2 {} NEW, then wick image "
                    "rebase -u -b NEW -F qcow2 {}",
                    path(middle), path(middle - 1)));
  }

  std::string path_;
  ImageOptions options_;
  AsyncIo& io_;
  std::vector<ImageLayer> layers_;
  std::vector<Identity> met_;
};

Task<Result<std::unique_ptr<Backend>>> open_layer(ImageLayer layer, const ImageOptions& options,
                                                  std::shared_ptr<BounceBudget> bounce) {
  if (layer.image.format == Format::kRaw)
    co_return open_raw(std::move(layer.image.file), {.read_only = options.read_only,
                                                     .refuse_foreign_magic = !layer.format_was_told,
                                                     .may_be_empty = options.may_be_empty});
  // Not a temporary within the co_await, which g++ 12 destroys twice.
  Qcow2Options qcow2_options;
  qcow2_options.read_only = options.read_only;
  qcow2_options.cache_bytes = options.cache_bytes;
  qcow2_options.bounce = std::move(bounce);
  auto image = co_await Qcow2::open(std::move(layer.image.file), qcow2_options);
  if (!image) co_return failure(image);
  if (layer.data) (*image)->set_data_file(std::move(layer.data));
  co_return std::unique_ptr<Backend>(*std::move(image));
}

// From the last backing file up to the disk.
Task<Result<std::unique_ptr<Backend>>> join_layers(std::vector<ImageLayer> layers,
                                                   ImageOptions options) {
  // Of all backing files together not more tables are kept in memory than of 16.
  ImageOptions below = options;
  below.read_only = true;
  below.cache_bytes = options.cache_bytes * 16 / std::max<size_t>(layers.size(), 16);
  const auto bounce = std::make_shared<BounceBudget>();
  std::unique_ptr<Backend> backing;
  for (; !layers.empty(); layers.pop_back()) {
    const bool first = layers.size() == 1;
    auto disk = co_await open_layer(std::move(layers.back()), first ? options : below, bounce);
    if (!disk) {
      if (!first)
        disk.error().context =
            fmt::format("backing file of {}: {}", layers[layers.size() - 2].image.file->path(),
                        disk.error().context);
      co_return failure(disk);
    }
    if (backing) static_cast<Qcow2&>(**disk).set_backing(std::move(backing));
    backing = *std::move(disk);
  }
  co_return backing;
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
  return make_image_file(TRY(open_first_file(path, options)), path, options, io);
}

Task<Result<std::vector<ImageLayer>>> open_layers(std::string path, ImageOptions options,
                                                  AsyncIo& io) {
  LayerOpener opener(std::move(path), std::move(options), io);
  co_return co_await opener.run();
}

Task<Result<void>> final_flush(Backend& disk) {
  auto flushed = co_await disk.flush();
  if (!flushed)
    flushed.error().context =
        "data that was written and not flushed before is lost: " + flushed.error().context;
  co_return flushed;
}

Task<Result<std::unique_ptr<Backend>>> open_image(std::string path, ImageOptions options,
                                                  AsyncIo& io) {
  options.read_only |= options.ephemeral;
  auto layers = co_await open_layers(std::move(path), options, io);
  if (!layers) co_return failure(layers);
  auto image = co_await join_layers(*std::move(layers), options);
  if (!image || !options.ephemeral) co_return image;
  co_return co_await open_overlay(*std::move(image), options.cache_bytes, io);
}

Task<Result<std::unique_ptr<Qcow2>>> open_qcow2(std::string path, ImageOptions options,
                                                AsyncIo& io) {
  auto layers = co_await open_layers(path, options, io);
  if (!layers) co_return failure(layers);
  if (layers->front().image.format != Format::kQcow2)
    co_return with_hint(fail("{}: is raw, and only qcow2 can do that", path),
                        "make it one: wick image convert -O qcow2");
  auto image = co_await join_layers(*std::move(layers), options);
  if (!image) co_return failure(image);
  co_return std::unique_ptr<Qcow2>(static_cast<Qcow2*>(image->release()));
}

}  // namespace wick::block

#include "block/image_chain.h"

#include <sys/stat.h>

#include <algorithm>

#include "block/image_lock.h"
#include "block/named_file.h"
#include "block/qcow2/header.h"

namespace wick::block {

namespace {

// A guest that once wrote to a raw base may have made a qcow2 image of it. So if the overlay
// does not say that its base is qcow2, no file that the base names is opened (PITFALLS 21).
Result<void> check_implied(const qcow2::Header& header, bool told, const std::string& path) {
  if (told || (header.backing_path.empty() && !header.external_data())) return {};
  return with_hint(fail("{}: looks like qcow2 and names other files, but the image above it does "
                        "not say that it is qcow2",
                        path),
                   "if it is, name the format there: wick image rebase -u -b BASE -F qcow2 IMAGE");
}

// Opens the images of a chain from the top down. An error about a backing file also names the image
// above it, whose header names the file.
class LayerOpener {
 public:
  LayerOpener(std::string path, ImageOptions options, AsyncIo& io)
      : path_(std::move(path)), options_(std::move(options)), io_(io) {}

  Task<Result<std::vector<ImageLayer>>> run() {
    std::string image;  // the image that names path_; empty for the first
    for (bool more = true; more;) {
      auto opened = co_await open_next(image, more);
      if (!opened) {
        Error error = std::move(opened).error();
        if (!image.empty()) {
          if (!error.context.starts_with(image + ":"))  // the error is in the header of `image`
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

  // Records the file. Returns false if the file was recorded before.
  Result<bool> note(const Fd& file, const std::string& path) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "disk {}: cannot stat", path);
    const Identity identity{status.st_dev, status.st_ino};
    if (std::ranges::find(met_, identity) != met_.end()) return false;
    met_.push_back(identity);
    return true;
  }

  // Opens the image at path_ and its data file; returns the image's path. `image` is the path of
  // the image above, whose header names this one. If this one has a backing file, sets `more`,
  // path_ and options_ for opening that file next.
  Task<Result<std::string>> open_next(const std::string& image, bool& more) {
    const bool first = image.empty();
    if (layers_.size() > kMaxBackingFiles) co_return too_deep();
    auto file = first ? open_first_file(path_, options_)
                      : open_named_file(naming(image, layers_.back()), NamedFileKind::kBacking,
                                        path_, options_);
    if (!file) co_return failure(file);
    // Checked before locking: this process has already locked a file that occurs twice in the
    // chain.
    const auto is_new = note(*file, path_);
    if (!is_new) co_return std::unexpected(is_new.error());
    if (!*is_new)
      co_return with_hint(
          fail("{}: the backing files form a loop, in which this file occurs twice", path_),
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
      if (auto checked = check_implied(*header, layer.format_was_given, path_); !checked)
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

  // The hint names an image in the middle of the chain, which can still be opened by itself.
  std::unexpected<Error> too_deep() const {
    const size_t middle = layers_.size() / 2;
    const auto path = [&](size_t layer) { return layers_[layer].image.file->path(); };
    return with_hint(
        fail("{}: more than {} backing files are not supported", path_, kMaxBackingFiles),
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

}  // namespace

Task<Result<std::vector<ImageLayer>>> open_layers(std::string path, ImageOptions options,
                                                  AsyncIo& io) {
  LayerOpener opener(std::move(path), std::move(options), io);
  co_return co_await opener.run();
}

}  // namespace wick::block

#include "block/image.h"

#include <algorithm>

#include "block/overlay.h"
#include "block/qcow2/qcow2.h"
#include "block/raw.h"

namespace wick::block {

namespace {

Task<Result<std::unique_ptr<Backend>>> open_layer(ImageLayer layer, const ImageOptions& options,
                                                  std::shared_ptr<BounceBudget> bounce) {
  if (layer.image.format == Format::kRaw)
    co_return open_raw(std::move(layer.image.file),
                       {.read_only = options.read_only,
                        .refuse_foreign_magic = !layer.format_was_given,
                        .may_be_empty = options.may_be_empty});
  // g++ 12 would destroy a temporary within the co_await twice.
  Qcow2Options qcow2_options;
  qcow2_options.read_only = options.read_only;
  qcow2_options.cache_bytes = options.cache_bytes;
  qcow2_options.bounce = std::move(bounce);
  auto image = co_await Qcow2::open(std::move(layer.image.file), qcow2_options);
  if (!image) co_return failure(image);
  if (layer.data) (*image)->set_data_file(std::move(layer.data));
  co_return std::unique_ptr<Backend>(*std::move(image));
}

// Opens the layers from the last backing file up, each as the backing file of the next.
Task<Result<std::unique_ptr<Backend>>> join_layers(std::vector<ImageLayer> layers,
                                                   ImageOptions options) {
  // All backing files together get at most the cache memory of 16 images.
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
    co_return with_hint(fail("{}: is raw, but this needs a qcow2 image", path),
                        "convert it: wick image convert -O qcow2");
  auto image = co_await join_layers(*std::move(layers), options);
  if (!image) co_return failure(image);
  co_return std::unique_ptr<Qcow2>(static_cast<Qcow2*>(image->release()));
}

}  // namespace wick::block

// wick image commit and wick image rebase
#include <fmt/format.h>

#include <cstdio>
#include <functional>

#include "block/io_thread.h"
#include "block/named_file.h"
#include "block/qcow2/empty.h"
#include "block/qcow2/resize.h"
#include "image/commands.h"
#include "image/files.h"
#include "image/layers.h"

namespace wick::image {

namespace {

using block::Format;
using block::Qcow2;

struct Overlay {
  std::unique_ptr<block::Backend> disk;
  Qcow2* qcow2 = nullptr;
};

Result<Overlay> open_overlay(block::IoThread& thread, const std::string& path,
                             const block::ImageOptions& options) {
  Overlay overlay;
  overlay.disk = TRY(thread.run([&] { return block::open_image(path, options, thread.io()); }));
  overlay.qcow2 = dynamic_cast<Qcow2*>(overlay.disk.get());
  if (overlay.qcow2 == nullptr) return fail("{}: is raw, which has no backing file", path);
  return overlay;
}

// Makes a raw base as large as its overlay. Must be called before the base is opened as a disk.
Result<void> make_room(block::IoThread& thread, const std::string& path,
                       const block::ImageOptions& options, uint64_t size_bytes) {
  const auto image = TRY(block::open_image_file(path, options, thread.io()));
  if (image.format == Format::kRaw && image.file->size_bytes() < size_bytes)
    return image.file->truncate(size_bytes);
  return {};
}

// Returns the layer of the chain whose backing file is `base`; if `base` is empty, returns the top
// layer.
Result<std::reference_wrapper<Qcow2>> layer_over(Qcow2& top, const std::string& base) {
  for (Qcow2* layer = &top; layer != nullptr; layer = dynamic_cast<Qcow2*>(layer->backing())) {
    if (layer->header().backing_path.empty()) break;
    const std::string path = TRY(block::named_file(layer->path(), layer->header().backing_path));
    const std::string here[] = {path};
    if (base.empty() || base == path || base == layer->header().backing_path ||
        !same_file(here, base).empty())
      return *layer;
  }
  if (base.empty()) return fail("{}: has no backing file to commit to", top.path());
  return with_hint(fail("{}: {} is not in its chain of backing files", top.path(), base),
                   "wick image info --backing-chain shows them");
}

}  // namespace

Result<int> execute(const ImageCommit& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  thread->io().enable_inline_completion();
  auto options = writing(command.format, command.trust_names);
  options.cache = command.cache;
  const Overlay overlay = TRY(open_overlay(*thread, command.path, options));
  Qcow2& image = *overlay.qcow2;
  Qcow2& lowest = TRY(layer_over(image, command.base)).get();
  const std::string path = TRY(block::named_file(lowest.path(), lowest.header().backing_path));
  // Pins the base: by now its path may lead to another file than the one that was checked.
  const Fd pin = lowest.backing()->pin();
  if (!pin.valid()) return fail_errno(errno, "{}: cannot be opened again", path);
  lowest.take_backing().reset();  // or the base would be open twice

  options.pinned = &pin;
  options.format = TRY(block::named_format(lowest.path(), lowest.header().backing_format));
  if (!options.format)
    options.format = TRY(block::open_image_file(path, options, thread->io())).format;
  TRY(make_room(*thread, path, options, image.size_bytes()));
  const auto base =
      TRY(thread->run([&] { return block::open_image(path, options, thread->io()); }));
  if (base->size_bytes() < image.size_bytes())
    if (auto* const smaller = dynamic_cast<Qcow2*>(base.get()))
      TRY(thread->run([&] { return block::qcow2::resize(*smaller, image.size_bytes()); }));
  TRY(thread->run([&] { return commit_layer(image, *base, progress(command.progress)); }));
  if (!command.keep && command.base.empty())
    TRY(thread->run([&] { return block::qcow2::make_empty(image.metadata()); }));
  if (command.progress) fmt::print("\n");
  if (!command.quiet) fmt::print("Image committed.\n");
  return 0;
}

Result<int> execute(const ImageRebase& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  thread->io().enable_inline_completion();
  std::string format;
  if (!command.base.empty()) {
    const std::string path = TRY(block::named_file(command.path, command.base));
    if (command.base_format)
      format = format_name(*command.base_format);
    else if (!command.unsafe)
      format = TRY(format_by_magic(path, thread->io()));
    if (!command.unsafe) {
      const auto chain = TRY(files_of(*thread, path, block::format_of_name(format)));
      if (const std::string same = same_file(chain, command.path); !same.empty())
        return fail("{}: would be its own backing file", command.path);
      if (chain.size() > block::kMaxBackingFiles)
        return fail("{}: would have more than {} backing files", command.path,
                    block::kMaxBackingFiles);
    }
  }

  if (!command.unsafe) {
    auto opened_as = writing(command.format, command.trust_names);
    opened_as.cache = command.cache;
    const Overlay overlay = TRY(open_overlay(*thread, command.path, opened_as));
    Qcow2& image = *overlay.qcow2;
    const std::unique_ptr<block::Backend> old_base = image.take_backing();
    if (!command.base.empty()) {
      auto options = writing(block::format_of_name(format), command.trust_names);
      options.read_only = true;
      options.cache = command.source_cache;
      const std::string path = TRY(block::named_file(command.path, command.base));
      image.set_backing(
          TRY(thread->run([&] { return block::open_image(path, options, thread->io()); })));
    }
    TRY(thread->run(
        [&] { return rebase_layer(image, old_base.get(), progress(command.progress)); }));
    if (command.progress) fmt::print("\n");
  }

  block::ImageOptions options;
  options.format = command.format;
  const auto image = TRY(block::open_image_file(command.path, options, thread->io()));
  if (image.format != Format::kQcow2)
    return fail("{}: is raw, which has no backing file", command.path);
  TRY(thread->run([&] { return name_backing(*image.file, command.base, format); }));
  return 0;
}

}  // namespace wick::image

// wick image bitmap
#include "block/io_thread.h"
#include "block/qcow2/bitmaps.h"
#include "image/commands.h"

namespace wick::image {

namespace {

using Action = ImageBitmap::Action;
using block::qcow2::BitmapEditor;

Task<Result<void>> act(BitmapEditor& editor, BitmapEditor& from, const ImageBitmap& command) {
  for (const Action action : command.actions) {
    Result<void> done;
    switch (action) {
      case Action::kAdd:
        done = co_await editor.add(command.name, command.granularity_bytes);
        break;
      case Action::kRemove:
        done = co_await editor.remove(command.name);
        break;
      case Action::kClear:
        done = co_await editor.clear(command.name);
        break;
      case Action::kMerge:
        for (const std::string& source : command.merged) {
          if (done) done = co_await editor.merge(command.name, from, source);
        }
        break;
      case Action::kEnable:
      case Action::kDisable:
        done = editor.enable(command.name, action == Action::kEnable);
    }
    if (!done) co_return done;
  }
  co_return co_await editor.finish();
}

struct Image {
  std::unique_ptr<block::File> file;
  std::unique_ptr<BitmapEditor> editor;
};

Result<Image> open(block::IoThread& thread, const std::string& path,
                   const block::ImageOptions& options) {
  auto opened = TRY(block::open_image_file(path, options, thread.io()));
  if (opened.format != block::Format::kQcow2)
    return fail("{}: is raw, and only qcow2 keeps bitmaps", path);
  Image image{std::move(opened.file), nullptr};
  image.editor = TRY(thread.run([&] { return BitmapEditor::open(*image.file); }));
  return image;
}

}  // namespace

Result<int> execute(const ImageBitmap& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  block::ImageOptions options;
  options.format = command.format;
  const Image image = TRY(open(*thread, command.path, options));
  Image other;
  if (!command.merged_from.empty()) {
    options.format = command.merged_format;
    options.read_only = true;
    other = TRY(open(*thread, command.merged_from, options));
  }
  BitmapEditor& from = other.editor ? *other.editor : *image.editor;
  TRY(thread->run([&] { return act(*image.editor, from, command); }));
  return 0;
}

}  // namespace wick::image

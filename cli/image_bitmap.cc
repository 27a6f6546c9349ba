// wick image bitmap
#include "block/qcow2_bitmaps.h"
#include "cli/image.h"
#include "cli/image_runner.h"

namespace wick::cli {

namespace {

using Action = ImageBitmap::Action;
using block::qcow2::BitmapEditor;

Task<Result<void>> act(BitmapEditor& editor, const ImageBitmap& command) {
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
      case Action::kEnable:
      case Action::kDisable:
        done = editor.enable(command.name, action == Action::kEnable);
    }
    if (!done) co_return done;
  }
  co_return co_await editor.finish();
}

}  // namespace

Result<int> carry_out(const ImageBitmap& command) {
  const auto runner = TRY(ImageRunner::create());
  block::ImageOptions options;
  options.format = command.format;
  const auto opened = TRY(block::open_image_file(command.path, options, runner->io()));
  if (opened.format != block::Format::kQcow2)
    return fail("{}: is raw, and only qcow2 keeps bitmaps", command.path);
  const auto editor = TRY(runner->run([&] { return BitmapEditor::open(*opened.file); }));
  TRY(runner->run([&] { return act(*editor, command); }));
  return 0;
}

}  // namespace wick::cli

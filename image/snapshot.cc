// wick image snapshot
#include <fmt/format.h>

#include "block/io_thread.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/snapshot_commands.h"
#include "image/commands.h"
#include "image/files.h"
#include "image/image_info.h"

namespace wick::image {

namespace {

using Action = ImageSnapshot::Action;

Task<Result<void>> act(block::qcow2::Metadata& metadata, const ImageSnapshot& command) {
  switch (command.action) {
    case Action::kCreate:
      return block::qcow2::create_snapshot(metadata, command.name);
    case Action::kApply:
      return block::qcow2::apply_snapshot(metadata, command.name);
    default:
      return block::qcow2::delete_snapshot(metadata, command.name);
  }
}

}  // namespace

Result<int> execute(const ImageSnapshot& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  if (command.action == Action::kList) {
    const auto info =
        TRY(thread->run([&] { return inspect_image(command.path, command.format, thread->io()); }));
    if (info.qcow2 && !info.qcow2->snapshots.empty())
      fmt::print("Snapshot list:\n{}", snapshot_list(info.qcow2->snapshots));
    return 0;
  }
  const auto options = writing(command.format, command.trust_names);
  const auto disk =
      TRY(thread->run([&] { return block::open_qcow2(command.path, options, thread->io()); }));
  TRY(thread->run([&] { return act(disk->metadata(), command); }));
  TRY(thread->run([&] { return disk->flush(); }));
  return 0;
}

}  // namespace wick::image

// wick image amend
#include "block/qcow2/amend.h"
#include "block/io_thread.h"
#include "block/qcow2/resize.h"
#include "image/commands.h"
#include "image/files.h"

namespace wick::image {

namespace {

block::Qcow2Changes changes_of(const ImageAmend& command) {
  block::Qcow2Changes changes;
  for (const auto& [key, value] : command.given) {
    if (key == "compat") changes.version = command.options.version;
    if (key == "lazy_refcounts") changes.lazy_refcounts = command.options.lazy_refcounts;
    if (key == "data_file_raw") changes.raw_data = command.options.raw_data;
    if (key == "data_file") changes.data_path = value;
  }
  return changes;
}

}  // namespace

Result<int> execute(const ImageAmend& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  const block::Qcow2Changes changes = changes_of(command);
  auto options = writing(command.format, command.trust_names);
  {
    // Opens the image as a disk first, which repairs it if its last writer did not close it.
    const auto disk =
        TRY(thread->run([&] { return block::open_qcow2(command.path, options, thread->io()); }));
    TRY(block::check_amend(*disk, changes));
    for (const auto& [key, value] : command.given)
      if (key == "size")
        TRY(thread->run([&] { return block::qcow2::resize(*disk, command.options.size_bytes); }));
    if (changes.version == 2u && disk->header().version > 2)
      TRY(thread->run([&] { return block::expand_zeroes(*disk); }));
    TRY(thread->run([&] { return disk->flush(); }));
  }
  options.format = block::Format::kQcow2;
  const auto opened = TRY(block::open_image_file(command.path, options, thread->io()));
  TRY(thread->run([&] { return block::amend_qcow2(*opened.file, changes); }));
  return 0;
}

}  // namespace wick::image

// wick image create
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "base/bytes.h"
#include "block/io_thread.h"
#include "block/named_file.h"
#include "image/commands.h"
#include "image/files.h"
#include "image/from_folder.h"

namespace wick::image {

namespace {

using block::Qcow2CreateOptions;

// Takes the size and the format of the backing file where they are not given.
Result<void> take_from_base(block::IoThread& thread, ImageCreate& create) {
  auto& options = std::get<Qcow2CreateOptions>(create.options);
  const std::string path = TRY(block::named_file(create.path, options.backing_path));
  auto how = reading(block::format_of_name(options.backing_format));
  if (!how.format) {
    options.backing_format = TRY(format_by_magic(path, thread.io()));
    how.format = block::format_of_name(options.backing_format);
  }
  const auto files = TRY(files_of(thread, path, how.format));
  std::vector<std::string> made = {create.path};
  if (!options.data_path.empty())
    made.push_back(TRY(block::named_file(create.path, options.data_path)));
  for (const std::string& file : made)
    if (!same_file(files, file).empty())
      return with_hint(fail("{}: is the backing file {} or one of its files", file, path),
                       "choose another name for the new file");
  const auto base = TRY(thread.run([&] { return block::open_image(path, how, thread.io()); }));
  if (!create.size_bytes) create.size_bytes = base->size_bytes();
  return {};
}

// Returns the line "Formatting 'FILE', fmt=…" as qemu-img prints it.
std::string description(const ImageCreate& create) {
  std::string text;
  const auto show = [&](const char* key, const std::string& value) {
    if (!value.empty()) text += fmt::format(" {}={}", key, value);
  };
  const auto on_off = [](bool on) { return on ? "on" : "off"; };
  const auto given = [&](const char* key) { return create.option(key).value_or(""); };
  const std::string size = fmt::to_string(create.size_bytes.value_or(0));
  if (const auto* const options = std::get_if<Qcow2CreateOptions>(&create.options)) {
    text = " fmt=qcow2";
    show("cluster_size", fmt::to_string(options->cluster_bytes));
    show("extended_l2", on_off(options->extended_l2));
    show("preallocation", given("preallocation"));
    show("compression_type",
         options->compression == block::qcow2::Compression::kZstd ? "zstd" : "zlib");
    show("size", size);
    show("compat", given("compat"));
    show("backing_file", options->backing_path);
    show("backing_fmt", options->backing_format);
    show("data_file", options->data_path);
    show("data_file_raw", given("data_file_raw"));
    show("lazy_refcounts", on_off(options->lazy_refcounts));
    show("refcount_bits", fmt::to_string(options->refcount_bits));
  } else {
    text = " fmt=raw";
    show("size", size);
    show("preallocation", given("preallocation"));
  }
  return fmt::format("Formatting '{}',{}\n", create.path, text);
}

}  // namespace

std::optional<std::string> ImageCreate::option(std::string_view key) const {
  const auto found = std::ranges::find(
      given.rbegin(), given.rend(), key,
      [](const auto& pair) -> const auto& { return pair.first; });
  if (found == given.rend()) return std::nullopt;
  return found->second;
}

Result<int> execute(const ImageCreate& command) {
  ImageCreate create = command;
  if (!create.folder.empty()) {
    create.size_bytes = TRY(create_from_folder(create));
    if (!create.quiet) std::fputs(description(create).c_str(), stdout);
    return 0;
  }
  const auto thread = TRY(block::IoThread::create("image"));
  if (auto* const options = std::get_if<Qcow2CreateOptions>(&create.options)) {
    const bool look = !create.trust_backing || !create.size_bytes;
    if (!options->backing_path.empty() && look) TRY(take_from_base(*thread, create));
  }
  const uint64_t size_bytes = create.size_bytes.value_or(0);
  std::visit([&](auto& options) { options.size_bytes = size_bytes; }, create.options);
  if (!create.quiet) std::fputs(description(create).c_str(), stdout);
  TRY(thread->run([&] { return create_image(create.path, create.options, thread->io()); }));
  return 0;
}

Result<int> execute(const ImageOptionHelp& command) {
  std::fputs(command.text.c_str(), stdout);
  return 0;
}

}  // namespace wick::image

#include "cli/image/make.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "cli/image/create_options.h"
#include "cli/image/name.h"
#include "cli/spec.h"
#include "image/size.h"
#include "image/source.h"

namespace wick::cli {

namespace {

using block::Format;
using block::Qcow2CreateOptions;
using image::ImageFormat;

// Returns the value of -f, -F or -O, which the option's form has checked. `Type` is block::Format,
// or image::ImageFormat where vdi and vmdk are also possible.
template <typename Type = Format>
std::optional<Type> format_in(const Given& given, const std::string& name) {
  const auto text = given.last(name);
  if (!text) return std::nullopt;
  if constexpr (std::is_same_v<Type, Format>)
    return block::format_of_name(*text);
  else
    return image::image_format_of_name(*text);
}

ImageFormat output_format(const Given& given) {
  return format_in<ImageFormat>(given, "O").value_or(ImageFormat::kRaw);
}

void set_cache(const Given& given, const std::string& name, block::Cache& cache) {
  if (const auto mode = given.last(name)) cache = cache_of_name(*mode);
}

Result<std::string> file_of(const Given& given, const std::string& name = "FILE") {
  const std::string path = given.last(name).value_or("");
  if (path.empty()) return fail("{}: needs the name of a file", name);
  return path;
}

// Puts the name of the option before the error.
template <typename T>
Result<T> named(const std::string& name, Result<T> result) {
  if (!result) result.error().context = fmt::format("{}: {}", name, result.error().context);
  return result;
}

// Sets the members of `numbers` whose options were given.
template <typename Number>
Result<void> set_numbers(const Given& given,
                         std::initializer_list<std::pair<const char*, Number*>> numbers) {
  for (const auto& [name, number] : numbers)
    if (const auto text = given.last(name))
      *number = TRY(named((name[1] == '\0' ? "-" : "--") + std::string(name),
                          image::parse_image_size(*text)));
  return {};
}

// Parses a positional argument that names an image.
Result<ImageName> name_of(const Given& given, const std::string& text) {
  return named("'" + text + "'", parse_image_name(text, given.has("image-opts")));
}

// Parses an image's name into its path, and its format if the name tells it. `Type` has the
// formats that the command supports.
template <typename Type>
Result<void> take_name(const Given& given, const std::string& text, std::string& path,
                       std::optional<Type>& format) {
  const ImageName name = TRY(name_of(given, text));
  path = name.path;
  if (!name.format) return {};
  if (format) return fail("'{}': the format is given both here and by -f", text);
  if constexpr (std::is_same_v<Type, ImageFormat>)
    format = name.format;
  else if (format = image::block_format(name.format); !format)
    return fail("'{}': must be raw or qcow2", text);
  return {};
}

// Sets `path` from FILE, and `format` from -f.
template <typename Type>
Result<void> take_file(const Given& given, std::string& path, std::optional<Type>& format) {
  format = format_in<Type>(given, "format");
  const std::string name = TRY(file_of(given));
  return take_name(given, name, path, format);
}

// Makes a command, and sets the members whose option is the same in all commands.
template <typename Command>
Result<Command> common(const Given& given) {
  Command command;
  if constexpr (requires { command.quiet; }) command.quiet = given.has("q");
  if constexpr (requires { command.progress; })
    command.progress = given.has("p") && !given.has("q");
  if constexpr (requires { command.share; }) command.share = given.has("force-share");
  if constexpr (requires { command.trust_names; }) command.trust_names = given.has("trust-names");
  if constexpr (requires { command.json; }) command.json = given.last("output") == "json";
  if constexpr (requires { command.cache; }) set_cache(given, "t", command.cache);
  if constexpr (requires { command.source_cache; }) set_cache(given, "T", command.source_cache);
  return command;
}

// Does what common() does, and sets the members for FILE and -f.
template <typename Command>
Result<Command> common_with_file(const Given& given) {
  Command command = TRY(common<Command>(given));
  TRY(take_file(given, command.path, command.format));
  return command;
}

// Sets the folder whose files the new image will have.
Result<void> set_folder(const Given& given, image::ImageCreate& create) {
  create.folder = given.last("from").value_or("");
  create.label = given.last("label").value_or("");
  if (!given.has("from"))
    return given.has("label") ? Result<void>(fail("--label: only with --from")) : Result<void>();
  if (create.folder.empty()) return fail("--from: the folder is missing");
  constexpr size_t kMaxLabelBytes = 16;  // ext4's s_volume_name
  if (create.label.size() > kMaxLabelBytes)
    return fail("--label: \"{}\" has more than {} bytes", create.label, kMaxLabelBytes);
  if (create.option("data_file") || create.option("backing_file") || given.has("backing"))
    return fail("--from: not with a backing file or a data file");
  return {};
}

// Sets the backing file from -b or -B, and its format from -F.
Result<void> set_backing(const Given& given, const std::string& name, Qcow2CreateOptions& options) {
  if (const auto base = given.last(name)) options.backing_path = *base;
  if (const auto format = format_in(given, "F")) options.backing_format = format_name(*format);
  if (!options.backing_format.empty() && options.backing_path.empty())
    return fail("-F: there is no backing file");
  return {};
}

}  // namespace

Result<image::ImageCommand> make_create(const Given& given) {
  const Format format = format_in(given, "format").value_or(Format::kRaw);
  if (asks_for_options(given.all("o")))
    return image::ImageOptionHelp{help_on_create_options(format)};
  auto create = TRY(common<image::ImageCreate>(given));
  const std::string name = TRY(file_of(given));
  create.path = TRY(parse_image_name(name, false)).path;
  create.trust_backing = given.has("u");
  auto parsed = TRY(named("-o", parse_create_options(format, given.all("o"))));
  create.options = std::move(parsed.options);
  create.given = std::move(parsed.pairs);
  TRY(set_folder(given, create));
  if (const auto size = given.last("SIZE"))
    create.size_bytes = TRY(named("SIZE '" + *size + "'", image::parse_image_size(*size)));
  else if (const auto other = create.option("size"))
    create.size_bytes = TRY(named("size=" + *other, image::parse_image_size(*other)));

  if (auto* const qcow2 = std::get_if<Qcow2CreateOptions>(&create.options)) {
    TRY(set_backing(given, "backing", *qcow2));
    if (!create.size_bytes && qcow2->backing_path.empty() && create.folder.empty())
      return with_hint(fail("SIZE is missing"), "give it, or a backing file with -b");
    TRY(named("-o", check_create_options(*qcow2)));
  } else {
    if (given.has("backing") || given.has("F"))
      return with_hint(fail("-b: raw has no backing files"), "add -f qcow2");
    if (!create.size_bytes && create.folder.empty()) return fail("SIZE is missing");
  }
  return create;
}

Result<image::ImageCommand> make_info(const Given& given) {
  auto info = TRY(common_with_file<image::ImageInfoQuery>(given));
  info.backing_chain = given.has("backing-chain");
  return info;
}

namespace {

Result<void> set_output(const Given& given, image::ImageConvert& convert) {
  convert.output = output_format(given);
  const char* const output = format_name(convert.output);
  if (convert.compressed && convert.output != ImageFormat::kQcow2)
    return with_hint(fail("-c: {} images cannot be compressed", output), "add -O qcow2");
  const auto format = image::block_format(convert.output);
  if (!format) {
    if (given.has("o") || convert.into_existing || given.has("B"))
      return fail("-{}: not with -O {}", given.has("o") ? "o" : given.has("B") ? "B" : "n", output);
    return {};
  }
  auto parsed = TRY(named("-o", parse_create_options(*format, given.all("o"))));
  for (const auto& [key, value] : parsed.pairs)
    if (key == "size") return fail("-o: size: a copy has the size of its sources");
  convert.options = std::move(parsed.options);
  auto* const qcow2 = std::get_if<Qcow2CreateOptions>(&convert.options);
  if (qcow2 == nullptr) {
    if (given.has("B")) return with_hint(fail("-B: raw has no backing files"), "add -O qcow2");
    return {};
  }
  TRY(set_backing(given, "B", *qcow2));
  TRY(named("-o", check_create_options(*qcow2)));
  if (convert.compressed && !qcow2->data_path.empty())
    return fail("-c: data in a data file cannot be compressed");
  if (!qcow2->backing_path.empty() && (convert.sources.size() > 1 || !convert.snapshot.empty()))
    return fail("-B: not with {}", convert.snapshot.empty() ? "several sources" : "-l");
  return {};
}

}  // namespace

Result<image::ImageCommand> make_convert(const Given& given) {
  if (const auto output = image::block_format(output_format(given));
      output && asks_for_options(given.all("o")))
    return image::ImageOptionHelp{help_on_create_options(*output)};
  auto convert = TRY(common<image::ImageConvert>(given));
  convert.format = format_in<ImageFormat>(given, "format");
  std::vector<std::string> files = given.all("FILE");
  const std::string target = TRY(file_of(given));
  files.pop_back();
  if (files.empty()) return fail("FILE: needs a source and a target");
  for (const std::string& file : files) {
    std::optional<ImageFormat> format;
    std::string path;
    TRY(take_name(given, file, path, format));
    if (format && convert.format && *format != *convert.format)
      return fail("FILE: all sources must be of the same format");
    if (format) convert.format = format;
    convert.sources.push_back(path);
  }
  convert.target = TRY(parse_image_name(target, given.has("target-image-opts"))).path;
  convert.compressed = given.has("c");
  convert.offload = given.has("C");
  convert.into_existing = given.has("n");
  convert.target_is_zero = given.has("target-is-zero");
  convert.salvage = given.has("salvage");
  convert.snapshot = given.last("l").value_or("");
  TRY(set_numbers(given, {std::pair("S", &convert.sparse_bytes)}));
  TRY(set_numbers(given, {std::pair("r", &convert.rate)}));
  if (convert.sparse_bytes.value_or(0) % 512 != 0) return fail("-S: must be a multiple of 512");
  if (convert.target_is_zero && !convert.into_existing)
    return with_hint(fail("--target-is-zero: a new target is always zero"), "add -n");
  if (given.has("C") && (convert.compressed || convert.sparse_bytes || convert.salvage))
    return fail("-C: not with -c, -S or --salvage");
  if (!convert.snapshot.empty() && convert.sources.size() > 1)
    return fail("-l: not with several sources");
  TRY(set_output(given, convert));
  return convert;
}

Result<image::ImageCommand> make_commit(const Given& given) {
  auto commit = TRY(common_with_file<image::ImageCommit>(given));
  commit.keep = given.has("d");
  commit.base = given.last("b").value_or("");
  return commit;
}

Result<image::ImageCommand> make_rebase(const Given& given) {
  auto rebase = TRY(common_with_file<image::ImageRebase>(given));
  if (!given.has("backing"))
    return with_hint(fail("-b is missing"), "use -b '' for no backing file");
  rebase.base = given.last("backing").value_or("");
  rebase.base_format = format_in(given, "F");
  if (rebase.base.empty() && rebase.base_format) return fail("-F: there is no backing file");
  rebase.unsafe = given.has("u");
  return rebase;
}

Result<image::ImageCommand> make_check(const Given& given) {
  auto check = TRY(common_with_file<image::ImageCheck>(given));
  const auto repair = given.last("repair");
  if (repair) check.repair = *repair == "all" ? block::Repair::kAll : block::Repair::kLeaks;
  if (check.share && repair) return fail("-U: an image in use cannot be repaired");
  return check;
}

Result<image::ImageCommand> make_resize(const Given& given) {
  auto resize = TRY(common_with_file<image::ImageResize>(given));
  resize.shrink = given.has("shrink");
  resize.in_use = given.has("in-use");
  if (const auto value = given.last("preallocation"))
    resize.preallocation = TRY(parse_preallocation(*value));
  const std::string size = given.last("SIZE").value_or("");
  std::string_view number = size;
  if (size.starts_with('+')) resize.sign = image::ImageResize::Sign::kBy;
  if (size.starts_with('-')) resize.sign = image::ImageResize::Sign::kLessBy;
  if (resize.sign != image::ImageResize::Sign::kTo) number.remove_prefix(1);
  resize.bytes = TRY(named("SIZE '" + size + "'", image::parse_image_size(number)));
  return resize;
}

Result<image::ImageCommand> make_snapshot(const Given& given) {
  using Action = image::ImageSnapshot::Action;
  auto snapshot = TRY(common_with_file<image::ImageSnapshot>(given));
  int actions = given.has("l") ? 1 : 0;
  for (const auto& [name, action] :
       {std::pair("c", Action::kCreate), std::pair("a", Action::kApply),
        std::pair("d", Action::kDelete)}) {
    if (!given.has(name)) continue;
    ++actions;
    snapshot.action = action;
    snapshot.name = *given.last(name);
  }
  if (actions > 1) return fail("-l, -c, -a and -d exclude each other");
  if (given.has("force-share") && snapshot.action != Action::kList) return fail("-U: only with -l");
  return snapshot;
}

Result<image::ImageCommand> make_map(const Given& given) {
  auto map = TRY(common_with_file<image::ImageMap>(given));
  TRY(set_numbers(given, {std::pair("start-offset", &map.start_bytes),
                          std::pair("max-length", &map.length_bytes)}));
  return map;
}

Result<image::ImageCommand> make_compare(const Given& given) {
  auto compare = TRY(common<image::ImageCompare>(given));
  compare.formats[0] = format_in<ImageFormat>(given, "format");
  compare.formats[1] = format_in<ImageFormat>(given, "F");
  const std::string first = TRY(file_of(given, "FILE1"));
  const std::string second = TRY(file_of(given, "FILE2"));
  TRY(take_name(given, first, compare.paths[0], compare.formats[0]));
  TRY(take_name(given, second, compare.paths[1], compare.formats[1]));
  compare.strict = given.has("s");
  return compare;
}

Result<image::ImageCommand> make_io(const Given& given) {
  auto io = TRY(common_with_file<image::ImageIo>(given));
  io.read_only = given.has("r");
  io.commands = given.all("c");
  if (io.commands.empty()) return fail("-c: no command is given");
  return io;
}

Result<image::ImageCommand> make_dd(const Given& given) {
  auto dd = TRY(common<image::ImageDd>(given));
  dd.format = format_in<ImageFormat>(given, "format");
  dd.output = output_format(given);
  for (const std::string& operand : given.all("OPERAND")) {
    const size_t equal = operand.find('=');
    const std::string key = operand.substr(0, equal);
    const std::string value = equal == operand.npos ? "" : operand.substr(equal + 1);
    if (key == "if" && !value.empty())
      TRY(take_name(given, value, dd.source, dd.format));
    else if (key == "of" && !value.empty())
      dd.target = TRY(name_of(given, value)).path;
    else if (key == "bs")
      dd.block_bytes = TRY(named(operand, image::parse_image_size(value)));
    else if (key == "count")
      dd.count = TRY(named(operand, image::parse_image_size(value)));
    else if (key == "skip")
      dd.skip = TRY(named(operand, image::parse_image_size(value)));
    else
      return with_hint(fail("'{}' is not an operand", operand),
                       "there are if=FILE, of=FILE, bs=SIZE, count=N and skip=N");
  }
  if (dd.source.empty() || dd.target.empty()) return fail("if=FILE and of=FILE are needed");
  if (dd.block_bytes == 0 || dd.block_bytes > INT32_MAX) return fail("bs: must be 1 to 2147483647");
  return dd;
}

Result<image::ImageCommand> make_measure(const Given& given) {
  auto measure = TRY(common<image::ImageMeasure>(given));
  measure.snapshot = given.last("l").value_or("");
  TRY(set_numbers(given, {std::pair("size", &measure.size_bytes)}));
  const bool has_file = given.has("FILE");
  if (measure.size_bytes.has_value() == has_file)
    return fail("FILE: either a file or --size is needed, not both");
  if (measure.size_bytes && (!measure.snapshot.empty() || given.has("format")))
    return fail("-{}: not with --size", measure.snapshot.empty() ? "f" : "l");
  if (has_file) TRY(take_file(given, measure.path, measure.format));
  measure.output = output_format(given);
  const Format format = format_in(given, "O").value_or(Format::kRaw);
  measure.options = TRY(named("-o", parse_create_options(format, given.all("o")))).options;
  return measure;
}

Result<image::ImageCommand> make_bitmap(const Given& given) {
  using Action = image::ImageBitmap::Action;
  auto bitmap = TRY(common_with_file<image::ImageBitmap>(given));
  bitmap.name = TRY(file_of(given, "BITMAP"));
  // qemu-img executes these actions in the order of the command line; only the order of this list
  // makes sense.
  for (const auto& [name, action] :
       {std::pair("add", Action::kAdd), std::pair("clear", Action::kClear),
        std::pair("merge", Action::kMerge), std::pair("enable", Action::kEnable),
        std::pair("disable", Action::kDisable), std::pair("remove", Action::kRemove)})
    if (given.has(name)) bitmap.actions.push_back(action);
  if (bitmap.actions.empty())
    return fail("one of --add, --remove, --clear, --merge, --enable and --disable is needed");
  bitmap.merged = given.all("merge");
  bitmap.merged_from = given.last("b").value_or("");
  bitmap.merged_format = format_in(given, "F");
  if (given.has("b") && bitmap.merged.empty()) return fail("-b: only with --merge");
  if (given.has("F") && bitmap.merged_from.empty()) return fail("-F: only with -b");
  if (given.has("g") && !given.has("add")) return fail("-g: only with --add");
  TRY(set_numbers(given, {std::pair("g", &bitmap.granularity_bytes)}));
  if (given.has("g") && bitmap.granularity_bytes == 0) return fail("-g: must not be 0");
  return bitmap;
}

Result<image::ImageCommand> make_amend(const Given& given) {
  constexpr std::array<std::string_view, 5> kAmendable = {"compat", "lazy_refcounts", "size",
                                                          "data_file", "data_file_raw"};
  if (asks_for_options(given.all("o")))
    return image::ImageOptionHelp{help_on_amend_options(kAmendable)};
  auto amend = TRY(common_with_file<image::ImageAmend>(given));
  if (amend.format == Format::kRaw) return fail("-f: raw has nothing to amend");
  if (!given.has("o")) return fail("-o: what to change is missing");
  auto parsed = TRY(named("-o", parse_create_options(Format::kQcow2, given.all("o"))));
  for (const auto& [key, value] : parsed.pairs) {
    if (key == "backing_file" || key == "backing_fmt")
      return with_hint(fail("-o: {}: amend cannot change it", key), "use wick image rebase");
    if (std::ranges::find(kAmendable, key) == kAmendable.end())
      return with_hint(fail("-o: {}: can only be chosen for a new image", key),
                       "copy the image with wick image convert -o");
  }
  amend.options = std::get<Qcow2CreateOptions>(std::move(parsed.options));
  amend.given = std::move(parsed.pairs);
  for (const auto& [key, value] : amend.given)
    if (key == "size")
      amend.options.size_bytes = TRY(named("size", image::parse_image_size(value)));
  if (amend.options.size_bytes % 512 != 0) return fail("-o: size: must be a multiple of 512");
  return amend;
}

Result<image::ImageCommand> make_bench(const Given& given) {
  auto bench = TRY(common_with_file<image::ImageBench>(given));
  bench.write = given.has("w");
  if (given.has("n") && !given.has("t")) bench.cache = block::Cache::kNone;
  uint64_t pattern = 0;
  TRY(set_numbers(
      given, {std::pair("c", &bench.count), std::pair("d", &bench.depth),
              std::pair("o", &bench.offset_bytes), std::pair("s", &bench.buffer_bytes),
              std::pair("S", &bench.step_bytes), std::pair("flush-interval", &bench.flush_interval),
              std::pair("pattern", &pattern)}));
  if (bench.depth == 0 || bench.depth > 65536) return fail("-d: must be 1 to 65536");
  if (bench.buffer_bytes == 0 || bench.buffer_bytes > 1 << 30) return fail("-s: must be 1 to 1G");
  if (pattern > 255) return fail("--pattern: must be 0 to 255");
  bench.pattern = static_cast<std::byte>(pattern);
  if (bench.flush_interval > 0 && !bench.write) return fail("--flush-interval: only with -w");
  if (bench.flush_interval > 0 && bench.flush_interval < bench.depth)
    return fail("--flush-interval: must not be smaller than -d");
  return bench;
}

}  // namespace wick::cli

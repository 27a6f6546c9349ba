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
using image::CreateOptions;

// The value of -f or -F: raw or qcow2.
Result<std::optional<Format>> format_in(const Given& given, const std::string& name) {
  const auto text = given.last(name);
  if (!text) return std::nullopt;
  const auto format = block::format_of_name(*text);
  if (!format) return fail("-{}: '{}' must be raw or qcow2", name.front(), *text);
  return format;
}

// The same for images that are only read, which may be of more formats.
Result<std::optional<image::ImageFormat>> source_format_in(const Given& given,
                                                           const std::string& name) {
  const auto text = given.last(name);
  if (!text) return std::nullopt;
  const auto format = image::image_format_of_name(*text);
  if (!format) return fail("-{}: '{}' must be raw, qcow2, vdi or vmdk", name.front(), *text);
  return format;
}

// -t, -T: how files are cached; `otherwise` if not given.
Result<block::Cache> cache_in(const Given& given, const std::string& name, block::Cache otherwise) {
  using block::Cache;
  // Every command flushes at its end, so writethrough does not differ from writeback.
  constexpr std::array<std::pair<std::string_view, Cache>, 5> kModes = {
      {{"none", Cache::kNone},
       {"directsync", Cache::kNone},
       {"writeback", Cache::kWriteback},
       {"writethrough", Cache::kWriteback},
       {"unsafe", Cache::kUnsafe}}};
  const auto text = given.last(name);
  if (!text) return otherwise;
  for (const auto& [mode, cache] : kModes)
    if (*text == mode) return cache;
  return fail("-{}: '{}' must be none, writeback, writethrough, directsync or unsafe", name, *text);
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

// The image that a positional argument names.
Result<ImageName> name_of(const Given& given, const std::string& text) {
  return named("'" + text + "'", parse_image_name(text, given.has("image-opts")));
}

// Parses an image's name into its path, and its format if the name tells it. `Format` has
// the formats that the command supports.
template <typename Format>
Result<void> take_name(const Given& given, const std::string& text, std::string& path,
                       std::optional<Format>& format) {
  const ImageName name = TRY(name_of(given, text));
  path = name.path;
  if (!name.format) return {};
  if (format) return fail("'{}': the format is given both here and by -f", text);
  if constexpr (std::is_same_v<Format, image::ImageFormat>)
    format = name.format;
  else if (format = image::block_format(name.format); !format)
    return fail("'{}': must be raw or qcow2", text);
  return {};
}

// FILE and -f.
template <typename Format>
Result<void> take_file(const Given& given, std::string& path, std::optional<Format>& format) {
  if constexpr (std::is_same_v<Format, image::ImageFormat>)
    format = TRY(source_format_in(given, "format"));
  else
    format = TRY(format_in(given, "format"));
  const std::string name = TRY(file_of(given));
  return take_name(given, name, path, format);
}

}  // namespace

Result<image::ImageCommand> make_create(const Given& given) {
  const Format format = TRY(format_in(given, "format")).value_or(Format::kRaw);
  if (asks_for_options(given.all("o")))
    return image::ImageOptionHelp{help_on_create_options(format)};
  image::ImageCreate create;
  const std::string name = TRY(file_of(given));
  create.path = TRY(parse_image_name(name, false)).path;
  create.quiet = given.has("q");
  create.trust_backing = given.has("u");
  auto parsed = TRY(named("-o", parse_create_options(format, given.all("o"))));
  create.options = std::move(parsed.options);
  create.given = std::move(parsed.pairs);
  if (const auto size = given.last("SIZE"))
    create.size_bytes = TRY(named("SIZE '" + *size + "'", image::parse_image_size(*size)));
  else if (const auto other = create.option("size"))
    create.size_bytes = TRY(named("size=" + *other, image::parse_image_size(*other)));

  const auto base = given.last("backing");
  const auto base_format = TRY(format_in(given, "F"));
  if (auto* const qcow2 = std::get_if<Qcow2CreateOptions>(&create.options)) {
    if (base) qcow2->backing_path = *base;
    if (base_format) qcow2->backing_format = format_name(*base_format);
    if (!qcow2->backing_format.empty() && qcow2->backing_path.empty())
      return fail("-F: there is no backing file");
    if (!create.size_bytes && qcow2->backing_path.empty())
      return with_hint(fail("SIZE is missing"), "give it, or a backing file with -b");
    TRY(named("-o", check_create_options(*qcow2)));
  } else {
    if (base || base_format) return with_hint(fail("-b: raw has no backing files"), "add -f qcow2");
    if (!create.size_bytes) return fail("SIZE is missing");
  }
  return create;
}

Result<image::ImageCommand> make_info(const Given& given) {
  image::ImageInfoQuery info;
  TRY(take_file(given, info.path, info.format));
  info.json = TRY(given.json());
  info.backing_chain = given.has("backing-chain");
  return info;
}

namespace {

Result<image::ImageFormat> output_format(const Given& given) {
  const std::string name = given.last("O").value_or("raw");
  const auto format = image::image_format_of_name(name);
  if (!format) return fail("-O: '{}' must be raw, qcow2, vdi or vmdk", name);
  return *format;
}

Result<void> set_output(const Given& given, image::ImageConvert& convert) {
  convert.output = TRY(output_format(given));
  const char* const output = format_name(convert.output);
  if (convert.compressed && convert.output != image::ImageFormat::kQcow2)
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
  if (const auto base = given.last("B")) qcow2->backing_path = *base;
  if (const auto base_format = TRY(format_in(given, "F")))
    qcow2->backing_format = format_name(*base_format);
  if (!qcow2->backing_format.empty() && qcow2->backing_path.empty())
    return fail("-F: there is no backing file");
  TRY(named("-o", check_create_options(*qcow2)));
  if (convert.compressed && !qcow2->data_path.empty())
    return fail("-c: data in a data file cannot be compressed");
  if (!qcow2->backing_path.empty() && (convert.sources.size() > 1 || !convert.snapshot.empty()))
    return fail("-B: not with {}", convert.snapshot.empty() ? "several sources" : "-l");
  return {};
}

}  // namespace

Result<image::ImageCommand> make_convert(const Given& given) {
  if (const auto output = image::block_format(TRY(output_format(given)));
      output && asks_for_options(given.all("o")))
    return image::ImageOptionHelp{help_on_create_options(*output)};
  image::ImageConvert convert;
  convert.format = TRY(source_format_in(given, "format"));
  std::vector<std::string> files = given.all("FILE");
  const std::string target = TRY(file_of(given));
  files.pop_back();
  if (files.empty()) return fail("FILE: needs a source and a target");
  for (const std::string& file : files) {
    std::optional<image::ImageFormat> format;
    std::string path;
    TRY(take_name(given, file, path, format));
    if (format && convert.format && *format != *convert.format)
      return fail("FILE: all sources must be of the same format");
    if (format) convert.format = format;
    convert.sources.push_back(path);
  }
  convert.target = TRY(parse_image_name(target, given.has("target-image-opts"))).path;
  convert.compressed = given.has("c");
  convert.quiet = given.has("q");
  convert.progress = given.has("p") && !convert.quiet;
  convert.into_existing = given.has("n");
  convert.target_is_zero = given.has("target-is-zero");
  convert.share = given.has("force-share");
  convert.salvage = given.has("salvage");
  convert.trust_names = given.has("trust-names");
  convert.snapshot = given.last("l").value_or("");
  convert.cache = TRY(cache_in(given, "t", convert.cache));
  convert.source_cache = TRY(cache_in(given, "T", convert.source_cache));
  if (const auto sparse = given.last("S")) {
    convert.sparse_bytes = TRY(named("-S", image::parse_image_size(*sparse)));
    if (*convert.sparse_bytes % 512 != 0) return fail("-S: must be a multiple of 512");
  }
  if (const auto rate = given.last("r"))
    convert.rate = TRY(named("-r", image::parse_image_size(*rate)));
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
  image::ImageCommit commit;
  TRY(take_file(given, commit.path, commit.format));
  commit.keep = given.has("d");
  commit.trust_names = given.has("trust-names");
  commit.base = given.last("b").value_or("");
  commit.cache = TRY(cache_in(given, "t", commit.cache));
  commit.quiet = given.has("q");
  commit.progress = given.has("p") && !commit.quiet;
  return commit;
}

Result<image::ImageCommand> make_rebase(const Given& given) {
  image::ImageRebase rebase;
  TRY(take_file(given, rebase.path, rebase.format));
  if (!given.has("backing"))
    return with_hint(fail("-b is missing"), "use -b '' for no backing file");
  rebase.base = given.last("backing").value_or("");
  rebase.base_format = TRY(format_in(given, "F"));
  if (rebase.base.empty() && rebase.base_format) return fail("-F: there is no backing file");
  rebase.unsafe = given.has("u");
  rebase.trust_names = given.has("trust-names");
  rebase.cache = TRY(cache_in(given, "t", rebase.cache));
  rebase.source_cache = TRY(cache_in(given, "T", rebase.source_cache));
  rebase.progress = given.has("p") && !given.has("q");
  return rebase;
}

Result<image::ImageCommand> make_check(const Given& given) {
  image::ImageCheck check;
  TRY(take_file(given, check.path, check.format));
  check.json = TRY(given.json());
  check.quiet = given.has("q");
  const std::string repair = given.last("repair").value_or("");
  if (repair == "leaks")
    check.repair = block::Repair::kLeaks;
  else if (repair == "all")
    check.repair = block::Repair::kAll;
  else if (given.has("repair"))
    return fail("-r: must be leaks or all");
  check.share = given.has("force-share");
  if (check.share && given.has("repair")) return fail("-U: an image in use cannot be repaired");
  return check;
}

Result<image::ImageCommand> make_resize(const Given& given) {
  image::ImageResize resize;
  TRY(take_file(given, resize.path, resize.format));
  resize.shrink = given.has("shrink");
  resize.trust_names = given.has("trust-names");
  resize.in_use = given.has("in-use");
  if (const auto value = given.last("preallocation"))
    resize.preallocation = TRY(named("--preallocation", parse_preallocation(*value)));
  resize.quiet = given.has("q");
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
  image::ImageSnapshot snapshot;
  snapshot.trust_names = given.has("trust-names");
  TRY(take_file(given, snapshot.path, snapshot.format));
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
  image::ImageMap map;
  TRY(take_file(given, map.path, map.format));
  map.json = TRY(given.json());
  map.share = given.has("force-share");
  for (const auto& [name, value] :
       {std::pair("start-offset", &map.start_bytes), std::pair("max-length", &map.length_bytes)})
    if (const auto text = given.last(name))
      *value = TRY(named(std::string("--") + name, image::parse_image_size(*text)));
  return map;
}

Result<image::ImageCommand> make_compare(const Given& given) {
  image::ImageCompare compare;
  compare.formats[0] = TRY(source_format_in(given, "format"));
  compare.formats[1] = TRY(source_format_in(given, "F"));
  const std::string first = TRY(file_of(given, "FILE1"));
  const std::string second = TRY(file_of(given, "FILE2"));
  TRY(take_name(given, first, compare.paths[0], compare.formats[0]));
  TRY(take_name(given, second, compare.paths[1], compare.formats[1]));
  compare.share = given.has("force-share");
  compare.strict = given.has("s");
  compare.quiet = given.has("q");
  return compare;
}

Result<image::ImageCommand> make_io(const Given& given) {
  image::ImageIo io;
  TRY(take_file(given, io.path, io.format));
  io.read_only = given.has("r");
  io.trust_names = given.has("trust-names");
  io.commands = given.all("c");
  if (io.commands.empty()) return fail("-c: no command is given");
  return io;
}

Result<image::ImageCommand> make_dd(const Given& given) {
  image::ImageDd dd;
  dd.format = TRY(source_format_in(given, "format"));
  dd.output = TRY(output_format(given));
  dd.share = given.has("force-share");
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
  image::ImageMeasure measure;
  measure.json = TRY(given.json());
  measure.share = given.has("force-share");
  measure.snapshot = given.last("l").value_or("");
  if (const auto size = given.last("size"))
    measure.size_bytes = TRY(named("--size", image::parse_image_size(*size)));
  const bool has_file = given.has("FILE");
  if (measure.size_bytes.has_value() == has_file)
    return fail("FILE: either a file or --size is needed, not both");
  if (measure.size_bytes && (!measure.snapshot.empty() || given.has("format")))
    return fail("-{}: not with --size", measure.snapshot.empty() ? "f" : "l");
  if (has_file) TRY(take_file(given, measure.path, measure.format));
  measure.output = TRY(output_format(given));
  const auto format = image::block_format(measure.output);
  if (!format) return fail("-O: {} images cannot be measured", format_name(measure.output));
  measure.options = TRY(named("-o", parse_create_options(*format, given.all("o")))).options;
  return measure;
}

Result<image::ImageCommand> make_bitmap(const Given& given) {
  using Action = image::ImageBitmap::Action;
  image::ImageBitmap bitmap;
  TRY(take_file(given, bitmap.path, bitmap.format));
  bitmap.name = TRY(file_of(given, "BITMAP"));
  // qemu-img keeps the order given on the command line; only this one makes sense.
  for (const auto& [name, action] :
       {std::pair("add", Action::kAdd), std::pair("clear", Action::kClear),
        std::pair("merge", Action::kMerge), std::pair("enable", Action::kEnable),
        std::pair("disable", Action::kDisable), std::pair("remove", Action::kRemove)})
    if (given.has(name)) bitmap.actions.push_back(action);
  if (bitmap.actions.empty())
    return fail("one of --add, --remove, --clear, --merge, --enable and --disable is needed");
  bitmap.merged = given.all("merge");
  bitmap.merged_from = given.last("b").value_or("");
  bitmap.merged_format = TRY(format_in(given, "F"));
  if (given.has("b") && bitmap.merged.empty()) return fail("-b: only with --merge");
  if (given.has("F") && bitmap.merged_from.empty()) return fail("-F: only with -b");
  if (const auto granularity = given.last("g")) {
    if (!given.has("add")) return fail("-g: only with --add");
    bitmap.granularity_bytes = TRY(named("-g", image::parse_image_size(*granularity)));
    if (bitmap.granularity_bytes == 0) return fail("-g: must not be 0");
  }
  return bitmap;
}

Result<image::ImageCommand> make_amend(const Given& given) {
  constexpr std::array<std::string_view, 5> kAmendable = {"compat", "lazy_refcounts", "size",
                                                          "data_file", "data_file_raw"};
  if (asks_for_options(given.all("o")))
    return image::ImageOptionHelp{help_on_amend_options(kAmendable)};
  image::ImageAmend amend;
  TRY(take_file(given, amend.path, amend.format));
  amend.trust_names = given.has("trust-names");
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
  image::ImageBench bench;
  TRY(take_file(given, bench.path, bench.format));
  bench.write = given.has("w");
  bench.share = given.has("force-share");
  bench.trust_names = given.has("trust-names");
  bench.cache = TRY(cache_in(given, "t", given.has("n") ? block::Cache::kNone : bench.cache));
  uint64_t pattern = 0;
  for (const auto& [name, value] :
       {std::pair("c", &bench.count), std::pair("d", &bench.depth),
        std::pair("o", &bench.offset_bytes), std::pair("s", &bench.buffer_bytes),
        std::pair("S", &bench.step_bytes), std::pair("flush-interval", &bench.flush_interval),
        std::pair("pattern", &pattern)})
    if (const auto text = given.last(name))
      *value = TRY(named(std::string("-") + name, image::parse_image_size(*text)));
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

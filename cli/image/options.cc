#include "cli/image/options.h"

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

constexpr const char* kImageHelp =
    R"(Names, options and output are those of qemu-img 7.2. vdi and vmdk are read and
made by convert and dd, and read by info, check, map, compare and measure.

What qemu-img has and wick has not: other formats and protocols; encryption
(--object); create to a block device, and of vdi and vmdk, and their -o help;
convert --bitmaps; amend of refcount_bits; compare -p; rebase -U;
resize --preallocation=metadata; parents of vdi and vmdk, and their repair.
A wrong command line ends with status 2.

A command that writes an image opens only those of the backing and data files that it
names which lie in its folder or below it; --trust-names opens them all.

Example:
  wick image create -f qcow2 -b alpine.qcow2 scratch.qcow2)";

constexpr const char* kCreateHelp =
    R"(FORMAT is raw or qcow2. SIZE is in bytes, or has a suffix K, M, G, T, P or E;
without it the image is as large as its backing file. The options of qcow2, and
after them what else they can be (-o help lists them with the others):
  cluster_size=64k (512 to 2M)          compat=1.1 (0.10, v2, v3)
  refcount_bits=16 (1 to 64)            lazy_refcounts=off
  extended_l2=off                       compression_type=zlib (zstd)
  preallocation=off (metadata, falloc, full; raw has off, falloc, full)
  data_file=FILE, data_file_raw=off: the data lies in another file

Example:
  wick image create -f qcow2 -o cluster_size=128k disk.qcow2 20G)";

constexpr const char* kInfoHelp = R"(Example:
  wick image info --backing-chain --output json overlay.qcow2)";

constexpr const char* kConvertHelp =
    R"(Several sources become one disk, one behind the other. A chain of backing files
becomes one image. The options of -o are those of wick image create.

Example:
  wick image convert -p -c -O qcow2 disk.raw disk.qcow2)";

constexpr const char* kCommitHelp =
    R"(The backing file then holds what the guest saw, and FILE is empty.

Example:
  wick image commit overlay.qcow2)";

constexpr const char* kRebaseHelp =
    R"(What differs between the old and the new backing file is copied to FILE, so that
a guest sees no difference; with -b "" FILE then needs no backing file.

Example:
  wick image rebase -b alpine-2.qcow2 overlay.qcow2)";

constexpr const char* kCheckHelp =
    R"(The exit status is 0 when all is well, 1 when the check cannot be done, 2 for
corruption, 3 for lost space only, and 63 for a format without a check.

Example:
  wick image check -r all disk.qcow2)";

constexpr const char* kResizeHelp = R"(Partitions and file systems are not touched.

Example:
  wick image resize disk.qcow2 +10G)";

constexpr const char* kSnapshotHelp = R"(NAME can also be the ID that the list shows.

Example:
  wick image snapshot -c before-upgrade disk.qcow2)";

constexpr const char* kMapHelp = R"(Example:
  wick image map --output json overlay.qcow2)";

constexpr const char* kCompareHelp =
    R"(The exit status is 0 for equal disks, 1 for others, and more when it is not known.

Example:
  wick image compare disk.qcow2 disk.raw)";

constexpr const char* kMeasureHelp = R"(The sizes are of the host's file.

Example:
  wick image measure -O qcow2 disk.raw)";

constexpr const char* kDdHelp = R"(The operands are:
  if=FILE, of=FILE   the source; the target, which is made
  bs=SIZE            bytes of a block (512)
  skip=N             blocks before the first that is copied
  count=N            blocks from the source's start on, those skipped included

Example:
  wick image dd -O qcow2 bs=1M count=64 if=disk.raw of=start.qcow2)";

constexpr const char* kBitmapHelp = R"(Bitmaps are of qcow2, compat=1.1. A guest of wick
records nothing in them, and its first write makes them invalid.

Example:
  wick image bitmap --add -g 64k disk.qcow2 since-monday)";

constexpr const char* kAmendHelp = R"(What can be changed, of qcow2 only:
  compat=1.1 (0.10, v2, v3)    lazy_refcounts=on (off)
  size=SIZE                    data_file=FILE, data_file_raw=off

Example:
  wick image amend -o compat=1.1 disk.qcow2)";

constexpr const char* kBenchHelp = R"(Example:
  wick image bench -w -c 1000 -d 8 scratch.qcow2)";

constexpr const char* kIoHelp = R"(The commands are those of qemu-io:
  read [-P PATTERN] [-q] OFFSET LENGTH     with a pattern: it must be there
  write [-P PATTERN|-z [-u]] [-q] OFFSET LENGTH
                                           -z: zeroes, -u: they may free space
  discard [-q] OFFSET LENGTH
  flush

Example:
  wick image io -c 'write -P 7 1M 64k' -c 'read -P 7 1M 64k' disk.qcow2)";

Result<std::string> file_of(const Given& given, const std::string& name = "FILE") {
  const std::string path = given.last(name).value_or("");
  if (path.empty()) return fail("{}: needs the name of a file", name);
  return path;
}

// Puts the name of what is wrong before why it is wrong.
template <typename T>
Result<T> named(const std::string& name, Result<T> result) {
  if (!result) result.error().context = fmt::format("{}: {}", name, result.error().context);
  return result;
}

// The image that a positional argument names.
Result<ImageName> name_of(const Given& given, const std::string& text) {
  return named("'" + text + "'", parse_image_name(text, given.has("image-opts")));
}

// Its path and its format, which -f says too. Format: of what the command can do.
template <typename Format>
Result<void> take_name(const Given& given, const std::string& text, std::string& path,
                       std::optional<Format>& format) {
  const ImageName name = TRY(name_of(given, text));
  path = name.path;
  if (!name.format) return {};
  if (format) return fail("'{}': says its format, and so does -f", text);
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
    format = TRY(given.source_format("format"));
  else
    format = TRY(given.format("format"));
  const std::string name = TRY(file_of(given));
  return take_name(given, name, path, format);
}

Result<image::ImageCommand> make_create(const Given& given) {
  const Format format = TRY(given.format("format")).value_or(Format::kRaw);
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
  const auto base_format = TRY(given.format("F"));
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
    return with_hint(fail("-c: {} images are not compressed", output), "add -O qcow2");
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
  if (const auto base_format = TRY(given.format("F")))
    qcow2->backing_format = format_name(*base_format);
  if (!qcow2->backing_format.empty() && qcow2->backing_path.empty())
    return fail("-F: there is no backing file");
  TRY(named("-o", check_create_options(*qcow2)));
  if (convert.compressed && !qcow2->data_path.empty())
    return fail("-c: what lies in a data file is not compressed");
  if (!qcow2->backing_path.empty() && (convert.sources.size() > 1 || !convert.snapshot.empty()))
    return fail("-B: not with {}", convert.snapshot.empty() ? "several sources" : "-l");
  return {};
}

Result<image::ImageCommand> make_convert(const Given& given) {
  if (const auto output = image::block_format(TRY(output_format(given)));
      output && asks_for_options(given.all("o")))
    return image::ImageOptionHelp{help_on_create_options(*output)};
  image::ImageConvert convert;
  convert.format = TRY(given.source_format("format"));
  std::vector<std::string> files = given.all("FILE");
  const std::string target = TRY(file_of(given));
  files.pop_back();
  if (files.empty()) return fail("FILE: needs a source and a target");
  for (const std::string& file : files) {
    std::optional<image::ImageFormat> format;
    std::string path;
    TRY(take_name(given, file, path, format));
    if (format && convert.format && *format != *convert.format)
      return fail("FILE: the sources are of one format, by -f or by their names");
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
  convert.cache = TRY(given.cache("t", convert.cache));
  convert.source_cache = TRY(given.cache("T", convert.source_cache));
  if (const auto sparse = given.last("S")) {
    convert.sparse_bytes = TRY(named("-S", image::parse_image_size(*sparse)));
    if (*convert.sparse_bytes % 512 != 0) return fail("-S: must be a multiple of 512");
  }
  if (const auto rate = given.last("r"))
    convert.rate = TRY(named("-r", image::parse_image_size(*rate)));
  if (convert.target_is_zero && !convert.into_existing)
    return with_hint(fail("--target-is-zero: what is made is zero anyway"), "add -n");
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
  commit.cache = TRY(given.cache("t", commit.cache));
  commit.quiet = given.has("q");
  commit.progress = given.has("p") && !commit.quiet;
  return commit;
}

Result<image::ImageCommand> make_rebase(const Given& given) {
  image::ImageRebase rebase;
  TRY(take_file(given, rebase.path, rebase.format));
  if (!given.has("backing")) return with_hint(fail("-b is missing"), "-b '' is for none");
  rebase.base = given.last("backing").value_or("");
  rebase.base_format = TRY(given.format("F"));
  if (rebase.base.empty() && rebase.base_format) return fail("-F: there is no backing file");
  rebase.unsafe = given.has("u");
  rebase.trust_names = given.has("trust-names");
  rebase.cache = TRY(given.cache("t", rebase.cache));
  rebase.source_cache = TRY(given.cache("T", rebase.source_cache));
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
  if (check.share && given.has("repair"))
    return fail("-U: what another program may write to is not repaired");
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
  compare.formats[0] = TRY(given.source_format("format"));
  compare.formats[1] = TRY(given.source_format("F"));
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
  if (io.commands.empty()) return fail("-c: nothing to do");
  return io;
}

Result<image::ImageCommand> make_dd(const Given& given) {
  image::ImageDd dd;
  dd.format = TRY(given.source_format("format"));
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
      return with_hint(fail("'{}' is no operand", operand),
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
  if (!format) return fail("-O: what {} needs cannot be measured", format_name(measure.output));
  measure.options = TRY(named("-o", parse_create_options(*format, given.all("o")))).options;
  return measure;
}

Result<image::ImageCommand> make_bitmap(const Given& given) {
  using Action = image::ImageBitmap::Action;
  image::ImageBitmap bitmap;
  TRY(take_file(given, bitmap.path, bitmap.format));
  bitmap.name = TRY(file_of(given, "BITMAP"));
  // qemu-img does them in the order given; there is one that makes sense.
  for (const auto& [name, action] :
       {std::pair("add", Action::kAdd), std::pair("clear", Action::kClear),
        std::pair("merge", Action::kMerge), std::pair("enable", Action::kEnable),
        std::pair("disable", Action::kDisable), std::pair("remove", Action::kRemove)})
    if (given.has(name)) bitmap.actions.push_back(action);
  if (bitmap.actions.empty())
    return fail("one of --add, --remove, --clear, --merge, --enable and --disable is needed");
  bitmap.merged = given.all("merge");
  bitmap.merged_from = given.last("b").value_or("");
  bitmap.merged_format = TRY(given.format("F"));
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
      return with_hint(fail("-o: {}: not by amend", key), "use wick image rebase");
    if (std::ranges::find(kAmendable, key) == kAmendable.end())
      return with_hint(fail("-o: {}: only a new image can have it", key),
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
  bench.cache = TRY(given.cache("t", given.has("n") ? block::Cache::kNone : bench.cache));
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

struct OptionRow {
  const char* names;  // as CLI11 takes them; without dashes: positional
  const char* value;  // nullptr: a flag
  const char* help;
  int least = 0;  // of positional ones
  int most = 1;
  bool may_be_missing = false;  // with -o help
};

constexpr OptionRow kFile = {"FILE", "", "the image", 1};
constexpr OptionRow kFileOrHelp = {"FILE", "", "the image", 1, 1, true};
constexpr OptionRow kFormat = {"-f,--format", "FORMAT", "what FILE is (by its magic)"};
constexpr OptionRow kOutput = {"--output", "human|json", "the form of the answer (human)"};
constexpr OptionRow kImageOpts = {"--image-opts", nullptr, "FILE is driver=...,file.filename=..."};
constexpr OptionRow kShare = {"-U,--force-share", nullptr, "read it also while it is in use"};
constexpr OptionRow kProgress = {"-p", nullptr, "show how far it is"};
constexpr OptionRow kTrustNames = {"--trust-names", nullptr,
                                   "open the files that images name wherever they are"};
constexpr OptionRow kQuiet = {"-q", nullptr, "say nothing unless it fails"};

constexpr OptionRow kCreateOptions[] = {
    {"-f,--format", "FORMAT", "what to make (raw)"},
    {"-b,--backing", "BASE", "the backing file; relative to FILE's folder"},
    {"-F", "FORMAT", "what BASE is (by its magic)"},
    {"-u", nullptr, "do not look at BASE"},
    {"-o", "k=v,...", "more options, see below"},
    kQuiet,
    kFileOrHelp,
    {"SIZE", "", "of the disk"},
};

constexpr OptionRow kInfoOptions[] = {
    kFormat,
    kOutput,
    {"--backing-chain", nullptr, "also of its backing files"},
    {"-U,--force-share", nullptr, "accepted; info never locks"},
    kImageOpts,
    kFile,
};

constexpr OptionRow kConvertOptions[] = {
    {"-f,--format", "FORMAT", "what the sources are (by their magic)"},
    {"-O", "FORMAT", "what to make: raw, qcow2, vdi or vmdk (raw)"},
    {"-o", "k=v,...", "more options of what is made"},
    {"-c", nullptr, "compress (qcow2)"},
    {"-B", "BASE", "leave to BASE what FILE's backing file holds"},
    {"-F", "FORMAT", "what BASE is (by its magic)"},
    {"-l,-s", "SNAPSHOT", "of FILE, by its name or ID"},
    {"-S", "SIZE", "so many zeroes are a hole; 0: none is (4k)"},
    {"-t", "CACHE", "of the target: none, writeback, unsafe, ... (unsafe)"},
    {"-T", "CACHE", "of the sources (writeback)"},
    {"-r", "RATE", "copy at most so many bytes per second"},
    {"-n", nullptr, "the target exists: only write into it"},
    kTrustNames,
    {"--target-is-zero", nullptr, "it reads as zeroes now"},
    {"--salvage", nullptr, "take what cannot be read for zeroes"},
    kProgress,
    kShare,
    kImageOpts,
    {"--target-image-opts", nullptr, "the same for the target"},
    {"-W", nullptr, "accepted, without effect, as -C and -m N are"},
    {"-C", nullptr, ""},
    {"-m", "N", ""},
    kQuiet,
    {"FILE", "", "the sources, then the target", 2, 1000, true},
};

constexpr OptionRow kCommitOptions[] = {
    kFormat,
    {"-b", "BASE", "commit to this one of the chain, and leave FILE as it is"},
    {"-d", nullptr, "leave FILE as it is"},
    {"-t", "CACHE", "of what is written (writeback)"},
    kTrustNames,
    kProgress,
    kQuiet,
    kImageOpts,
    kFile,
};

constexpr OptionRow kRebaseOptions[] = {
    kFormat,
    {"-b,--backing", "BASE", "the new backing file; relative to FILE's folder"},
    {"-F", "FORMAT", "what BASE is (by its magic)"},
    {"-u", nullptr, "only change the name, copy nothing"},
    kTrustNames,
    {"-t", "CACHE", "of FILE (writeback)"},
    {"-T", "CACHE", "of BASE (writeback)"},
    kProgress,
    kQuiet,
    kImageOpts,
    kFile,
};

constexpr OptionRow kCheckOptions[] = {
    kFormat, {"-r,--repair", "leaks|all", "repair lost space, or whatever is wrong"},
    kOutput, kShare,
    kQuiet,  kImageOpts,
    kFile,
};

constexpr OptionRow kResizeOptions[] = {
    kFormat,
    {"--shrink", nullptr, "it may become smaller, and lose what was there"},
    {"--in-use", nullptr, "a running wick has it open; send that SIGUSR1 afterwards"},
    {"--preallocation", "MODE", "of what is added: off, falloc or full (off)"},
    kTrustNames,
    kQuiet,
    kImageOpts,
    kFile,
    {"SIZE", "", "or +SIZE, -SIZE: so much more, or less", 1},
};

constexpr OptionRow kSnapshotOptions[] = {
    kFormat,
    {"-l", nullptr, "list the snapshots"},
    {"-c", "NAME", "make one"},
    {"-a", "NAME", "go back to one"},
    {"-d", "NAME", "delete one"},
    kTrustNames,
    {"-q", nullptr, "accepted, without effect, as -U is with -l"},
    {"-U,--force-share", nullptr, ""},
    kImageOpts,
    kFile,
};

constexpr OptionRow kMapOptions[] = {
    kFormat,
    kOutput,
    {"--start-offset", "OFFSET", "of the first byte (0)"},
    {"--max-length", "SIZE", "of the part to show (to the end)"},
    kShare,
    kImageOpts,
    kFile,
};

constexpr OptionRow kCompareOptions[] = {
    {"-f,--format", "FORMAT", "what FILE1 is (by its magic)"},
    {"-F", "FORMAT", "what FILE2 is (by its magic)"},
    {"-s", nullptr, "also sizes and what is allocated must be equal"},
    kQuiet,
    kShare,
    kImageOpts,
    {"FILE1", "", "an image", 1},
    {"FILE2", "", "another", 1},
};

constexpr OptionRow kIoOptions[] = {
    kFormat,     {"-r", nullptr, "do not open it for writing"},
    kTrustNames, {"-c", "COMMAND", "what to do; repeat for more", 0},
    kImageOpts,  kFile,
};

constexpr OptionRow kMeasureOptions[] = {
    {"--size", "SIZE", "of a disk without data, instead of FILE"},
    kFormat,
    {"-O", "FORMAT", "what would be made: raw or qcow2 (raw)"},
    {"-o", "k=v,...", "more options of what would be made"},
    {"-l", "SNAPSHOT", "of FILE, by its name or ID"},
    kOutput,
    kShare,
    kImageOpts,
    {"FILE", "", "the image", 0},
};

constexpr OptionRow kDdOptions[] = {
    {"-f,--format", "FORMAT", "what the source is (by its magic)"},
    {"-O", "FORMAT", "what to make: raw, qcow2, vdi or vmdk (raw)"},
    kShare,
    {"--image-opts", nullptr, "files are driver=...,file.filename=..."},
    {"OPERAND", "", "if=, of=, bs=, skip=, count=", 1, 1000},
};

constexpr OptionRow kBitmapOptions[] = {
    kFormat,
    {"--add", nullptr, "make it, enabled"},
    {"--remove", nullptr, "remove it"},
    {"--clear", nullptr, "make it empty"},
    {"--enable", nullptr, "record writes from now on"},
    {"--disable", nullptr, "do not record writes"},
    {"--merge", "SOURCE", "add what this bitmap has"},
    {"-b", "FILE2", "SOURCE is one of this image"},
    {"-F", "FORMAT", "what FILE2 is (by its magic)"},
    {"-g", "SIZE", "of what one bit stands for, with --add (64k)"},
    kImageOpts,
    kFile,
    {"BITMAP", "", "its name", 1},
};

constexpr OptionRow kAmendOptions[] = {
    kFormat,
    {"-o", "k=v,...", "what to change"},
    {"-p", nullptr, "accepted, without effect"},
    kTrustNames,
    kQuiet,
    {"--force", nullptr, ""},
    kImageOpts,
    kFileOrHelp,
};

constexpr OptionRow kBenchOptions[] = {
    kFormat,
    {"-c", "N", "requests (75000)"},
    {"-d", "N", "at once (64)"},
    {"-o", "OFFSET", "of the first (0)"},
    {"-s", "SIZE", "of each (4k)"},
    {"-S", "SIZE", "from one to the next (its size)"},
    {"-w", nullptr, "write, and do not read"},
    {"--pattern", "BYTE", "what to write (0)"},
    {"--flush-interval", "N", "flush after so many writes"},
    {"-t", "CACHE", "none, writeback, unsafe, ... (writeback)"},
    {"-n", nullptr, "as -t none"},
    {"-i", "AIO", "accepted, without effect, as --no-drain is"},
    {"--no-drain", nullptr, ""},
    kShare,
    kTrustNames,
    kQuiet,
    kImageOpts,
    kFile,
};

struct CommandRow {
  const char* name;
  const char* help;
  const char* footer;
  std::span<const OptionRow> options;
  Result<image::ImageCommand> (*make)(const Given& given);
};

const CommandRow kCommands[] = {
    {"create", "Makes a new image.", kCreateHelp, kCreateOptions, make_create},
    {"info", "Shows what an image is.", kInfoHelp, kInfoOptions, make_info},
    {"check", "Says whether an image is consistent, and repairs it.", kCheckHelp, kCheckOptions,
     make_check},
    {"convert", "Copies disks between formats.", kConvertHelp, kConvertOptions, make_convert},
    {"resize", "Changes the size of a disk.", kResizeHelp, kResizeOptions, make_resize},
    {"snapshot", "Keeps states of a disk inside its image.", kSnapshotHelp, kSnapshotOptions,
     make_snapshot},
    {"commit", "Moves an overlay's data to its backing file.", kCommitHelp, kCommitOptions,
     make_commit},
    {"rebase", "Gives an image another backing file.", kRebaseHelp, kRebaseOptions, make_rebase},
    {"map", "Shows where the data is.", kMapHelp, kMapOptions, make_map},
    {"compare", "Says whether two disks are equal to a guest.", kCompareHelp, kCompareOptions,
     make_compare},
    {"measure", "Says how large an image would become.", kMeasureHelp, kMeasureOptions,
     make_measure},
    {"dd", "Copies a part of a disk.", kDdHelp, kDdOptions, make_dd},
    {"bitmap", "Changes the dirty bitmaps of an image.", kBitmapHelp, kBitmapOptions, make_bitmap},
    {"amend", "Changes what kind of image it is.", kAmendHelp, kAmendOptions, make_amend},
    {"bench", "Measures how fast requests are.", kBenchHelp, kBenchOptions, make_bench},
    {"io", "Reads and writes patterns, for tests.", kIoHelp, kIoOptions, make_io},
};

}  // namespace

const CLI::Option* Given::find(const std::string& name) const {
  const bool positional = name.front() >= 'A' && name.front() <= 'Z' && name.size() > 1;
  return app_.get_option(positional ? name : (name.size() > 1 ? "--" : "-") + name);
}

std::optional<std::string> Given::last(const std::string& name) const {
  const auto values = all(name);
  if (values.empty()) return std::nullopt;
  return values.back();
}

Result<std::optional<Format>> Given::format(const std::string& name) const {
  const auto text = last(name);
  if (!text) return std::nullopt;
  const auto format = block::format_of_name(*text);
  if (!format) return fail("-{}: '{}' must be raw or qcow2", name.front(), *text);
  return format;
}

Result<std::optional<image::ImageFormat>> Given::source_format(const std::string& name) const {
  const auto text = last(name);
  if (!text) return std::nullopt;
  const auto format = image::image_format_of_name(*text);
  if (!format) return fail("-{}: '{}' must be raw, qcow2, vdi or vmdk", name.front(), *text);
  return format;
}

Result<block::Cache> Given::cache(const std::string& name, block::Cache otherwise) const {
  using block::Cache;
  // Each command's writes are stable when it ends, so "through" is no different.
  constexpr std::array<std::pair<std::string_view, Cache>, 5> kModes = {
      {{"none", Cache::kNone},
       {"directsync", Cache::kNone},
       {"writeback", Cache::kWriteback},
       {"writethrough", Cache::kWriteback},
       {"unsafe", Cache::kUnsafe}}};
  const auto text = last(name);
  if (!text) return otherwise;
  for (const auto& [mode, cache] : kModes)
    if (*text == mode) return cache;
  return fail("-{}: '{}' must be none, writeback, writethrough, directsync or unsafe", name, *text);
}

Result<bool> Given::json() const {
  const std::string text = last("output").value_or("human");
  if (text != "human" && text != "json") return fail("--output: must be human or json");
  return text == "json";
}

ImageArguments::ImageArguments(CLI::App& wick)
    : image_(wick.add_subcommand("image", "Makes, shows and repairs disk images.")) {
  image_->footer(kImageHelp);
  image_->require_subcommand(0, 1);
  for (const CommandRow& row : kCommands) {
    CLI::App* const command = image_->add_subcommand(row.name, row.help);
    command->group("Commands");
    command->footer(row.footer);
    command->set_help_flag("-h,--help", "print this");
    command->allow_extras();
    for (const auto& [names, value, help, least, most, may_be_missing] : row.options) {
      CLI::Option* const option = value != nullptr
                                      ? command->add_option(names, CLI::callback_t(), help)
                                      : command->add_flag(names, help);
      if (*help == '\0') option->group("");  // named beside another
      if (value == nullptr) continue;
      option->type_name(value);
      option->expected(1);
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      if (*names != '-' && most > 1) option->expected(least, most)->allow_extra_args();
      option->required(least > 0 && !may_be_missing);
    }
  }
}

Result<image::ImageCommand> ImageArguments::command() const {
  for (const CommandRow& row : kCommands)
    if (const CLI::App* const command = image_->get_subcommand(row.name); command->parsed())
      return row.make(Given(*command));
  return with_hint(fail("no command"), known_commands());
}

std::string ImageArguments::known_commands() {
  std::vector<std::string> names;
  for (const CommandRow& row : kCommands) names.emplace_back(row.name);
  return fmt::format("the commands are {}", fmt::join(names, ", "));
}

std::string ImageArguments::help_command() const {
  for (const CommandRow& row : kCommands)
    if (image_->get_subcommand(row.name)->parsed())
      return fmt::format("wick image {} --help", row.name);
  return "wick image --help";
}

}  // namespace wick::cli

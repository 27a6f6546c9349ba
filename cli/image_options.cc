#include "cli/image_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "cli/image_create_options.h"
#include "cli/image_size.h"
#include "cli/spec.h"

namespace wick::cli {

namespace {

using block::CreateOptions;
using block::Format;
using block::Qcow2CreateOptions;

constexpr const char* kImageHelp = R"(Names, options and output are those of qemu-img.
A command that writes an image opens only those of the backing and data files that it
names which lie in its folder or below it; --trust-names opens them all.

Example:
  wick image create -f qcow2 -b alpine.qcow2 scratch.qcow2)";

constexpr const char* kCreateHelp =
    R"(FORMAT is raw or qcow2. SIZE is in bytes, or has a suffix K, M, G, T, P or E;
without it the image is as large as its backing file. The options of qcow2, and
after them what else they can be:
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

Result<ImageCommand> make_create(const Given& given) {
  ImageCreate create;
  create.path = TRY(file_of(given));
  create.quiet = given.has("q");
  create.trust_backing = given.has("u");
  const Format format = TRY(given.format("format")).value_or(Format::kRaw);
  auto parsed = TRY(named("-o", parse_create_options(format, given.all("o"))));
  create.options = std::move(parsed.options);
  create.given = std::move(parsed.pairs);
  if (const auto size = given.last("SIZE"))
    create.size_bytes = TRY(named("SIZE '" + *size + "'", parse_image_size(*size)));
  else if (const auto other = create.option("size"))
    create.size_bytes = TRY(named("size=" + *other, parse_image_size(*other)));

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

Result<ImageCommand> make_info(const Given& given) {
  ImageInfoQuery info;
  info.path = TRY(file_of(given));
  info.format = TRY(given.format("format"));
  info.json = TRY(given.json());
  info.backing_chain = given.has("backing-chain");
  return info;
}

Result<ImageCommand> make_convert(const Given& given) {
  using Output = ImageConvert::Output;
  constexpr std::array<std::pair<std::string_view, Output>, 4> kOutputs = {
      {{"raw", Output::kRaw},
       {"qcow2", Output::kQcow2},
       {"vdi", Output::kVdi},
       {"vmdk", Output::kVmdk}}};
  ImageConvert convert;
  convert.sources = given.all("FILE");
  convert.target = TRY(file_of(given));
  convert.sources.pop_back();
  if (convert.sources.empty()) return fail("FILE: needs a source and a target");
  convert.format = TRY(given.format("format"));
  const std::string output = given.last("O").value_or("raw");
  const auto* const row = std::ranges::find(
      kOutputs, output, [](const auto& pair) -> const auto& { return pair.first; });
  if (row == kOutputs.end()) return fail("-O: '{}' must be raw, qcow2, vdi or vmdk", output);
  convert.output = row->second;
  convert.compressed = given.has("c");
  convert.progress = given.has("p") && !given.has("q");
  convert.into_existing = given.has("n");
  convert.trust_names = given.has("trust-names");

  if (convert.compressed && convert.output != Output::kQcow2)
    return with_hint(fail("-c: {} images are not compressed", output), "add -O qcow2");
  if (const auto format = block::format_of_name(output)) {
    auto parsed = TRY(named("-o", parse_create_options(*format, given.all("o"))));
    for (const auto& [key, value] : parsed.pairs)
      if (key == "size" || key == "backing_file" || key == "backing_fmt")
        return fail("-o: {}: a copy has the size and the content of its sources", key);
    convert.options = std::move(parsed.options);
    if (const auto* const qcow2 = std::get_if<Qcow2CreateOptions>(&convert.options)) {
      TRY(named("-o", check_create_options(*qcow2)));
      if (convert.compressed && !qcow2->data_path.empty())
        return fail("-c: what lies in a data file is not compressed");
    }
  } else if (given.has("o") || convert.into_existing) {
    return fail("-{}: not with -O {}", given.has("o") ? "o" : "n", output);
  }
  return convert;
}

Result<ImageCommand> make_commit(const Given& given) {
  ImageCommit commit;
  commit.path = TRY(file_of(given));
  commit.format = TRY(given.format("format"));
  commit.keep = given.has("d");
  commit.trust_names = given.has("trust-names");
  commit.quiet = given.has("q");
  commit.progress = given.has("p") && !commit.quiet;
  return commit;
}

Result<ImageCommand> make_rebase(const Given& given) {
  ImageRebase rebase;
  rebase.path = TRY(file_of(given));
  rebase.format = TRY(given.format("format"));
  if (!given.has("backing")) return with_hint(fail("-b is missing"), "-b '' is for none");
  rebase.base = given.last("backing").value_or("");
  rebase.base_format = TRY(given.format("F"));
  if (rebase.base.empty() && rebase.base_format) return fail("-F: there is no backing file");
  rebase.unsafe = given.has("u");
  rebase.trust_names = given.has("trust-names");
  rebase.progress = given.has("p") && !given.has("q");
  return rebase;
}

Result<ImageCommand> make_check(const Given& given) {
  ImageCheck check;
  check.path = TRY(file_of(given));
  check.format = TRY(given.format("format"));
  check.json = TRY(given.json());
  check.quiet = given.has("q");
  const std::string repair = given.last("repair").value_or("");
  if (repair == "leaks")
    check.repair = block::Repair::kLeaks;
  else if (repair == "all")
    check.repair = block::Repair::kAll;
  else if (given.has("repair"))
    return fail("-r: must be leaks or all");
  return check;
}

Result<ImageCommand> make_resize(const Given& given) {
  ImageResize resize;
  resize.path = TRY(file_of(given));
  resize.format = TRY(given.format("format"));
  resize.shrink = given.has("shrink");
  resize.trust_names = given.has("trust-names");
  resize.in_use = given.has("in-use");
  resize.quiet = given.has("q");
  const std::string size = given.last("SIZE").value_or("");
  std::string_view number = size;
  if (size.starts_with('+')) resize.sign = ImageResize::Sign::kBy;
  if (size.starts_with('-')) resize.sign = ImageResize::Sign::kLessBy;
  if (resize.sign != ImageResize::Sign::kTo) number.remove_prefix(1);
  resize.bytes = TRY(named("SIZE '" + size + "'", parse_image_size(number)));
  return resize;
}

Result<ImageCommand> make_snapshot(const Given& given) {
  using Action = ImageSnapshot::Action;
  ImageSnapshot snapshot;
  snapshot.path = TRY(file_of(given));
  snapshot.format = TRY(given.format("format"));
  snapshot.trust_names = given.has("trust-names");
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
  return snapshot;
}

Result<ImageCommand> make_map(const Given& given) {
  ImageMap map;
  map.path = TRY(file_of(given));
  map.format = TRY(given.format("format"));
  map.json = TRY(given.json());
  return map;
}

Result<ImageCommand> make_compare(const Given& given) {
  ImageCompare compare;
  compare.paths[0] = TRY(file_of(given, "FILE1"));
  compare.paths[1] = TRY(file_of(given, "FILE2"));
  compare.formats[0] = TRY(given.format("format"));
  compare.formats[1] = TRY(given.format("F"));
  compare.strict = given.has("s");
  compare.quiet = given.has("q");
  return compare;
}

Result<ImageCommand> make_io(const Given& given) {
  ImageIo io;
  io.path = TRY(file_of(given));
  io.format = TRY(given.format("format"));
  io.read_only = given.has("r");
  io.trust_names = given.has("trust-names");
  io.commands = given.all("c");
  if (io.commands.empty()) return fail("-c: nothing to do");
  return io;
}

struct OptionRow {
  const char* names;  // as CLI11 takes them; without dashes: positional
  const char* value;  // nullptr: a flag
  const char* help;
  int least = 0;  // of positional ones
  int most = 1;
};

constexpr OptionRow kFile = {"FILE", "", "the image", 1};
constexpr OptionRow kFormat = {"-f,--format", "FORMAT", "what FILE is (by its magic)"};
constexpr OptionRow kOutput = {"--output", "human|json", "the form of the answer (human)"};
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
    kFile,
    {"SIZE", "", "of the disk"},
};

constexpr OptionRow kInfoOptions[] = {
    kFormat,
    kOutput,
    {"--backing-chain", nullptr, "also of its backing files"},
    {"-U,--force-share", nullptr, "accepted, without effect"},
    kFile,
};

constexpr OptionRow kConvertOptions[] = {
    {"-f,--format", "FORMAT", "what the sources are (by their magic)"},
    {"-O", "FORMAT", "what to make: raw, qcow2, vdi or vmdk (raw)"},
    {"-o", "k=v,...", "more options of what is made"},
    {"-c", nullptr, "compress (qcow2)"},
    kProgress,
    {"-n", nullptr, "the target exists: only write into it"},
    kTrustNames,
    {"-W", nullptr, "accepted, without effect"},
    {"-m", "N", "accepted, without effect"},
    {"-U,--force-share", nullptr, "accepted, without effect"},
    kQuiet,
    {"FILE", "", "the sources, then the target", 2, 1000},
};

constexpr OptionRow kCommitOptions[] = {
    kFormat, {"-d", nullptr, "leave FILE as it is"}, kTrustNames, kProgress, kQuiet, kFile,
};

constexpr OptionRow kRebaseOptions[] = {
    kFormat,
    {"-b,--backing", "BASE", "the new backing file; relative to FILE's folder"},
    {"-F", "FORMAT", "what BASE is (by its magic)"},
    {"-u", nullptr, "only change the name, copy nothing"},
    kTrustNames,
    kProgress,
    kQuiet,
    kFile,
};

constexpr OptionRow kCheckOptions[] = {
    kFormat, {"-r,--repair", "leaks|all", "mend lost space, or whatever is wrong"}, kOutput, kQuiet,
    kFile,
};

constexpr OptionRow kResizeOptions[] = {
    kFormat,
    {"--shrink", nullptr, "it may become smaller, and lose what was there"},
    {"--in-use", nullptr, "a running wick has it open; send that SIGUSR1 afterwards"},
    kTrustNames,
    kQuiet,
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
    {"-q", nullptr, "accepted, without effect"},
    kFile,
};

constexpr OptionRow kMapOptions[] = {kFormat, kOutput, kFile};

constexpr OptionRow kCompareOptions[] = {
    {"-f,--format", "FORMAT", "what FILE1 is (by its magic)"},
    {"-F", "FORMAT", "what FILE2 is (by its magic)"},
    {"-s", nullptr, "also sizes and what is allocated must be equal"},
    kQuiet,
    {"FILE1", "", "an image", 1},
    {"FILE2", "", "another", 1},
};

constexpr OptionRow kIoOptions[] = {
    kFormat,     {"-r", nullptr, "do not open it for writing"},
    kTrustNames, {"-c", "COMMAND", "what to do; repeat for more", 0},
    kFile,
};

struct CommandRow {
  const char* name;
  const char* help;
  const char* footer;
  std::span<const OptionRow> options;
  Result<ImageCommand> (*make)(const Given& given);
};

const CommandRow kCommands[] = {
    {"create", "Makes a new image.", kCreateHelp, kCreateOptions, make_create},
    {"info", "Shows what an image is.", kInfoHelp, kInfoOptions, make_info},
    {"check", "Says whether an image is consistent, and mends it.", kCheckHelp, kCheckOptions,
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

Result<bool> Given::json() const {
  const std::string text = last("output").value_or("human");
  if (text != "human" && text != "json") return fail("--output: must be human or json");
  return text == "json";
}

ImageArguments::ImageArguments(CLI::App& wick)
    : image_(wick.add_subcommand("image", "Makes, shows and mends disk images.")) {
  image_->footer(kImageHelp);
  image_->require_subcommand(0, 1);
  for (const CommandRow& row : kCommands) {
    CLI::App* const command = image_->add_subcommand(row.name, row.help);
    command->group("Commands");
    command->footer(row.footer);
    command->set_help_flag("-h,--help", "print this");
    command->allow_extras();
    for (const auto& [names, value, help, least, most] : row.options) {
      if (value == nullptr) {
        command->add_flag(names, help);
        continue;
      }
      CLI::Option* const option = command->add_option(names, CLI::callback_t(), help);
      option->type_name(value);
      option->expected(1);
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      if (*names != '-' && most > 1) option->expected(least, most)->allow_extra_args();
      option->required(least > 0);
    }
  }
}

Result<ImageCommand> ImageArguments::command() const {
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

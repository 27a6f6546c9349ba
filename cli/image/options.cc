#include "cli/image/options.h"

#include "cli/image/make.h"

namespace wick::cli {

namespace {

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

const CommandRow<image::ImageCommand> kCommands[] = {
    {{"create", "Makes a new image.", kCreateHelp, kCreateOptions}, make_create},
    {{"info", "Shows what an image is.", kInfoHelp, kInfoOptions}, make_info},
    {{"check", "Says whether an image is consistent, and repairs it.", kCheckHelp, kCheckOptions},
     make_check},
    {{"convert", "Copies disks between formats.", kConvertHelp, kConvertOptions}, make_convert},
    {{"resize", "Changes the size of a disk.", kResizeHelp, kResizeOptions}, make_resize},
    {{"snapshot", "Keeps states of a disk inside its image.", kSnapshotHelp, kSnapshotOptions},
     make_snapshot},
    {{"commit", "Moves an overlay's data to its backing file.", kCommitHelp, kCommitOptions},
     make_commit},
    {{"rebase", "Gives an image another backing file.", kRebaseHelp, kRebaseOptions}, make_rebase},
    {{"map", "Shows where the data is.", kMapHelp, kMapOptions}, make_map},
    {{"compare", "Says whether two disks are equal to a guest.", kCompareHelp, kCompareOptions},
     make_compare},
    {{"measure", "Says how large an image would become.", kMeasureHelp, kMeasureOptions},
     make_measure},
    {{"dd", "Copies a part of a disk.", kDdHelp, kDdOptions}, make_dd},
    {{"bitmap", "Changes the dirty bitmaps of an image.", kBitmapHelp, kBitmapOptions},
     make_bitmap},
    {{"amend", "Changes what kind of image it is.", kAmendHelp, kAmendOptions}, make_amend},
    {{"bench", "Measures how fast requests are.", kBenchHelp, kBenchOptions}, make_bench},
    {{"io", "Reads and writes patterns, for tests.", kIoHelp, kIoOptions}, make_io},
};

}  // namespace

CommandTable<image::ImageCommand> image_commands(CLI::App& wick) {
  return {wick, "image", "Makes, shows and repairs disk images.", kImageHelp, kCommands};
}

}  // namespace wick::cli

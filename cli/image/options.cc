#include "cli/image/options.h"

#include "cli/image/make.h"
#include "cli/image/nbd.h"

namespace wick::cli {

namespace {

constexpr const char* kImageHelp =
    R"(Names, options and output are those of qemu-img 7.2. vdi and vmdk are read and
made by convert and dd, and read by info, check, map, compare and measure.

Not supported: other formats and protocols; encryption (--object); create on a
block device; create and -o help of vdi and vmdk; convert --bitmaps; amend of
refcount_bits; compare -p; rebase -U; resize --preallocation=metadata; parents
of vdi and vmdk, and their repair. A wrong command line ends with status 2.

A command that writes an image opens its backing and data files only if they lie
in the image's folder or below it; --trust-names opens them all.

Example:
  wick image create -f qcow2 -b alpine.qcow2 scratch.qcow2)";

constexpr const char* kCreateHelp =
    R"(SIZE is in bytes, or has a suffix K, M, G, T, P or E; without it the image is as
large as its backing file, or as the folder DIR needs. The options of qcow2 with
their defaults, other values in parentheses (-o help lists all options):
  cluster_size=64k (512 to 2M)          compat=1.1 (0.10, v2, v3)
  refcount_bits=16 (1 to 64)            lazy_refcounts=off
  extended_l2=off                       compression_type=zlib (zstd)
  preallocation=off (metadata, falloc, full; raw has off, falloc, full)
  data_file=FILE, data_file_raw=off: the data lies in another file

Examples:
  wick image create -f qcow2 -o cluster_size=128k disk.qcow2 20G
  wick image create -f qcow2 --from src files.qcow2)";

constexpr const char* kInfoHelp = R"(Example:
  wick image info --backing-chain --output json overlay.qcow2)";

constexpr const char* kConvertHelp =
    R"(Several sources are concatenated into one disk. A chain of backing files becomes
one image. The options of -o are those of wick image create.

Example:
  wick image convert -p -c -O qcow2 disk.raw disk.qcow2)";

constexpr const char* kCommitHelp =
    R"(The backing file then holds what the guest saw, and FILE is empty.

Example:
  wick image commit overlay.qcow2)";

constexpr const char* kRebaseHelp =
    R"(Data in which the old and the new backing file differ is copied to FILE, so
that a guest sees no difference. With -b "" FILE needs no backing file any more.

Example:
  wick image rebase -b alpine-2.qcow2 overlay.qcow2)";

constexpr const char* kCheckHelp =
    R"(The exit status is 0 without findings, 1 if the check cannot be done, 2 for
corruption, 3 for leaked space only, and 63 for a format without a check.

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
    R"(The exit status is 0 if the disks are equal, 1 if they differ, and 2 or more
after an error.

Example:
  wick image compare disk.qcow2 disk.raw)";

constexpr const char* kMeasureHelp = R"(Prints the sizes of the file on the host.

Example:
  wick image measure -O qcow2 disk.raw)";

constexpr const char* kDdHelp = R"(The operands are:
  if=FILE, of=FILE   the source and the new target
  bs=SIZE            bytes per block (512)
  skip=N             blocks to skip at the source's start
  count=N            blocks from the source's start, the skipped ones included

Example:
  wick image dd -O qcow2 bs=1M count=64 if=disk.raw of=start.qcow2)";

constexpr const char* kBitmapHelp = R"(Only qcow2 with compat=1.1 has bitmaps. wick run
does not update them, and a guest's first write makes them invalid.

Example:
  wick image bitmap --add -g 64k disk.qcow2 since-monday)";

constexpr const char* kAmendHelp = R"(Options that can be changed (qcow2 only):
  compat=1.1 (0.10, v2, v3)    lazy_refcounts=on (off)
  size=SIZE                    data_file=FILE, data_file_raw=off

Example:
  wick image amend -o compat=1.1 disk.qcow2)";

constexpr const char* kBenchHelp = R"(Example:
  wick image bench -w -c 1000 -d 8 scratch.qcow2)";

constexpr const char* kIoHelp = R"(The commands are those of qemu-io:
  read [-P PATTERN] [-q] OFFSET LENGTH     -P: fail if the content differs
  write [-P PATTERN|-z [-u]] [-q] OFFSET LENGTH
                                           -z: zeroes, -u: allow to free space
  discard [-q] OFFSET LENGTH
  flush

Example:
  wick image io -c 'write -P 7 1M 64k' -c 'read -P 7 1M 64k' disk.qcow2)";

constexpr OptionRow kFile = {"FILE", "", "the image", 1};
constexpr OptionRow kFileOrHelp = {"FILE", "", "the image", 1, 1, true};
constexpr OptionRow kFormat = {"-f,--format", "raw|qcow2", "format of FILE (by its magic)"};
constexpr OptionRow kSourceFormat = {"-f,--format", "raw|qcow2|vdi|vmdk",
                                     "format of FILE (by its magic)"};
constexpr OptionRow kOutput = {"--output", "human|json", "form of the output (human)"};
constexpr OptionRow kImageOpts = {"--image-opts", nullptr, "FILE is driver=...,file.filename=..."};
constexpr OptionRow kShare = {"-U,--force-share", nullptr, "read images that are in use, too"};
constexpr OptionRow kProgress = {"-p", nullptr, "show progress"};
constexpr OptionRow kTrustNames = {"--trust-names", nullptr,
                                   "open files that images name in any folder"};
constexpr OptionRow kQuiet = {"-q", nullptr, "print only errors"};

constexpr OptionRow kCreateOptions[] = {
    {"-f,--format", "raw|qcow2", "format of the new image (raw)"},
    {"-b,--backing", "BASE", "the backing file; relative to FILE's folder"},
    {"-F", "raw|qcow2", "format of BASE (by its magic)"},
    {"-u", nullptr, "do not open BASE"},
    {"--from", "DIR", "make an ext4 file system of this folder in it (with mke2fs)"},
    {"--label", "LABEL", "name of that file system"},
    {"-o", "k=v,...", "more options, see below"},
    kQuiet,
    kFileOrHelp,
    {"SIZE", "", "size of the disk"},
};

constexpr OptionRow kInfoOptions[] = {
    kSourceFormat,
    kOutput,
    {"--backing-chain", nullptr, "show its backing files, too"},
    {"-U,--force-share", nullptr, "accepted; info never locks"},
    kImageOpts,
    kFile,
};

constexpr OptionRow kConvertOptions[] = {
    {"-f,--format", "raw|qcow2|vdi|vmdk", "format of the sources (by their magic)"},
    {"-O", "raw|qcow2|vdi|vmdk", "format of the target (raw)"},
    {"-o", "k=v,...", "more options of the target"},
    {"-c", nullptr, "compress (qcow2)"},
    {"-B", "BASE", "copy only FILE's top layer; BASE backs the copy"},
    {"-F", "raw|qcow2", "format of BASE (by its magic)"},
    {"-l,-s", "SNAPSHOT", "copy this snapshot of FILE (its name or ID)"},
    {"-S", "SIZE", "size of the smallest hole; 0: no holes (4k)"},
    {"-t", "CACHE", "target's cache: none, writeback, unsafe, ... (unsafe)"},
    {"-T", "CACHE", "sources' cache (writeback)"},
    {"-r", "RATE", "copy at most this many bytes per second"},
    {"-n", nullptr, "write into an existing target"},
    kTrustNames,
    {"--target-is-zero", nullptr, "the existing target reads as zeroes"},
    {"--salvage", nullptr, "copy unreadable parts as zeroes"},
    kProgress,
    kShare,
    kImageOpts,
    {"--target-image-opts", nullptr, "the same for the target"},
    {"-C", nullptr, "raw to raw: let the host copy; do not look for zeroes"},
    {"-W", nullptr, "accepted, without effect, as -m N is"},
    {"-m", "N", ""},
    kQuiet,
    {"FILE", "", "the sources, then the target", 2, 1000, true},
};

constexpr OptionRow kCommitOptions[] = {
    kFormat,
    {"-b", "BASE", "commit to this image of the chain; keep FILE"},
    {"-d", nullptr, "keep FILE's data"},
    {"-t", "CACHE", "cache of the images (writeback)"},
    kTrustNames,
    kProgress,
    kQuiet,
    kImageOpts,
    kFile,
};

constexpr OptionRow kRebaseOptions[] = {
    kFormat,
    {"-b,--backing", "BASE", "the new backing file; relative to FILE's folder"},
    {"-F", "raw|qcow2", "format of BASE (by its magic)"},
    {"-u", nullptr, "only change the name, copy nothing"},
    kTrustNames,
    {"-t", "CACHE", "cache of FILE (writeback)"},
    {"-T", "CACHE", "cache of BASE (writeback)"},
    kProgress,
    kQuiet,
    kImageOpts,
    kFile,
};

constexpr OptionRow kCheckOptions[] = {
    kSourceFormat, {"-r,--repair", "leaks|all", "repair leaked space, or everything"},
    kOutput,       kShare,
    kQuiet,        kImageOpts,
    kFile,
};

constexpr OptionRow kResizeOptions[] = {
    kFormat,
    {"--shrink", nullptr, "allow a smaller size, which loses data"},
    {"--in-use", nullptr, "a running wick has FILE open; then send it SIGUSR1"},
    {"--preallocation", "off|falloc|full", "for the added part (off)"},
    kTrustNames,
    kQuiet,
    kImageOpts,
    kFile,
    {"SIZE", "", "new size; +SIZE or -SIZE: larger or smaller by SIZE", 1},
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
    kSourceFormat,
    kOutput,
    {"--start-offset", "OFFSET", "first byte to show (0)"},
    {"--max-length", "SIZE", "bytes to show (to the end)"},
    kShare,
    kImageOpts,
    kFile,
};

constexpr OptionRow kCompareOptions[] = {
    {"-f,--format", "raw|qcow2|vdi|vmdk", "format of FILE1 (by its magic)"},
    {"-F", "raw|qcow2|vdi|vmdk", "format of FILE2 (by its magic)"},
    {"-s", nullptr, "sizes and allocation must be equal, too"},
    kQuiet,
    kShare,
    kImageOpts,
    {"FILE1", "", "an image", 1},
    {"FILE2", "", "another", 1},
};

constexpr OptionRow kIoOptions[] = {
    kFormat,     {"-r", nullptr, "open FILE read-only"},
    kTrustNames, {"-c", "COMMAND", "what to do; may be repeated", 0},
    kImageOpts,  kFile,
};

constexpr OptionRow kMeasureOptions[] = {
    {"--size", "SIZE", "measure an empty disk of this size, not FILE"},
    kSourceFormat,
    {"-O", "raw|qcow2", "format of the new image (raw)"},
    {"-o", "k=v,...", "more options of the new image"},
    {"-l", "SNAPSHOT", "measure this snapshot of FILE (its name or ID)"},
    kOutput,
    kShare,
    kImageOpts,
    {"FILE", "", "the image", 0},
};

constexpr OptionRow kDdOptions[] = {
    {"-f,--format", "raw|qcow2|vdi|vmdk", "format of the source (by its magic)"},
    {"-O", "raw|qcow2|vdi|vmdk", "format of the target (raw)"},
    kShare,
    {"--image-opts", nullptr, "files are driver=...,file.filename=..."},
    {"OPERAND", "if=FILE|of=FILE|bs=SIZE|skip=N|count=N", "see below", 1, 1000},
};

constexpr OptionRow kBitmapOptions[] = {
    kFormat,
    {"--add", nullptr, "add the bitmap, enabled"},
    {"--remove", nullptr, "remove the bitmap"},
    {"--clear", nullptr, "clear the bitmap"},
    {"--enable", nullptr, "record writes from now on"},
    {"--disable", nullptr, "do not record writes"},
    {"--merge", "SOURCE", "add the bits of this bitmap"},
    {"-b", "FILE2", "SOURCE is in this image"},
    {"-F", "raw|qcow2", "format of FILE2 (by its magic)"},
    {"-g", "SIZE", "bytes per bit, with --add (64k)"},
    kImageOpts,
    kFile,
    {"BITMAP", "", "the bitmap's name", 1},
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
    {"-c", "N", "number of requests (75000)"},
    {"-d", "N", "requests in flight (64)"},
    {"-o", "OFFSET", "offset of the first request (0)"},
    {"-s", "SIZE", "bytes per request (4k)"},
    {"-S", "SIZE", "distance between requests (-s)"},
    {"-w", nullptr, "write instead of read"},
    {"--pattern", "BYTE", "what to write (0)"},
    {"--flush-interval", "N", "flush after every N writes"},
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
    {{"info", "Shows the properties of an image.", kInfoHelp, kInfoOptions}, make_info},
    {{"check", "Checks whether an image is consistent, and repairs it.", kCheckHelp, kCheckOptions},
     make_check},
    {{"convert", "Copies disks between formats.", kConvertHelp, kConvertOptions}, make_convert},
    {{"resize", "Changes the size of a disk.", kResizeHelp, kResizeOptions}, make_resize},
    {{"snapshot", "Manages the snapshots inside an image.", kSnapshotHelp, kSnapshotOptions},
     make_snapshot},
    {{"commit", "Moves an overlay's data to its backing file.", kCommitHelp, kCommitOptions},
     make_commit},
    {{"rebase", "Gives an image another backing file.", kRebaseHelp, kRebaseOptions}, make_rebase},
    {{"map", "Shows where the data of a disk lies.", kMapHelp, kMapOptions}, make_map},
    {{"compare", "Compares two disks as a guest sees them.", kCompareHelp, kCompareOptions},
     make_compare},
    {{"measure", "Tells how large a new image would be.", kMeasureHelp, kMeasureOptions},
     make_measure},
    {{"dd", "Copies a part of a disk.", kDdHelp, kDdOptions}, make_dd},
    {{"bitmap", "Changes the dirty bitmaps of an image.", kBitmapHelp, kBitmapOptions},
     make_bitmap},
    {{"amend", "Changes format options of an image.", kAmendHelp, kAmendOptions}, make_amend},
    {{"bench", "Measures the speed of requests.", kBenchHelp, kBenchOptions}, make_bench},
    {{"io", "Reads and writes patterns, for tests.", kIoHelp, kIoOptions}, make_io},
    {nbd_syntax(), make_nbd},
};

}  // namespace

CommandTable<image::ImageCommand> image_commands(CLI::App& wick, bool filled) {
  return {wick, filled, "image", "Makes, shows and repairs disk images.", kImageHelp, kCommands};
}

}  // namespace wick::cli

// The commands of wick image, which make, show and repair disk images. Names, output and exit
// statuses are those of qemu-img 7.2, so that habits and scripts carry over.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "block/qcow2/check.h"
#include "block/qcow2/snapshots.h"
#include "image/new_image.h"

namespace wick::image {

// Formats that wick image reads and makes. A guest's disk can only be raw or qcow2.
enum class ImageFormat : uint8_t { kRaw, kQcow2, kVdi, kVmdk };

struct ImageCreate {
  std::string path;
  std::optional<uint64_t> size_bytes;                      // absent: the backing file's size
  CreateOptions options;                                   // without the size
  std::vector<std::pair<std::string, std::string>> given;  // the options of -o, as written
  bool trust_backing = false;                              // the backing file need not exist
  std::string folder;  // make a file system of this folder in the image; empty: no content
  std::string label;   // the label of that file system
  bool quiet = false;

  // Returns the value of the last option `key` in `given`.
  std::optional<std::string> option(std::string_view key) const;
};

struct ImageInfoQuery {
  std::string path;
  std::optional<ImageFormat> format;
  bool json = false;
  bool backing_chain = false;
};

struct ImageConvert {
  std::vector<std::string> sources;
  std::string target;
  std::optional<ImageFormat> format;  // the format of the sources
  ImageFormat output = ImageFormat::kRaw;
  CreateOptions options;  // for raw and qcow2; without the size
  bool compressed = false;
  bool offload = false;  // let the host copy, without looking for zeroes in the data
  bool progress = false;
  bool into_existing = false;  // the target exists already
  bool trust_names = false;    // see writing() in files.h
  bool target_is_zero = false;
  bool share = false;    // the sources may be in use
  bool salvage = false;  // unreadable parts become zeroes
  bool quiet = false;
  block::Cache cache = block::Cache::kUnsafe;  // for the target
  block::Cache source_cache = block::Cache::kWriteback;
  std::string snapshot;                  // of the source; empty: its current state
  std::optional<uint64_t> sparse_bytes;  // length of the smallest hole; 0: no holes
  uint64_t rate = 0;                     // bytes per second; 0: no limit
  struct Part {
    uint64_t start = 0;
    uint64_t end = 0;  // may lie beyond the source's end
  };
  std::optional<Part> part;  // only with a single source
};

struct ImageCommit {
  std::string path;
  std::optional<block::Format> format;
  std::string base;   // an image of the chain; empty: the direct backing file
  bool keep = false;  // do not empty the overlay
  bool trust_names = false;
  block::Cache cache = block::Cache::kWriteback;
  bool progress = false;
  bool quiet = false;
};

struct ImageRebase {
  std::string path;
  std::optional<block::Format> format;
  std::string base;  // empty: no backing file
  std::optional<block::Format> base_format;
  bool unsafe = false;  // change only the name in the header
  bool trust_names = false;
  block::Cache cache = block::Cache::kWriteback;
  block::Cache source_cache = block::Cache::kWriteback;
  bool progress = false;
};

struct ImageCheck {
  std::string path;
  std::optional<ImageFormat> format;
  block::Repair repair = block::Repair::kNone;
  bool json = false;
  bool quiet = false;
  bool share = false;  // the image may be in use
};

struct ImageResize {
  enum class Sign : uint8_t { kTo, kBy, kLessBy };

  std::string path;
  std::optional<block::Format> format;
  Sign sign = Sign::kTo;
  uint64_t bytes = 0;
  block::Preallocation preallocation = block::Preallocation::kOff;  // for the added part
  bool shrink = false;
  bool trust_names = false;
  bool in_use = false;  // a running wick has the image open; it applies the size at SIGUSR1
  bool quiet = false;
};

struct ImageSnapshot {
  enum class Action : uint8_t { kList, kCreate, kApply, kDelete };

  std::string path;
  std::optional<block::Format> format;
  Action action = Action::kList;
  std::string name;
  bool trust_names = false;
};

struct ImageMap {
  std::string path;
  std::optional<ImageFormat> format;
  uint64_t start_bytes = 0;
  uint64_t length_bytes = ~uint64_t{0};  // may reach beyond the disk's end
  bool json = false;
  bool share = false;  // the image may be in use
};

struct ImageCompare {
  std::string paths[2];
  std::optional<ImageFormat> formats[2];
  bool strict = false;
  bool quiet = false;
  bool share = false;  // the images may be in use
};

struct ImageIo {
  std::string path;
  std::optional<block::Format> format;
  bool read_only = false;
  bool trust_names = false;
  std::vector<std::string> commands;
};

struct ImageMeasure {
  std::optional<uint64_t> size_bytes;  // absent: measure `path`
  std::string path;
  std::optional<ImageFormat> format;
  std::string snapshot;  // empty: the current state
  ImageFormat output = ImageFormat::kRaw;
  CreateOptions options;
  bool json = false;
  bool share = false;  // the image may be in use
};

struct ImageDd {
  std::string source;
  std::string target;
  std::optional<ImageFormat> format;
  ImageFormat output = ImageFormat::kRaw;
  uint64_t block_bytes = 512;
  uint64_t skip = 0;              // blocks
  std::optional<uint64_t> count;  // blocks, counted from the start of the source
  bool share = false;             // the image may be in use
};

struct ImageBitmap {
  enum class Action : uint8_t { kAdd, kRemove, kClear, kMerge, kEnable, kDisable };

  std::string path;
  std::optional<block::Format> format;
  std::string name;
  std::vector<Action> actions;
  uint64_t granularity_bytes = 0;   // 0: the image's default
  std::vector<std::string> merged;  // the bitmaps that kMerge adds
  std::string merged_from;          // the image with these bitmaps; empty: `path`
  std::optional<block::Format> merged_format;
};

struct ImageAmend {
  std::string path;
  std::optional<block::Format> format;
  block::Qcow2CreateOptions options;
  std::vector<std::pair<std::string, std::string>> given;  // the options of -o, as written
  bool trust_names = false;
};

// The command that prints the options of a format: -o help.
struct ImageOptionHelp {
  std::string text;
};

struct ImageBench {
  std::string path;
  std::optional<block::Format> format;
  uint64_t count = 75000;
  uint64_t depth = 64;
  uint64_t offset_bytes = 0;
  uint64_t buffer_bytes = 4096;
  uint64_t step_bytes = 0;  // 0: buffer_bytes
  uint64_t flush_interval = 0;
  std::byte pattern{0};
  block::Cache cache = block::Cache::kWriteback;
  bool write = false;
  bool share = false;  // the image may be in use
  bool trust_names = false;
};

struct ImageNbd {
  std::string path;
  std::optional<ImageFormat> format;
  bool read_only = false;
  bool ephemeral = false;  // changes are dropped at the end
  std::string snapshot;    // the snapshot to serve, with read_only; empty: the current state
  bool share = false;      // the image may be in use; with read_only
  bool trust_names = false;
  block::Cache cache = block::Cache::kWriteback;
  bool discards = true;
  std::string socket_path;  // a Unix socket; empty: TCP
  std::string bind_address;
  uint16_t port = 0;
  std::string device;        // serve the kernel's NBD device instead of a socket; empty: no device
  std::string disconnected;  // only disconnect this NBD device; empty: serve the image
  std::string name;          // the name of the export
  std::string description;
  size_t max_clients = 1;
  bool persistent = false;  // do not end with the last client
  bool background = false;
  std::string pid_path;  // empty: no PID file
};

using ImageCommand =
    std::variant<ImageCreate, ImageInfoQuery, ImageCheck, ImageResize, ImageSnapshot, ImageMap,
                 ImageCompare, ImageIo, ImageConvert, ImageCommit, ImageRebase, ImageMeasure,
                 ImageDd, ImageBitmap, ImageAmend, ImageBench, ImageNbd, ImageOptionHelp>;

// Each function executes a command and returns the exit status that qemu-img would return. main()
// turns an Error into status 1.
Result<int> execute(const ImageCreate& command);
Result<int> execute(const ImageInfoQuery& command);
Result<int> execute(const ImageConvert& command);
Result<int> execute(const ImageCommit& command);
Result<int> execute(const ImageRebase& command);
Result<int> execute(const ImageCheck& command);
Result<int> execute(const ImageResize& command);
Result<int> execute(const ImageSnapshot& command);
Result<int> execute(const ImageMap& command);
Result<int> execute(const ImageCompare& command);
Result<int> execute(const ImageIo& command);
Result<int> execute(const ImageMeasure& command);
Result<int> execute(const ImageDd& command);
Result<int> execute(const ImageBitmap& command);
Result<int> execute(const ImageAmend& command);
Result<int> execute(const ImageBench& command);
Result<int> execute(const ImageNbd& command);
Result<int> execute(const ImageOptionHelp& command);

// Returns the list of snapshots as qemu-img prints it, with its heading.
std::string snapshot_list(std::span<const block::qcow2::Snapshot> snapshots);

}  // namespace wick::image

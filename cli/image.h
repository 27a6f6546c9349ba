// wick image: makes, shows and mends disk images. Names, output and exit statuses
// are those of qemu-img 7.2, so that habits and scripts carry over.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "block/create.h"
#include "block/qcow2_check.h"
#include "block/qcow2_snapshots.h"

namespace wick::cli {

struct ImageCreate {
  std::string path;
  std::optional<uint64_t> size_bytes;                      // none: the backing file's
  block::CreateOptions options;                            // all but the size
  std::vector<std::pair<std::string, std::string>> given;  // of -o, as it was written
  bool trust_backing = false;                              // it need not be there
  bool quiet = false;

  std::optional<std::string> option(std::string_view key) const;  // the last one of `given`
};

struct ImageInfoQuery {
  std::string path;
  std::optional<block::Format> format;
  bool json = false;
  bool backing_chain = false;
};

struct ImageConvert {
  enum class Output { kRaw, kQcow2, kVdi, kVmdk };

  std::vector<std::string> sources;
  std::string target;
  std::optional<block::Format> format;  // of the sources
  Output output = Output::kRaw;
  block::CreateOptions options;  // of raw and qcow2: all but the size
  bool compressed = false;
  bool progress = false;
  bool into_existing = false;  // the target is not made
  bool trust_names = false;    // as for the other commands that write: see writing()
};

struct ImageCommit {
  std::string path;
  std::optional<block::Format> format;
  bool keep = false;  // the overlay stays as it is
  bool trust_names = false;
  bool progress = false;
  bool quiet = false;
};

struct ImageRebase {
  std::string path;
  std::optional<block::Format> format;
  std::string base;  // empty: none
  std::optional<block::Format> base_format;
  bool unsafe = false;  // only the name changes
  bool trust_names = false;
  bool progress = false;
};

struct ImageCheck {
  std::string path;
  std::optional<block::Format> format;
  block::Repair repair = block::Repair::kNone;
  bool json = false;
  bool quiet = false;
};

struct ImageResize {
  enum class Sign : uint8_t { kTo, kBy, kLessBy };

  std::string path;
  std::optional<block::Format> format;
  Sign sign = Sign::kTo;
  uint64_t bytes = 0;
  bool shrink = false;
  bool trust_names = false;
  bool in_use = false;  // by a running wick, which takes over the size at SIGUSR1
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
  std::optional<block::Format> format;
  bool json = false;
};

struct ImageCompare {
  std::string paths[2];
  std::optional<block::Format> formats[2];
  bool strict = false;
  bool quiet = false;
};

struct ImageIo {
  std::string path;
  std::optional<block::Format> format;
  bool read_only = false;
  bool trust_names = false;
  std::vector<std::string> commands;
};

using ImageCommand =
    std::variant<ImageCreate, ImageInfoQuery, ImageCheck, ImageResize, ImageSnapshot, ImageMap,
                 ImageCompare, ImageIo, ImageConvert, ImageCommit, ImageRebase>;

// Each returns its exit status; 1 is for errors.
Result<int> carry_out(const ImageCreate& command);
Result<int> carry_out(const ImageInfoQuery& command);
Result<int> carry_out(const ImageConvert& command);
Result<int> carry_out(const ImageCommit& command);
Result<int> carry_out(const ImageRebase& command);
Result<int> carry_out(const ImageCheck& command);
Result<int> carry_out(const ImageResize& command);
Result<int> carry_out(const ImageSnapshot& command);
Result<int> carry_out(const ImageMap& command);
Result<int> carry_out(const ImageCompare& command);
Result<int> carry_out(const ImageIo& command);

// As qemu-img shows it, with its head.
std::string snapshot_list(std::span<const block::qcow2::Snapshot> snapshots);

}  // namespace wick::cli

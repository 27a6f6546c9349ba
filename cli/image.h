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

using ImageCommand = std::variant<ImageCreate, ImageInfoQuery>;

// Each returns its exit status; 1 is for errors.
Result<int> carry_out(const ImageCreate& command);
Result<int> carry_out(const ImageInfoQuery& command);

// As qemu-img shows it, with its head.
std::string snapshot_list(std::span<const block::qcow2::Snapshot> snapshots);

}  // namespace wick::cli

// What wick exec copies out of the guest when its command has ended (--copy-out).
//
// Thread rule: one owner.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/exec_options.h"

namespace wick::cli {

// A temporary folder beside the target. The guest gets it as a share and copies into it. Nothing
// of it is left but what publish() moved, unless the process is killed.
class ExecCopy {
 public:
  // The name of the copy in folder().
  static constexpr const char* kName = "copy";

  static Result<ExecCopy> create(const ExecOptions::Copy& copy);
  ExecCopy(ExecCopy&& other) noexcept;
  ExecCopy& operator=(ExecCopy&&) = delete;
  ~ExecCopy();

  const std::string& folder() const { return folder_; }
  // Whether the guest has made the copy.
  bool is_there() const;
  // Moves the copy to its target, in place of a file that is there. The guest may have put
  // anything in its place; only a file or a folder is taken.
  Result<void> publish() const;

 private:
  ExecCopy(std::string folder, std::string target)
      : folder_(std::move(folder)), target_(std::move(target)) {}

  std::string folder_;
  std::string target_;
};

}  // namespace wick::cli

// Copies a file or folder out of the guest of wick exec when its command has ended (--copy-out).
//
// Thread rule: an object belongs to one thread.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/exec_options.h"

namespace wick::cli {

// A temporary folder beside the target. The guest gets this folder as a share and copies into it.
// The folder is removed with this object, unless the process is killed; only what publish() has
// moved remains.
class ExecCopy {
 public:
  // The name that the guest gives to the copy in folder().
  static constexpr const char* kName = "copy";

  static Result<ExecCopy> create(const ExecOptions::Copy& copy);
  ExecCopy(ExecCopy&& other) noexcept;
  ExecCopy& operator=(ExecCopy&&) = delete;
  ~ExecCopy();

  const std::string& folder() const { return folder_; }
  // Returns true if the guest has made the copy.
  bool is_there() const;
  // Moves the copy to its target, where it replaces an existing file. The guest may have put
  // anything in the copy's place, so everything but a file or a folder is refused.
  Result<void> publish() const;

 private:
  ExecCopy(std::string folder, std::string target)
      : folder_(std::move(folder)), target_(std::move(target)) {}

  std::string folder_;
  std::string target_;
};

}  // namespace wick::cli

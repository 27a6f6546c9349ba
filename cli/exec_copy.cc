#include "cli/exec_copy.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/replace_file.h"

namespace wick::cli {

namespace {

namespace fs = std::filesystem;

// Returns the path of the copy, chosen as cp(1) does: if copy.host is an existing folder, the copy
// goes into it, with the name that it has in the guest.
fs::path target_of(const ExecOptions::Copy& copy) {
  std::error_code none;
  const fs::path target = fs::absolute(copy.host, none).lexically_normal();
  if (!fs::is_directory(target, none)) return target;
  const fs::path source = fs::path(copy.guest).lexically_normal();
  return target / (source.has_filename() ? source : source.parent_path()).filename();
}

}  // namespace

Result<ExecCopy> ExecCopy::create(const ExecOptions::Copy& copy) {
  const fs::path target = target_of(copy);
  std::error_code none;
  // A copied folder may replace an empty one.
  if (fs::symlink_status(target, none).type() != fs::file_type::directory)
    TRY(check_replaceable(target));
  std::string folder = target.parent_path() / ".wick-copy-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr)
    return with_hint(fail_errno(errno, "{}: cannot be written", target.string()),
                     "check the path behind the colon of --copy-out");
  return ExecCopy(std::move(folder), target);
}

ExecCopy::ExecCopy(ExecCopy&& other) noexcept
    : folder_(std::exchange(other.folder_, {})), target_(std::move(other.target_)) {}

ExecCopy::~ExecCopy() {
  std::error_code none;
  if (!folder_.empty()) fs::remove_all(folder_, none);
}

bool ExecCopy::is_there() const {
  std::error_code none;
  return fs::symlink_status(fs::path(folder_) / kName, none).type() != fs::file_type::not_found;
}

Result<void> ExecCopy::publish() const {
  const fs::path copy = fs::path(folder_) / kName;
  std::error_code error;
  const auto type = fs::symlink_status(copy, error).type();
  if (type != fs::file_type::regular && type != fs::file_type::directory)
    return fail("{}: the guest gave neither a file nor a folder", target_);
  if (std::rename(copy.c_str(), target_.c_str()) == 0) return {};
  return with_hint(fail_errno(errno, "{}: cannot be replaced", target_),
                   "remove what is there, or give another path to --copy-out");
}

}  // namespace wick::cli

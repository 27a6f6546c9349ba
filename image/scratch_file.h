// A file that gets its name when it is complete. Without publish() no file is left behind, even if
// the process is killed, provided that the file system has O_TMPFILE.
//
// Thread rule: one owner.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wick::image {

class ScratchFile {
 public:
  // Makes an empty file on the file system of `target`. The process's umask applies.
  static Result<ScratchFile> create(const std::string& target);
  ScratchFile(ScratchFile&&) = default;
  ScratchFile& operator=(ScratchFile&&) = delete;
  ~ScratchFile();

  const Fd& fd() const { return fd_; }
  // Returns a path by which this process, and its children, can open the file.
  const std::string& path() const { return path_; }
  // Waits until the content is on the disk and puts the file at `target`, in place of a file that
  // is there. May be called only once.
  Result<void> publish(const std::string& target);

 private:
  ScratchFile(Fd fd, std::string path, bool has_name)
      : fd_(std::move(fd)), path_(std::move(path)), has_name_(has_name) {}

  Fd fd_;
  std::string path_;
  bool has_name_;  // the file is at path_, and the destructor removes it
};

}  // namespace wick::image

// A folder for one test, and its files.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/fakes/files.h"

namespace wick::fakes {

// Removed, with everything in it, by the destructor.
class TempDir {
 public:
  // The folder lies in `parent`. Where the test is run, a disk usually is: /tmp may be a
  // tmpfs, which has neither O_DIRECT nor FALLOC_FL_ZERO_RANGE.
  explicit TempDir(const std::filesystem::path& parent = std::filesystem::current_path())
      : path_(parent / "wick-test-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr)
      throw std::runtime_error("cannot make a folder " + path_);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

  // Writes a file and returns its path.
  std::string write(std::string_view name, std::string_view content) const {
    write_file(*this / name, content);
    return *this / name;
  }
  // The content of a file; empty if there is none.
  std::string read(std::string_view name) const { return read_file(*this / name); }

 private:
  std::string path_;
};

}  // namespace wick::fakes

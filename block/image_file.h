// Opens the file of one disk image.
//
// Thread rule: as for File.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "block/file.h"
#include "block/image_format.h"

namespace wick::block {

// Which files an image's header may name (block/named_file.h).
enum class Names : uint8_t {
  kFolder,  // files in the image's folder or below it
  kRead,    // any file for reading; for writing, only files as in kFolder
  kAny,
};

struct ImageOptions {
  std::optional<Format> format;  // nullopt: found by magic and name
  bool read_only = false;
  bool ephemeral = false;  // writes go to a temporary file; the image's files are only read
  Cache cache = Cache::kWriteback;
  uint64_t cache_bytes = 2 << 20;  // for a qcow2 image's tables in memory
  bool lock = true;                // lock against other programs (image_lock.h)
  bool may_be_empty = false;       // accept a raw disk of 0 bytes
  Names names = Names::kFolder;
  // The user's data file for the first image: opened wherever it is, instead of the one that the
  // header names. The data files of backing files are always those that their headers name.
  std::string data_path = {};
  // The first image's file, if it was identified earlier (File::pin()): opened instead of
  // the file that is at the path now. Must outlive the opening.
  const Fd* pinned = nullptr;
  // The option that an error about a named file recommends; nullptr: data-file= or backing=.
  const char* trust_option = nullptr;
};

// The file of an image, and its format: the given one, or else the probed one.
struct ImageFile {
  std::unique_ptr<File> file;
  Format format = Format::kRaw;
};

// Opens and locks the file at `path`, or the pinned one.
Result<ImageFile> open_image_file(const std::string& path, const ImageOptions& options,
                                  AsyncIo& io);

// The two steps of open_image_file(). open_first_file() opens the file at `path`, or the pinned
// one. make_image_file() takes over its descriptor, locks the file and probes its format.
Result<Fd> open_first_file(const std::string& path, const ImageOptions& options);
Result<ImageFile> make_image_file(Fd file, const std::string& path, const ImageOptions& options,
                                  AsyncIo& io);

}  // namespace wick::block

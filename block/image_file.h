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

// Which of the files that headers name are opened (block/named_file.h).
enum class Names : uint8_t {
  kFolder,  // those in the folder of the image that names them, or below it
  kRead,    // also all others, where they are only read
  kAny,
};

struct ImageOptions {
  std::optional<Format> format;  // none: by magic and name
  bool read_only = false;
  bool ephemeral = false;  // what is written is thrown away; the files are only read
  Cache cache = Cache::kWriteback;
  uint64_t cache_bytes = 2 << 20;  // qcow2: of tables in memory
  bool lock = true;                // keep others out (block/image_lock.h)
  bool may_be_empty = false;       // a raw disk of 0 bytes, of no use to a guest
  Names names = Names::kFolder;
  // The user's data file for the first image: opened wherever it is, instead of the one
  // that the header names. The data files of backing files stay those that they name.
  std::string data_path = {};
  // The first image's file, if it was found before (File::pin()): opened instead of what the
  // path leads to by now. Must outlive the opening.
  const Fd* pinned = nullptr;
  // The option that a refusal of a name advises; nullptr: data-file= or backing=.
  const char* trust_option = nullptr;
};

// The file of an image, and the format that it has or is said to have.
struct ImageFile {
  std::unique_ptr<File> file;
  Format format = Format::kRaw;
};

// Opens and locks the file at `path`, or the pinned one.
Result<ImageFile> open_image_file(const std::string& path, const ImageOptions& options,
                                  AsyncIo& io);

// The steps of open_image_file(). The second takes over the descriptor: it locks the file and
// probes its format.
Result<Fd> open_first_file(const std::string& path, const ImageOptions& options);
Result<ImageFile> make_image_file(Fd file, const std::string& path, const ImageOptions& options,
                                  AsyncIo& io);

}  // namespace wick::block

// Opening a disk by its path: which format it has, and who reads that format.
// A format is never guessed for writing: it was asked for, or the file has a
// magic, or it is raw with nothing that speaks against it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "block/backend.h"
#include "block/file.h"

namespace wick::block {

enum class Format { kRaw, kQcow2 };

const char* format_name(Format format);
// By the name that qemu-img gives it; or nothing.
std::optional<Format> format_of_name(std::string_view name);

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

constexpr size_t kMaxBackingFiles = 200;

// `path` is a regular file or a block device. Everything else, and a file that
// seems to be of a format that wick cannot read, is refused by name. The files
// that an image names (backing files, which are only read, and a data file) are
// opened with it, as options.names has it; their relative names start at the
// image's folder.
Task<Result<std::unique_ptr<Backend>>> open_image(std::string path, ImageOptions options,
                                                  AsyncIo& io);

// The same for an image that is qcow2, with what only that can do.
class Qcow2;
Task<Result<std::unique_ptr<Qcow2>>> open_qcow2(std::string path, ImageOptions options,
                                                AsyncIo& io);

// The file under an image, and the format that it has or is said to have.
struct ImageFile {
  std::unique_ptr<File> file;
  Format format = Format::kRaw;
};
Result<ImageFile> open_image_file(const std::string& path, const ImageOptions& options,
                                  AsyncIo& io);

// The files of one image of a chain.
struct ImageLayer {
  ImageFile image;
  std::unique_ptr<File> data;    // its data file, if it has one
  bool format_was_told = false;  // by the user, or by the image over it
};

// Opens all files that the image at `path` is read from, the backing files from the first
// to the last. There is no other way from a header's names to open files.
Task<Result<std::vector<ImageLayer>>> open_layers(std::string path, ImageOptions options,
                                                  AsyncIo& io);

// The flush of a disk before it goes; an error says that data is lost by it.
Task<Result<void>> final_flush(Backend& disk);

// The format of the image that starts with `sector`, the first 512 bytes of a
// file; or nullptr.
const char* format_of_magic(std::span<const std::byte> sector);

}  // namespace wick::block

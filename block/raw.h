// A raw disk: byte N of the disk is byte N of a regular file or of a block
// device.
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "block/async_io.h"
#include "block/backend.h"

namespace wick::block {

enum class Cache {
  kWriteback,  // the host's page cache; a flush makes writes stable
  kNone,       // O_DIRECT; a flush makes writes stable
  kUnsafe,     // the host's page cache; a flush does nothing
};

struct RawOptions {
  bool read_only = false;
  Cache cache = Cache::kWriteback;
  // The user did not say `format=raw`: a guest must not turn the disk into
  // another format by writing its magic (PITFALLS 21).
  bool refuse_foreign_magic = false;
};

// `file` is open for what `options` asks, without O_DIRECT; `path` serves
// messages, and opening a second, direct descriptor. `io` must outlive the back
// end. A file whose size is no multiple of 512 is a disk of the next multiple
// that ends in zeroes.
Result<std::unique_ptr<Backend>> open_raw(Fd file, const std::string& path,
                                          const RawOptions& options, AsyncIo& io);

}  // namespace wick::block

// The format of a disk image: by its name, and by what its file starts with.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace wick::block {

enum class Format { kRaw, kQcow2 };

const char* format_name(Format format);
// The format with that name of qemu-img; nullopt if there is none.
std::optional<Format> format_of_name(std::string_view name);

// The name of the format whose magic `sector` has, the first 512 bytes of a file; nullptr if
// there is none.
const char* format_of_magic(std::span<const std::byte> sector);

// The format of an open file: by its magic, or raw if nothing speaks against it. A file is
// refused if it has the magic of a format that wick cannot use as a disk, or the suffix of a
// format whose magic it does not have.
Result<Format> probe_format(const Fd& file, const std::string& path);

}  // namespace wick::block

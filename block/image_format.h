// Finds the format of a disk image: by the format's name, or by the magic at the file's start.
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
// Returns the format that has this name in qemu-img; nullopt if it is neither raw nor qcow2.
std::optional<Format> format_of_name(std::string_view name);

// Returns the name of the format whose magic is in `sector`, the first 512 bytes of a file; nullptr
// if there is no magic.
const char* format_of_magic(std::span<const std::byte> sector);

// Returns the format of an open file: that of its magic, or raw. Fails if the file has the magic of
// a format that wick cannot use as a disk, or the suffix of a format whose magic it lacks.
Result<Format> probe_format(const Fd& file, const std::string& path);

}  // namespace wick::block

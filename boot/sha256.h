// SHA-256, for the checksums of installers' files.
//
// The implementation is that of libmd: a static link takes only a few KiB of its code, none of
// which runs when the program starts. dpkg depends on the same library.
//
// Thread rule: an object belongs to one thread.
//
// Specification: FIPS 180-4.
#pragma once

#include <sha2.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "boot/input_file.h"

namespace wick::boot {

class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  // Returns 64 lower-case hexadecimal digits. May be called only once, after all calls of update().
  std::string finish();

 private:
  SHA2_CTX context_;
};

Result<std::string> sha256_of(const InputFile& file);
std::string sha256_of(std::string_view text);

// Returns true if `text` has the form that Sha256::finish() returns.
bool is_sha256(std::string_view text);

}  // namespace wick::boot

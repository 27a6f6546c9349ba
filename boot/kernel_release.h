// The release of a kernel, as uname(1) -r prints it in the guest.
//
// Specification: Linux, Documentation/arch/x86/boot.rst (kernel_version).
//
// Thread rule: any thread.
#pragma once

#include <string>

#include "base/result.h"

namespace wick::boot {

// Returns the release, for instance "6.1.0-18-amd64", of a bzImage, or of an ELF file with Linux's
// banner; either may be compressed. Fails if the file does not contain its release.
Result<std::string> kernel_release(const std::string& path);

}  // namespace wick::boot

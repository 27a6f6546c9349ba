// Returns the init of guests (guest/init.c) as a file for an initramfs: a static ELF program.
//
// Thread rule: none.
#pragma once

#include <cstddef>
#include <span>

namespace wick::guest {

std::span<const std::byte> init_image();

}  // namespace wick::guest

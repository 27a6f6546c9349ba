// Sizes as qemu-img and QEMU's monitor show them.
#pragma once

#include <cstdint>
#include <string>

namespace wick {

// Returns three digits and a unit: "1.5 GiB".
std::string human_size(uint64_t bytes);

}  // namespace wick

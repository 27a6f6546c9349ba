// What the test's own process holds of its host, for tests that look for leaks.
#pragma once

#include <malloc.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace wick::fakes {

// The number of open file descriptors, with the one that counts them.
inline size_t open_descriptors() {
  return static_cast<size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

// The heap in use, without free memory that malloc keeps.
inline size_t heap_bytes() { return ::mallinfo2().uordblks + ::mallinfo2().hblkhd; }

inline size_t resident_bytes() {
  size_t all = 0;
  size_t resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace wick::fakes

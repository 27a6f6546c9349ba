#include "debug/gdb_memory.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace wick::debug {

namespace {

constexpr uint64_t kPageBytes = 4096;

}  // namespace

size_t GdbMemory::walk(uint32_t cpu, uint64_t address, size_t size_bytes, bool physical,
                       const Visit& visit) const {
  size_t done = 0;
  while (done < size_bytes) {
    const uint64_t at = address + done;
    if (at < address) break;  // a range ends at 2^64
    const size_t part = std::min(size_bytes - done, size_t{kPageBytes - at % kPageBytes});
    const auto where = physical ? std::optional(GuestAddress{at}) : inspector_.translate(cpu, at);
    std::byte* const host = where ? inspector_.memory().find(*where, part) : nullptr;
    if (host == nullptr) break;
    visit(*where, host, done, part);
    done += part;
  }
  return done;
}

std::string GdbMemory::read(uint32_t cpu, uint64_t address, size_t size_bytes) const {
  std::string bytes(size_bytes, '\0');
  const auto all = std::as_writable_bytes(std::span(bytes));
  const size_t done = walk(cpu, address, size_bytes, physical_,
                           [&](GuestAddress at, std::byte* host, size_t offset, size_t size) {
                             std::memcpy(all.data() + offset, host, size);
                             breakpoints_.show_original(at, all.subspan(offset, size));
                           });
  bytes.resize(done);
  return bytes;
}

bool GdbMemory::read_linear(uint32_t cpu, uint64_t address, std::span<std::byte> to) const {
  return walk(cpu, address, to.size(), false,
              [&](GuestAddress at, std::byte* host, size_t offset, size_t size) {
                std::memcpy(to.data() + offset, host, size);
                breakpoints_.show_original(at, to.subspan(offset, size));
              }) == to.size();
}

Result<void> GdbMemory::write(uint32_t cpu, uint64_t address, std::string_view bytes) {
  const size_t mapped =
      walk(cpu, address, bytes.size(), physical_, [](GuestAddress, std::byte*, size_t, size_t) {});
  if (mapped < bytes.size())
    return fail_errno(EFAULT, "guest memory at {:#x}: it is not mapped", address + mapped);
  const auto all = std::as_bytes(std::span(bytes));
  walk(cpu, address, bytes.size(), physical_,
       [&](GuestAddress at, std::byte* host, size_t offset, size_t size) {
         std::memcpy(host, all.data() + offset, size);
         breakpoints_.keep(at, all.subspan(offset, size));
       });
  return {};
}

}  // namespace wick::debug

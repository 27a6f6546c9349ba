#include "boot/kaslr.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/bytes.h"
#include "boot/cmdline.h"
#include "boot/memory_map.h"

namespace wick::boot {

namespace {

constexpr uint64_t kKernelImageSize = 1 << 30;  // KERNEL_IMAGE_SIZE of kernels with KASLR
// The lowest random address, unless the kernel's own place is lower.
constexpr uint64_t kLowestStart = 512 << 20;

// The aligned places in a range: the address of the first, and their number.
struct Places {
  uint64_t first = 0;
  uint64_t count = 0;
};

Places places_between(uint64_t start, uint64_t end, uint64_t size, uint64_t alignment) {
  start = align_up(start, alignment);
  if (start >= end || size > end - start) return {};
  return {start, (end - start - size) / alignment + 1};
}

// Returns the decimal or hexadecimal number, with an optional binary suffix, at the start of
// `text`, as memparse() of Linux reads it; 0 if there is none.
uint64_t parse_size(std::string_view text) {
  constexpr std::string_view kSuffixes = "KMGTPE";
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  }
  uint64_t size = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size, base);
  if (error != std::errc()) return 0;
  if (end == text.data() + text.size()) return size;
  const size_t suffix = kSuffixes.find(static_cast<char>(*end & ~('a' - 'A')));
  return suffix == std::string_view::npos ? size : size << (10 * (suffix + 1));
}

// The parameters of the command line that affect the kernel's place.
struct Wishes {
  bool randomize = true;
  bool reserves_memory = false;
  uint64_t memory_limit = UINT64_MAX;  // of mem=, in bytes
};

Wishes read_command_line(std::string_view line) {
  Wishes wishes;
  for_each_word(line, [&](std::string_view word) {
    if (word == "nokaslr") wishes.randomize = false;
    if (word.starts_with("memmap=") || word.starts_with("hugepages")) wishes.reserves_memory = true;
    if (!word.starts_with("mem=")) return;
    if (const uint64_t limit = parse_size(word.substr(4)); limit != 0)
      wishes.memory_limit = std::min(wishes.memory_limit, limit);
  });
  return wishes;
}

std::vector<Places> physical_places(const GuestMemory& memory, const KaslrRequest& request,
                                    uint64_t memory_limit) {
  const uint64_t lowest = std::min(request.start.value, kLowestStart);
  const uint64_t limit = std::min(kAddressableEnd, memory_limit);
  const uint64_t size = std::max(request.memory_bytes, request.image_bytes);
  const uint64_t initrd_start = request.initrd.start.value;
  const uint64_t initrd_end = initrd_start + request.initrd.size_bytes;
  std::vector<Places> found;
  for (const GuestMemory::Region& region : memory.regions()) {
    const uint64_t start = std::max({region.start.value, lowest, kHighMemory});
    const uint64_t end = std::min(region.start.value + region.size_bytes, limit);
    if (request.initrd.size_bytes == 0 || initrd_end <= start || initrd_start >= end) {
      found.push_back(places_between(start, end, size, request.alignment));
    } else {
      found.push_back(places_between(start, initrd_start, size, request.alignment));
      found.push_back(places_between(initrd_end, end, size, request.alignment));
    }
  }
  return found;
}

}  // namespace

Result<KernelPlace> choose_place(const GuestMemory& memory, const KaslrRequest& request) {
  KernelPlace place{.start = request.start};
  const Wishes wishes = read_command_line(request.cmdline);
  if (!wishes.randomize) return place;
  std::array<uint64_t, 2> random{};
  if (::getrandom(random.data(), sizeof(random), 0) != sizeof(random))
    return fail_errno(errno, "getrandom: no random address for the kernel");
  place.randomized = true;

  const uint64_t size = std::max(request.memory_bytes, request.image_bytes);
  const Places slides =
      places_between(request.linked_start, kKernelImageSize, size, request.alignment);
  if (slides.count != 0) place.slide = random[0] % slides.count * request.alignment;

  if (wishes.reserves_memory) return place;
  const auto all = physical_places(memory, request, wishes.memory_limit);
  uint64_t count = 0;
  for (const Places& places : all) count += places.count;
  if (count == 0) return place;
  uint64_t chosen = random[1] % count;
  for (const Places& places : all) {
    if (chosen < places.count) {
      place.start = {places.first + chosen * request.alignment};
      break;
    }
    chosen -= places.count;
  }
  return place;
}

}  // namespace wick::boot

#include "vmm/kvm_counters.h"

#include <linux/kvm.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>

#include "base/fd.h"

namespace wick::vmm {

namespace {

// kvm_stats_desc without its name field, whose offset in the UAPI header differs between C++ and C.
struct Descriptor {
  uint32_t flags;
  int16_t exponent;
  uint16_t size;  // the number of 64-bit values
  uint32_t offset;
  uint32_t bucket_size;
};
static_assert(sizeof(Descriptor) == 16);

template <typename T>
Result<T> take(std::span<const std::byte> file, uint64_t offset) {
  if (offset > file.size() || file.size() - offset < sizeof(T))
    return fail("KVM's statistics are truncated");
  T value;
  std::memcpy(&value, file.data() + offset, sizeof(T));
  return value;
}

}  // namespace

Result<std::vector<KvmCounter>> parse_kvm_counters(std::span<const std::byte> file) {
  const auto header = TRY(take<kvm_stats_header>(file, 0));
  std::vector<KvmCounter> counters;
  for (uint64_t i = 0; i < header.num_desc; ++i) {
    const uint64_t at = header.desc_offset + i * (sizeof(Descriptor) + header.name_size);
    const auto descriptor = TRY(take<Descriptor>(file, at));
    KvmCounter counter;
    for (uint64_t c = 0; c < header.name_size; ++c) {
      const char character = TRY(take<char>(file, at + sizeof(Descriptor) + c));
      if (character == '\0') break;
      counter.name += character;
    }
    for (uint64_t v = 0; v < descriptor.size; ++v)
      counter.values.push_back(
          TRY(take<uint64_t>(file, uint64_t{header.data_offset} + descriptor.offset + v * 8)));
    counters.push_back(std::move(counter));
  }
  return counters;
}

std::vector<KvmCounter> read_kvm_counters(int fd) {
  const Fd stats(::ioctl(fd, KVM_GET_STATS_FD, nullptr));
  if (!stats.valid()) return {};
  std::vector<std::byte> file(64 << 10);
  const ssize_t size = ::pread(stats.get(), file.data(), file.size(), 0);
  file.resize(size < 0 ? 0 : static_cast<size_t>(size));
  auto counters = parse_kvm_counters(file);
  if (counters) return *std::move(counters);
  spdlog::warn("stats: {}", counters.error().message());
  return {};
}

}  // namespace wick::vmm

#include "vmm/video_memory.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <utility>

namespace wick::vmm {

namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kBits = 64;

}  // namespace

Result<std::unique_ptr<VideoMemory>> VideoMemory::create(const Vm& vm, uint64_t size_bytes) {
  const std::array ranges = {GuestMemory::Range{{0}, size_bytes}};
  return std::unique_ptr<VideoMemory>(new VideoMemory(vm, TRY(GuestMemory::create(ranges))));
}

VideoMemory::VideoMemory(const Vm& vm, GuestMemory memory)
    : vm_(vm), memory_(std::move(memory)), dirty_(region().size_bytes / kPageBytes / kBits) {}

VideoMemory::~VideoMemory() { move(0); }

void VideoMemory::map() {
  const auto mapped = vm_.map({.index = Vm::kVideoSlot,
                               .memory = {{address_}, region().size_bytes, region().host},
                               .access = logging_ ? Vm::Access::kLogged : Vm::Access::kReadWrite});
  if (mapped) return;
  // Without a mapping, the guest's accesses are exits, which the card serves.
  spdlog::error("vga: {}", mapped.error().message());
  address_ = 0;
}

void VideoMemory::move(uint64_t to) {
  const MutexLock lock(mutex_);
  collect();
  if (address_ != 0) vm_.unmap(Vm::kVideoSlot);
  address_ = to;
  if (address_ != 0) map();
}

void VideoMemory::set_logging(bool logging) {
  const MutexLock lock(mutex_);
  if (logging_ == logging) return;
  logging_ = logging;
  std::ranges::fill(dirty_, 0);
  if (address_ != 0) map();
}

void VideoMemory::take(std::span<uint64_t> bits) {
  const MutexLock lock(mutex_);
  collect();
  for (size_t i = 0; i < std::min(bits.size(), dirty_.size()); ++i)
    bits[i] |= std::exchange(dirty_[i], 0);
}

void VideoMemory::collect() {
  if (!logging_ || address_ == 0) return;
  std::vector<uint64_t> written(dirty_.size());
  if (const auto taken = vm_.take_dirty_pages(Vm::kVideoSlot, written); !taken) {
    spdlog::error("vga: {}", taken.error().message());
    std::ranges::fill(written, ~uint64_t{0});
  }
  for (size_t i = 0; i < dirty_.size(); ++i) dirty_[i] |= written[i];
}

}  // namespace wick::vmm

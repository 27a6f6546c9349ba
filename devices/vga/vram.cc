#include "devices/vga/vram.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "devices/vga/dirty_pages.h"

namespace wick::devices::vga {

namespace {

constexpr uint64_t kWordBytes = sizeof(uint64_t);
constexpr uint64_t kPagesPerWord = 64;

template <typename T>
std::atomic_ref<T> at(std::span<std::byte> bytes, uint64_t offset) {
  return std::atomic_ref<T>(*reinterpret_cast<T*>(bytes.data() + offset));
}

}  // namespace

Vram::Vram(std::span<std::byte> bytes)
    : bytes_(bytes),
      written_((bytes.size() / DirtyPages::kPageBytes + kPagesPerWord - 1) / kPagesPerWord) {
  assert(std::has_single_bit(bytes.size()) && bytes.size() >= kMinBytes);
  assert(reinterpret_cast<uintptr_t>(bytes.data()) % kWordBytes == 0);
}

void Vram::load(uint64_t address, uint64_t wrap_bytes, std::span<std::byte> to) const {
  assert(std::has_single_bit(wrap_bytes) && wrap_bytes <= bytes_.size());
  while (!to.empty()) {
    address &= wrap_bytes - 1;
    const uint64_t within = address % kWordBytes;
    const uint64_t word = at<uint64_t>(bytes_, address - within).load(std::memory_order_relaxed);
    if (within == 0 && to.size() >= kWordBytes) {
      std::memcpy(to.data(), &word, kWordBytes);
      to = to.subspan(kWordBytes);
      address += kWordBytes;
      continue;
    }
    const size_t copied = std::min<size_t>(kWordBytes - within, to.size());
    std::memcpy(to.data(), reinterpret_cast<const std::byte*>(&word) + within, copied);
    to = to.subspan(copied);
    address += copied;
  }
}

uint8_t Vram::load_byte(uint64_t address) const {
  return at<uint8_t>(bytes_, address & (bytes_.size() - 1)).load(std::memory_order_relaxed);
}

void Vram::store_byte(uint64_t address, uint8_t value) {
  address &= bytes_.size() - 1;
  at<uint8_t>(bytes_, address).store(value, std::memory_order_relaxed);
  mark(address);
}

uint32_t Vram::load_planes(uint64_t plane_address) const {
  return at<uint32_t>(bytes_, plane_address * 4 & (bytes_.size() - 1))
      .load(std::memory_order_relaxed);
}

void Vram::store_planes(uint64_t plane_address, uint32_t value) {
  const uint64_t address = plane_address * 4 & (bytes_.size() - 1);
  at<uint32_t>(bytes_, address).store(value, std::memory_order_relaxed);
  mark(address);
}

void Vram::clear(uint64_t size_bytes) {
  const uint64_t end = std::min<uint64_t>(size_bytes, bytes_.size()) / kWordBytes * kWordBytes;
  for (uint64_t i = 0; i < end; i += kWordBytes)
    at<uint64_t>(bytes_, i).store(0, std::memory_order_relaxed);
  for (uint64_t i = end; i < std::min<uint64_t>(size_bytes, bytes_.size()); ++i) store_byte(i, 0);
  for (uint64_t i = 0; i < end; i += DirtyPages::kPageBytes) mark(i);
}

void Vram::mark(uint64_t address) {
  const uint64_t page = address / DirtyPages::kPageBytes;
  // Sets the bit after the data, with release order, so that a thread that takes the bit also sees
  // the data.
  written_[page / kPagesPerWord].fetch_or(uint64_t{1} << page % kPagesPerWord,
                                          std::memory_order_release);
}

void Vram::take_written(std::span<uint64_t> bits) {
  for (size_t i = 0; i < std::min(bits.size(), written_.size()); ++i)
    bits[i] |= written_[i].exchange(0, std::memory_order_acquire);
}

}  // namespace wick::devices::vga

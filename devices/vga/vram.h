// The video memory: bounded accesses, and a record of the pages that wick writes for the guest.
//
// Its layout is that of all VGAs with a linear frame buffer: the four planes are interleaved, so
// that byte n of plane p is at 4 * n + p.
//
// Thread rule: any thread, without a lock. The guest writes the memory directly at any time, so
// accesses are atomic, word by word, and two reads of one word may differ.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wick::devices::vga {

class Vram {
 public:
  static constexpr uint64_t kMinBytes = 256 << 10;  // the four planes of a VGA

  // `bytes` is aligned to 8 bytes; its size is a power of two and at least kMinBytes. The memory
  // belongs to the caller and must outlive the object.
  explicit Vram(std::span<std::byte> bytes);

  uint64_t size_bytes() const { return bytes_.size(); }

  // Copies bytes from `address` on. Addresses wrap around at `wrap_bytes`, a power of two that is
  // at most the memory's size.
  void load(uint64_t address, uint64_t wrap_bytes, std::span<std::byte> to) const;

  // The next functions wrap addresses around at the memory's size.
  uint8_t load_byte(uint64_t address) const;
  void store_byte(uint64_t address, uint8_t value);
  // Access the byte of each plane at one address of the planes; plane 0 is the lowest byte.
  uint32_t load_planes(uint64_t plane_address) const;
  void store_planes(uint64_t plane_address, uint32_t value);

  // Clears the first `size_bytes`, or the whole memory if it is smaller.
  void clear(uint64_t size_bytes);

  // Returns the number of words of a bitmap with one bit per page.
  size_t bitmap_words() const { return written_.size(); }
  // Sets the bits of the pages written by the functions above since the call before.
  void take_written(std::span<uint64_t> bits);

 private:
  void mark(uint64_t address);

  const std::span<std::byte> bytes_;
  std::vector<std::atomic<uint64_t>> written_;
};

}  // namespace wick::devices::vga

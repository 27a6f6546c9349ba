// The content of a file in memory. Holes need no memory, and copies share equal pages, so
// a test can keep thousands of states of one image.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace wick::fakes {

class SparseBytes {
 public:
  uint64_t size_bytes() const { return size_bytes_; }
  void grow(uint64_t size_bytes) { size_bytes_ = std::max(size_bytes_, size_bytes); }

  void resize(uint64_t size_bytes) {
    if (size_bytes < size_bytes_) clear(size_bytes, size_bytes_ - size_bytes);
    size_bytes_ = size_bytes;
  }

  // Holes and bytes beyond the end read as zeroes.
  void read(uint64_t offset, std::span<std::byte> to) const {
    for_pages(offset, to.size(), [&](uint64_t page, uint64_t in_page, uint64_t done, size_t size) {
      if (page < pages_.size() && pages_[page])
        std::memcpy(&to[done], pages_[page]->data() + in_page, size);
      else
        std::memset(&to[done], 0, size);
    });
  }

  void write(uint64_t offset, std::span<const std::byte> from) {
    grow(offset + from.size());
    for_pages(offset, from.size(), [&](uint64_t page, uint64_t at, uint64_t done, size_t size) {
      std::memcpy(own(page).data() + at, &from[done], size);
    });
  }

  // Allocates space for the range, in whole pages as a host's file system does.
  void reserve(uint64_t offset, uint64_t length) {
    for_pages(offset, length, [&](uint64_t page, uint64_t, uint64_t, size_t) { own(page); });
  }
  uint64_t missing_bytes(uint64_t offset, uint64_t length) const {
    uint64_t missing = 0;
    for_pages(offset, length, [&](uint64_t page, uint64_t, uint64_t, size_t) {
      if (page >= pages_.size() || !pages_[page]) missing += kPageBytes;
    });
    return missing;
  }
  uint64_t allocated_bytes() const {
    return static_cast<uint64_t>(
               std::ranges::count_if(pages_, [](const auto& page) { return page != nullptr; })) *
           kPageBytes;
  }

  // Makes a hole; does not extend the file.
  void clear(uint64_t offset, uint64_t length) {
    if (offset >= size_bytes_) return;
    length = std::min(length, size_bytes_ - offset);
    for_pages(offset, length, [&](uint64_t page, uint64_t at, uint64_t, size_t size) {
      if (page >= pages_.size() || !pages_[page]) return;
      if (size == kPageBytes)
        pages_[page].reset();
      else
        std::memset(own(page).data() + at, 0, size);
    });
  }

 private:
  static constexpr size_t kPageBytes = 4096;
  using Page = std::array<std::byte, kPageBytes>;

  template <typename Action>
  static void for_pages(uint64_t offset, uint64_t length, Action action) {
    for (uint64_t done = 0; done < length;) {
      const uint64_t in_page = (offset + done) % kPageBytes;
      const auto size = static_cast<size_t>(std::min(length - done, kPageBytes - in_page));
      action((offset + done) / kPageBytes, in_page, done, size);
      done += size;
    }
  }

  Page& own(uint64_t page) {
    if (page >= pages_.size()) pages_.resize(page + 1);
    std::shared_ptr<Page>& place = pages_[page];
    if (!place)
      place = std::make_shared<Page>();
    else if (place.use_count() > 1)
      place = std::make_shared<Page>(*place);
    return *place;
  }

  uint64_t size_bytes_ = 0;
  std::vector<std::shared_ptr<Page>> pages_;
};

}  // namespace wick::fakes

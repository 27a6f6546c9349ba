// Memory for the frames of coroutines. A request of a disk takes some five frames, and hundreds of
// requests can be in flight. malloc() keeps only seven free blocks of each size for fast reuse by
// their thread, and takes several times as long if more are needed.
//
// Thread rule: each thread has its own free frames. A frame may end on another thread than
// the one it began on.
#pragma once

#include <array>
#include <cstddef>
#include <new>
#include <utility>

namespace wick {

class FramePool {
 public:
  static void* allocate(size_t size_bytes) {
    if (FreeList* const list = list_for(size_bytes); list != nullptr && list->first != nullptr) {
      --list->count;
      return std::exchange(list->first, list->first->next);
    }
    return ::operator new(rounded(size_bytes));
  }
  static void release(void* frame, size_t size_bytes) {
    FreeList* const list = list_for(size_bytes);
    if (list == nullptr || list->count == kMaxFree) return ::operator delete(frame);
    ++list->count;
    list->first = new (frame) Free{list->first};
  }

 private:
  static constexpr size_t kStepBytes = 64;
  static constexpr size_t kSizes = 16;  // larger frames, of more than 1 KiB, are rare
  static constexpr size_t kMaxFree = 256;
  // The pool is off with AddressSanitizer, which then sees the use of a freed frame.
#if defined(__SANITIZE_ADDRESS__)  // g++
  static constexpr bool kEnabled = false;
#elif defined(__clang__)
  static constexpr bool kEnabled = !__has_feature(address_sanitizer);
#else
  static constexpr bool kEnabled = true;
#endif

  struct Free {
    Free* next;
  };
  struct FreeList {
    Free* first = nullptr;
    size_t count = 0;
    ~FreeList() {
      while (first != nullptr) ::operator delete(std::exchange(first, first->next));
    }
  };

  static size_t rounded(size_t size_bytes) {
    return (size_bytes + kStepBytes - 1) / kStepBytes * kStepBytes;
  }
  static FreeList* list_for(size_t size_bytes) {
    thread_local std::array<FreeList, kSizes> lists;
    const size_t index = (size_bytes - 1) / kStepBytes;
    return kEnabled && index < kSizes ? &lists[index] : nullptr;
  }
};

}  // namespace wick

// A shared or exclusive lock on ranges of numbers, for coroutines of one loop. In qcow2 the
// numbers are clusters of the guest's disk: a request that does not change the mapping of its
// clusters holds them shared, a request that changes it holds them exclusively.
//
// Thread rule: one EventLoop, without locks of its own.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace wick::block {

class RangeLock {
 private:
  // A holder or a waiter, in the frame of its coroutine.
  struct Entry {
    uint64_t first;
    uint64_t last;
    bool exclusive;
    std::coroutine_handle<> waiting;  // empty: holds the lock
    Entry* previous = nullptr;
    Entry* next = nullptr;
  };

 public:
  // Holds a range until destroyed or released.
  class Held {
   public:
    Held(Held&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)), entry_(other.entry_) {
      if (lock_ != nullptr) lock_->link(entry_);
    }
    Held& operator=(Held&&) = delete;
    ~Held() { release(); }
    void release() {
      if (RangeLock* const lock = std::exchange(lock_, nullptr)) lock->remove(entry_);
    }

   private:
    friend class RangeLock;
    Held(RangeLock& lock, const Entry& waiter) : lock_(&lock), entry_(waiter) {
      lock.link(entry_);  // takes the waiter's place in the list
      entry_.waiting = {};
    }
    RangeLock* lock_;
    Entry entry_;
  };

  class Awaiter {
   public:
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;
    bool await_ready() const { return !lock_.conflicts(entry_); }
    void await_suspend(std::coroutine_handle<> waiting) {
      entry_.waiting = waiting;
      ++lock_.waiters_;
    }
    Held await_resume() const { return {lock_, entry_}; }

   private:
    friend class RangeLock;
    Awaiter(RangeLock& lock, uint64_t first, uint64_t last, bool exclusive)
        : lock_(lock), entry_{first, last, exclusive, {}, lock.last_} {
      lock.link(entry_);
      lock.exclusives_ += exclusive ? 1 : 0;
    }
    RangeLock& lock_;
    Entry entry_;
  };

  // The caller must co_await the result at once. Locks are granted in the order of the calls,
  // so that no coroutine starves.
  Awaiter shared(uint64_t first, uint64_t last) { return enter(first, last, false); }
  Awaiter exclusive(uint64_t first, uint64_t last) { return enter(first, last, true); }
  Awaiter enter(uint64_t first, uint64_t last, bool exclusive) {
    return {*this, first, last, exclusive};
  }

 private:
  // Makes the entry's neighbours point to it.
  void link(Entry& entry) {
    (entry.previous != nullptr ? entry.previous->next : first_) = &entry;
    (entry.next != nullptr ? entry.next->previous : last_) = &entry;
  }

  bool conflicts(const Entry& entry) const {
    if (exclusives_ == 0) return false;
    for (const Entry* other = entry.previous; other != nullptr; other = other->previous)
      if (other->first <= entry.last && entry.first <= other->last &&
          (other->exclusive || entry.exclusive))
        return true;
    return false;
  }

  // A resumed waiter may change the list, so the search starts anew each time. It may also
  // release its own range, but that must not resume others: a guest can have thousands of
  // waiters, and nested resumes would overflow the stack.
  void remove(Entry& entry) {
    (entry.previous != nullptr ? entry.previous->next : first_) = entry.next;
    (entry.next != nullptr ? entry.next->previous : last_) = entry.previous;
    exclusives_ -= entry.exclusive ? 1 : 0;
    if (waiters_ == 0 || std::exchange(resuming_, true)) return;
    while (std::coroutine_handle<> ready = next_ready()) ready.resume();
    resuming_ = false;
  }
  std::coroutine_handle<> next_ready() {
    if (waiters_ == 0) return {};
    for (Entry* entry = first_; entry != nullptr; entry = entry->next)
      if (entry->waiting && !conflicts(*entry)) {
        --waiters_;
        return std::exchange(entry->waiting, {});
      }
    return {};
  }

  // Holders and waiters, in the order of the calls.
  Entry* first_ = nullptr;
  Entry* last_ = nullptr;
  size_t exclusives_ = 0;
  size_t waiters_ = 0;  // the number of suspended coroutines
  bool resuming_ = false;
};

}  // namespace wick::block

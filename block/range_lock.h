// A lock on ranges of numbers, for coroutines of one loop: those that share a
// range run side by side, one that has it exclusively runs alone. In qcow2 the
// numbers are clusters of the guest's disk: a request that leaves each cluster
// where it is shares it with others, and must not meet one that changes where
// it is.
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
  // A holder or a waiter; it lies in that coroutine's frame.
  struct Entry {
    uint64_t first;
    uint64_t last;
    bool exclusive;
    std::coroutine_handle<> waiting;  // none: it holds the lock
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
      lock.link(entry_);  // in the waiter's place
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

  // To be awaited at once. In the order of asking, so that nobody starves.
  Awaiter shared(uint64_t first, uint64_t last) { return enter(first, last, false); }
  Awaiter exclusive(uint64_t first, uint64_t last) { return enter(first, last, true); }
  Awaiter enter(uint64_t first, uint64_t last, bool exclusive) {
    return {*this, first, last, exclusive};
  }

 private:
  // Its neighbours, which it knows, get to know it.
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

  // A waiter that runs may change the list under us, so each is looked for anew; and
  // may release its own range, which must not nest: a guest has thousands of waiters.
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

  // In the order of asking; holders and waiters.
  Entry* first_ = nullptr;
  Entry* last_ = nullptr;
  size_t exclusives_ = 0;
  size_t waiters_ = 0;  // suspended
  bool resuming_ = false;
};

}  // namespace wick::block

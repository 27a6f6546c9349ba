// Locks over ranges of numbers (a disk's clusters), for coroutines of one loop:
// requests that share a cluster wait for one that changes where it is.
//
// Thread rule: one EventLoop, without locks of its own.
#pragma once

#include <coroutine>
#include <cstdint>
#include <list>
#include <utility>

namespace wick::block {

class RangeLock {
 private:
  struct Entry {
    uint64_t first;
    uint64_t last;
    bool exclusive;
    std::coroutine_handle<> waiting;  // none: it holds the lock
  };
  using Place = std::list<Entry>::iterator;

 public:
  // Holds a range until destroyed or released.
  class Held {
   public:
    Held(RangeLock& lock, Place place) : lock_(&lock), place_(place) {}
    Held(Held&& other) noexcept
        : lock_(std::exchange(other.lock_, nullptr)), place_(other.place_) {}
    Held& operator=(Held&&) = delete;
    ~Held() { release(); }
    void release() {
      if (RangeLock* const lock = std::exchange(lock_, nullptr)) lock->remove(place_);
    }

   private:
    RangeLock* lock_;
    Place place_;
  };

  class Awaiter {
   public:
    Awaiter(RangeLock& lock, Place place) : lock_(lock), place_(place) {}
    bool await_ready() const { return !lock_.conflicts(place_); }
    void await_suspend(std::coroutine_handle<> waiting) const { place_->waiting = waiting; }
    Held await_resume() const {
      place_->waiting = {};
      return {lock_, place_};
    }

   private:
    RangeLock& lock_;
    Place place_;
  };

  // To be awaited at once. In the order of asking, so that nobody starves.
  Awaiter shared(uint64_t first, uint64_t last) { return enter(first, last, false); }
  Awaiter exclusive(uint64_t first, uint64_t last) { return enter(first, last, true); }
  Awaiter enter(uint64_t first, uint64_t last, bool exclusive) {
    return {*this, entries_.insert(entries_.end(), {first, last, exclusive, {}})};
  }

 private:
  bool conflicts(Place place) const {
    for (auto other = entries_.begin(); other != entries_.end() && &*other != &*place; ++other)
      if (other->first <= place->last && place->first <= other->last &&
          (other->exclusive || place->exclusive))
        return true;
    return false;
  }

  // A waiter that runs may change the list under us, so each is looked for anew; and
  // may release its own range, which must not nest: a guest has thousands of waiters.
  void remove(Place place) {
    entries_.erase(place);
    if (std::exchange(resuming_, true)) return;
    while (std::coroutine_handle<> ready = next_ready()) ready.resume();
    resuming_ = false;
  }
  std::coroutine_handle<> next_ready() {
    for (Place place = entries_.begin(); place != entries_.end(); ++place)
      if (place->waiting && !conflicts(place)) return std::exchange(place->waiting, {});
    return {};
  }

  std::list<Entry> entries_;  // in the order of asking; holders and waiters
  bool resuming_ = false;
};

}  // namespace wick::block

// A limit on the bytes that coroutines of one loop hold at once. If not enough are left, a
// coroutine waits. Coroutines get their bytes in the order in which they asked.
//
// Thread rule: one EventLoop, without locks of its own.
#pragma once

#include <algorithm>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <utility>

namespace wick::block {

class ByteBudget {
 public:
  explicit ByteBudget(uint64_t total_bytes) : total_bytes_(total_bytes), free_bytes_(total_bytes) {}
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  // The bytes that a coroutine has taken. The destructor gives them back.
  class Held {
   public:
    Held(Held&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), bytes_(other.bytes_) {}
    Held& operator=(Held&&) = delete;
    ~Held() {
      if (budget_ != nullptr) budget_->give_back(bytes_);
    }

   private:
    friend class ByteBudget;
    Held(ByteBudget& budget, uint64_t bytes) : budget_(&budget), bytes_(bytes) {}
    ByteBudget* budget_;
    uint64_t bytes_;
  };

  class Awaiter {
   public:
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;
    bool await_ready() const {
      if (bytes_ > 0 && (!budget_.waiting_.empty() || bytes_ > budget_.free_bytes_)) return false;
      budget_.free_bytes_ -= bytes_;
      return true;
    }
    void await_suspend(std::coroutine_handle<> handle) {
      handle_ = handle;
      budget_.waiting_.push_back(this);
    }
    Held await_resume() const { return {budget_, bytes_}; }

   private:
    friend class ByteBudget;
    Awaiter(ByteBudget& budget, uint64_t bytes) : budget_(budget), bytes_(bytes) {}
    ByteBudget& budget_;
    const uint64_t bytes_;
    std::coroutine_handle<> handle_;
  };

  // The caller must co_await the result. A request for more than the total gets the total.
  Awaiter take(uint64_t bytes) { return {*this, std::min(bytes, total_bytes_)}; }

 private:
  // A resumed coroutine may call give_back() for its own bytes. This inner call only adds the
  // bytes, because hundreds of nested resumes would overflow the stack.
  void give_back(uint64_t bytes) {
    free_bytes_ += bytes;
    if (std::exchange(resuming_, true)) return;
    while (!waiting_.empty() && waiting_.front()->bytes_ <= free_bytes_) {
      const Awaiter& next = *waiting_.front();
      waiting_.pop_front();
      free_bytes_ -= next.bytes_;
      next.handle_.resume();
    }
    resuming_ = false;
  }

  const uint64_t total_bytes_;
  uint64_t free_bytes_;
  std::deque<Awaiter*> waiting_;  // each in the frame of its coroutine
  bool resuming_ = false;
};

}  // namespace wick::block

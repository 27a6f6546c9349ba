// Coroutines for code that waits: a Task<T> is one asynchronous call that
// reads from top to bottom.
//
//   Task<Result<void>> Raw::read(...) {
//     const int32_t result = co_await io.read(...);
//     ...
//     co_return Result<void>();
//   }
//
// A Task starts when it is awaited (or spawned) and must be awaited at most once. It runs on the
// thread that resumes it; Tasks that await each other must share one thread. A Task cannot be
// cancelled: to stop, wait until all Tasks are done. Reference arguments of a coroutine must live
// until the Task is done, which is always so if the caller awaits it in the same expression.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "base/frame_pool.h"

namespace wick {

template <typename T = void>
class Task;

namespace task_internal {

// Resumes the awaiter of a finished Task.
struct FinalAwaiter {
  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) const noexcept {
    return done.promise().finish();
  }
  void await_resume() const noexcept {}
};

struct PromiseBase {
  std::coroutine_handle<> awaiting = std::noop_coroutine();
  bool starting = false;  // the first resume() is on the stack

  // Returns the coroutine to resume next. If the Task finished without suspending, its awaiter's
  // await_suspend() is still on the stack: then nothing must be resumed, and await_suspend()
  // returns false. So a loop over such Tasks does not grow the stack even if symmetric transfer is
  // not a tail call (g++ without optimisation, or with a sanitizer).
  std::coroutine_handle<> finish() {
    return std::exchange(starting, false) ? std::noop_coroutine() : awaiting;
  }
  static void* operator new(size_t size_bytes) { return FramePool::allocate(size_bytes); }
  static void operator delete(void* frame, size_t size_bytes) {
    FramePool::release(frame, size_bytes);
  }
  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  // wick's code throws nothing; exceptions of the library (bad_alloc) are fatal.
  [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  void return_value(T result) { value.emplace(std::move(result)); }
  T take() { return std::move(*value); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() const {}
  void take() const {}
};

}  // namespace task_internal

template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = task_internal::Promise<T>;

  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  // Returns false if the Task is already done: the awaiter continues without suspending.
  bool await_suspend(std::coroutine_handle<> awaiting) {
    auto& promise = handle_.promise();
    promise.awaiting = awaiting;
    promise.starting = true;
    handle_.resume();
    return std::exchange(promise.starting, false);
  }
  T await_resume() { return handle_.promise().take(); }

 private:
  std::coroutine_handle<promise_type> handle_;
};

namespace task_internal {

template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}

inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}

struct Detached {
  struct promise_type {
    static void* operator new(size_t size_bytes) { return FramePool::allocate(size_bytes); }
    static void operator delete(void* frame, size_t size_bytes) {
      FramePool::release(frame, size_bytes);
    }
    Detached get_return_object() const { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };
};

}  // namespace task_internal

// Starts `task` now. The Task frees itself when it is done.
inline void spawn(Task<void> task) {
  [](Task<void> owned) -> task_internal::Detached { co_await owned; }(std::move(task));
}

}  // namespace wick

// Coroutines for code that waits: a Task<T> is one asynchronous call that
// reads from top to bottom.
//
//   Task<Result<void>> Raw::read(...) {
//     const int32_t result = co_await io.read(...);
//     ...
//     co_return Result<void>();
//   }
//
// A Task starts when it is awaited (or spawned), runs on the thread that
// resumes it, one for all that await each other, and must be awaited at most
// once. There is no cancellation: who wants to stop drains. Arguments that a
// coroutine uses after its first co_await must live until the Task is done;
// callers that await at once need not think about it.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

namespace wick {

template <typename T = void>
class Task;

namespace task_internal {

// Goes back to whoever awaits.
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
  bool starting = false;  // its first resume() is on the stack

  // Who goes on. If it never waited, that resume() returns to whoever awaits: so a
  // loop over such Tasks takes no stack, even where symmetric transfer is no tail
  // call (g++ without optimisation, or with a sanitizer).
  std::coroutine_handle<> finish() {
    return std::exchange(starting, false) ? std::noop_coroutine() : awaiting;
  }
  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  // Our code throws nothing; what the library throws (bad_alloc) is fatal.
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
  // False: it is done already.
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
    Detached get_return_object() const { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };
};

}  // namespace task_internal

// Starts `task` now and lets it finish by itself.
inline void spawn(Task<void> task) {
  [](Task<void> owned) -> task_internal::Detached { co_await owned; }(std::move(task));
}

}  // namespace wick

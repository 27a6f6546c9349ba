// A mutex whose use clang checks at compile time (./dev lint; clang's thread-safety analysis).
// The annotations name the mutex that guards a variable, and the mutex that a caller must hold,
// or must not hold. GCC ignores them.
#pragma once

#include <mutex>

#ifdef __clang__
#define WICK_THREAD_ANNOTATION(attribute) __attribute__((attribute))
#else
#define WICK_THREAD_ANNOTATION(attribute)
#endif

// Of a variable: it may be accessed only with the mutex held.
#define GUARDED_BY(mutex) WICK_THREAD_ANNOTATION(guarded_by(mutex))
// Of a pointer: what it points to may be accessed only with the mutex held.
#define PT_GUARDED_BY(mutex) WICK_THREAD_ANNOTATION(pt_guarded_by(mutex))
// Of a mutex: it must be locked before the other one.
#define ACQUIRED_BEFORE(...) WICK_THREAD_ANNOTATION(acquired_before(__VA_ARGS__))
// Of a function: the caller must hold the mutex.
#define REQUIRES(...) WICK_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
// Of a function: the caller must not hold the mutex.
#define EXCLUDES(...) WICK_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
// Of a function: it locks the mutex and returns with it locked.
#define ACQUIRE(...) WICK_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
// Of a function: it locks the mutex if it returns the macro's argument.
#define TRY_ACQUIRE(...) WICK_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
// Of a function: it unlocks the mutex, which the caller holds.
#define RELEASE(...) WICK_THREAD_ANNOTATION(release_capability(__VA_ARGS__))

namespace wick {

class WICK_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }
  bool try_lock() TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

// Holds a mutex until the end of the scope. It may be unlocked earlier, and locked again.
class WICK_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : lock_(mutex) {}
  ~MutexLock() RELEASE() = default;
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void lock() ACQUIRE() { lock_.lock(); }
  void unlock() RELEASE() { lock_.unlock(); }

 private:
  std::unique_lock<Mutex> lock_;
};

}  // namespace wick

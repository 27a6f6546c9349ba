// A graphics card and input devices that do what a test says, and remember what was done to them.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/input.h"
#include "base/mutex.h"
#include "display/picture.h"
#include "tests/fakes/wait_for.h"

namespace wick::display {

// A card whose screen is what was painted last.
//
// Thread rule: any thread; locks itself.
class FakeCard : public Source {
 public:
  FakeCard(uint32_t width, uint32_t height) { resize(width, height); }

  void resize(uint32_t width, uint32_t height) {
    const MutexLock lock(mutex_);
    picture_ = {width, height, std::vector<uint32_t>(size_t{width} * height, 0x102030)};
    whole_ = true;
  }
  void paint(Rectangle where, uint32_t color) {
    const MutexLock lock(mutex_);
    for (uint32_t y = where.y; y < where.y + where.height; ++y) {
      for (uint32_t x = where.x; x < where.x + where.width; ++x)
        picture_.pixels[size_t{y} * picture_.width + x] = color;
    }
    changes_.push_back(where);
  }

  void draw(Picture& picture) override {
    const MutexLock lock(mutex_);
    picture = picture_;
  }
  void watch(bool watched) override {
    const MutexLock lock(mutex_);
    watched_ = watched;
    whole_ = true;
  }
  std::vector<Rectangle> update(Picture& picture) override {
    const MutexLock lock(mutex_);
    ++updates_;
    const bool resized = picture.width != picture_.width || picture.height != picture_.height;
    const bool all = std::exchange(whole_, false) || resized;
    auto changes = std::exchange(changes_, {});
    if (all || !changes.empty()) picture = picture_;
    if (all) return {{0, 0, picture_.width, picture_.height}};
    return changes;
  }

  bool watched() const { return watched_; }
  int updates() const { return updates_; }

 private:
  mutable Mutex mutex_;
  Picture picture_ GUARDED_BY(mutex_);
  std::vector<Rectangle> changes_ GUARDED_BY(mutex_);
  bool whole_ GUARDED_BY(mutex_) = true;
  std::atomic<bool> watched_ = false;
  std::atomic<int> updates_ = 0;
};

// Writes down each call as a line.
//
// Thread rule: any thread; locks itself.
class RecordingInput : public InputSink {
 public:
  void key(uint16_t code, bool down) override {
    add(fmt::format("{} {}", code, down ? "down" : "up"));
  }
  void move_to(uint16_t x, uint16_t y) override { add(fmt::format("to {} {}", x, y)); }
  void move_by(int dx, int dy) override { add(fmt::format("by {} {}", dx, dy)); }
  void scroll(int steps) override { add(fmt::format("scroll {}", steps)); }

  std::vector<std::string> calls() const {
    const MutexLock lock(mutex_);
    return calls_;
  }
  void clear() {
    const MutexLock lock(mutex_);
    calls_.clear();
  }

 private:
  void add(std::string line) {
    const MutexLock lock(mutex_);
    calls_.push_back(std::move(line));
  }

  mutable Mutex mutex_;
  std::vector<std::string> calls_ GUARDED_BY(mutex_);
};

}  // namespace wick::display

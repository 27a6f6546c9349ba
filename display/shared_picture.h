// One picture of the guest's screen for several viewers. Each viewer has its own copy, and gets
// only what has changed since its last look. So a slow viewer delays no other viewer.
//
// Thread rule: any thread; locks itself. A Viewer's copy belongs to the viewer's thread.
#pragma once

#include <cstddef>
#include <vector>

#include "base/fd.h"
#include "base/mutex.h"
#include "display/picture.h"

namespace wick::display {

class SharedPicture {
 public:
  // The size before a graphics card has drawn anything, and the size of a copy that is made while
  // the screen has no pixels.
  static constexpr uint32_t kFirstWidth = 640, kFirstHeight = 480;
  // If more rectangles than this have changed, they become one: the smallest rectangle around them.
  static constexpr size_t kMaxRectangles = 64;

  class Viewer {
   public:
    // `wake` is signalled when there is something to copy. `wake` must outlive the viewer.
    explicit Viewer(const EventFd& wake) : wake_(wake) {}

   private:
    friend class SharedPicture;
    const EventFd& wake_;
    // Guarded by SharedPicture::mutex_.
    bool whole_ = true;
    std::vector<Rectangle> changes_;
  };

  explicit SharedPicture(Source* source);
  ~SharedPicture();
  SharedPicture(const SharedPicture&) = delete;
  SharedPicture& operator=(const SharedPicture&) = delete;

  // Replaces the source. Waits for calls to the old source that are under way; no call follows
  // them. Without a source (nullptr) the picture is black.
  void set_source(Source* source);

  // The source is watched while there are viewers.
  void add_viewer(Viewer& viewer);
  void remove_viewer(Viewer& viewer);
  size_t viewers() const;

  // Draws what the guest has changed, and wakes the viewers. Returns false if nothing has changed,
  // or if there is no viewer or no source.
  bool update();

  // Copies to `copy` what has changed since this viewer's last call, and returns the changed
  // rectangles. If the picture's size has changed, the whole copy has changed. `copy` never becomes
  // empty.
  std::vector<Rectangle> copy_changes(Viewer& viewer, Picture& copy);

 private:
  void mark_all() REQUIRES(mutex_);
  void watch(bool watched) REQUIRES(mutex_);

  mutable Mutex mutex_;
  Source* source_ GUARDED_BY(mutex_);
  Picture picture_ GUARDED_BY(mutex_);
  std::vector<Viewer*> viewers_ GUARDED_BY(mutex_);
};

}  // namespace wick::display

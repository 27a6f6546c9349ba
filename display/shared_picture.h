// One picture of the guest's screen for several viewers. Each viewer has a copy of its own, so that
// a slow viewer delays no other, and gets only what has changed since its last look.
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
  // The size before a graphics card has drawn anything, and what a card that is off shows.
  static constexpr uint32_t kFirstWidth = 640, kFirstHeight = 480;
  // More changes than this are one: the smallest rectangle around them.
  static constexpr size_t kMaxRectangles = 64;

  class Viewer {
   public:
    // `wake` is signalled when there is something to copy. It must outlive the viewer.
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

  // Waits for calls to the old source that are under way; none follows. Without a source the
  // picture is black.
  void set_source(Source* source);

  // The source is watched while there are viewers.
  void add_viewer(Viewer& viewer);
  void remove_viewer(Viewer& viewer);
  size_t viewers() const;

  // Draws what the guest has changed, and wakes the viewers. False if nothing has changed, or
  // nobody watches.
  bool update();

  // Copies what has changed for this viewer to its copy, and returns where. Never makes the copy
  // empty. If the size changes, the whole copy does.
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

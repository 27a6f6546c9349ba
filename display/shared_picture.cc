#include "display/shared_picture.h"

#include <algorithm>

namespace wick::display {

namespace {

// Returns false if the picture has no pixels, or no valid size.
bool has_pixels(const Picture& picture) {
  return picture.width > 0 && picture.height > 0 && picture.width <= Picture::kMaxWidth &&
         picture.height <= Picture::kMaxHeight &&
         picture.pixels.size() == size_t{picture.width} * picture.height;
}

// Returns the part of the rectangle that is inside of the picture; its width or height may be 0.
Rectangle clip(const Rectangle& rectangle, const Picture& picture) {
  const uint32_t x = std::min(rectangle.x, picture.width);
  const uint32_t y = std::min(rectangle.y, picture.height);
  return {x, y, std::min(rectangle.width, picture.width - x),
          std::min(rectangle.height, picture.height - y)};
}

Rectangle whole(const Picture& picture) { return {0, 0, picture.width, picture.height}; }

// Returns the smallest rectangle around all rectangles. There must be at least one rectangle.
Rectangle around(const std::vector<Rectangle>& rectangles) {
  uint32_t left = UINT32_MAX, top = UINT32_MAX, right = 0, bottom = 0;
  for (const Rectangle& each : rectangles) {
    left = std::min(left, each.x);
    top = std::min(top, each.y);
    right = std::max(right, each.x + each.width);
    bottom = std::max(bottom, each.y + each.height);
  }
  return {left, top, right - left, bottom - top};
}

void copy_rectangle(const Picture& from, Picture& to, const Rectangle& rectangle) {
  for (uint32_t row = 0; row < rectangle.height; ++row) {
    const size_t start = size_t{rectangle.y + row} * from.width + rectangle.x;
    std::copy_n(from.pixels.begin() + static_cast<ptrdiff_t>(start), rectangle.width,
                to.pixels.begin() + static_cast<ptrdiff_t>(start));
  }
}

}  // namespace

SharedPicture::SharedPicture(Source* source) : source_(source) {
  picture_.width = kFirstWidth;
  picture_.height = kFirstHeight;
  picture_.pixels.assign(size_t{kFirstWidth} * kFirstHeight, 0);
}

SharedPicture::~SharedPicture() {
  const MutexLock lock(mutex_);
  watch(false);
}

void SharedPicture::watch(bool watched) {
  if (source_ != nullptr && !viewers_.empty()) source_->watch(watched);
}

void SharedPicture::mark_all() {
  for (Viewer* const viewer : viewers_) {
    viewer->whole_ = true;
    viewer->changes_.clear();
    viewer->wake_.signal();
  }
}

void SharedPicture::set_source(Source* source) {
  const MutexLock lock(mutex_);
  if (source == source_) return;
  watch(false);
  source_ = source;
  watch(true);
  std::ranges::fill(picture_.pixels, 0);
  mark_all();
}

void SharedPicture::add_viewer(Viewer& viewer) {
  const MutexLock lock(mutex_);
  viewers_.push_back(&viewer);
  if (viewers_.size() == 1) watch(true);
}

void SharedPicture::remove_viewer(Viewer& viewer) {
  const MutexLock lock(mutex_);
  if (viewers_.size() == 1 && viewers_.front() == &viewer) watch(false);
  std::erase(viewers_, &viewer);
}

size_t SharedPicture::viewers() const {
  const MutexLock lock(mutex_);
  return viewers_.size();
}

bool SharedPicture::update() {
  const MutexLock lock(mutex_);
  if (source_ == nullptr || viewers_.empty()) return false;
  const uint32_t width = picture_.width, height = picture_.height;
  const std::vector<Rectangle> changes = source_->update(picture_);
  if (picture_.width != width || picture_.height != height) {
    mark_all();
    return true;
  }
  if (changes.empty()) return false;
  for (Viewer* const viewer : viewers_) {
    for (const Rectangle& change : changes) {
      const Rectangle inside = clip(change, picture_);
      if (viewer->whole_ || inside.width == 0 || inside.height == 0) continue;
      viewer->changes_.push_back(inside);
      if (viewer->changes_.size() > kMaxRectangles) viewer->changes_ = {around(viewer->changes_)};
    }
    viewer->wake_.signal();
  }
  return true;
}

std::vector<Rectangle> SharedPicture::copy_changes(Viewer& viewer, Picture& copy) {
  const MutexLock lock(mutex_);
  std::vector<Rectangle> changes = std::exchange(viewer.changes_, {});
  const bool all = std::exchange(viewer.whole_, false);
  if (!has_pixels(picture_)) {
    // The copy has a size even while the guest's screen has none.
    if (copy.pixels.empty()) copy = {kFirstWidth, kFirstHeight, {}};
    copy.pixels.assign(size_t{copy.width} * copy.height, 0);
    return {whole(copy)};
  }
  if (all || copy.width != picture_.width || copy.height != picture_.height) {
    copy = picture_;
    return {whole(copy)};
  }
  for (const Rectangle& change : changes) copy_rectangle(picture_, copy, change);
  return changes;
}

}  // namespace wick::display

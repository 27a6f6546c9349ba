// Inode numbers that differ for all files of a share. Below its root there may be several file
// systems of the host, with the same numbers; the guest sees one file system, and programs take
// equal numbers for links of one file.
//
// Thread rule: any thread may call any function.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "base/mutex.h"

namespace wick::share {

class InodeNumbers {
 public:
  // The inodes of this device keep their numbers.
  explicit InodeNumbers(uint64_t root_device) : root_device_(root_device) {}

  uint64_t number(uint64_t device, uint64_t inode) EXCLUDES(mutex_) {
    if (device == root_device_) return inode;
    const uint64_t index = index_of(device);
    if (inode >> kInodeBits == 0 && index < kMaxDevices) return index << kInodeBits | inode;
    // These numbers may collide with others, but that is improbable.
    return (inode + index) * 0x9e37'79b9'7f4a'7c15;
  }

 private:
  static constexpr int kInodeBits = 48;
  static constexpr uint64_t kMaxDevices = 1 << 15;

  uint64_t index_of(uint64_t device) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    if (devices_.size() >= kMaxDevices && !devices_.contains(device)) return kMaxDevices + device;
    return devices_.emplace(device, devices_.size() + 1).first->second;
  }

  const uint64_t root_device_;
  Mutex mutex_;
  std::unordered_map<uint64_t, uint64_t> devices_ GUARDED_BY(mutex_);
};

}  // namespace wick::share

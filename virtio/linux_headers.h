// The kernel's headers for virtio that are not C++ as they are: the legacy part of virtio_ring.h
// has C code, and virtio_net.h a field named `class`.
#pragma once

#include <cstdint>

#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

namespace wick::virtio {

// Feature bits, by the numbers VIRTIO_*_F_*.
constexpr uint64_t feature_bit(unsigned feature) { return 1ull << feature; }
constexpr bool has_feature(uint64_t features, unsigned feature) {
  return (features & feature_bit(feature)) != 0;
}

}  // namespace wick::virtio

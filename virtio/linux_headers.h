// Includes the kernel's virtio headers that are not valid C++: the legacy part of virtio_ring.h
// contains C code, and virtio_net.h has a field named `class`.
#pragma once

#include <cstdint>

#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#define class class_
#include <linux/virtio_net.h>
#undef class

// Features of virtio 1.2, 5.1.3, that the header of Linux 6.1 lacks.
#ifndef VIRTIO_NET_F_HOST_USO
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO 56
#endif

namespace wick::virtio {

// Convert feature numbers (VIRTIO_*_F_*) to bits of a feature set.
constexpr uint64_t feature_bit(unsigned feature) { return 1ull << feature; }
constexpr bool has_feature(uint64_t features, unsigned feature) {
  return (features & feature_bit(feature)) != 0;
}

}  // namespace wick::virtio

// Converts between the structures of FUSE and the values of a share::Tree.
#pragma once

#include <linux/fuse.h>

#include <chrono>

#include "share/tree_types.h"

namespace wick::virtio {

// Convert between a device number and its FUSE format, that of the kernel's new_encode_dev().
uint32_t fuse_device(uint32_t major, uint32_t minor);
dev_t host_device(uint32_t fuse_device);

fuse_attr fuse_attributes(const share::Attributes& attributes);

// `valid` is how long the client may use the name and the attributes without a new request.
fuse_entry_out fuse_entry(const share::Entry& entry, std::chrono::seconds valid);
fuse_attr_out fuse_attributes_reply(const share::Attributes& attributes,
                                    std::chrono::seconds valid);

share::AttributeChange attribute_change(const fuse_setattr_in& in);

}  // namespace wick::virtio

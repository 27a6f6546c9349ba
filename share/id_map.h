// User or group IDs of a guest and those of the host that they stand for.
//
// Thread rule: none; constant after construction.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace wick::share {

// The `count` IDs of the guest from `guest` on stand for the `count` IDs of the host from `host`
// on.
struct IdRange {
  uint32_t guest = 0;
  uint32_t host = 0;
  uint32_t count = 1;
};

class IdMap {
 public:
  // The ID that the guest sees for an ID of the host that is not in the map (DEFAULT_OVERFLOWUID of
  // Linux).
  static constexpr uint32_t kOverflowId = 65534;

  // Without ranges all IDs are the same on both sides.
  IdMap() = default;
  explicit IdMap(std::vector<IdRange> ranges) : ranges_(std::move(ranges)) {}

  bool empty() const { return ranges_.empty(); }
  uint32_t to_guest(uint32_t host) const {
    for (const IdRange& range : ranges_)
      if (host >= range.host && host - range.host < range.count)
        return range.guest + (host - range.host);
    return empty() ? host : kOverflowId;
  }
  // Returns nullopt if the guest's ID stands for no ID of the host.
  std::optional<uint32_t> to_host(uint32_t guest) const {
    for (const IdRange& range : ranges_)
      if (guest >= range.guest && guest - range.guest < range.count)
        return range.host + (guest - range.guest);
    return empty() ? std::optional(guest) : std::nullopt;
  }

 private:
  std::vector<IdRange> ranges_;
};

}  // namespace wick::share

// The changes that a guest made to each sector of its disk, and so the content that it may
// find there, now or after a crash. Flushed changes are there; after them, each sector may
// hold any later change.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace wick::block {

class SectorHistory {
 public:
  static constexpr size_t kSectorBytes = 512;
  static constexpr size_t kNever = std::numeric_limits<size_t>::max();
  enum class Content : uint8_t { kData, kZeroes, kIndefinite, kGiven };

  explicit SectorHistory(std::vector<std::byte> initial)
      : initial_(std::move(initial)), versions_(initial_.size() / kSectorBytes) {}

  uint64_t sectors() const { return versions_.size(); }
  const std::set<uint64_t>& touched() const { return touched_; }

  // A change begins at moment `at`, a number that never decreases.
  uint64_t begin(uint64_t first, uint64_t count, Content content, size_t at) {
    ++last_id_;
    for (uint64_t sector = first; sector < first + count; ++sector) {
      versions_[sector].push_back({.id = last_id_, .content = content, .begun_at = at});
      touched_.insert(sector);
    }
    return last_id_;
  }
  // A change of the first sectors of the disk to `bytes`.
  uint64_t begin_given(std::shared_ptr<const std::vector<std::byte>> bytes, size_t at) {
    const uint64_t id = begin(0, bytes->size() / kSectorBytes, Content::kGiven, at);
    given_[id] = std::move(bytes);
    return id;
  }
  // A change has succeeded. (A failed change stays possible for ever.)
  void end(uint64_t first, uint64_t count, uint64_t id) {
    for (uint64_t sector = first; sector < first + count; ++sector)
      for (Version& version : versions_[sector])
        if (version.id == id && version.content != Content::kIndefinite) {
          version.ended = true;
          unstable_.emplace_back(sector, id);
        }
  }
  // The content that a change of kData writes to a sector.
  static void fill(uint64_t sector, uint64_t id, std::span<std::byte> to) {
    std::array<uint64_t, kSectorBytes / 8> words{};
    for (size_t i = 0; i < words.size(); ++i) words[i] = id << 32 ^ sector << 8 ^ i;
    std::memcpy(to.data(), words.data(), kSectorBytes);
  }

  // The number of changes that a flush from now on makes stable.
  size_t begin_flush() const { return unstable_.size(); }
  void end_flush(size_t begun, size_t at) {
    for (size_t i = 0; i < begun; ++i) {
      const auto [sector, id] = unstable_[i];
      for (Version& version : versions_[sector])
        if (version.id == id) version.stable_at = std::min(version.stable_at, at);
    }
  }

  // Whether the sector may hold `bytes` after a crash at moment `at`, or, with
  // kNever, while nothing has crashed.
  bool allows(uint64_t sector, std::span<const std::byte> bytes, size_t at) const {
    const auto& versions = versions_[sector];
    for (size_t i = versions.size(); i-- > 0;) {
      const Version& version = versions[i];
      if (version.begun_at <= at && is(version, sector, bytes)) return true;
      if (at == kNever ? version.ended : version.stable_at <= at) return false;
    }
    return std::memcmp(&initial_[sector * kSectorBytes], bytes.data(), kSectorBytes) == 0;
  }

 private:
  struct Version {
    uint64_t id;
    Content content;
    size_t begun_at;
    size_t stable_at = kNever;
    bool ended = false;
  };

  bool is(const Version& version, uint64_t sector, std::span<const std::byte> bytes) const {
    std::array<std::byte, kSectorBytes> expected{};
    if (version.content == Content::kGiven)
      std::memcpy(expected.data(), &(*given_.at(version.id))[sector * kSectorBytes], kSectorBytes);
    if (version.content == Content::kData) fill(sector, version.id, expected);
    return std::memcmp(expected.data(), bytes.data(), kSectorBytes) == 0;
  }

  const std::vector<std::byte> initial_;
  uint64_t last_id_ = 0;
  std::vector<std::vector<Version>> versions_;           // by sector, the oldest first
  std::vector<std::pair<uint64_t, uint64_t>> unstable_;  // sector, id: in the order of ending
  std::set<uint64_t> touched_;
  std::map<uint64_t, std::shared_ptr<const std::vector<std::byte>>> given_;  // by ID
};

}  // namespace wick::block

// Fake MsiSink that keeps the messages it gets, in order.
//
// Thread rule: any thread may call any function.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/interrupt.h"

namespace wick::fakes {

class RecordingSink final : public MsiSink {
 public:
  struct Message {
    uint64_t address = 0;
    uint32_t data = 0;
    bool operator==(const Message&) const = default;
  };

  void send(uint64_t address, uint32_t data) override {
    const std::lock_guard lock(mutex_);
    messages_.push_back({address, data});
  }

  bool connect(const EventFd& event, uint64_t address, uint32_t data) override {
    const std::lock_guard lock(mutex_);
    if (!can_connect) {
      connected_.erase(&event);
      return false;
    }
    connected_[&event] = {address, data};
    return true;
  }
  void disconnect(const EventFd& event) override {
    const std::lock_guard lock(mutex_);
    connected_.erase(&event);
  }
  // Returns the message that a signal of `event` would send; none if it is not connected.
  std::optional<Message> connected(const EventFd& event) {
    const std::lock_guard lock(mutex_);
    const auto found = connected_.find(&event);
    return found == connected_.end() ? std::nullopt : std::optional(found->second);
  }
  bool can_connect = true;

  // Returns the messages since the last call.
  std::vector<Message> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(messages_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Message> messages_;
  std::map<const EventFd*, Message> connected_;
};

}  // namespace wick::fakes

// Where messages arrive and stay, in their order. Any thread.
#pragma once

#include <cstdint>
#include <mutex>
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

  // Those since the last call.
  std::vector<Message> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(messages_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Message> messages_;
};

}  // namespace wick::fakes

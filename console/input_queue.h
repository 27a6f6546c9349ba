// What was typed and the guest has not taken yet, with the BREAKs where they
// were typed: SysRq takes the character after the BREAK, so neither may
// overtake the other.
//
// Thread rule: the loop's thread only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "console/backend.h"

namespace wick::console {

class InputQueue {
 public:
  // Whoever reads more than there is room for from a terminal or a socket
  // leaves it there. Large, so that the escape keys are still heard behind what
  // was pasted into a guest that has stopped listening.
  static constexpr size_t kRoomBytes = 16 << 10;

  void connect(Guest& guest) { guest_ = &guest; }
  void disconnect() { guest_ = nullptr; }
  bool connected() const { return guest_ != nullptr; }

  // What is kept at most: behind a client that left there may be as much as its
  // socket held, but clients that come and go must not fill the host's memory
  // while the guest does not listen.
  static constexpr size_t kMostBytes = 512 << 10;

  size_t room() const { return kRoomBytes - std::min(kRoomBytes, waiting_.size()); }

  // Takes also what is beyond the room, up to kMostBytes, and returns how much.
  size_t push(std::span<const std::byte> bytes);
  void push_break();

  // Gives the guest what it takes.
  void drain();

 private:
  Guest* guest_ = nullptr;
  std::vector<std::byte> waiting_;
  uint64_t taken_ = 0;           // bytes that the guest has had
  std::deque<uint64_t> breaks_;  // each comes after so many bytes
};

}  // namespace wick::console

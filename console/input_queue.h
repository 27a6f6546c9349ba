// Input that the guest has not taken yet: characters and BREAKs in their order. The order matters,
// because Linux takes the character after a BREAK as the SysRq command.
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
  // When this much input waits, further input is left in the terminal or the socket. The value is
  // large, so that an escape key is still read after text that was pasted into a guest that has
  // stopped reading.
  static constexpr size_t kRoomBytes = 16 << 10;

  void connect(Guest& guest) { guest_ = &guest; }
  void disconnect() { guest_ = nullptr; }
  bool connected() const { return guest_ != nullptr; }

  // The maximum amount of waiting input. A client that disconnects may leave as much input as its
  // socket buffer held, so without a limit many such clients would fill the host's memory while
  // the guest does not read.
  static constexpr size_t kMaxBytes = 512 << 10;

  size_t room() const { return kRoomBytes - std::min(kRoomBytes, waiting_.size()); }

  // Appends bytes, even beyond room(), up to kMaxBytes in all. Returns the number of bytes taken.
  size_t push(std::span<const std::byte> bytes);
  void push_break();

  // Passes input to the guest until the guest takes no more.
  void drain();
  // While held, the guest gets no input.
  void hold(bool held) {
    held_ = held;
    drain();
  }

 private:
  Guest* guest_ = nullptr;
  bool held_ = false;
  std::vector<std::byte> waiting_;
  uint64_t taken_ = 0;           // bytes that the guest has taken so far
  std::deque<uint64_t> breaks_;  // for each BREAK, the value of taken_ at which it must be sent
};

}  // namespace wick::console

// The file to which a core is written: a regular file, in which parts that are not written are
// holes; or a stream (a pipe, a socket or a device), which gets all bytes in their order.
//
// Thread rule: one thread at a time. A write to a pipe or socket waits for its reader, until a
// stop is requested.
// Specification of the flattened form: makedumpfile(8), "-F".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wick::debug {

// Opens and truncates a file for a core, or creates one that only its owner can read. Does not wait
// for the reader of a FIFO, but fails if there is none.
Result<Fd> open_core_file(const std::string& path);

class CoreFile {
 public:
  // How a stream gets the core. kSequential: the caller writes all parts in order. kFlattened: the
  // parts may be in any order, and the stream has makedumpfile's flattened form.
  enum class Order { kSequential, kFlattened };

  // A regular file is truncated at its present position and written from there on. `name` is for
  // error messages.
  static Result<CoreFile> create(Fd file, std::string name, Order order, std::stop_token stop);

  // Writes at an offset from the start of the core. With kSequential, offsets must not decrease.
  // Bytes between two writes are zero.
  Result<void> write(uint64_t offset, std::span<const std::byte> bytes);
  // Ends the core at `size_bytes`. Waits until a regular file is on the disk.
  Result<void> finish(uint64_t size_bytes);
  // Removes what was written to a regular file, so that no incomplete core is left behind.
  void abandon();

  const std::string& name() const { return name_; }

 private:
  CoreFile() = default;
  Result<void> append(std::span<const std::byte> bytes);
  Result<void> append_flat_header();
  Result<void> append_zeroes(uint64_t size_bytes);
  Result<void> wait_for_room();
  Result<void> append_record_header(uint64_t offset, uint64_t size_bytes);
  std::unexpected<Error> failed(int code) const;

  Fd file_;
  std::string name_;
  std::stop_token stop_;
  std::optional<EventFd> stopped_;  // for a stream: signalled when a stop is requested
  bool regular_ = false;
  bool socket_ = false;
  bool flattened_ = false;
  bool started_ = false;         // the header of the flattened form was written
  uint64_t base_bytes_ = 0;      // for a regular file: the offset at which the core starts
  uint64_t position_bytes_ = 0;  // for a stream: the number of bytes written so far
};

}  // namespace wick::debug

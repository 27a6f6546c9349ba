// Where a core is written to: a regular file, in which parts that are not written are holes; or
// a pipe, a socket or a device, which gets all bytes in their order.
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

// Opens, or makes, a file for a core, which only its owner can read. Does not wait for the reader
// of a FIFO: fails without one.
Result<Fd> open_core_file(const std::string& path);

class CoreFile {
 public:
  // For files that take only a stream of bytes: how parts that are out of order are written.
  enum class Order { kSequential, kFlattened };

  // `file` is written from its present position on; what it has from there on is removed. `name`
  // is for error messages.
  static Result<CoreFile> create(Fd file, std::string name, Order order, std::stop_token stop);

  // Writes at an offset from the start of the core. In kSequential order, offsets do not fall;
  // the bytes between two writes are zero.
  Result<void> write(uint64_t offset, std::span<const std::byte> bytes);
  // Gives the core its length, and waits until it is on the disk.
  Result<void> finish(uint64_t size_bytes);
  // Truncates a regular file to nothing, so that no incomplete core is left behind.
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
  std::optional<EventFd> stopped_;  // of a stream: signalled by `stop_`
  bool regular_ = false;
  bool socket_ = false;
  bool flattened_ = false;
  bool started_ = false;         // the flattened form's header is written
  uint64_t base_bytes_ = 0;      // of a regular file: where the core starts
  uint64_t position_bytes_ = 0;  // of a stream: how much was appended
};

}  // namespace wick::debug

// Writes the core of a machine: a file with the guest's memory and the vCPUs' registers, for gdb,
// crash and drgn. `elf` is an ELF core, which all three can read; `kdump-zlib` is makedumpfile's
// compressed format, for crash and drgn.
//
// To a pipe or a socket, a kdump core is written in makedumpfile's flattened form, which crash can
// also read.
//
// Thread rule: the main loop's thread. The core is written on a separate thread. The machine must
// stay paused until `on_done` is called: a resume or a reset ends the writing.
//
// Specification: ELF-64 Object File Format 1.5; QEMU, "dump-guest-memory" (QMP Reference Manual);
// makedumpfile, IMPLEMENTATION, "The kdump-compressed format".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"
#include "debug/core_file.h"
#include "vmm/machine.h"

namespace wick::debug {

enum class CoreFormat { kElf, kKdumpZlib };

struct CoreRange {
  uint64_t begin = 0;  // guest physical address
  uint64_t length_bytes = 0;
};

struct CoreOptions {
  CoreFormat format = CoreFormat::kElf;
  // If true, the core maps memory at the linear addresses of the vCPUs' page tables. Otherwise, or
  // if no vCPU has paging on, linear addresses in the core equal physical addresses.
  bool paging = false;
  std::optional<CoreRange> range = {};  // the part of the memory to write; nullopt: all of it
  Fd file;                              // see open_core_file()
  std::string name;                     // the file's name, for error messages
};

struct CoreProgress {
  uint64_t done_bytes = 0;  // how much of the guest's memory was written
  uint64_t total_bytes = 0;
};

class CoreWriter {
 public:
  using OnProgress = std::function<void(CoreProgress)>;
  // The error has the code ECANCELED if the machine was resumed, reset or ended meanwhile.
  using OnDone = std::function<void(Result<void>)>;

  // Starts to write. Fails at once if the options exclude each other or the machine runs. `loop`
  // runs on the calling thread and calls both functions: `on_progress` now and then, and `on_done`
  // once as the last call, which may destroy the writer. After an error, a regular file contains
  // nothing of the core.
  static Result<std::unique_ptr<CoreWriter>> create(vmm::Machine& machine, EventLoop& loop,
                                                    CoreOptions options, OnProgress on_progress,
                                                    OnDone on_done);
  // If the core is still being written, ends the writing and waits for its end; `on_done` is then
  // not called.
  virtual ~CoreWriter() = default;

  virtual CoreProgress progress() const = 0;
};

// Writes the whole core before it returns. For a machine whose run has ended.
Result<void> write_core(vmm::Machine& machine, CoreOptions options);

}  // namespace wick::debug

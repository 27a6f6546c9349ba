// Cores of machines: a file with the guest's memory and its vCPUs' registers, for gdb, crash and
// drgn. `elf` is an ELF core, readable by all of them; `kdump-zlib` is makedumpfile's compressed
// format, for crash and drgn.
//
// A kdump core is written to a pipe or a socket in makedumpfile's flattened form, which crash
// reads, too.
//
// Thread rule: on the main loop's thread. The core is written on a thread of its own, so the
// machine must stay paused until `done` is called: a resume or a reset ends the writing.
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
  uint64_t begin = 0;  // guest physical
  uint64_t length_bytes = 0;
};

struct CoreOptions {
  CoreFormat format = CoreFormat::kElf;
  // The ranges of the core have the linear addresses of the vCPUs' page tables. Without it, or
  // if no vCPU has paging on, linear addresses in the core are physical ones.
  bool paging = false;
  std::optional<CoreRange> range = {};  // only this part of the memory
  Fd file;                              // see open_core_file()
  std::string name;                     // of the file, for error messages
};

struct CoreProgress {
  uint64_t done_bytes = 0;  // of the guest's memory
  uint64_t total_bytes = 0;
};

class CoreWriter {
 public:
  using OnProgress = std::function<void(CoreProgress)>;
  // An error has the code ECANCELED if the machine was resumed, reset or ended meanwhile.
  using OnDone = std::function<void(Result<void>)>;

  // Starts to write. Fails at once if the options exclude each other or the machine runs. Both
  // functions are called on `loop`, which runs on the calling thread; `on_progress` now and then;
  // `on_done` once, after all others, and it may destroy the writer. After an error a regular file
  // is empty.
  static Result<std::unique_ptr<CoreWriter>> create(vmm::Machine& machine, EventLoop& loop,
                                                    CoreOptions options, OnProgress on_progress,
                                                    OnDone on_done);
  // Ends the writing, if it has not ended, and waits for that; `on_done` is not called then.
  virtual ~CoreWriter() = default;

  virtual CoreProgress progress() const = 0;
};

// Writes the core of a machine before it returns. For a machine whose run has ended.
Result<void> write_core(vmm::Machine& machine, CoreOptions options);

}  // namespace wick::debug

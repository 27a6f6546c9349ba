#include "debug/core.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <stop_token>
#include <thread>
#include <utility>

#include "base/log.h"
#include "debug/core_image.h"

namespace wick::debug {

namespace {

constexpr uint32_t kMsrKernelGsBase = 0xc000'0102;

// Returns the parts of RAM that lie in `range`, or all RAM without a range.
Result<std::vector<GuestMemory::Region>> blocks_of(const GuestMemory& memory,
                                                   const std::optional<CoreRange>& range) {
  std::vector<GuestMemory::Region> blocks;
  for (const GuestMemory::Region& region : memory.regions()) {
    uint64_t start = region.start.value;
    uint64_t end = start + region.size_bytes;
    if (range) {
      start = std::max(start, range->begin);
      // A range that would end beyond 2^64 ends with the memory.
      if (range->length_bytes <= UINT64_MAX - range->begin)
        end = std::min(end, range->begin + range->length_bytes);
    }
    if (start < end)
      blocks.push_back({{start}, end - start, region.host + (start - region.start.value)});
  }
  if (blocks.empty() && range)
    return with_hint(fail("no RAM at {:#x} + {:#x} for a core", range->begin, range->length_bytes),
                     "see the machine's memory size");
  return blocks;
}

// Copies everything that may be read only on the main loop.
Result<CoreImage> take_image(vmm::Machine& machine, const CoreOptions& options) {
  if (options.format != CoreFormat::kElf && (options.paging || options.range))
    return with_hint(fail("a core in the format kdump-zlib has all of the memory, without paging"),
                     "choose the format elf");
  vmm::Inspector& inspector = machine.inspector();
  CoreImage image{.memory = inspector.memory(),
                  .cpus = {},
                  .guest_note = {},
                  .blocks = TRY(blocks_of(inspector.memory(), options.range)),
                  .paging = options.paging};
  for (uint32_t cpu = 0; cpu < inspector.cpu_count(); ++cpu)
    image.cpus.push_back({.registers = TRY(inspector.registers(cpu)),
                          .kernel_gs_base = inspector.read_msr(cpu, kMsrKernelGsBase).value_or(0)});
  auto note = GuestNote::read(inspector.memory(), inspector.vmcoreinfo());
  // If the note is malformed, the core is written without the note.
  if (note)
    image.guest_note = *std::move(note);
  else
    spdlog::warn("core: {}; the core is written without it", note.error().message());
  return image;
}

Result<void> write_image(const CoreImage& image, CoreFormat format, CoreFile& file,
                         CoreCounter& counter, const std::stop_token& stop) {
  auto result = format == CoreFormat::kElf ? write_elf_core(image, file, counter, stop)
                                           : write_kdump_core(image, file, counter);
  if (!result) file.abandon();
  return result;
}

Result<CoreFile> open_output(CoreOptions& options, const std::stop_token& stop) {
  return CoreFile::create(std::move(options.file), std::move(options.name),
                          options.format == CoreFormat::kElf ? CoreFile::Order::kSequential
                                                             : CoreFile::Order::kFlattened,
                          stop);
}

class Writer final : public CoreWriter {
 public:
  Writer(EventLoop& loop, CoreImage image, CoreFormat format, CoreFile file, std::stop_source stop,
         OnProgress on_progress, OnDone on_done)
      : loop_(loop),
        image_(std::move(image)),
        total_bytes_(image_.size_bytes()),
        format_(format),
        file_(std::move(file)),
        stop_(std::move(stop)),
        on_progress_(std::move(on_progress)),
        on_done_(std::move(on_done)) {}

  ~Writer() override {
    *alive_ = false;
    end();
  }

  Result<void> start(vmm::Machine& machine) {
    ended_by_ = machine.subscribe([this](const vmm::MachineEvent& event) { on_event(event); });
    // Blocks all signals in the new thread, because the main loop handles them. With SIGPIPE
    // blocked, write() fails with EPIPE when the reader of a pipe is gone.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    auto thread = start_thread("core", [this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (!thread) return failure(thread);
    thread_ = *std::move(thread);
    return {};
  }

  CoreProgress progress() const override { return {counter_.done_bytes(), total_bytes_}; }

 private:
  // Executed by the writer's thread.
  void run() {
    result_ = write_image(image_, format_, file_, counter_, stop_.get_token());
    loop_.post([this, alive = alive_] {
      if (*alive) finish();
    });
  }

  // Posts a report of the progress, unless one is posted already. Called on the writer's thread.
  void report() {
    if (!on_progress_ || reporting_.exchange(true)) return;
    loop_.post([this, alive = alive_] {
      if (!*alive) return;
      reporting_ = false;
      on_progress_(progress());
    });
  }

  // The following functions are called on the main loop.

  void finish() {
    end();
    ended_by_ = {};
    if (auto on_done = std::exchange(on_done_, {})) on_done(std::move(result_));
  }

  // Ends the writing, because the guest's memory must not be read after this function returns. The
  // loop calls `on_done` later, because `on_done` may destroy this object.
  void on_event(const vmm::MachineEvent& event) {
    switch (event.kind) {
      case vmm::MachineEvent::Kind::kResume:
      case vmm::MachineEvent::Kind::kReset:
      case vmm::MachineEvent::Kind::kWakeup:
      case vmm::MachineEvent::Kind::kShutdown:
        end();
        break;
      default:
        break;
    }
  }

  void end() {
    stop_.request_stop();
    if (thread_.joinable()) thread_.join();
  }

  EventLoop& loop_;
  const CoreImage image_;
  const uint64_t total_bytes_;
  const CoreFormat format_;
  CoreFile file_;  // used by the writer's thread
  std::stop_source stop_;
  CoreCounter counter_{[this] { report(); }};
  std::atomic<bool> reporting_{false};
  Result<void> result_;  // set before the thread ends
  std::thread thread_;

  // Owned by the main loop.
  const OnProgress on_progress_;
  OnDone on_done_;
  vmm::Machine::Subscription ended_by_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace

uint64_t CoreImage::size_bytes() const {
  uint64_t total = 0;
  for (const GuestMemory::Region& block : blocks) total += block.size_bytes;
  return total;
}

Result<std::unique_ptr<CoreWriter>> CoreWriter::create(vmm::Machine& machine, EventLoop& loop,
                                                       CoreOptions options, OnProgress on_progress,
                                                       OnDone on_done) {
  if (machine.state() == vmm::RunState::kRunning)
    return with_hint(fail_errno(EBUSY, "{}: a core of a running machine", options.name),
                     "pause it first");
  auto image = TRY(take_image(machine, options));
  const CoreFormat format = options.format;
  std::stop_source stop;
  auto file = TRY(open_output(options, stop.get_token()));
  auto writer =
      std::make_unique<Writer>(loop, std::move(image), format, std::move(file), std::move(stop),
                               std::move(on_progress), std::move(on_done));
  TRY(writer->start(machine));
  return std::unique_ptr<CoreWriter>(std::move(writer));
}

Result<void> write_core(vmm::Machine& machine, CoreOptions options) {
  const CoreImage image = TRY(take_image(machine, options));
  const CoreFormat format = options.format;
  auto file = TRY(open_output(options, {}));
  CoreCounter counter({});
  return write_image(image, format, file, counter, {});
}

}  // namespace wick::debug

// One connection of a gdb: answers its packets (Debugging with GDB, appendix E) for a machine.
//
// vCPU N is thread N+1 of process 1. The first packet stops the machine and begins the debugging.
// The debugging ends when the client detaches or disconnects, and leaves no breakpoint in the
// guest. The packets "qemu.*" and the texts for people are those of QEMU's gdb stub.
//
// A reset of the machine loads its kernel anew, which removes the INT3s of software breakpoints.
// They are inserted again at the next stop or resume at which their addresses are mapped.
// Hardware breakpoints stay.
//
// Thread rule: the main loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"
#include "debug/gdb_memory.h"
#include "debug/gdb_packet.h"
#include "debug/gdb_registers.h"
#include "debug/gdb_run.h"
#include "vmm/machine.h"

namespace wick::debug {

// Executes a line of gdb's command "monitor", and calls the given function with the text to show,
// at once or later.
using MonitorFunction = std::function<void(std::string line, std::function<void(std::string)>)>;

class GdbSession {
 public:
  struct Client {
    std::function<void(std::string_view bytes)> send;
    // Stops or continues the calls of receive(). While held, the caller keeps only a bounded amount
    // of input.
    std::function<void(bool held)> hold;
    // Disconnects when everything is sent. Must not destroy the session within the call.
    std::function<void()> close;
    // Waits briefly until the client has read everything, because the machine is ending.
    std::function<void()> flush = {};
  };

  // Without `monitor`, gdb's command "monitor" is answered as an unsupported packet.
  GdbSession(vmm::Machine& machine, Client client, MonitorFunction monitor);
  GdbSession(const GdbSession&) = delete;
  GdbSession& operator=(const GdbSession&) = delete;
  // Detaches at once. If the machine runs, leave() must be called first.
  ~GdbSession();

  void receive(std::string_view bytes);
  // Must be called when the client has disconnected: detaches and calls `done`. If the machine
  // runs, leave() first stops it and then removes the breakpoints, because a vCPU may have executed
  // an INT3 and not reported it yet. Afterwards the machine runs, unless gdb found it stopped and
  // never resumed it.
  void leave(std::function<void()> done);
  // Returns true once the debugging has ended, by either side.
  bool ended() const { return stage_ == Stage::kEnded; }

 private:
  enum class Stage { kIdle, kAttaching, kAttached, kEnded };

  // Handles the input that has arrived, until it must wait for something.
  void serve();
  bool stalled() const;
  void handle(PacketReader::Item item);
  void attach();
  void attached();
  void detach(bool resume);
  void answer(std::string_view payload);
  void answer_error(int code);  // an errno value
  void answer_result(const Result<void>& result);

  void handle_packet(std::string_view packet);
  void handle_interrupt();
  void handle_detach();
  void handle_kill();
  void handle_v(std::string_view packet);

  // Registers and memory.
  Result<GdbRegisters> load_registers(uint32_t cpu) const;
  Result<void> write_registers(std::span<const GdbRegister> which, std::string_view values);
  void read_all_registers();
  void read_one_register(std::string_view rest);
  void write_all_registers(std::string_view hex);
  void write_one_register(std::string_view rest);
  void read_memory(std::string_view range);
  void write_memory(std::string_view rest, bool binary);
  void handle_breakpoint(bool insert, std::string_view rest);
  void handle_software_breakpoint(bool insert, uint64_t address);

  // Threads, running and stopping.
  std::string thread_name(uint32_t cpu) const;
  struct ThreadId {
    bool all = false;  // all threads, or any thread
    uint32_t cpu = 0;
  };
  std::optional<ThreadId> parse_thread(std::string_view& text) const;
  void set_thread(std::string_view rest);
  void resume_old(char command, std::string_view rest);
  void resume_many(std::string_view actions);
  void resume(std::vector<vmm::CpuRun> actions);
  void on_stop(const GdbStop& stop);
  std::string stop_reply(const GdbStop& stop) const;
  void on_event(const vmm::MachineEvent& event);
  void on_shutdown(const vmm::MachineEvent& event);

  // Packets "q" and "Q" (gdb_queries.cc).
  void handle_query(std::string_view query);
  void handle_set(std::string_view what);
  bool handle_thread_query(std::string_view query);
  bool handle_qemu_query(std::string_view query);
  void answer_supported(std::string_view features);
  void answer_description(std::string_view range);
  void run_monitor(std::string_view hex);
  void answer_monitor(uint64_t number, const std::string& text);
  void set_step_flags(std::string_view text);

  vmm::Machine& machine_;
  vmm::Inspector& inspector_;
  const Client client_;
  const MonitorFunction monitor_;
  const GdbRegisterSet register_set_;

  PacketReader reader_;
  GdbRun run_;
  GdbMemory memory_;
  vmm::Machine::Subscription events_;

  Stage stage_ = Stage::kIdle;
  bool acknowledge_ = true;
  bool held_ = false;
  bool serving_ = false;
  bool monitor_busy_ = false;
  uint64_t monitor_lines_ = 0;
  bool waits_for_stop_ = false;              // the client expects a stop reply
  std::string last_frame_;                   // is sent again if the client answers '-'
  std::optional<std::string> first_packet_;  // waits until the machine has stopped
  // The features that the client supports (qSupported).
  bool multiprocess_ = false;
  bool software_reason_ = false;
  bool hardware_reason_ = false;

  uint32_t current_ = 0;      // the vCPU whose registers and memory are accessed (Hg)
  uint32_t next_thread_ = 0;  // the vCPU with which qsThreadInfo continues
  uint32_t resumed_ = 0;      // the vCPU that "s" steps (Hc)
  uint64_t step_flags_ = 3;
  GdbStop last_stop_;
  RateLimit warnings_;
  // Expires with this object. Answers of the monitor, which may come later, check this pointer.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::debug

// Intel's 82540EM, a network card that every operating system has a driver for
// (Linux: e1000), as a PCI function over a network back end.
//
// Thread rule: made and destroyed while no vCPU runs, and not on the loop's thread
// while the loop runs. Any vCPU thread accesses the registers, with mutex_ held. Only
// the loop accesses guest memory and the back end, with dma_mutex_ held. The loop may
// take mutex_ while it holds dma_mutex_. A vCPU takes dma_mutex_ only without mutex_:
// when the guest stops DMA, the vCPU waits for the loop to finish its access to guest
// memory. So the loop never waits long for a vCPU, and a vCPU waits for one packet at
// most. The interrupt line is set with mutex_ held and may not call back.
//
// Specification: Intel 8254x Software Developer's Manual (317453): 4 (PCI), 13
// (registers).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/bus.h"
#include "base/event_loop.h"
#include "base/guest_memory.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/mutex.h"
#include "devices/e1000/eeprom.h"
#include "devices/e1000/phy.h"
#include "devices/e1000/receive.h"
#include "devices/e1000/registers.h"
#include "devices/e1000/transmit.h"
#include "devices/pci/function.h"
#include "devices/pci/interrupts.h"
#include "net/backend.h"
#include "net/mac_address.h"

namespace wick::devices {

class E1000 {
 public:
  static constexpr uint32_t kMemoryBytes = 128 << 10;
  static constexpr uint32_t kIoPorts = 64;
  static constexpr uint64_t kIoAddress = 0;  // offset of IOADDR in the I/O BAR
  static constexpr uint64_t kIoData = 4;     // offset of IODATA in the I/O BAR

  // The guest-visible state.
  struct State {
    explicit State(const net::MacAddress& address) : eeprom(address) {}
    std::array<uint32_t, e1000::kRegisterWords> registers{};
    e1000::Eeprom eeprom;
    e1000::Phy phy;
    bool cable = true;  // the cable is plugged in
    uint32_t io_address = 0;
    bool operator==(const State&) const = default;
  };

  // Returns monotonic time in nanoseconds, with an arbitrary epoch. Tests replace this clock.
  using Clock = std::function<uint64_t()>;
  static uint64_t steady_clock();

  // Attaches the card to `backend`, which belongs to `loop`. `backend`, `loop`, `memory` and `line`
  // must outlive the card.
  static Result<std::unique_ptr<E1000>> create(net::Backend& backend, EventLoop& loop,
                                               const net::MacAddress& address,
                                               const GuestMemory& memory, InterruptLine& line,
                                               std::string name, Clock clock = steady_clock);
  // Detaches from the back end and the loop, after the current packet.
  ~E1000();
  E1000(const E1000&) = delete;
  E1000& operator=(const E1000&) = delete;

  PciFunction& function() { return function_; }
  BusDevice& memory_bar() { return memory_bar_; }
  BusDevice& io_bar() { return io_bar_; }
  const std::string& name() const { return name_; }

  // Resets the card to its power-on state.
  void reset();

  State state() const;

 private:
  struct MemoryBar final : BusDevice {
    explicit MemoryBar(E1000& owner) : card(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    E1000& card;
  };
  struct IoBar final : BusDevice {
    explicit IoBar(E1000& owner) : card(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    E1000& card;
  };
  struct NoMessages final : MsiSink {
    void send(uint64_t, uint32_t) override {}
  };
  // State that vCPU threads and the loop share about one direction, transmit or receive.
  struct Direction {
    // Incremented, with mutex_ held, to make the loop end its current turn.
    std::atomic<uint32_t> epoch = 0;
    // Incremented when the ring registers are rewritten. Guarded by mutex_.
    uint32_t generation = 0;
    uint32_t served_generation = 0;  // the generation in the last turn; owned by the loop
  };
  // Actions that must be done without mutex_, after it is unlocked.
  struct DeferredAction {
    bool wake_loop = false;
    bool stop_dma = false;
  };

  E1000(net::Backend& backend, EventLoop& loop, const net::MacAddress& address,
        const GuestMemory& memory, InterruptLine& line, std::string name, Clock clock,
        EventFd wake);
  Result<void> start();

  uint32_t read_register(uint64_t offset) EXCLUDES(mutex_);
  void write_register(uint64_t offset, uint32_t value) EXCLUDES(mutex_);
  void run(const DeferredAction& action) EXCLUDES(mutex_);

  // Sets whether the function may access guest memory. With false, returns when the loop
  // has finished its accesses.
  void enable_dma(bool enabled);

  uint32_t& reg(uint32_t offset) REQUIRES(mutex_) { return state_.registers[offset / 4]; }
  DeferredAction store(uint32_t offset, uint32_t value) REQUIRES(mutex_);
  void store_interrupt(uint32_t offset, uint32_t value, uint32_t writable) REQUIRES(mutex_);
  DeferredAction store_control(uint32_t value) REQUIRES(mutex_);
  DeferredAction store_enable(uint32_t offset, uint32_t enable, uint32_t value) REQUIRES(mutex_);
  void change_ring(Direction& direction) REQUIRES(mutex_);
  DeferredAction reset_registers() REQUIRES(mutex_);
  DeferredAction wake_transmitter() REQUIRES(mutex_);
  DeferredAction wake_receiver() REQUIRES(mutex_);
  void load_address() REQUIRES(mutex_);
  void read_eeprom(uint32_t value) REQUIRES(mutex_);
  void access_phy(uint32_t value) REQUIRES(mutex_);
  void set_link(bool was_up) REQUIRES(mutex_);
  bool link_up() const REQUIRES(mutex_) { return state_.phy.link_up(state_.cable); }
  bool transmitter_enabled() REQUIRES(mutex_) {
    return dma_enabled_ && (reg(e1000::kTctl) & e1000::kTransmitEnable) != 0;
  }
  bool receiver_enabled() REQUIRES(mutex_) {
    return dma_enabled_ && (reg(e1000::kRctl) & e1000::kReceiveEnable) != 0;
  }
  void raise(uint32_t causes) REQUIRES(mutex_);
  void update_interrupt() REQUIRES(mutex_);
  bool throttled() REQUIRES(mutex_);
  e1000::RingRegisters ring(uint32_t base) const REQUIRES(mutex_);
  void count(uint32_t offset, uint64_t amount) REQUIRES(mutex_);
  void count_octets(uint32_t offset, uint64_t amount) REQUIRES(mutex_);

  // The functions below are called on the loop's thread.
  void serve();
  bool transmit() REQUIRES(dma_mutex_);
  bool receive() REQUIRES(dma_mutex_);
  void finish_transmit(const e1000::Transmitter::Outcome& outcome) REQUIRES(mutex_);
  void finish_receive(const e1000::Receiver::Outcome& outcome) REQUIRES(mutex_);
  void update_receive_settings() REQUIRES(mutex_);
  void update_link();

  // Constant after construction.
  net::Backend& backend_;
  EventLoop& loop_;
  const GuestMemory& memory_;
  const std::string name_;
  const Clock clock_;
  MemoryBar memory_bar_{*this};
  IoBar io_bar_{*this};
  NoMessages no_messages_;
  PciInterrupts interrupts_;
  PciFunction function_;
  EventFd wake_;

  // Owned by the loop's thread.
  bool attached_ = false;
  EventLoop::Watch wake_watch_;
  std::optional<EventLoop::Timer> throttle_timer_;  // armed from any thread
  e1000::Transmitter transmitter_;
  e1000::Receiver receiver_;
  e1000::ReceiveSettings settings_;
  uint32_t settings_version_ = 0;
  bool packets_waiting_ = true;  // the back end may have received packets

  // Held by the loop while it may access guest memory; taken before mutex_.
  Mutex dma_mutex_ ACQUIRED_BEFORE(mutex_);

  Direction sending_;
  Direction receiving_;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  bool asserted_ GUARDED_BY(mutex_) = false;  // the last level set on INTx
  bool dma_enabled_ GUARDED_BY(mutex_) = true;
  // The loop will process the transmit ring again.
  bool transmitting_ GUARDED_BY(mutex_) = false;
  // The loop waits for a write of RDT before it processes the receive ring.
  bool wants_buffers_ GUARDED_BY(mutex_) = true;
  // Incremented when a register copied to settings_ changes.
  uint32_t filters_version_ GUARDED_BY(mutex_) = 1;
  bool timer_armed_ GUARDED_BY(mutex_) = false;
  std::optional<uint64_t> last_interrupt_ns_ GUARDED_BY(mutex_);
  RateLimit warnings_;
};

}  // namespace wick::devices

// Intel's 82540EM, the network card that every operating system has a driver for
// (Linux: e1000): a PCI function over a network back end.
//
// Thread rule: made and destroyed when no vCPU runs, and not on the loop's thread
// while that runs. Registers from any vCPU thread, under mutex_; what touches the
// guest's memory and the back end is on the loop, under dma_mutex_. The loop may
// take mutex_ with dma_mutex_ held; a vCPU takes dma_mutex_ only without mutex_, to
// be sure that the card has let go of the memory when the guest stops it. So the
// loop never waits for a vCPU, and a vCPU for the packet at hand at most. The
// interrupt line is set under mutex_ and may not call back.
//
// Specification: Intel 8254x Software Developer's Manual (317453): 4 (PCI), 13
// (registers).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "base/bus.h"
#include "base/event_loop.h"
#include "base/guest_memory.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "devices/e1000/eeprom.h"
#include "devices/e1000/phy.h"
#include "devices/e1000/receive.h"
#include "devices/e1000/registers.h"
#include "devices/e1000/transmit.h"
#include "devices/pci/function.h"
#include "devices/pci/interrupts.h"
#include "net/backend.h"

namespace wick::devices {

class E1000 {
 public:
  using MacAddress = e1000::MacAddress;

  static constexpr uint32_t kMemoryBytes = 128 << 10;
  static constexpr uint32_t kIoPorts = 64;
  static constexpr uint64_t kIoAddress = 0;  // offsets of the two ports that there are
  static constexpr uint64_t kIoData = 4;

  // What the guest can see.
  struct State {
    explicit State(const MacAddress& address) : eeprom(address) {}
    std::array<uint32_t, e1000::kRegisterWords> registers{};
    e1000::Eeprom eeprom;
    e1000::Phy phy;
    bool cable = true;  // plugged in
    uint32_t io_address = 0;
    bool operator==(const State&) const = default;
  };

  // Wires for tests: the time in nanoseconds, from any moment on.
  using Clock = std::function<uint64_t()>;
  static uint64_t steady_clock();

  // Attaches itself to `backend`, which belongs to `loop`. All must outlive it.
  static Result<std::unique_ptr<E1000>> create(net::Backend& backend, EventLoop& loop,
                                               const MacAddress& address, const GuestMemory& memory,
                                               InterruptLine& line, std::string name,
                                               Clock clock = steady_clock);
  // Leaves the back end and the loop; the packet at hand is sent before.
  ~E1000();
  E1000(const E1000&) = delete;
  E1000& operator=(const E1000&) = delete;

  PciFunction& function() { return function_; }
  BusDevice& memory_bar() { return memory_bar_; }
  BusDevice& io_bar() { return io_bar_; }
  const std::string& name() const { return name_; }

  // As if it had just been switched on.
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
  // One of the two ways of packets, as the loop has to know it.
  struct Direction {
    // Changed under mutex_: when the loop's turn has to end…
    std::atomic<uint32_t> epoch = 0;
    // …and when, beyond that, the ring is not any more what it was. Guarded by mutex_.
    uint32_t generation = 0;
    uint32_t served_generation = 0;  // the loop's
  };
  // What is left to do when mutex_ is free again.
  struct Errand {
    bool wake_loop = false;
    bool stop_dma = false;
  };

  E1000(net::Backend& backend, EventLoop& loop, const MacAddress& address,
        const GuestMemory& memory, InterruptLine& line, std::string name, Clock clock,
        EventFd wake);
  Result<void> start();

  // Registers, any thread.
  uint32_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint32_t value);
  void run(const Errand& errand);

  // Whether the function may access guest memory. False: returns when the loop has let go.
  void enable_dma(bool enabled);

  // With mutex_ held.
  uint32_t& reg(uint32_t offset) { return state_.registers[offset / 4]; }
  Errand store(uint32_t offset, uint32_t value);
  Errand store_control(uint32_t value);
  Errand store_enable(uint32_t offset, uint32_t enable, uint32_t value);
  static void change_ring(Direction& direction);
  Errand reset_registers();
  Errand wake_transmitter();
  Errand wake_receiver();
  void load_address();
  void access_phy(uint32_t value);
  void set_link(bool was_up);
  bool link_up() const { return state_.phy.link_up(state_.cable); }
  bool transmitter_enabled() {
    return dma_enabled_ && (reg(e1000::kTctl) & e1000::kTransmitEnable) != 0;
  }
  bool receiver_enabled() {
    return dma_enabled_ && (reg(e1000::kRctl) & e1000::kReceiveEnable) != 0;
  }
  void raise(uint32_t causes);
  void update_interrupt();
  bool throttled();
  e1000::RingRegisters ring(uint32_t base) const;
  void count(uint32_t offset, uint64_t amount);
  void count_octets(uint32_t offset, uint64_t amount);

  // On the loop.
  void serve();
  bool transmit();
  bool receive();
  void finish_transmit(const e1000::Transmitter::Outcome& outcome);
  void finish_receive(const e1000::Receiver::Outcome& outcome);
  void take_settings();
  void follow_link();

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
  bool packets_waiting_ = true;  // the back end may have some

  // Held by the loop while it may touch the guest's memory; taken before mutex_.
  std::mutex dma_mutex_;

  Direction sending_;
  Direction receiving_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  State state_;
  bool asserted_ = false;  // what the line was told last
  bool dma_enabled_ = true;
  bool transmitting_ = false;     // the loop will look at the transmit ring again
  bool wants_buffers_ = true;     // the loop will not look at the receive ring again
  uint32_t filters_version_ = 1;  // of what settings_ is a copy of
  bool timer_armed_ = false;
  std::optional<uint64_t> last_interrupt_ns_;
  RateLimit complaints_;
};

}  // namespace wick::devices

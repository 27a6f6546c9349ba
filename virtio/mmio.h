// virtio over MMIO, version 2 (virtio 1.2, 4.2): a window of registers, and one
// edge-triggered interrupt.
#pragma once

#include <linux/virtio_mmio.h>

#include <memory>

#include "base/bus.h"
#include "base/interrupt.h"
#include "virtio/transport.h"

namespace wick::virtio {

class MmioTransport final : public Transport, public BusDevice {
 public:
  // The size of the register window (virtio 1.2, 4.2.2).
  static constexpr uint64_t kWindowBytes = 0x1000;

  // All references must outlive the transport.
  static Result<std::unique_ptr<MmioTransport>> create(VirtioDevice& device,
                                                       const GuestMemory& memory,
                                                       InterruptLine& interrupt, std::string name);

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  void queue_interrupt(uint16_t queue) override;

 private:
  MmioTransport(VirtioDevice& device, const GuestMemory& memory, InterruptLine& interrupt,
                std::string name, std::vector<EventFd> kicks)
      : Transport(device, memory, std::move(name), std::move(kicks)), interrupt_(interrupt) {}

  void reset_interrupts() override { interrupt_status_ = 0; }
  void config_interrupt() override;
  void raise(uint32_t cause);
  uint32_t read_register(uint64_t offset) const REQUIRES(mutex_);
  void write_register(uint64_t offset, uint32_t value) REQUIRES(mutex_);

  InterruptLine& interrupt_;
  std::atomic<uint32_t> interrupt_status_{0};
};

}  // namespace wick::virtio

// The virtio console (virtio 1.2, 5.3): hvc0, and more ports on demand. Each
// port is the guest's end of a console::Backend.
//
// More than one port, and only then, makes it a multiport device: a pair of
// control queues over which the driver says which ports it takes, and the
// device what they are. A port with a name is no console but a character
// device, /dev/virtio-ports/NAME in Linux.
//
// Thread rule: VirtioDevice's calls as written there; everything else, and
// console::Guest's calls, on the loop, which is that of the back ends too.
#pragma once

#include <linux/virtio_console.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "console/backend.h"
#include "virtio/loop_queue.h"

namespace wick::virtio {

class Console final : public VirtioDevice {
 public:
  struct PortConfig {
    console::Backend& backend;
    std::string name = {};  // empty: a console
  };

  // At least one port, the first a console. Connects itself to the back ends;
  // they and the loop must outlive it.
  Console(EventLoop& loop, std::vector<PortConfig> ports);
  ~Console() override;

  uint32_t id() const override { return 3; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_max_sizes() const override { return queue_sizes_; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  // Nothing in it can be written (VIRTIO_CONSOLE_F_EMERG_WRITE is not offered).
  void write_config(uint64_t, std::span<const std::byte>) override {}
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override {
    loop_.post_and_wait([&] { queues_[index].reset(); });
  }
  void reset() override;

 private:
  class Port;
  struct Message;

  void add(ActiveQueue queue);
  void kicked(uint16_t queue);
  void serve_control();
  void obey(const virtio_console_control& control);
  void send_control();
  std::optional<Message> next_message();

  // Constant after construction.
  EventLoop& loop_;
  const std::string name_ = "console";
  std::vector<uint16_t> queue_sizes_;
  std::vector<std::unique_ptr<Port>> ports_;

  std::atomic<console::Size> size_;  // of port 0

  // Owned by the loop's thread.
  std::vector<std::unique_ptr<LoopQueue>> queues_;  // by index; nullptr: not in use
  DriverNotifier* notifier_ = nullptr;
  bool multiport_ = false;
  bool tells_size_ = false;
  RateLimit complaints_;
};

}  // namespace wick::virtio

// The virtio console (virtio 1.2, 5.3): hvc0, and optionally more ports. Each port is the
// guest's end of a console::Backend.
//
// With more than one port the device is a multiport device: over a pair of control queues
// the device announces its ports, and the driver opens them. A port with a name is not a
// console but a character device, /dev/virtio-ports/NAME in Linux.
//
// Thread rule: VirtioDevice's calls as documented there; everything else, and
// console::Guest's calls, on the loop, which the back ends use too.
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
    std::string name = {};  // empty: the port is a console
  };

  // `ports` must not be empty, and the first port must be a console. The constructor connects the
  // ports to their back ends. The back ends and the loop must outlive the device.
  Console(EventLoop& loop, std::vector<PortConfig> ports);
  ~Console() override;

  uint32_t id() const override { return VIRTIO_ID_CONSOLE; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_max_sizes() const override { return queue_sizes_; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override {
    loop_.call([&] { queues_[index].reset(); });
  }
  void reset() override;

 private:
  class Port;
  struct Message;

  void add(ActiveQueue queue);
  void serve(uint16_t queue);
  void serve_control();
  void handle_control(const virtio_console_control& control);
  void send_control();
  std::optional<Message> next_message();

  // Constant after construction.
  EventLoop& loop_;
  const std::string name_ = "console";
  std::vector<uint16_t> queue_sizes_;
  std::vector<std::unique_ptr<Port>> ports_;

  std::atomic<console::Size> size_;  // the size of port 0's terminal

  // Owned by the loop's thread.
  std::vector<std::unique_ptr<LoopQueue>> queues_;  // by index; nullptr: not in use
  DriverNotifier* notifier_ = nullptr;
  bool multiport_ = false;
  bool reports_size_ = false;  // VIRTIO_CONSOLE_F_SIZE was negotiated
  RateLimit warnings_;
};

}  // namespace wick::virtio

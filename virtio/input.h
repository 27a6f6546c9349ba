// The virtio input device (virtio 1.2, 5.8): a keyboard, or a tablet, which is a pointer with
// absolute positions, three buttons and a wheel.
//
// Events are sent in groups that end with SYN_REPORT. They wait in a bounded list until the driver
// has buffers for a whole group. Successive movements in the list are merged into one. While the
// list is full, new presses and movements are dropped, but releases are sent later, so that no key
// seems to be held for ever. Without a driver, all events are dropped. The guest repeats held keys
// by itself (EV_REP), so repeated presses from the host are ignored.
//
// Thread rule: any thread calls InputDevice's functions; VirtioDevice's calls as documented
// there; everything else on the loop. `on_leds` is called on the loop.
#pragma once

#include <linux/input-event-codes.h>
#include <linux/virtio_input.h>

#include <array>
#include <atomic>
#include <bitset>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "devices/input_device.h"
#include "virtio/loop_queue.h"

namespace wick::virtio {

class Input final : public VirtioDevice, public devices::InputDevice {
 public:
  enum class Kind : uint8_t { kKeyboard, kTablet };
  static constexpr size_t kMaxWaitingGroups = 64;

  using OnLeds = std::function<void(uint8_t leds)>;
  // `on_leds` is called with bits of devices::Led when the driver changes a light of the keyboard;
  // it may be empty. The loop must outlive the device. The device must be destroyed on the loop's
  // thread, or while no thread runs the loop.
  static Result<std::unique_ptr<Input>> create(EventLoop& loop, Kind kind, OnLeds on_leds = {});
  ~Input() override;

  uint32_t id() const override { return VIRTIO_ID_INPUT; }
  uint64_t features() const override { return 0; }
  std::span<const uint16_t> queue_max_sizes() const override { return kQueueSizes; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  void write_config(uint64_t offset, std::span<const std::byte> data) override;
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override;
  void reset() override;

  // InputDevice. The device is active once the driver has given buffers for events.
  bool active() const override { return active_; }
  void key(uint16_t code, bool down) override;
  void move_to(uint16_t x, uint16_t y) override;
  void scroll(int steps) override;

  // While held, the device writes no events to the guest's memory; they wait in the list. Must be
  // called on the loop's thread.
  void hold(bool held);

 private:
  static constexpr std::array<uint16_t, 2> kQueueSizes = {64, 64};
  static constexpr size_t kMaxGroupEvents = 3;

  struct Event {
    uint16_t type = 0;
    uint16_t code = 0;
    int32_t value = 0;
  };
  // Events that must reach the driver together.
  struct Group {
    std::array<Event, kMaxGroupEvents> events = {};
    size_t size = 0;
  };
  // The event queue, and the buffers popped from it.
  struct EventQueue;

  Input(EventLoop& loop, Kind kind, OnLeds on_leds, EventFd wake);
  bool has_key(uint16_t code) const;
  virtio_input_config config() const;
  void press(uint16_t code) REQUIRES(mutex_);
  void release(uint16_t code) REQUIRES(mutex_);
  bool push(std::initializer_list<Event> events) REQUIRES(mutex_);
  std::optional<Group> take_group(size_t buffers);
  void forget();
  void collect_buffers();
  void send_events();
  void serve_status();

  // Constant after construction.
  EventLoop& loop_;
  const Kind kind_;
  const OnLeds on_leds_;
  const std::string name_;
  const EventFd wake_;  // signalled when there may be a group to send

  std::atomic<bool> active_ = false;

  // Accessed by the transport's calls only.
  uint8_t select_ = 0;
  uint8_t subsel_ = 0;

  // Owned by the loop's thread.
  EventLoop::Watch wake_watch_;
  std::unique_ptr<EventQueue> events_;
  std::optional<LoopQueue> status_;
  uint8_t leds_ = 0;
  bool held_ = false;
  RateLimit warnings_;

  Mutex mutex_;
  std::deque<Group> waiting_ GUARDED_BY(mutex_);
  std::bitset<KEY_CNT> down_ GUARDED_BY(mutex_);  // keys whose press is in waiting_ or was sent
  std::bitset<KEY_CNT> owed_ GUARDED_BY(mutex_);  // keys whose release must still be queued
};

}  // namespace wick::virtio

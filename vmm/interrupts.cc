#include "vmm/interrupts.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace wick::vmm {

class SharedPin::Handle final : public InterruptLine {
 public:
  explicit Handle(SharedPin& pin) : pin_(pin) {}
  // Releases the pin, because a device may be removed while it asserts the pin.
  ~Handle() override { set(false); }

  void pulse() override {
    set(true);
    set(false);
  }

  void set(bool asserted) override {
    const MutexLock lock(pin_.mutex_);
    if (asserted == asserted_) return;
    asserted_ = asserted;
    const bool before = pin_.asserted_ > 0;
    pin_.asserted_ += asserted ? 1 : -1u;
    if (const bool now = pin_.asserted_ > 0; now != before) pin_.line_.set(now);
  }

 private:
  SharedPin& pin_;
  bool asserted_ GUARDED_BY(pin_.mutex_) = false;
};

bool MsiPort::connect(const EventFd& event, uint64_t address, uint32_t data) {
  const MutexLock lock(mutex_);
  auto route = std::ranges::find(routes_, &event, &Vm::MsiRoute::event);
  const bool added = route == routes_.end();
  if (added) route = routes_.insert(route, {&event, 0, 0, free_gsi()});
  route->address = address;
  route->data = data;
  auto connected = vm_.set_routes(routes_);
  // If `event` is already signalled, KVM sends the message as soon as the irqfd is added.
  if (connected && added) connected = vm_.add(*route);
  if (connected) return true;
  if (!std::exchange(refusal_logged_, true))
    spdlog::warn("{}; interrupts go through wick, which is slower", connected.error().message());
  if (!added) vm_.remove(*route);  // otherwise KVM would go on sending the old message
  routes_.erase(route);
  return false;
}

void MsiPort::disconnect(const EventFd& event) {
  const MutexLock lock(mutex_);
  const auto found = std::ranges::find(routes_, &event, &Vm::MsiRoute::event);
  if (found == routes_.end()) return;
  vm_.remove(*found);
  routes_.erase(found);
}

uint32_t MsiPort::free_gsi() const {
  uint32_t gsi = Vm::kFirstMsiGsi;
  while (std::ranges::find(routes_, gsi, &Vm::MsiRoute::gsi) != routes_.end()) ++gsi;
  return gsi;
}

std::unique_ptr<InterruptLine> SharedPin::connect() { return std::make_unique<Handle>(*this); }

}  // namespace wick::vmm

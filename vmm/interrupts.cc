#include "vmm/interrupts.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace wick::vmm {

class SharedPin::Handle final : public InterruptLine {
 public:
  explicit Handle(SharedPin& pin) : pin_(pin) {}

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
  const auto found = std::ranges::find(routes_, &event, &Vm::MsiRoute::event);
  if (found != routes_.end()) {
    found->address = address;
    found->data = data;
    if (const auto moved = vm_.set_routes(routes_)) return true;
    vm_.remove(*found);  // else it would send the old message
    routes_.erase(found);
    return false;
  }
  routes_.push_back({&event, address, data, free_gsi()});
  // KVM delivers a signal that is already pending when the irqfd is added.
  auto connected = vm_.set_routes(routes_);
  if (connected) connected = vm_.add(routes_.back());
  if (!connected) {
    spdlog::warn("{}; interrupts go through wick, which is slower", connected.error().message());
    routes_.pop_back();
  }
  return connected.has_value();
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

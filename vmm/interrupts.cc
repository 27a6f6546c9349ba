#include "vmm/interrupts.h"

namespace wick {

class SharedPin::Handle final : public InterruptLine {
 public:
  explicit Handle(SharedPin& pin) : pin_(pin) {}

  void pulse() override {
    set(true);
    set(false);
  }

  void set(bool asserted) override {
    const std::lock_guard lock(pin_.mutex_);
    if (asserted == asserted_) return;
    asserted_ = asserted;
    const bool before = pin_.asserted_ > 0;
    pin_.asserted_ += asserted ? 1 : -1u;
    if (const bool now = pin_.asserted_ > 0; now != before) pin_.line_.set(now);
  }

 private:
  SharedPin& pin_;
  bool asserted_ = false;  // guarded by pin_.mutex_
};

std::unique_ptr<InterruptLine> SharedPin::connect() { return std::make_unique<Handle>(*this); }

}  // namespace wick

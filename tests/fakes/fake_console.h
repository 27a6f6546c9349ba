// Fake host's end of a console: keeps the guest's output, and passes the test's input
// to the guest.
//
// Thread rule: one thread calls type() and send_break(); any thread may call the others.
#pragma once

#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "console/backend.h"

namespace wick::fakes {

class FakeConsole final : public console::Backend {
 public:
  void connect(console::Guest& guest) override { guest_ = &guest; }
  void disconnect() override { guest_ = nullptr; }

  void write(std::span<const std::byte> bytes) override {
    const std::lock_guard lock(mutex_);
    output_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  void input_wanted() override {
    const std::lock_guard lock(mutex_);
    ++times_wanted_;
  }

  void hold_guest_input(bool) override {}
  void flush() override {}

  // Offers `text` to the guest; returns how many bytes the guest took.
  size_t type(std::string_view text) { return guest_->input(std::as_bytes(std::span(text))); }
  void send_break() { guest_->send_break(); }
  void resize(console::Size size) { guest_->resized(size); }

  std::string output() const {
    const std::lock_guard lock(mutex_);
    return output_;
  }
  int times_wanted() const {
    const std::lock_guard lock(mutex_);
    return times_wanted_;
  }

 private:
  console::Guest* guest_ = nullptr;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::string output_;
  int times_wanted_ = 0;
};

}  // namespace wick::fakes

// Test fixture: virtio-blk behind the MMIO registers, with a driver; the device is on a loop of
// its own.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "tests/fakes/await_used.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fakes/wait_for.h"
#include "virtio/blk.h"
#include "virtio/mmio.h"

namespace wick::virtio {

using fakes::FakeDriver;
using fakes::memory_of;
using fakes::MemoryBackend;
using fakes::MmioDriver;
using fakes::wait_for;

constexpr uint64_t kDiskBytes = 1 << 20;
constexpr uint64_t kFlushBit = 1ull << VIRTIO_BLK_F_FLUSH;

// A driver with its device. The derived fixtures choose the disk.
class BlkDriver : public testing::Test {
 protected:
  BlkDriver() {
    memory_.emplace(memory_of(8 << 20));
    thread_ = LoopThread::start("disk-test").value();
    set_driver({.size = 256});
  }

  void set_driver(FakeDriver::Options options) {
    if (registers_) regs().reset();  // the device must not use the old rings any more
    driver_.emplace(*memory_, options);
  }

  void attach(block::Backend& backend, const std::string& serial = "serial-0001") {
    blk_ = std::make_unique<Blk>(backend, loop(), serial, "vda");
    transport_ = MmioTransport::create(*blk_, *memory_, line_, "vda").value();
    registers_.emplace(*transport_);
  }
  void start(uint64_t without_features = 0) {
    ASSERT_TRUE(regs().start(driver_->layout(), without_features));
  }

  EventLoop& loop() { return thread_->loop(); }
  const MmioDriver& regs() const { return *registers_; }

  static std::array<std::byte, 16> header(uint32_t type, uint64_t sector) {
    std::array<std::byte, 16> bytes{};
    store_le(std::span(bytes).first(4), type);
    store_le(std::span(bytes).subspan(8), sector);
    return bytes;
  }
  static std::array<std::byte, 16> segment(uint64_t sector, uint32_t sectors, uint32_t flags) {
    std::array<std::byte, 16> bytes{};
    store_le(std::span(bytes).first(8), sector);
    store_le(std::span(bytes).subspan(8, 4), sectors);
    store_le(std::span(bytes).subspan(12), flags);
    return bytes;
  }

  FakeDriver::Request publish_read(uint64_t sector, uint32_t size_bytes) {
    return driver_->chain()
        .readable(header(VIRTIO_BLK_T_IN, sector))
        .writable(size_bytes)
        .writable(1)
        .publish();
  }
  FakeDriver::Request publish_write(uint64_t sector, std::span<const std::byte> data) {
    return driver_->chain()
        .readable(header(VIRTIO_BLK_T_OUT, sector))
        .readable(data)
        .writable(1)
        .publish();
  }
  FakeDriver::Request publish_out(uint32_t type, std::span<const std::byte> data = {}) {
    auto builder = driver_->chain();
    builder.readable(header(type, 0));
    if (!data.empty()) builder.readable(data);
    return builder.writable(1).publish();
  }

  void kick() {
    if (driver_->kick_wanted()) regs().kick(0);
  }
  FakeDriver::Used take_used() { return fakes::await_used(*driver_); }
  static int status(const FakeDriver::Request& request) {
    return std::to_integer<int>(request.writable.back().back());
  }
  // Kicks, waits for `request`, the only one in flight, and returns its status.
  int finish(const FakeDriver::Request& request) {
    kick();
    EXPECT_EQ(take_used().head, request.head);
    return status(request);
  }
  int read_status(uint64_t sector = 0) { return finish(publish_read(sector, 512)); }

  std::optional<GuestMemory> memory_;
  std::unique_ptr<LoopThread> thread_;
  std::optional<FakeDriver> driver_;
  fakes::CountingLine line_;
  std::unique_ptr<Blk> blk_;
  std::unique_ptr<MmioTransport> transport_;
  std::optional<MmioDriver> registers_;
};

class BlkTest : public BlkDriver {
 protected:
  BlkTest() { use_disk(kDiskBytes); }
  ~BlkTest() override {
    on_loop([&] {
      disk_->set_delay(MemoryBackend::Delay::kNone);
      disk_->release_all();
    });
    regs().reset();
    thread_->stop();
  }

  void use_disk(uint64_t size_bytes, bool read_only = false) {
    disk_ = std::make_unique<MemoryBackend>(loop(), size_bytes, read_only);
    attach(*disk_);
  }
  template <typename Function>
  void on_loop(Function function) {
    loop().call(function);
  }
  void set_delay(MemoryBackend::Delay delay) {
    on_loop([&] { disk_->set_delay(delay); });
  }
  // Kicks, and waits until the disk holds `count` requests that the test has published.
  void kick_until_held(int count) {
    kick();
    ASSERT_TRUE(wait_for([&] { return disk_->calls().held == count; }));
  }

  std::unique_ptr<MemoryBackend> disk_;
};

}  // namespace wick::virtio

// Test fixture: one IDE channel, with the drives that a test plugs in, on a host with a bus master.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "tests/fakes/counting_line.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/ide_host.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fakes/pattern.h"

namespace wick::devices {

using namespace ata;
using fakes::IdeHost;
using fakes::memory_of;
using fakes::MemoryBackend;
using fakes::pattern;
using fakes::wait_for;
using Kind = IdeDrive::Kind;

constexpr uint64_t kRamBytes = 1 << 20;
constexpr uint64_t kSectors = 4096;  // of a disk
constexpr uint64_t kDiskBytes = kSectors * kSectorBytes;
constexpr uint8_t kGood = kReady | kSeekComplete;
constexpr uint8_t kWantsData = kGood | kDataRequest;
constexpr uint8_t kFailed = kGood | kError;
constexpr uint32_t kTable = 0x1000;
constexpr uint32_t kArea = 0x20000;  // address of a data buffer in RAM

class IdeTest : public testing::Test {
 protected:
  IdeTest() { plug(Kind::kDisk); }
  ~IdeTest() override { unplug(); }

  // Makes a channel with one or two drives, as at power-on.
  void plug(Kind first, std::optional<Kind> second = {}, bool read_only = false) {
    unplug();
    line_ = std::make_unique<fakes::CountingLine>();
    add(first, read_only);
    if (second) add(*second, read_only);
    channel_.emplace(memory_, *line_, *drives_[0], second ? drives_[1].get() : nullptr);
    host_.emplace(*channel_);
  }
  void unplug() {
    on_loop([&] {
      for (const auto& disk : disks_) {
        disk->set_delay(MemoryBackend::Delay::kNone);
        disk->release_all();
      }
    });
    channel_.reset();
    drives_.clear();
    disks_.clear();
  }
  void add(Kind kind, bool read_only) {
    disks_.push_back(std::make_unique<MemoryBackend>(loop(), kDiskBytes, read_only));
    std::ranges::copy(pattern(kDiskBytes, 7), disks_.back()->bytes().begin());
    drives_.push_back(
        std::make_unique<IdeDrive>(kind, *disks_.back(), loop(), "serial-0001", "sda"));
  }

  EventLoop& loop() { return thread_->loop(); }
  const IdeHost& host() const { return *host_; }
  MemoryBackend& disk(size_t index = 0) { return *disks_[index]; }
  template <typename Function>
  void on_loop(Function function) {
    loop().call(function);
  }
  void set_delay(MemoryBackend::Delay delay, size_t index = 0) {
    on_loop([&, index] { disk(index).set_delay(delay); });
  }
  void fail_next(int count = 1) {
    on_loop([&] { disk().fail_next(count, EIO); });
  }
  void release() {
    on_loop([&] { disk().release_all(); });
  }
  bool await_held() {
    return wait_for([&] { return disk().calls().held == 1; });
  }
  bool await_interrupt(int count = 1) {
    return wait_for([&] { return line_->edges() >= count; });
  }
  std::vector<std::byte> on_disk(uint64_t sector, size_t size_bytes, size_t index = 0) {
    std::vector<std::byte> bytes(size_bytes);
    on_loop([&] {
      std::ranges::copy(disk(index).bytes().subspan(sector * kSectorBytes, size_bytes),
                        bytes.begin());
    });
    return bytes;
  }
  std::span<std::byte> ram(uint32_t at, size_t size_bytes) const {
    return memory_.slice({at}, size_bytes).value();
  }
  void set_table(std::initializer_list<IdeHost::Region> regions) {
    host().set_table(memory_, kTable, std::span(regions.begin(), regions.size()));
  }
  bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
    return std::ranges::equal(a, b);
  }

  const GuestMemory memory_ = memory_of(kRamBytes);
  std::unique_ptr<LoopThread> thread_ = LoopThread::start("disk-test").value();
  std::unique_ptr<fakes::CountingLine> line_;
  std::vector<std::unique_ptr<MemoryBackend>> disks_;
  std::vector<std::unique_ptr<IdeDrive>> drives_;
  std::optional<IdeChannel> channel_;
  std::optional<IdeHost> host_;
};

}  // namespace wick::devices

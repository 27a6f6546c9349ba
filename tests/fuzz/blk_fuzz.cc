// virtio-blk from the ring to the disk and back. The driver follows the rules of the ring, but
// not those of the block device.
#include <fuzzer/FuzzedDataProvider.h>
#include <spdlog/spdlog.h>

#include <map>
#include <memory>
#include <vector>

#include "base/guest_memory.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fuzz/harness.h"
#include "virtio/blk.h"
#include "virtio/mmio.h"

namespace {

using namespace wick;
using fakes::FakeDriver;
using fakes::MemoryBackend;
using fuzz::loop;
using fuzz::require;
using fuzz::run_loop;

GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of(256 << 10);
  return ram;
}

uint64_t total_bytes(const std::vector<std::span<std::byte>>& buffers) {
  uint64_t total = 0;
  for (const auto& buffer : buffers) total += buffer.size();
  return total;
}

class Session {
 public:
  explicit Session(FuzzedDataProvider& input)
      : input_(input),
        driver_(memory(), {.size = 16,
                           .event_index = input.ConsumeBool(),
                           .indirect = true,
                           .base = {0x1000},
                           .buffer_area_bytes = 128 << 10}) {
    require(
        registers_.start(driver_.layout(), input.ConsumeBool() ? 1ull << VIRTIO_BLK_F_FLUSH : 0));
  }

  void step() {
    switch (input_.ConsumeIntegralInRange(0, 6)) {
      case 0:
      case 1:
        publish();
        break;
      case 2:
        disk_.fail_next(1, EIO);
        break;
      case 3: {
        constexpr MemoryBackend::Delay kDelays[] = {MemoryBackend::Delay::kNone,
                                                    MemoryBackend::Delay::kNextRound,
                                                    MemoryBackend::Delay::kHeld};
        disk_.set_delay(input_.PickValueInArray(kDelays));
        break;
      }
      case 4:
        disk_.release_newest();
        break;
      case 5:
        driver_.want_interrupt_after(driver_.used_seen());
        break;
      default:
        run_loop();
    }
    take_used();
  }

  // Checks that each published chain has come back once, and that the device is idle.
  void finish() {
    disk_.set_delay(MemoryBackend::Delay::kNone);
    do {
      run_loop();
      disk_.release_all();
      take_used();
    } while (disk_.calls().held > 0);
    require(pending_.empty());
    require(registers_.status() == fakes::MmioDriver::kDriverOk);
    registers_.reset();
    require(registers_.status() == 0);
  }

 private:
  void publish() {
    if (!driver_.has_descriptors(8)) return;
    auto chain = driver_.chain();
    const int readable = input_.ConsumeIntegralInRange(0, 4);
    const int writable = input_.ConsumeIntegralInRange(readable == 0 ? 1 : 0, 4);
    for (int i = 0; i < readable; ++i) {
      auto bytes = input_.ConsumeBytes<std::byte>(input_.ConsumeIntegralInRange<size_t>(0, 32));
      if (input_.ConsumeBool()) bytes.resize(512);
      if (i == 0 && bytes.size() >= 4 && input_.ConsumeBool()) {
        // A valid request type.
        store_le(std::span(bytes).first(4), input_.ConsumeIntegralInRange<uint32_t>(0, 13));
      }
      chain.readable(bytes);
    }
    for (int i = 0; i < writable; ++i) {
      constexpr uint32_t kSizes[] = {0, 1, 20, 511, 512, 1024, 4096};
      chain.writable(input_.PickValueInArray(kSizes));
    }
    if (input_.ConsumeBool()) chain.indirect();
    const auto request = chain.publish();
    require(pending_.emplace(request.head, request).second);
    if (driver_.kick_wanted()) registers_.kick(0);
  }

  void take_used() {
    while (const auto used = driver_.take_used()) {
      const auto found = pending_.find(static_cast<uint16_t>(used->head));
      require(used->head < 16 && found != pending_.end());
      const FakeDriver::Request& request = found->second;
      const uint64_t room = total_bytes(request.writable);
      require(used->written_bytes <= room);
      // The last byte of the room is the status.
      for (size_t i = request.writable.size(); room > 0 && i-- > 0;) {
        if (request.writable[i].empty()) continue;
        require(request.writable[i].back() <= std::byte{2});
        break;
      }
      pending_.erase(found);
    }
  }

  FuzzedDataProvider& input_;
  FakeDriver driver_;
  MemoryBackend disk_{loop(), 64 << 10};
  fakes::CountingLine line_;
  virtio::Blk blk_{disk_, loop(), "serial", "vda"};
  std::unique_ptr<virtio::MmioTransport> transport_ =
      virtio::MmioTransport::create(blk_, memory(), line_, "vda").value();
  fakes::MmioDriver registers_{*transport_};
  std::map<uint16_t, FakeDriver::Request> pending_;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  spdlog::set_level(spdlog::level::off);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  Session session(input);
  while (input.remaining_bytes() > 0) session.step();
  session.finish();
  return 0;
}

// A guest that does anything to a disk on virtio-pci: the configuration spaces, by ports and by
// memory, the BARs and the rings.
#include <fuzzer/FuzzedDataProvider.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "base/guest_memory.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fakes/plugged_device.h"
#include "tests/fuzz/harness.h"
#include "virtio/blk.h"

namespace {

using namespace wick;
using fakes::kWidths;
using fakes::OnPci;
using fakes::PciDriver;
using fuzz::loop;
using fuzz::require;
using fuzz::run_loop;

constexpr uint64_t kRamBytes = 64 << 10;
constexpr uint64_t kBarOffset = OnPci::kWindow.start;
constexpr fakes::RecordingSink::Message kMessage{0xfee0'0000, 0x41};

GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of(kRamBytes);
  return ram;
}

class Session {
 public:
  explicit Session(FuzzedDataProvider& input) : input_(input) { identity_ = regs().space(0, 4); }

  void step() {
    switch (input_.ConsumeIntegralInRange(0, 11)) {
      case 0:
        access(host().ecam(), in_ecam());
        break;
      case 1:  // a register of the configuration address, then its data
        fakes::write_register(host().ports(), 0, 0x80000000u | OnPci::kSlot << 11 | number(0xff),
                              4);
        access(host().ports(), 4);
        break;
      case 2: {
        const size_t width = input_.PickValueInArray(kWidths);
        access(host().ports(), number(8 - width), width);
        break;
      }
      case 3:
        access(host().window(), number(OnPci::kWindow.size - 8));
        break;
      case 4:
        access(host().window(), regs().bar(number(1)) - kBarOffset + number(0x3fff));
        break;
      case 5: {
        constexpr uint8_t kTypes[] = {VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG};
        const uint32_t offset = regs().find(input_.PickValueInArray(kTypes)).offset +
                                static_cast<uint32_t>(number(0x40));
        const uint64_t data =
            regs().aim(offset, static_cast<uint32_t>(number(8)), static_cast<uint32_t>(number(2)));
        access(host().ecam(), uint64_t{OnPci::kSlot} << 15 | data);
        break;
      }
      case 6: {
        const auto bytes = input_.ConsumeBytes<std::byte>(number(64));
        (void)memory().write_bytes({number(0x4000)}, bytes);
        break;
      }
      case 7:
        replace_bars();
        (void)regs().start({.size = input_.ConsumeIntegral<uint8_t>(),
                            .descriptors = {number(16) * 0x100},
                            .driver_area = {0x1000},
                            .device_area = {0x2000},
                            .event_index = input_.ConsumeBool(),
                            .indirect = true});
        break;
      case 8: {  // another valid chain
        const auto index = memory().read<uint16_t>({0x1002}).value();
        (void)memory().write({0x1002}, static_cast<uint16_t>(index + 1));
        regs().kick(0);
        break;
      }
      case 9:
        regs().set_vector(static_cast<uint32_t>(number(3)), kMessage, input_.ConsumeBool());
        (void)regs().set_queue_vector(0, static_cast<uint32_t>(number(3)));
        regs().set_msix(static_cast<uint16_t>(number(3) << 14));
        break;
      case 10:
        if (input_.ConsumeBool())
          plugged_.transport().queue_interrupt(0);
        else
          plugged_.transport().config_changed();
        break;
      default:
        run_loop();
    }
    check();
  }

  void finish() {
    replace_bars();
    run_loop();
    regs().reset();
    require(regs().status() == 0);
    require(regs().take_causes() == 0);
    require(regs().pending() == 0);
    require(!plugged_.line().level());
    plugged_.transport().power_off();
  }

 private:
  const PciDriver& regs() const { return plugged_.driver(); }
  devices::PciHost& host() { return plugged_.host(); }
  uint64_t number(uint64_t most) { return input_.ConsumeIntegralInRange<uint64_t>(0, most); }
  uint64_t in_ecam() {
    // Often in the device's slot.
    if (input_.ConsumeBool()) return uint64_t{OnPci::kSlot} << 15 | number(0x100);
    return number(devices::PciHost::kEcamBytes - 8);
  }

  void access(BusDevice& device, uint64_t offset) {
    access(device, offset, input_.PickValueInArray(kWidths));
  }
  void access(BusDevice& device, uint64_t offset, size_t width) {
    // The buses only pass on accesses inside the range.
    if (&device == &host().ports() && offset + width > devices::PciHost::kPorts) return;
    if (&device == &host().window() && offset > OnPci::kWindow.size - width) return;
    if (input_.ConsumeBool())
      (void)fakes::read_register(device, offset, width);
    else
      fakes::write_register(device, offset, input_.ConsumeIntegral<uint64_t>(), width);
  }

  // Moves the BARs back to where the firmware put them.
  void replace_bars() {
    regs().set_space(PciDriver::kBars, bars_[0], 4);
    regs().set_space(PciDriver::kBars + 4, bars_[1], 4);
    regs().set_space(PciDriver::kCommand, 2, 2);
  }

  // Checks the invariants that no guest can break.
  void check() {
    require(regs().space(0, 4) == identity_);
    require(regs().capabilities().size() == 6);
    const uint64_t command = regs().space(PciDriver::kCommand, 4);
    const bool disabled = (command >> 10 & 1) != 0;
    const bool wants = (command >> (16 + 3) & 1) != 0;
    require(plugged_.line().level() == (wants && !disabled));
    const bool decoded = (command & 2) != 0 && regs().bar(0) >= OnPci::kWindow.start &&
                         regs().bar(0) - OnPci::kWindow.start <=
                             OnPci::kWindow.size - virtio::PciTransport::kBarBytes;
    require(at_ == (decoded ? regs().bar(0) : 0));
    const uint64_t data = regs().aim(VIRTIO_PCI_COMMON_STATUS, 1);
    const uint64_t status = regs().space(data, 1) & ~uint64_t{0xc0};
    require(status == 0 || status == 1 || status == 3 || status == 11 || status == 15);
  }

  void moved(uint64_t from, uint64_t to) {
    require(from == at_ && to != at_);
    at_ = to;
  }

  FuzzedDataProvider& input_;
  uint64_t at_ = 0;  // of BAR 0
  fakes::MemoryBackend disk_{loop(), 64 << 10};
  virtio::Blk blk_{disk_, loop(), "serial", "vda"};
  OnPci plugged_{blk_, memory(), [this](uint64_t from, uint64_t to) { moved(from, to); }};
  const std::array<uint64_t, 2> bars_ = {regs().bar(0), regs().bar(1)};
  uint64_t identity_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  spdlog::set_level(spdlog::level::off);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  const auto ram = memory().slice({0}, kRamBytes).value();
  std::memset(ram.data(), 0, ram.size());
  Session session(input);
  while (input.remaining_bytes() > 0) session.step();
  session.finish();
  return 0;
}

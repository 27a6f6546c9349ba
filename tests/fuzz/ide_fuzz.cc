// A guest that does anything to the ports of an IDE channel with a disk and a CD-ROM drive,
// whose back ends are slow or fail.
#include <fuzzer/FuzzedDataProvider.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstring>

#include "base/guest_memory.h"
#include "devices/ide/channel.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/ide_host.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using devices::IdeChannel;
using devices::IdeDrive;
using fakes::IdeHost;
using fakes::kWidths;
using fakes::MemoryBackend;
using fuzz::loop;
using fuzz::require;
using fuzz::run_loop;
namespace ata = devices::ata;

constexpr uint64_t kRamBytes = 64 << 10;
constexpr uint64_t kDiskBytes = 300 << 10;  // more than a drive's buffer, not a multiple of a track

GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of(kRamBytes);
  return ram;
}

class Session {
 public:
  explicit Session(FuzzedDataProvider& input)
      : input_(input), disks_{{{loop(), kDiskBytes, input.ConsumeBool()}, {loop(), kDiskBytes}}} {}

  void step() {
    switch (input_.ConsumeIntegralInRange(0, 12)) {
      case 0:
        access(channel_.command_block(), IdeChannel::kCommandPorts);
        break;
      case 1:
        access(channel_.control_block(), IdeChannel::kControlPorts);
        break;
      case 2:
        access(channel_.bus_master(), IdeChannel::kBusMasterPorts);
        break;
      case 3: {  // a valid command, at a valid or nearly valid sector
        constexpr uint8_t kOpcodes[] = {0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0x40,
                                        0x42, 0xa0, 0xa1, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xe7,
                                        0xec, 0xef, 0x91, 0x90, 0x08, 0xf8, 0x27};
        host_.set(ata::kErrorOrFeatures, byte());
        host_.command(input_.PickValueInArray(kOpcodes), static_cast<uint32_t>(number(1030)),
                      byte(), static_cast<uint8_t>(byte() | 0xa0));
        break;
      }
      case 4: {
        constexpr uint8_t kOpcodes[] = {0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x42};
        host_.command_ext(input_.PickValueInArray(kOpcodes), number(1 << 12),
                          static_cast<uint16_t>(number(0xffff)));
        break;
      }
      case 5: {  // a whole block, or nearly
        const uint64_t words = number(4200);
        const bool read = input_.ConsumeBool();
        for (uint64_t i = 0; i < words; ++i) read ? (void)host_.data() : host_.set_data(i);
        break;
      }
      case 6: {
        const auto packet = input_.ConsumeBytes<uint8_t>(12);
        host_.select(input_.ConsumeBool() ? 0xf0 : 0xe0);
        host_.set(ata::kErrorOrFeatures, byte() & 1);
        host_.set(ata::kLbaMid, byte());
        host_.set(ata::kLbaHigh, byte());
        host_.command(ata::kPacket);
        std::array<std::byte, 12> whole{};
        std::ranges::copy(std::as_bytes(std::span(packet)), whole.begin());
        host_.write_data(whole);
        break;
      }
      case 7:
        host_.set_master(IdeHost::kMasterTable, number(kRamBytes + 8), 4);
        host_.set_master(IdeHost::kMasterCommand, byte());
        break;
      case 8: {
        const auto bytes = input_.ConsumeBytes<std::byte>(number(64));
        (void)memory().write_bytes({number(kRamBytes)}, bytes);
        break;
      }
      case 9:
        some_disk().fail_next(1, EIO);
        break;
      case 10: {
        constexpr MemoryBackend::Delay kDelays[] = {MemoryBackend::Delay::kNone,
                                                    MemoryBackend::Delay::kNextRound,
                                                    MemoryBackend::Delay::kHeld};
        some_disk().set_delay(input_.PickValueInArray(kDelays));
        break;
      }
      case 11:
        some_disk().release_all();
        break;
      default:
        run_loop();
    }
    check();
  }

  // After a reset both drives must work, whatever happened before.
  void finish() {
    host_.control(ata::kSoftwareReset);
    for (MemoryBackend& disk : disks_) {
      disk.set_delay(MemoryBackend::Delay::kNone);
      disk.fail_next(0, 0);
    }
    settle();
    host_.control(0);
    check();
    require(host_.status() == (ata::kReady | ata::kSeekComplete));
    require(!line_.level());
    host_.select(IdeHost::kSecond);
    require(host_.status() == 0 && host_.byte_count() == 0xeb14);
    host_.command(ata::kReadSectors, 1, 1);
    settle();
    require(line_.level());
    require((host_.status() & ata::kDataRequest) != 0);
    const auto data = host_.read_data(512);
    require(std::memcmp(data.data(), disks_[0].bytes().data() + 512, 512) == 0);
    require(host_.status() == (ata::kReady | ata::kSeekComplete));
    host_.select(IdeHost::kSecond);
    host_.command(ata::kIdentifyPacketDevice);
    require(host_.data() == 0x85c0);
  }

  ~Session() { settle(); }

 private:
  uint64_t number(uint64_t most) { return input_.ConsumeIntegralInRange<uint64_t>(0, most); }
  uint8_t byte() { return input_.ConsumeIntegral<uint8_t>(); }
  MemoryBackend& some_disk() { return disks_[input_.ConsumeBool() ? 1 : 0]; }

  void access(BusDevice& device, uint64_t ports) {
    const size_t width = std::min<size_t>(input_.PickValueInArray(kWidths), ports);
    const uint64_t offset = number(ports - width);
    if (input_.ConsumeBool())
      (void)fakes::read_register(device, offset, width);
    else
      fakes::write_register(device, offset, input_.ConsumeIntegral<uint64_t>(), width);
  }

  // Runs the loop until nothing is in flight.
  void settle() {
    const auto in_flight = [&] { return channel_.drive_state(0).io || channel_.drive_state(1).io; };
    do {
      run_loop();
      for (MemoryBackend& disk : disks_) disk.release_all();
    } while (in_flight());
  }

  void check() {
    const IdeChannel::State state = channel_.state();
    const bool second = (state.device & ata::kSecondDevice) != 0;
    const bool enabled = (state.control & ata::kInterruptsOff) == 0;
    for (const size_t i : {0, 1}) {
      const IdeDrive::State drive = channel_.drive_state(i);
      using Phase = IdeDrive::Phase;
      const bool busy = (drive.status & ata::kBusy) != 0;
      const bool wants = (drive.status & ata::kDataRequest) != 0;
      const bool waits_for_host = drive.phase == Phase::kDataIn || drive.phase == Phase::kDataOut ||
                                  drive.phase == Phase::kPacket;
      require(busy == (drive.phase != Phase::kIdle && !waits_for_host));
      require(wants == waits_for_host);
      require(!drive.io || busy);
      const IdeDrive::Transfer& t = drive.transfer;
      require(t.filled <= IdeDrive::kBufferBytes && t.block_end <= t.filled);
      require(t.position <= t.filled);
      if (waits_for_host) require(t.position < t.block_end);
      if (drive.phase == Phase::kDmaIn || drive.phase == Phase::kDmaOut)
        require(t.position < t.filled);
      require(t.offset_bytes + t.left_bytes <= kDiskBytes);
      if (second == (i == 1)) require(line_.level() == (drive.interrupt && enabled));
    }
    require(disks_[0].read_only() ? disks_[0].calls().writes == 0 : true);
    require(disks_[1].calls().writes == 0);
  }

  FuzzedDataProvider& input_;
  std::array<MemoryBackend, 2> disks_;
  IdeDrive disk_{IdeDrive::Kind::kDisk, disks_[0], loop(), "", "sda"};
  IdeDrive cdrom_{IdeDrive::Kind::kCdrom, disks_[1], loop(), "", "sr0"};
  fakes::CountingLine line_;
  IdeChannel channel_{memory(), line_, disk_, &cdrom_};
  IdeHost host_{channel_};
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

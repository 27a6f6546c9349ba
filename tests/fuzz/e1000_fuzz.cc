// A guest that does anything to an 82540EM: its registers and the rings in memory, while
// packets arrive. The packets that the card sends must be valid.
#include <fuzzer/FuzzedDataProvider.h>
#include <spdlog/spdlog.h>

#include <cstring>

#include "base/guest_memory.h"
#include "devices/e1000/e1000.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/e1000_driver.h"
#include "tests/fakes/fake_network.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using namespace wick::devices::e1000;
using devices::E1000;
using fakes::E1000Driver;
using fakes::kWidths;
using fuzz::loop;
using fuzz::require;
using fuzz::run_loop;

constexpr uint64_t kRamBytes = 1 << 20;
constexpr uint64_t kUsedBytes = 0x40000;  // rings and frames to send
constexpr net::MacAddress kMac = {0x52, 0x54, 0, 1, 2, 3};

GuestMemory& memory() {
  static GuestMemory ram = fakes::memory_of(kRamBytes);
  return ram;
}

class Session {
 public:
  explicit Session(FuzzedDataProvider& input) : input_(input) {
    driver_.start_transmitter(input.ConsumeIntegral<uint32_t>());
    driver_.start_receiver(input.ConsumeIntegral<uint32_t>());
  }

  void step() {
    switch (input_.ConsumeIntegralInRange(0, 12)) {
      case 0:
        access(card_->memory_bar(), E1000::kMemoryBytes);
        break;
      case 1:
        access(card_->io_bar(), E1000::kIoPorts);
        break;
      case 2: {  // an important register, with any value
        constexpr uint32_t kOffsets[] = {kCtrl,  kVet,  kIcs,  kIms,    kImc,   kItr,   kRctl,
                                         kTctl,  kRdh,  kTdh,  kRdbal,  kRdbah, kRdlen, kTdbal,
                                         kTdlen, kMdic, kEecd, kRxcsum, kRa,    kMta,   kVfta};
        driver_.set(input_.PickValueInArray(kOffsets), input_.ConsumeIntegral<uint32_t>());
        break;
      }
      case 3:
        driver_.set(kTdt, static_cast<uint32_t>(number(17)));
        break;
      case 4:
        driver_.set(kRdt, static_cast<uint32_t>(number(17)));
        break;
      case 5: {  // a descriptor
        const uint64_t ring =
            input_.ConsumeBool() ? E1000Driver::kTransmitRing : E1000Driver::kReceiveRing;
        const auto bytes = input_.ConsumeBytes<std::byte>(16);
        (void)memory().write_bytes({ring + 16 * number(15)}, bytes);
        break;
      }
      case 6: {  // a descriptor that sends something
        auto data = E1000Driver::data(E1000Driver::kTransmitData + number(64), number(3000),
                                      input_.ConsumeIntegral<uint32_t>() & 0xff000000,
                                      input_.ConsumeIntegral<uint8_t>());
        if (input_.ConsumeBool()) data.lower &= ~TransmitDescriptor::kExtended;
        data.special = input_.ConsumeIntegral<uint16_t>();
        driver_.put(data);
        driver_.send();
        break;
      }
      case 7: {  // a plausible context descriptor
        const auto start = static_cast<uint8_t>(14 + number(4));
        const auto tcp = static_cast<uint8_t>(start + 20 + number(24));
        driver_.put(ContextDescriptor{
            .ip_start = start,
            .ip_offset = static_cast<uint8_t>(start + number(20)),
            .ip_end = static_cast<uint16_t>(number(60)),
            .tcp_start = tcp,
            .tcp_offset = static_cast<uint8_t>(tcp + number(20)),
            .tcp_end = static_cast<uint16_t>(number(2) * number(2000)),
            .lower = TransmitDescriptor::kExtended | static_cast<uint32_t>(number(15)) << 24,
            .header_bytes = static_cast<uint8_t>(tcp + 20 + number(8)),
            .segment_bytes = static_cast<uint16_t>(number(1500))});
        break;
      }
      case 8: {
        const auto bytes = input_.ConsumeBytes<std::byte>(number(64));
        (void)memory().write_bytes({number(kUsedBytes)}, bytes);
        break;
      }
      case 9:
        arrive();
        break;
      case 10:
        network_.set_link(input_.ConsumeBool());
        break;
      case 11:
        now_ns_ += number(20'000'000);
        break;
      default:
        run_loop();
    }
    check();
  }

  // After a reset the card must send and receive, whatever happened before.
  void finish() {
    driver_.set(kCtrl, kReset);
    settle();
    require(!line_.level());
    while (network_.waiting() > 0) {
      start_receiver(kUnicastPromiscuous | kMulticastPromiscuous);
      settle();
      driver_.set(kCtrl, kReset);
    }
    network_.sent.clear();
    driver_ = E1000Driver(*card_, memory());
    std::vector<std::byte> frame(100);
    for (size_t i = 0; i < kMac.size(); ++i) frame[i] = std::byte{kMac[i]};
    (void)memory().write_bytes({E1000Driver::kTransmitData}, frame);
    driver_.start_transmitter();
    start_receiver(kStripCrc);
    driver_.set(kIms, kRxt0 | kTxdw);
    driver_.put(
        E1000Driver::legacy(E1000Driver::kTransmitData, 100,
                            TransmitDescriptor::kEndOfPacket | TransmitDescriptor::kReportStatus));
    driver_.send();
    network_.arrive({{}, frame});
    settle();
    require(network_.sent.size() == 1 && network_.sent[0].frame == frame);
    require(driver_.transmitted(0).status == kDone);
    require(driver_.received_bytes(0) == frame);
    require(line_.level());
    require(driver_.get(kIcr) != 0 && !line_.level());
  }

 private:
  uint64_t number(uint64_t most) { return input_.ConsumeIntegralInRange<uint64_t>(0, most); }

  void start_receiver(uint32_t rctl) {
    driver_.start_receiver(rctl);
    driver_.set(kRdt, E1000Driver::kDescriptors - 1);
  }
  void access(BusDevice& device, uint64_t bytes) {
    const size_t width = input_.PickValueInArray(kWidths);
    const uint64_t offset = number(bytes - width);
    if (input_.ConsumeBool())
      (void)fakes::read_register(device, offset, width);
    else
      fakes::write_register(device, offset, input_.ConsumeIntegral<uint64_t>(), width);
  }
  void arrive() {
    if (network_.waiting() >= 8) return;
    std::vector<std::byte> frame(number(20000));
    const auto start = input_.ConsumeBytes<std::byte>(std::min<size_t>(20, frame.size()));
    std::ranges::copy(start, frame.begin());
    if (frame.size() >= 6 && input_.ConsumeBool())
      for (size_t i = 0; i < 6; ++i) frame[i] = std::byte{kMac[i]};
    net::PacketHeader header;
    header.flags = input_.ConsumeIntegral<uint8_t>();
    header.segmentation = input_.ConsumeIntegral<uint8_t>();
    header.segment_bytes = static_cast<uint16_t>(number(1500));
    if (frame.size() >= 54 && input_.ConsumeBool()) {  // a frame to segment
      frame[12] = std::byte{0x08};
      frame[13] = std::byte{0x00};
      frame[14] = std::byte{0x45};
      frame[20] = frame[21] = std::byte{0};
      frame[23] = std::byte{6};
      frame[46] = std::byte{0x50};
      header = {.flags = net::PacketHeader::kNeedsChecksum,
                .segmentation = net::PacketHeader::kTcp4,
                .segment_bytes = header.segment_bytes,
                .checksum_start = 34,
                .checksum_offset = 16};
    }
    network_.arrive({header, std::move(frame)});
  }
  void settle() {
    for (int i = 0; i < 8; ++i) run_loop();
  }

  void check() {
    const E1000::State state = card_->state();
    const auto reg = [&](uint32_t offset) { return state.registers[offset / 4]; };
    const bool wanted = (reg(kIcr) & reg(kIms)) != 0;
    if (line_.level()) require(wanted);
    if (reg(kItr) == 0) require(line_.level() == wanted);
    for (const fakes::Packet& packet : network_.sent) {
      const size_t bytes = packet.frame.size();
      const net::PacketHeader& header = packet.header;
      require(bytes >= 14 && bytes <= net::kMaxFrameBytes);
      require((header.flags & ~net::PacketHeader::kNeedsChecksum) == 0);
      if (header.flags != 0) require(header.checksum_start + header.checksum_offset + 2u <= bytes);
      if (header.segmentation != 0) {
        require(header.flags != 0 && header.segment_bytes > 0);
        require(header.header_bytes < bytes);
        require(header.checksum_start + header.checksum_offset + 2u <= header.header_bytes);
      }
    }
    network_.sent.clear();
  }

  FuzzedDataProvider& input_;
  fakes::FakeNetwork network_;
  fakes::CountingLine line_;
  uint64_t now_ns_ = 1'000'000'000;
  const std::unique_ptr<E1000> card_ =
      E1000::create(network_, loop(), kMac, memory(), line_, "eth0", [this] {
        return now_ns_;
      }).value();
  E1000Driver driver_{*card_, memory()};
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

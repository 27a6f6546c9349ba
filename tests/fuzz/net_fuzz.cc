// A virtio network card with two queue pairs: packets and commands of any content and shape,
// arriving packets, link changes, broken rings, resets, and different features.
#include <array>
#include <vector>

#include "base/bytes.h"
#include "tests/fakes/fake_network.h"
#include "tests/fuzz/virtio_device.h"
#include "virtio/net.h"

namespace {

using namespace wick;
using fuzz::require;

constexpr net::MacAddress kMac = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

net::PacketHeader any_header(FuzzedDataProvider& input) {
  net::PacketHeader header;
  if (input.ConsumeBool()) return header;
  const auto bytes = input.ConsumeBytes<uint8_t>(sizeof(header));
  for (size_t i = 0; i < bytes.size(); ++i) reinterpret_cast<uint8_t*>(&header)[i] = bytes[i];
  return header;
}

// Returns a packet, mostly with a plausible header.
std::vector<std::byte> any_packet(FuzzedDataProvider& input) {
  constexpr size_t kSizes[] = {0, 13, 14, 60, 1514, net::kMaxFrameBytes, net::kMaxFrameBytes + 1};
  const net::PacketHeader header = any_header(input);
  std::vector<std::byte> bytes(sizeof(header) + input.PickValueInArray(kSizes));
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes;
}

// Returns a command, mostly a valid one.
std::vector<std::byte> any_command(FuzzedDataProvider& input) {
  std::vector<std::byte> bytes = {std::byte{input.ConsumeIntegralInRange<uint8_t>(0, 6)},
                                  std::byte{input.ConsumeIntegralInRange<uint8_t>(0, 6)}};
  constexpr size_t kSizes[] = {0, 1, 2, 6, 8, 14, 20, 20'000};
  bytes.resize(2 + input.PickValueInArray(kSizes));
  const auto data = input.ConsumeBytes<std::byte>(20);
  std::ranges::copy(std::span(data).first(std::min(data.size(), bytes.size() - 2)),
                    bytes.begin() + 2);
  return bytes;
}

// Checks that the card sent only valid packets.
void check_sent(fakes::FakeNetwork& network) {
  for (const fakes::Packet& packet : network.sent) {
    require(packet.frame.size() >= 14 && packet.frame.size() <= net::kMaxFrameBytes);
    require(packet.header.buffers == 0 && packet.header.flags <= 1);
  }
  network.sent.clear();
  network.sent_on.clear();
}

void drive(FuzzedDataProvider& input, fakes::FakeNetwork& network, fuzz::Device& device) {
  const uint16_t pairs = network.queue_pairs();
  const auto any_pair = [&] { return input.ConsumeIntegralInRange<uint16_t>(0, pairs - 1u); };
  while (input.remaining_bytes() > 0) {
    switch (input.ConsumeIntegralInRange(0, 31)) {
      case 0:
        device.break_ring(input.ConsumeIntegralInRange<uint16_t>(0, 2u * pairs));
        break;
      case 1:
        device.write_config();
        break;
      case 2:
        network.set_link(input.ConsumeBool());
        break;
      case 3:
        return;  // a reset follows
      case 4: {
        const auto at = input.ConsumeIntegralInRange<uint64_t>(fuzz::kRingsEnd, fuzz::kRamBytes);
        device.publish_at(
            input.ConsumeIntegralInRange<uint16_t>(0, 2u * pairs), {at},
            input.ConsumeIntegralInRange<uint32_t>(0, static_cast<uint32_t>(fuzz::kRamBytes - at)));
        break;
      }
      case 5:
      case 6:
      case 7:
      case 8:
      case 9:
      case 10: {
        const auto bytes = any_packet(input);
        fakes::Packet packet{any_header(input), {bytes.begin() + 12, bytes.end()}};
        const auto start = input.ConsumeBytes<std::byte>(18);
        if (packet.frame.size() > 18) std::ranges::copy(start, packet.frame.begin());
        network.arrive(std::move(packet), any_pair());
        break;
      }
      case 11:
      case 12:
      case 13:
      case 14:
        device.run();
        check_sent(network);
        break;
      case 15:
      case 16:
      case 17:
      case 18:
        device.publish(input.ConsumeBool() ? static_cast<uint16_t>(2u * pairs) : uint16_t{2},
                       any_command(input));
        break;
      case 19:
      case 20:
      case 21:
      case 22: {
        const auto bytes = any_packet(input);
        if (bytes.size() > 0x8000) device.run(), device.run();  // or there may be no room for it
        device.publish(static_cast<uint16_t>(2u * any_pair() + 1), bytes);
        break;
      }
      default:
        device.publish(static_cast<uint16_t>(2u * any_pair()), {});
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  const bool offloads = input.ConsumeBool();
  fakes::FakeNetwork network(
      2,
      {.checksum = offloads, .tcp4 = offloads, .tcp6 = offloads, .ecn = offloads, .udp = offloads});
  const auto mtu = input.ConsumeBool() ? std::optional<uint16_t>(1500) : std::nullopt;
  const auto card = virtio::Net::create(network, fuzz::loop(), kMac, mtu, "net0").value();
  do {
    fuzz::Device device(input, *card);
    drive(input, network, device);
    device.drain(1);
    if ((device.features() >> VIRTIO_NET_F_MQ & 1) != 0) device.drain(3);
    check_sent(network);
    device.reset();
    const int calls = network.receive_calls;
    network.arrive({{}, std::vector<std::byte>(60)});
    device.run();
    require(network.receive_calls == calls);
    require(network.offloads() == net::Offloads{} && network.active_pairs() == 1);
  } while (input.remaining_bytes() > 0);
  return 0;
}

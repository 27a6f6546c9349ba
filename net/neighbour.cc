#include "net/neighbour.h"

#include <algorithm>

#include "base/bytes.h"
#include "net/offload.h"

namespace wick::net {

namespace {

constexpr size_t kEthernetBytes = 14;
constexpr size_t kIp6Bytes = 40;
constexpr size_t kArpBytes = 28;
constexpr size_t kMessageBytes = 24;  // size of a neighbour discovery message without options

constexpr uint16_t kArpType = 0x0806;
constexpr uint16_t kIp6Type = 0x86dd;
constexpr uint16_t kArpRequest = 1;
constexpr uint16_t kArpReply = 2;
constexpr uint8_t kIcmp6 = 58;
constexpr uint8_t kSolicitation = 135;
constexpr uint8_t kAdvertisement = 136;
constexpr uint8_t kSolicitedOverride = 0x60;

}  // namespace

std::vector<std::byte> neighbour_reply(const MacAddress& station,
                                       std::span<const std::byte> frame) {
  if (frame.size() < kEthernetBytes + kArpBytes) return {};
  const auto type = load_be<uint16_t>(frame.subspan(12));
  const auto packet = frame.subspan(kEthernetBytes);
  const bool arp = type == kArpType && load_be<uint16_t>(packet.subspan(6)) == kArpRequest;
  const bool solicitation = type == kIp6Type && packet.size() >= kIp6Bytes + kMessageBytes &&
                            load_le<uint8_t>(packet.subspan(6)) == kIcmp6 &&
                            load_le<uint8_t>(packet.subspan(kIp6Bytes)) == kSolicitation;
  if (!arp && !solicitation) return {};

  const auto asker = frame.subspan(6, 6);
  std::vector<std::byte> answer(kEthernetBytes);
  std::ranges::copy(asker, answer.begin());
  store_le(std::span(answer).subspan(6, sizeof(station)), station);
  store_be(std::span(answer).subspan(12), type);
  if (arp) {
    const auto put = [&](std::span<const std::byte> bytes) {
      answer.insert(answer.end(), bytes.begin(), bytes.end());
    };
    put(packet.first(8));
    store_be(std::span(answer).last(2), kArpReply);
    put(as_bytes(&station, sizeof(station)));
    put(packet.subspan(24, 4));
    put(packet.subspan(8, 10));
    return answer;
  }
  answer.resize(kEthernetBytes + kIp6Bytes + kMessageBytes);
  const auto out = std::span(answer).subspan(kEthernetBytes);
  const auto wanted = packet.subspan(kIp6Bytes + 8, 16);
  store_be(out, uint32_t{0x60000000});
  store_be(out.subspan(4), static_cast<uint16_t>(kMessageBytes));
  store_le(out.subspan(6, 1), kIcmp6);
  store_le(out.subspan(7, 1), uint8_t{255});
  std::ranges::copy(wanted, out.subspan(8).begin());
  std::ranges::copy(packet.subspan(8, 16), out.subspan(24).begin());
  const auto message = out.subspan(kIp6Bytes);
  store_le(message.first(1), kAdvertisement);
  store_le(message.subspan(4, 1), kSolicitedOverride);
  std::ranges::copy(wanted, message.subspan(8).begin());
  const uint32_t pseudo_header = add_to_checksum(kIcmp6 + kMessageBytes, out.subspan(8, 32));
  store_be(message.subspan(2), fold_checksum(add_to_checksum(pseudo_header, message)));
  return answer;
}

}  // namespace wick::net

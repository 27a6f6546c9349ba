#include "debug/gdb_packet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace wick::debug {
namespace {

using Kind = PacketReader::Item::Kind;

std::vector<std::string> packets(std::string_view bytes) {
  PacketReader reader;
  reader.feed(bytes);
  std::vector<std::string> found;
  while (auto item = reader.next()) {
    if (item->kind == Kind::kPacket) found.push_back(item->payload);
    if (item->kind == Kind::kDamaged) found.push_back("damaged");
    if (item->kind == Kind::kInterrupt) found.push_back("interrupt");
    if (item->kind == Kind::kRepeat) found.push_back("repeat");
  }
  return found;
}

TEST(GdbPacket, IsReadFromItsFrame) {
  EXPECT_THAT(packets("$qC#b4"), testing::ElementsAre("qC"));
  EXPECT_THAT(packets("+$g#67+$#00"), testing::ElementsAre("g", ""));
}

TEST(GdbPacket, IsDamagedIfItsChecksumIsWrong) {
  EXPECT_THAT(packets("$qC#b5"), testing::ElementsAre("damaged"));
  EXPECT_THAT(packets("$qC#zz$g#67"), testing::ElementsAre("damaged", "g"));
}

TEST(GdbPacket, MayArriveByteByByte) {
  PacketReader reader;
  const std::string frame = "$X10,2:}\x03}]#" + std::string("8e");
  std::string got;
  for (const char c : frame) {
    reader.feed({&c, 1});
    if (auto item = reader.next()) got = item->payload;
  }
  EXPECT_EQ(got, "X10,2:#}");
}

TEST(GdbPacket, CarriesAnyByte) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  EXPECT_THAT(packets(frame_packet(all)), testing::ElementsAre(all));
}

TEST(GdbPacket, InterruptsOnlyOutsideAFrame) {
  EXPECT_THAT(packets("\x03$a\x03#64\x03"),
              testing::ElementsAre("interrupt", "a\x03", "interrupt"));
}

TEST(GdbPacket, StartsAnewAtADollar) {
  EXPECT_THAT(packets("$lost$qC#b4"), testing::ElementsAre("qC"));
  EXPECT_THAT(packets("$lost}$qC#b4"), testing::ElementsAre("qC"));
}

TEST(GdbPacket, IsDroppedIfItIsTooLongAndTheNextOneIsRead) {
  const std::string most(kPacketBytes, 'a');
  EXPECT_THAT(packets(frame_packet(most)), testing::ElementsAre(most));
  EXPECT_THAT(packets(frame_packet(most + "a") + "$qC#b4"), testing::ElementsAre("qC"));
}

TEST(GdbPacket, KeepsNoMoreOfAnEndlessPacketThanAPacket) {
  PacketReader reader;
  reader.feed("$");
  for (int i = 0; i < 1000; ++i) {
    reader.feed(std::string(kPacketBytes, 'x'));
    EXPECT_FALSE(reader.next());
    EXPECT_EQ(reader.waiting_bytes(), 0u);
  }
}

TEST(GdbPacket, GarbageBetweenPacketsIsSkipped) {
  EXPECT_THAT(packets("GET / HTTP/1.1\r\n\r\n$qC#b4-\xff"), testing::ElementsAre("qC", "repeat"));
}

TEST(Hex, IsPairsOfDigits) {
  EXPECT_EQ(to_hex(std::string("\x00\x9f", 2)), "009f");
  EXPECT_EQ(from_hex("009F"), std::string("\x00\x9f", 2));
  EXPECT_EQ(from_hex("009"), std::nullopt);
  EXPECT_EQ(from_hex("0g"), std::nullopt);
}

TEST(Hex, NumbersHaveAtMost64Bits) {
  std::string_view text = "ffffffffffffffff,1";
  EXPECT_EQ(take_hex(text), 0xffff'ffff'ffff'ffff);
  EXPECT_EQ(text, ",1");
  text = "10000000000000000";
  EXPECT_EQ(take_hex(text), std::nullopt);
  text = "";
  EXPECT_EQ(take_hex(text), std::nullopt);
  text = "-1";
  EXPECT_EQ(take_hex(text), std::nullopt);
}

}  // namespace
}  // namespace wick::debug

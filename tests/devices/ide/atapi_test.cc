// Tests each packet command of a CD-ROM drive.
#include "devices/ide/atapi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "base/bytes.h"

namespace wick::devices::atapi {
namespace {

using testing::Each;
using testing::ElementsAre;
using Bytes = std::vector<int>;
using Kind = Reply::Kind;

class CdromTest : public testing::Test {
 protected:
  Reply execute(std::initializer_list<uint8_t> packet) {
    std::array<std::byte, kPacketBytes> whole{};
    std::ranges::copy(std::as_bytes(std::span(packet.begin(), packet.size())), whole.begin());
    return atapi::execute(whole, cdrom_);
  }
  // Executes a command that returns data.
  Bytes data(std::initializer_list<uint8_t> packet) {
    const Reply reply = execute(packet);
    EXPECT_EQ(reply.kind, Kind::kData);
    Bytes bytes;
    for (size_t i = 0; i < reply.size; ++i) bytes.push_back(std::to_integer<int>(reply.data[i]));
    return bytes;
  }
  bool succeeds(std::initializer_list<uint8_t> packet) {
    return execute(packet).kind == Kind::kDone;
  }
  // Executes a command that fails, and returns its sense.
  Sense sense(std::initializer_list<uint8_t> packet) {
    const Reply reply = execute(packet);
    EXPECT_EQ(reply.kind, Kind::kFailed);
    return cdrom_.sense;
  }
  static int word(const Bytes& bytes, size_t at) { return bytes.at(at) << 8 | bytes.at(at + 1); }
  static int number(const Bytes& bytes, size_t at) {
    return word(bytes, at) << 16 | word(bytes, at + 2);
  }

  Cdrom cdrom_{.blocks = 1000, .attention = kNoSense};
};

TEST_F(CdromTest, TellsOnceThatItWasReset) {
  cdrom_ = {.blocks = 1000};
  EXPECT_EQ(data({0x12, 0, 0, 0, 36}).size(), 36u) << "INQUIRY works before";
  EXPECT_EQ(sense({0x00}), kWasReset);
  EXPECT_TRUE(succeeds({0x00}));
  cdrom_ = {.blocks = 1000};
  EXPECT_EQ(data({0x03, 0, 0, 0, 18})[2], 6) << "or REQUEST SENSE tells it";
  EXPECT_TRUE(succeeds({0x00}));
}

TEST_F(CdromTest, KeepsItsSenseUntilItIsAsked) {
  EXPECT_EQ(sense({0x99}), kInvalidCommand);
  const Bytes first = data({0x03, 0, 0, 0, 255});
  EXPECT_EQ(first.size(), 18u);
  EXPECT_EQ(first[0], 0x70);
  EXPECT_EQ(first[2], 5);
  EXPECT_EQ(first[7], 10) << "bytes behind it";
  EXPECT_EQ(first[12], 0x20);
  EXPECT_EQ(data({0x03, 0, 0, 0, 18})[2], 0);
}

TEST_F(CdromTest, IntroducesItself) {
  const Bytes bytes = data({0x12, 0, 0, 0, 255});
  EXPECT_EQ(bytes.size(), 36u);
  EXPECT_EQ(bytes[0], 5) << "a CD-ROM drive";
  EXPECT_EQ(bytes[1], 0x80) << "removable";
  EXPECT_EQ(bytes[4], 31);
  EXPECT_EQ(std::string(bytes.begin() + 8, bytes.begin() + 12), "wick");
  EXPECT_EQ(data({0x12, 0, 0, 0, 5}).size(), 5u) << "cut to what there is room for";
  EXPECT_EQ(sense({0x12, 1, 0x80, 0, 255}), kInvalidField) << "no vital product data";
}

TEST_F(CdromTest, TellsItsCapacity) {
  const Bytes bytes = data({0x25});
  EXPECT_EQ(number(bytes, 0), 999) << "the last block";
  EXPECT_EQ(number(bytes, 4), 2048);
}

TEST_F(CdromTest, ReadsOnlyWhatIsThere) {
  Reply reply = execute({0x28, 0, 0, 0, 3, 0xe7, 0, 0, 1});
  EXPECT_EQ(reply.kind, Kind::kRead);
  EXPECT_EQ(reply.first_block, 999u);
  EXPECT_EQ(reply.blocks, 1u);
  reply = execute({0xa8, 0, 0, 0, 0, 0, 0, 0, 3, 0xe8});
  EXPECT_EQ(reply.kind, Kind::kRead);
  EXPECT_EQ(reply.blocks, 1000u);
  EXPECT_TRUE(succeeds({0x28, 0, 0, 0, 3, 0xe8, 0, 0, 0})) << "nothing, at the end";
  EXPECT_EQ(sense({0x28, 0, 0, 0, 3, 0xe7, 0, 0, 2}), kOutOfRange);
  EXPECT_EQ(sense({0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1}), kOutOfRange);
  EXPECT_EQ(sense({0xa8, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}), kOutOfRange) << "it wraps";
  EXPECT_TRUE(succeeds({0x2b, 0, 0, 0, 3, 0xe7}));
  EXPECT_EQ(sense({0x2b, 0, 0, 0, 3, 0xe8}), kOutOfRange);
}

TEST_F(CdromTest, HasOneTrackInOneSession) {
  const Bytes toc = data({0x43, 0, 0, 0, 0, 0, 0, 0, 100});
  EXPECT_EQ(toc.size(), 20u);
  EXPECT_EQ(word(toc, 0), 18);
  EXPECT_THAT(Bytes(toc.begin() + 2, toc.begin() + 12),
              ElementsAre(1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0));
  EXPECT_EQ(toc[14], 0xaa) << "then the lead-out";
  EXPECT_EQ(number(toc, 16), 1000);
  EXPECT_EQ(data({0x43, 0, 0, 0, 0, 0, 0xaa, 0, 100}).size(), 12u);
  EXPECT_EQ(sense({0x43, 0, 0, 0, 0, 0, 2, 0, 100}), kInvalidField);
  const Bytes times = data({0x43, 2, 0, 0, 0, 0, 0, 0, 100});
  EXPECT_THAT(Bytes(times.begin() + 8, times.begin() + 12), ElementsAre(0, 0, 2, 0));
  EXPECT_THAT(Bytes(times.begin() + 16, times.begin() + 20), ElementsAre(0, 0, 15, 25));
  // Hosts request the sessions in either of two ways.
  for (const Bytes& sessions :
       {data({0x43, 0, 1, 0, 0, 0, 0, 0, 12}), data({0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40})}) {
    EXPECT_EQ(sessions.size(), 12u);
    EXPECT_EQ(sessions[2], 1);
    EXPECT_EQ(sessions[6], 1);
  }
  EXPECT_EQ(sense({0x43, 0, 5, 0, 0, 0, 0, 0, 12}), kInvalidField);
}

TEST_F(CdromTest, SaysWhetherItsDiscIsACdOrADvd) {
  const auto profile = [&] { return word(data({0x46, 0, 0, 0, 0, 0, 0, 0, 255}), 6); };
  EXPECT_EQ(profile(), 0x08);
  cdrom_.blocks = 2'000'000;
  EXPECT_EQ(profile(), 0x10);
  cdrom_.tray_open = true;
  EXPECT_EQ(profile(), 0);
}

TEST_F(CdromTest, ItsFeaturesAreAWellFormedList) {
  for (const auto which : std::to_array<uint8_t>({0, 1})) {
    const Bytes bytes = data({0x46, which, 0, 0, 0, 0, 0, 1, 0});
    EXPECT_EQ(number(bytes, 0), static_cast<int>(bytes.size() - 4));
    std::vector<int> features;
    size_t at = 8;
    while (at < bytes.size()) {
      features.push_back(word(bytes, at));
      at += 4u + static_cast<size_t>(bytes.at(at + 3));
    }
    EXPECT_EQ(at, bytes.size());
    if (which == 0)
      EXPECT_THAT(features, ElementsAre(0, 1, 3, 0x10, 0x1e, 0x1f));
    else
      EXPECT_THAT(features, ElementsAre(0, 1, 3, 0x10, 0x1e));
  }
  EXPECT_EQ(data({0x46, 2, 0, 3, 0, 0, 0, 0, 255}).size(), 16u) << "only that one";
  EXPECT_EQ(data({0x46, 2, 0, 0x22, 0, 0, 0, 0, 255}).size(), 8u) << "which is not there";
  EXPECT_EQ(sense({0x46, 3}), kInvalidField);
}

TEST_F(CdromTest, TellsWhatBecameOfTheMedium) {
  EXPECT_THAT(data({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8}), ElementsAre(0, 6, 4, 0x10, 0, 2, 0, 0));
  EXPECT_TRUE(succeeds({0x1b, 0, 0, 0, 2}));
  EXPECT_EQ(data({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8})[5], 1);
  EXPECT_EQ(data({0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8})[2], 0x80) << "of nothing else";
  EXPECT_EQ(sense({0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8}), kInvalidField) << "not by itself";
}

TEST_F(CdromTest, EjectsAndTakesTheDiscBack) {
  EXPECT_TRUE(succeeds({0x1e, 0, 0, 0, 1}));
  EXPECT_EQ(sense({0x1b, 0, 0, 0, 2}), kRemovalPrevented);
  EXPECT_TRUE(succeeds({0x1b, 0, 0, 0, 0})) << "to stop is not to eject";
  EXPECT_TRUE(succeeds({0x1e, 0, 0, 0, 0}));
  EXPECT_TRUE(succeeds({0x1b, 0, 0, 0, 2}));
  for (const auto opcode : std::to_array<uint8_t>({0x00, 0x25, 0x28, 0xa8, 0x43, 0x51, 0x2b}))
    EXPECT_EQ(sense({opcode}), kTrayOpen) << int{opcode};
  EXPECT_TRUE(succeeds({0x1b, 0, 0, 0, 3}));
  EXPECT_EQ(sense({0x00}), kMediumChanged);
  EXPECT_TRUE(succeeds({0x00}));
}

TEST_F(CdromTest, AnImageOfLessThanABlockIsNoDisc) {
  cdrom_.blocks = 0;
  EXPECT_EQ(sense({0x00}), kNoMedium);
  EXPECT_EQ(sense({0x25}), kNoMedium);
  EXPECT_EQ(sense({0x28, 0, 0, 0, 0, 0, 0, 0, 1}), kNoMedium);
}

TEST_F(CdromTest, TellsItsModes) {
  const Bytes page = data({0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 255});
  EXPECT_EQ(page.size(), 8u + 22u);
  EXPECT_EQ(word(page, 0), 28);
  EXPECT_EQ(page[8], 0x2a);
  EXPECT_EQ(page[9], 20);
  EXPECT_EQ(page[8 + 6] & 2, 0);
  EXPECT_TRUE(succeeds({0x1e, 0, 0, 0, 1}));
  EXPECT_EQ(data({0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 255})[8 + 6] & 2, 2) << "locked";
  EXPECT_EQ(data({0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255}).size(), 8u + 8u + 22u);
  const Bytes changeable = data({0x5a, 0, 0x6a, 0, 0, 0, 0, 0, 255});
  EXPECT_THAT(Bytes(changeable.begin() + 10, changeable.end()), Each(0));
  EXPECT_EQ(sense({0x5a, 0, 0x0e, 0, 0, 0, 0, 0, 255}), kInvalidField);
}

TEST_F(CdromTest, SurvivesEveryPacket) {
  std::minstd_rand random(1);
  for (int i = 0; i < 200'000; ++i) {
    std::array<std::byte, kPacketBytes> packet;
    for (std::byte& byte : packet) byte = static_cast<std::byte>(random() >> 8);
    if (i % 2 == 0)
      packet[0] = std::byte{std::array<uint8_t, 4>{0x43, 0x46, 0x5a, 0x28}[random() % 4]};
    const Reply reply = atapi::execute(packet, cdrom_);
    ASSERT_LE(reply.size, kMaxReplyBytes);
    ASSERT_EQ(reply.kind == Kind::kFailed, cdrom_.sense != kNoSense);
    if (reply.kind != Kind::kRead) continue;
    ASSERT_GT(reply.blocks, 0u);
    ASSERT_LE(uint64_t{reply.first_block} + reply.blocks, 1000u);
  }
}

// --- the host's hand ---

class CdromWithAHost : public CdromTest {
 protected:
  // The event, and the state: 1 if the tray is open, 2 if there is a disc.
  std::pair<int, int> media_event() {
    const Bytes bytes = data({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
    return {bytes.at(4), bytes.at(5)};
  }
};

TEST_F(CdromWithAHost, ALockedTrayOpensOnlyByForceAndTheGuestIsAsked) {
  EXPECT_TRUE(succeeds({0x1e, 0, 0, 0, 1}));
  EXPECT_FALSE(open_tray(cdrom_, false));
  EXPECT_FALSE(cdrom_.tray_open);
  EXPECT_EQ(cdrom_.blocks, 1000u);
  EXPECT_EQ(media_event(), std::pair(1, 2)) << "the button was pressed";
  EXPECT_EQ(media_event(), std::pair(0, 2)) << "told once";
  EXPECT_TRUE(succeeds({0x00}));
  EXPECT_TRUE(open_tray(cdrom_, true));
  EXPECT_EQ(media_event(), std::pair(3, 1)) << "it is gone";
  EXPECT_EQ(sense({0x00}), kTrayOpen);
}

TEST_F(CdromWithAHost, ANewDiscIsAUnitAttentionAndAnEvent) {
  EXPECT_TRUE(open_tray(cdrom_, false));
  insert(cdrom_, 5);
  EXPECT_EQ(media_event(), std::pair(2, 2));
  EXPECT_EQ(sense({0x00}), kMediumChanged);
  EXPECT_TRUE(succeeds({0x00}));
  EXPECT_EQ(number(data({0x25}), 0), 4) << "the last block";
}

TEST_F(CdromWithAHost, ADriveThatIsEmptySaysSo) {
  EXPECT_TRUE(open_tray(cdrom_, false));
  EXPECT_TRUE(succeeds({0x1b, 0, 0, 0, 3})) << "the guest closes the tray";
  EXPECT_EQ(sense({0x00}), kMediumChanged);
  EXPECT_EQ(sense({0x00}), kNoMedium);
  EXPECT_EQ(sense({0x28, 0, 0, 0, 0, 0, 0, 0, 1}), kNoMedium);
  EXPECT_EQ(media_event().second, 0);
}

}  // namespace
}  // namespace wick::devices::atapi

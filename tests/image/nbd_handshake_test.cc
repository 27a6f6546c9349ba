// The handshake of the NBD server, without a socket.
#include "image/nbd_handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/bytes.h"
#include "image/nbd_protocol.h"
#include "tests/fakes/nbd_client.h"

namespace wick::image {
namespace {

using fakes::NbdClient;
using State = NbdHandshake::State;
using testing::ElementsAre;
using testing::HasSubstr;

class NbdHandshakeTest : public testing::Test {
 protected:
  // Gives `bytes` to the handshake in the parts that it wants. Returns its answers.
  std::string send(std::string_view bytes) {
    std::string answers;
    input_ += bytes;
    while (handshake_.state() == State::kNegotiating &&
           input_.size() >= handshake_.wanted_bytes()) {
      const std::string part = input_.substr(0, handshake_.wanted_bytes());
      input_.erase(0, part.size());
      answers += handshake_.receive(std::as_bytes(std::span(part)));
      EXPECT_LE(handshake_.wanted_bytes(), kNbdMaxOptionBytes);
    }
    return answers;
  }
  void greet(uint32_t flags = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) {
    std::string text;
    append_be(text, flags);
    EXPECT_EQ(send(text), "");
  }
  // The types of the replies to an option; their data goes to data_.
  std::vector<uint32_t> ask(uint32_t option, std::string_view data = {}) {
    const std::string answer = send(NbdClient::option(option, data));
    std::vector<uint32_t> types;
    data_.clear();
    for (size_t at = 0; at + 20 <= answer.size();) {
      EXPECT_EQ(NbdClient::number<uint64_t>(answer, at), kNbdOptionReplyMagic);
      EXPECT_EQ(NbdClient::number<uint32_t>(answer, at + 8), option);
      types.push_back(NbdClient::number<uint32_t>(answer, at + 12));
      const auto length = NbdClient::number<uint32_t>(answer, at + 16);
      data_.push_back(answer.substr(at + 20, length));
      at += 20 + length;
    }
    return types;
  }

  static constexpr uint16_t kFlags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH;
  NbdHandshake handshake_{{"disk", "for tests", 1 << 20, kFlags}};
  std::string input_;
  std::vector<std::string> data_;
};

TEST_F(NbdHandshakeTest, BeginsAsTheSpecificationSays) {
  EXPECT_EQ(NbdHandshake::greeting(), std::string("NBDMAGICIHAVEOPT\0\3", 18));
  greet();
  EXPECT_EQ(handshake_.state(), State::kNegotiating);
}

TEST_F(NbdHandshakeTest, DisconnectsClientsWithUnknownFlags) {
  greet(4);
  EXPECT_EQ(handshake_.state(), State::kEnded);
}

TEST_F(NbdHandshakeTest, ExportNameEndsWithZeroesUnlessAgreed) {
  greet(NBD_FLAG_FIXED_NEWSTYLE);
  const std::string answer = send(NbdClient::option(NBD_OPT_EXPORT_NAME, "disk"));
  ASSERT_EQ(answer.size(), 10 + 124u);
  EXPECT_EQ(NbdClient::number<uint64_t>(answer, 0), 1u << 20);
  EXPECT_EQ(NbdClient::number<uint16_t>(answer, 8), kFlags);
  EXPECT_EQ(handshake_.state(), State::kTransmission);
}

TEST_F(NbdHandshakeTest, ExportNameIsShortIfAgreed) {
  greet();
  EXPECT_EQ(send(NbdClient::option(NBD_OPT_EXPORT_NAME, "")).size(), 10u);
  EXPECT_EQ(handshake_.state(), State::kTransmission);
}

TEST_F(NbdHandshakeTest, ExportNameOfAnotherExportDisconnects) {
  greet();
  EXPECT_EQ(send(NbdClient::option(NBD_OPT_EXPORT_NAME, "other")), "");
  EXPECT_EQ(handshake_.state(), State::kEnded);
}

TEST_F(NbdHandshakeTest, ListsItsOnlyExport) {
  greet();
  EXPECT_THAT(ask(NBD_OPT_LIST), ElementsAre(NBD_REP_SERVER, NBD_REP_ACK));
  EXPECT_EQ(data_[0], NbdClient::string("disk") + "for tests");
  EXPECT_THAT(ask(NBD_OPT_LIST, "x"), ElementsAre(NBD_REP_ERR_INVALID));
}

TEST_F(NbdHandshakeTest, InfoTellsWhatGoTells) {
  greet();
  const std::string data =
      NbdClient::info_data("", {NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE, 77});
  EXPECT_THAT(ask(NBD_OPT_INFO, data),
              ElementsAre(NBD_REP_INFO, NBD_REP_INFO, NBD_REP_INFO, NBD_REP_INFO, NBD_REP_ACK));
  EXPECT_EQ(handshake_.state(), State::kNegotiating);
  const auto told = data_;
  EXPECT_EQ(told[1], std::string("\0\1disk", 6));
  EXPECT_EQ(told[2], std::string("\0\2for tests", 11));
  EXPECT_EQ(NbdClient::number<uint32_t>(told[3], 10), kNbdMaxDataBytes);
  ask(NBD_OPT_GO, data);
  EXPECT_EQ(data_, told);
  EXPECT_EQ(handshake_.state(), State::kTransmission);
}

TEST_F(NbdHandshakeTest, GoOfAnotherExportIsAnErrorAndNotTheEnd) {
  greet();
  EXPECT_THAT(ask(NBD_OPT_GO, NbdClient::info_data("other")), ElementsAre(NBD_REP_ERR_UNKNOWN));
  EXPECT_EQ(handshake_.state(), State::kNegotiating);
}

TEST_F(NbdHandshakeTest, AbortIsAcknowledged) {
  greet();
  EXPECT_THAT(ask(NBD_OPT_ABORT, "bye"), ElementsAre(NBD_REP_ACK));
  EXPECT_EQ(handshake_.state(), State::kEnded);
}

TEST_F(NbdHandshakeTest, HasNoTls) {
  greet();
  EXPECT_THAT(ask(NBD_OPT_STARTTLS), ElementsAre(NBD_REP_ERR_UNSUP));
  EXPECT_THAT(ask(12345), ElementsAre(NBD_REP_ERR_UNSUP));
}

TEST_F(NbdHandshakeTest, StructuredRepliesBringDontFragment) {
  greet();
  EXPECT_THAT(ask(NBD_OPT_STRUCTURED_REPLY, "x"), ElementsAre(NBD_REP_ERR_INVALID));
  EXPECT_FALSE(handshake_.structured_replies());
  EXPECT_THAT(ask(NBD_OPT_STRUCTURED_REPLY), ElementsAre(NBD_REP_ACK));
  EXPECT_TRUE(handshake_.structured_replies());
  ask(NBD_OPT_INFO, NbdClient::info_data("disk"));
  EXPECT_EQ(NbdClient::number<uint16_t>(data_[0], 10), kFlags | NBD_FLAG_SEND_DF);
}

TEST_F(NbdHandshakeTest, MetaContextsNeedStructuredReplies) {
  greet();
  const std::string data = NbdClient::context_data("", {kNbdAllocationContext});
  EXPECT_THAT(ask(NBD_OPT_SET_META_CONTEXT, data), ElementsAre(NBD_REP_ERR_INVALID));
  EXPECT_FALSE(handshake_.allocation_context());
}

TEST_F(NbdHandshakeTest, MetaContextsAreListedAndSelected) {
  greet();
  ask(NBD_OPT_STRUCTURED_REPLY);
  const auto ask_for = [this](uint32_t option, const std::vector<std::string>& queries) {
    return ask(option, NbdClient::context_data("disk", queries)).size() == 2;
  };
  EXPECT_TRUE(ask_for(NBD_OPT_LIST_META_CONTEXT, {}));
  EXPECT_EQ(data_[0].substr(4), kNbdAllocationContext);
  EXPECT_TRUE(ask_for(NBD_OPT_LIST_META_CONTEXT, {"other:", "base:"}));
  EXPECT_FALSE(ask_for(NBD_OPT_LIST_META_CONTEXT, {"qemu:"}));
  EXPECT_FALSE(handshake_.allocation_context());
  EXPECT_FALSE(ask_for(NBD_OPT_SET_META_CONTEXT, {"base:"}));
  EXPECT_FALSE(ask_for(NBD_OPT_SET_META_CONTEXT, {}));
  EXPECT_TRUE(ask_for(NBD_OPT_SET_META_CONTEXT, {"base:other", "base:allocation"}));
  EXPECT_TRUE(handshake_.allocation_context());
  // Each request replaces the selection, also one that fails.
  EXPECT_THAT(ask(NBD_OPT_SET_META_CONTEXT, "\xff"), ElementsAre(NBD_REP_ERR_INVALID));
  EXPECT_FALSE(handshake_.allocation_context());
  EXPECT_TRUE(ask_for(NBD_OPT_SET_META_CONTEXT, {"base:allocation"}));
  EXPECT_THAT(ask(NBD_OPT_SET_META_CONTEXT, std::string(kNbdMaxOptionBytes + 1, 'x')),
              ElementsAre(NBD_REP_ERR_TOO_BIG));
  EXPECT_FALSE(handshake_.allocation_context());
}

TEST_F(NbdHandshakeTest, OptionsThatLieAboutTheirLengthsAreInvalid) {
  greet();
  ask(NBD_OPT_STRUCTURED_REPLY);
  std::string huge;
  append_be(huge, ~uint32_t{0});
  const std::string name = NbdClient::string("disk");
  for (const uint32_t option : {NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_LIST_META_CONTEXT}) {
    for (const std::string& data :
         {std::string(), std::string("\0\0\0", 3), huge, huge + "disk", name, name + "\1",
          name + huge, name + huge + huge, NbdClient::info_data("disk") + "\1\1\1",
          NbdClient::string(std::string(kNbdMaxStringBytes + 1, 'x')) + huge})
      EXPECT_THAT(ask(option, data), ElementsAre(NBD_REP_ERR_INVALID)) << option;
  }
  EXPECT_EQ(handshake_.state(), State::kNegotiating);
}

// The only option whose answer is no option reply, and which can report no error.
TEST_F(NbdHandshakeTest, ALongNameOfTheOldOptionEndsTheConnection) {
  greet();
  EXPECT_THAT(ask(NBD_OPT_EXPORT_NAME, std::string(kNbdMaxOptionBytes + 1, 'x')), ElementsAre());
  EXPECT_EQ(handshake_.state(), State::kEnded);
}

TEST_F(NbdHandshakeTest, LongOptionsAreSkippedAndEndlessOnesDisconnected) {
  greet();
  EXPECT_THAT(ask(NBD_OPT_GO, std::string(kNbdMaxSkippedBytes, 'x')),
              ElementsAre(NBD_REP_ERR_TOO_BIG));
  EXPECT_THAT(ask(NBD_OPT_LIST), ElementsAre(NBD_REP_SERVER, NBD_REP_ACK));
  EXPECT_THAT(ask(NBD_OPT_GO, std::string(kNbdMaxSkippedBytes + 1, 'x')), ElementsAre());
  EXPECT_EQ(handshake_.state(), State::kEnded);
}

TEST_F(NbdHandshakeTest, AWrongMagicDisconnects) {
  greet();
  std::string option = NbdClient::option(NBD_OPT_LIST);
  option[0] ^= 1;
  EXPECT_EQ(send(option), "");
  EXPECT_EQ(handshake_.state(), State::kEnded);
}

}  // namespace
}  // namespace wick::image

#include "net/cable.h"

#include <gtest/gtest.h>

#include "tests/fakes/fake_network.h"

namespace wick::net {
namespace {

class CableTest : public testing::Test {
 protected:
  CableTest() {
    auto host = std::make_unique<fakes::FakeNetwork>();
    host_ = host.get();
    cable_ = std::make_unique<Cable>(std::move(host));
    EXPECT_TRUE(cable_->attach(*loop_, {.readable = [this](uint16_t) { ++readable_; },
                                        .link_changed = [this] { ++link_changes_; }}));
  }
  void arrive() { host_->arrive({.header = {}, .frame = std::vector<std::byte>(60)}); }
  void run_posted() {
    loop_->post([this] { loop_->stop(); });
    loop_->run();
  }
  size_t receive() {
    std::vector<std::byte> buffer(kMaxPacketBytes);
    const iovec vector{buffer.data(), buffer.size()};
    return cable_->receive(0, {&vector, 1});
  }
  void send() {
    std::vector<std::byte> packet(sizeof(PacketHeader) + 60);
    const iovec vector{packet.data(), packet.size()};
    cable_->send(0, {&vector, 1});
  }

  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  fakes::FakeNetwork* host_ = nullptr;
  std::unique_ptr<Cable> cable_;
  int readable_ = 0;
  int link_changes_ = 0;
};

TEST_F(CableTest, PassesPacketsBothWays) {
  arrive();
  run_posted();
  EXPECT_EQ(readable_, 1);
  EXPECT_GT(receive(), 0u);
  EXPECT_EQ(receive(), 0u);
  send();
  EXPECT_EQ(host_->sent.size(), 1u);
  EXPECT_TRUE(cable_->link_up());
}

TEST_F(CableTest, KeepsPacketsOnTheHostWhileHeldAndThenReportsThem) {
  cable_->hold(true);
  arrive();
  run_posted();
  EXPECT_EQ(readable_, 0);
  EXPECT_EQ(receive(), 0u);
  cable_->hold(false);
  EXPECT_EQ(readable_, 1);
  EXPECT_GT(receive(), 0u);
}

TEST_F(CableTest, UnpluggedLosesPacketsAndHasNoLink) {
  cable_->plug(false);
  EXPECT_EQ(link_changes_, 1);
  EXPECT_FALSE(cable_->link_up());
  arrive();
  arrive();
  run_posted();
  EXPECT_EQ(receive(), 0u);
  send();
  EXPECT_EQ(host_->sent.size(), 0u);
  cable_->plug(true);
  EXPECT_EQ(link_changes_, 2);
  EXPECT_EQ(receive(), 0u) << "the packets were lost";
  arrive();
  run_posted();
  EXPECT_GT(receive(), 0u);
}

TEST_F(CableTest, AnUnpluggedCableIsDownWhateverTheHostsLinkDoes) {
  cable_->plug(false);
  host_->set_link(false);
  host_->set_link(true);
  run_posted();
  EXPECT_EQ(link_changes_, 1);
  EXPECT_FALSE(cable_->link_up());
}

}  // namespace
}  // namespace wick::net

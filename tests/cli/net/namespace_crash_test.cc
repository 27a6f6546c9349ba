// wick net that ends or fails between any two of its actions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/net/namespace_fixture.h"

namespace wick::cli {
namespace {

TEST_F(NetNamespace, UpThatIsKilledAnywhereIsUndoneByDown) {
  at_every_action([&](Saboteur::Way way, int at) {
    const int status = status_of_child([&] {
      Saboteur saboteur(way, at);
      const auto done = net_up(up_with_taps(), saboteur);
      return done ? *done : 1;
    });
    EXPECT_TRUE(status == 9 || status == 0) << status;
    expect_ok({"down"});
    expect_no_trace(fmt::format("killed at action {}", at));
    return status;
  });
}

TEST_F(NetNamespace, UpThatIsKilledAnywhereIsCompletedByUp) {
  at_every_action([&](Saboteur::Way way, int at) {
    const int status = status_of_child([&] {
      Saboteur saboteur(way, at);
      const auto done = net_up(up_with_taps(), saboteur);
      return done ? *done : 1;
    });
    expect_ok({"up", "--user", "nobody", "--taps", "2"});
    EXPECT_THAT(wick({"status"}).text, Not(HasSubstr("gone"))) << at;
    EXPECT_THAT(shell("nft list ruleset; bridge link"), HasSubstr("wick0-t1")) << at;
    expect_ok({"down"});
    expect_no_trace(fmt::format("killed at action {}, then completed", at));
    return status;
  });
}

TEST_F(NetNamespace, DownThatIsKilledAnywhereIsCompletedByDown) {
  at_every_action([&](Saboteur::Way way, int at) {
    expect_ok({"up", "--user", "nobody", "--taps", "2"});
    const int status = status_of_child([&] {
      Saboteur saboteur(way, at);
      const auto done = net_down(NetDown(), saboteur);
      return done ? *done : 1;
    });
    expect_ok({"down"});
    expect_no_trace(fmt::format("killed at action {}", at));
    return status;
  });
}

TEST_F(NetNamespace, UpThatFailsAnywhereUndoesItself) {
  for (int at = 0;; ++at) {
    Saboteur saboteur(Saboteur::Way::kFail, at);
    testing::internal::CaptureStdout();
    const auto done = net_up(up_with_taps(), saboteur);
    testing::internal::GetCapturedStdout();
    if (done) {
      EXPECT_GT(at, 5);
      break;
    }
    EXPECT_EQ(done.error().message(), "sabotage");
    expect_no_trace(fmt::format("failed at action {}", at));
  }
}

TEST_F(NetNamespace, DownGoesOnWhereSomethingFailsAndKeepsItForAnotherTry) {
  expect_ok({"up", "--user", "nobody", "--taps", "2"});
  Saboteur saboteur(Saboteur::Way::kFail, 5);  // the table of NAT
  const auto done = net_down(NetDown(), saboteur);
  ASSERT_FALSE(done);
  EXPECT_THAT(shell("nft list ruleset"), HasSubstr("wick_wick0"));
  EXPECT_THAT(shell("ip link"), Not(HasSubstr("wick0")));
  expect_ok({"down"});
  expect_no_trace("after the other try");
}

}  // namespace
}  // namespace wick::cli

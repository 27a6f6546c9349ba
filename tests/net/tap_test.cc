#include "net/tap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sys/syscall.h>

#include <cstring>
#include <string>

#include "tests/net/tap_fixture.h"

namespace wick::net {
namespace {

using testing::HasSubstr;

// --- opening ---

TEST_F(TapTest, IsMadeByNameAndGoesWhenItIsClosed) {
  open({.interface = "wick0"});
  EXPECT_EQ(tap_->name(), "wick0");
  EXPECT_EQ(tap_->queue_pairs(), 1);
  EXPECT_GE(tap_->vhost_descriptor(0), 0);
  EXPECT_NE(flags("wick0") & IFF_UP, 0);
  close();
  EXPECT_FALSE(exists("wick0"));
}

TEST_F(TapTest, FindsANameWhereNoneIsGiven) {
  open({});
  EXPECT_TRUE(exists(tap_->name())) << tap_->name();
  auto second = open_tap({});
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_NE((*second)->name(), tap_->name());
}

TEST_F(TapTest, RefusesNamesThatNoInterfaceHas) {
  EXPECT_EQ(error_of({.interface = "sixteen-letters-"}),
            "sixteen-letters-: the name is too long for an interface; use at most 15 characters");
  EXPECT_EQ(error_of({.interface = "fifteen-letters"}), "no error");
  for (const char* const name : {"a/b", ".", "..", "a b", "a:b"})
    EXPECT_EQ(error_of({.interface = name}),
              fmt::format("{}: cannot be used as a TAP: Invalid argument; this is not a "
                          "valid name for an interface",
                          name));
}

TEST_F(TapTest, UsesOneThatIsThereAndLeavesIt) {
  for (const char* const kind : {"", "vnet_hdr", "multi_queue", "vnet_hdr multi_queue"}) {
    SCOPED_TRACE(kind);
    ASSERT_TRUE(run(fmt::format("ip tuntap add name there mode tap {}", kind)));
    for (int i = 0; i < 2; ++i) {
      open({.interface = "there"});
      attach();
      open_host("there");
      send({}, tcp_frame(100));
      EXPECT_EQ(host_receive()->frame, tcp_frame(100));
      host_send({}, tcp_frame(100));
      EXPECT_EQ(receive()->frame, tcp_frame(100));
      close();
      EXPECT_TRUE(exists("there"));
    }
    ASSERT_TRUE(run("ip link del there"));
  }
}

TEST_F(TapTest, UsesManyQueuesOfOneThatWasMadeForThem) {
  ASSERT_TRUE(run("ip tuntap add name many mode tap multi_queue"));
  open({.interface = "many", .queues = 4});
  EXPECT_EQ(tap_->queue_pairs(), 4);
  close();
  ASSERT_TRUE(run("ip tuntap add name one mode tap"));
  EXPECT_THAT(
      error_of({.interface = "one", .queues = 4}),
      HasSubstr("one: cannot be used as a TAP: Invalid argument; it is not a TAP device, or "
                "its queues or headers differ"));
}

TEST_F(TapTest, IsNotUsedTwice) {
  open({.interface = "busy"});
  EXPECT_EQ(error_of({.interface = "busy"}),
            "busy: cannot be used as a TAP: Device or resource busy; another machine uses it: give "
            "another ifname");
  close();
  EXPECT_EQ(error_of({.interface = "busy"}), "no error");
}

TEST_F(TapTest, IsNoOtherInterface) {
  ASSERT_TRUE(run("ip tuntap add name tun7 mode tun"));
  ASSERT_TRUE(run("ip link add br7 type bridge"));
  for (const char* const name : {"lo", "tun7", "br7"})
    for (const uint16_t queues : {uint16_t{1}, uint16_t{2}})
      EXPECT_THAT(error_of({.interface = name, .queues = queues}),
                  HasSubstr("it is not a TAP device, or its queues or headers differ"))
          << name;
}

TEST_F(TapTest, SaysWhatAnOrdinaryUserIsToDo) {
  ASSERT_TRUE(run("ip tuntap add name roots mode tap user 0"));
  // Changes only this thread; the C library's function would change all threads.
  ASSERT_EQ(::syscall(SYS_setresuid, -1, 65534, -1), 0);
  const std::string made = error_of({});
  const std::string used = error_of({.interface = "roots"});
  const std::string absent = error_of({.interface = "nosuch"});
  const std::string bridge = error_of({.bridge = "nobr"});
  ASSERT_EQ(::syscall(SYS_setresuid, -1, 0, -1), 0);
  EXPECT_THAT(bridge, HasSubstr("nobr: there is no such bridge"));
  if (made.starts_with("/dev/net/tun")) {
    EXPECT_EQ(made,
              "/dev/net/tun: cannot open: Permission denied; run as root, or let everyone open it, "
              "which is safe: chmod 666 /dev/net/tun");
    EXPECT_EQ(used, made);
  } else {
    EXPECT_THAT(made, HasSubstr("creating one needs root"));
    EXPECT_THAT(used, HasSubstr("another user owns it"));
    EXPECT_THAT(absent, HasSubstr("there is no interface nosuch, and creating one needs root"));
  }
}

TEST_F(TapTest, BecomesAPortOfABridge) {
  ASSERT_TRUE(run("ip link add br7 type bridge && ip link set br7 up"));
  open({.interface = "wick0", .bridge = "br7"});
  EXPECT_TRUE(run("ip link show dev wick0 master br7 | grep wick0"));
  close();
  ASSERT_TRUE(run("ip tuntap add name there mode tap && ip link set there master br7"));
  open({.interface = "there", .bridge = "br7"});
  close();
  ASSERT_TRUE(run("ip link add br8 type bridge"));
  EXPECT_EQ(error_of({.interface = "there", .bridge = "br8"}),
            "there: cannot be added to bridge br8: Device or resource busy; it is on another "
            "bridge; leave bridge out");
}

TEST_F(TapTest, SaysWhatIsNoBridge) {
  EXPECT_EQ(error_of({.interface = "wick0", .bridge = "br9"}),
            "br9: there is no such bridge; wick net up br9 creates one");
  EXPECT_FALSE(exists("wick0")) << "and leaves nothing behind";
  EXPECT_THAT(error_of({.interface = "wick0", .bridge = "lo"}),
              HasSubstr("wick0: cannot be added to bridge lo: "));
  EXPECT_THAT(error_of({.interface = "wick0", .bridge = "lo"}), HasSubstr("is that a bridge?"));
  EXPECT_THAT(error_of({.interface = "wick0", .bridge = "sixteen-letters-"}),
              HasSubstr("there is no such bridge"));
}

TEST_F(TapTest, SetsTheMtu) {
  open({.interface = "wick0", .mtu = 9000});
  EXPECT_EQ(mtu("wick0"), 9000);
  close();
  open({.interface = "wick0", .mtu = 68});
  EXPECT_EQ(mtu("wick0"), 68);
  close();
  open({.interface = "wick0"});
  EXPECT_EQ(mtu("wick0"), 1500);
  close();
  EXPECT_THAT(error_of({.interface = "wick0", .mtu = 65535}),
              AllOf(HasSubstr("wick0: cannot set its MTU to 65535: "),
                    HasSubstr("as root: ip link set dev wick0 mtu 65535")));
}

TEST_F(TapTest, OfItsMakingTheGuestIsNoRouterToTheHost) {
  if (::access("/proc/sys/net/ipv6", F_OK) != 0) GTEST_SKIP() << "needs IPv6";
  const char* const believed = "ip -6 route show default dev wick0 | grep fe80::bad";
  open({.interface = "wick0"});
  send({}, fakes::router_advertisement());
  EXPECT_FALSE(run(believed));
  close();
  ASSERT_TRUE(run("ip tuntap add name wick0 mode tap"));
  open({.interface = "wick0"});
  send({}, fakes::router_advertisement());
  EXPECT_TRUE(run(believed)) << "who made it decides";
  close();
  ASSERT_TRUE(run("ip link del wick0"));
}

}  // namespace
}  // namespace wick::net

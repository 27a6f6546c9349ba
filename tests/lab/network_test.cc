// Network cards of whole machines: virtio-net and e1000, on TAPs, bridges and user networks. All
// processes of a test are in a network namespace of its own; making one needs root.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>
#include <csignal>

#include <thread>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

constexpr const char* kHost = "10.9.0.1";
constexpr const char* kGuest = "10.9.0.2";

// Runs a shell command on the host; the test fails if the command does.
std::string on_host(const std::string& command, Seconds patience = kPatience) {
  const Finished done = finish({"sh", "-c", command}, patience);
  EXPECT_EQ(done.status, 0) << command << "\n" << done.out << done.err;
  return done.out;
}

std::string digest(const std::string& text) { return text.substr(0, 32); }

class Network : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, for network namespaces";
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    on_host("ip link set lo up");
  }

  // The command for a guest with a shell and network tools.
  std::vector<std::string> guest(const std::string& kernel, const std::string& initrd,
                                 const std::vector<std::string>& options) {
    const std::string combined = dir_ / (kernel.substr(0, kernel.find('/')) + "-initrd");
    // Once, because another machine may be reading it.
    if (!exists(combined))
      write_file(combined, read_file(image(initrd)) + read_file(image("net.gz")));
    std::vector<std::string> all = {"-k", image(kernel), "-i", combined, "-a", "quiet wick.sh"};
    all.insert(all.end(), options.begin(), options.end());
    return wick_run(all);
  }
  std::vector<std::string> guest(const std::vector<std::string>& options) {
    return guest("bzImage", "initrd.gz", options);
  }
  static Dialogue& shell_of(Process& vm) {
    vm.console().expect("/ # ");
    return vm.console();
  }
  static void end(Process& vm) {
    vm.console().send("poweroff -f\n");
    expect_ending(vm, 0, "wick: the guest powered off");
  }

  static void make_tap(const std::string& name = "tap0", const std::string& more = "vnet_hdr") {
    on_host(
        fmt::format("ip tuntap add {0} mode tap {2}; ip addr add {1}/24 dev {0}; "
                    "ip link set {0} up",
                    name, kHost, more));
  }
  static void configure(Dialogue& shell, const std::string& address = kGuest,
                        const std::string& interface = "eth0") {
    (void)run_in_guest(shell, fmt::format("ip link set lo up; ip addr add {}/24 dev {}; "
                                          "ip link set {} up",
                                          address, interface, interface));
  }
  static void expect_ping(const std::string& address, const std::string& options = "") {
    on_host(fmt::format("ping -q -c 3 -i 0.2 -w 30 {} {}", options, address));
  }

  // Transfers `mib` MiB in both directions at once between host and guest. A digest checks all
  // bytes.
  void transfer(Dialogue& shell, unsigned mib, const std::string& address = kGuest,
                unsigned times = 1) {
    const auto repeated = [times](const std::string& file) {
      return fmt::format("for i in $(seq {}); do cat {}; done", times, file);
    };
    on_host(fmt::format("head -c {}M /dev/urandom >{}", mib, dir_ / "out"));
    const std::string send_all = repeated(dir_ / "out");
    const std::string sent = digest(on_host(fmt::format("({}) | md5sum", send_all), kLong));
    (void)run_in_guest(
        shell, fmt::format("head -c {}M /dev/urandom >/tmp/out; "
                           "(nc -l -p 5001 </dev/null | md5sum >/tmp/sum; touch /tmp/done) & "
                           "({}) | nc -l -p 5002 >/dev/null & sleep 1",
                           mib, repeated("/tmp/out")));
    const std::string to = "TCP:" + address;
    Process send({"sh", "-c", fmt::format("({}) | socat -u - {}:5001", send_all, to)});
    const std::string received =
        digest(on_host(fmt::format("socat -u {}:5002 - | md5sum", to), kLong));
    EXPECT_EQ(send.wait(kLong), 0);
    (void)run_in_guest(shell, "until [ -e /tmp/done ]; do sleep 0.2; done", kLong);
    EXPECT_EQ(
        digest(run_in_guest(shell, fmt::format("({}) | md5sum", repeated("/tmp/out")), kLong)),
        received);
    EXPECT_EQ(digest(run_in_guest(shell, "cat /tmp/sum")), sent);
    (void)run_in_guest(shell, "rm /tmp/out /tmp/sum /tmp/done");
  }

  static constexpr Seconds kLong{600};
  TempDir dir_;
};

struct Card {
  const char* name;
  const char* kernel;
  const char* initrd;
  const char* options;
  const char* cpus = "1";
  const char* tap = "vnet_hdr";
};

class NetworkCard : public Network, public testing::WithParamInterface<Card> {};
class NetworkCardInDepth : public NetworkCard {};

TEST_P(NetworkCard, CarriesPacketsOfAllKindsBothWays) {
  make_tap("tap0", GetParam().tap);
  Process vm(
      guest(GetParam().kernel, GetParam().initrd,
            {"-c", GetParam().cpus, "-n", fmt::format("tap,ifname=tap0{}", GetParam().options)}));
  Dialogue& shell = shell_of(vm);
  configure(shell);
  expect_ping(kGuest);
  expect_ping(kGuest, "-s 1400");
  expect_ping(kGuest, "-s 20000");  // fragments
  (void)run_in_guest(shell, fmt::format("ping -q -c 3 -w 30 {}", kHost));
  // IPv6, by multicast and by address.
  on_host("ping -6 -q -c 2 -w 30 ff02::1%tap0");
  const std::string link_local =
      run_in_guest(shell, "ip -6 addr show dev eth0 | grep -o 'fe80[^/]*'");
  on_host(fmt::format("ping -6 -q -c 2 -w 30 {}%tap0", link_local));
  transfer(shell, 8);

  // The host pulls out the cable.
  on_host("ip link set tap0 down");
  (void)run_in_guest(shell, "until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do sleep 0.1; done");
  on_host("ip link set tap0 up");
  (void)run_in_guest(shell, "until [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done");
  expect_ping(kGuest);

  (void)run_in_guest(shell,
                     "for i in 1 2 3 4; do ip link set eth0 down; "
                     "ip link set eth0 up; done");
  (void)run_in_guest(shell,
                     "ip link set eth0 down; ip link set eth0 name lan7; "
                     "ip link set lan7 up");
  expect_ping(kGuest);
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  end(vm);
}

TEST_P(NetworkCardInDepth, HasVlansAndAnyMtu) {
  make_tap("tap0", GetParam().tap);
  on_host(
      "ip link add link tap0 name tap0.7 type vlan id 7; ip addr add 10.7.0.1/24 dev tap0.7; "
      "ip link set tap0.7 up");
  Process vm(
      guest(GetParam().kernel, GetParam().initrd,
            {"-c", GetParam().cpus, "-n", fmt::format("tap,ifname=tap0{}", GetParam().options)}));
  Dialogue& shell = shell_of(vm);
  configure(shell);
  (void)run_in_guest(shell,
                     "/usr/sbin/ip link add link eth0 name eth0.7 type vlan id 7; "
                     "ip addr add 10.7.0.2/24 dev eth0.7; ip link set eth0.7 up");
  expect_ping("10.7.0.2");
  transfer(shell, 4, "10.7.0.2");
  for (const unsigned mtu : {1280u, 9000u, 1500u}) {
    on_host(fmt::format("ip link set tap0 mtu {}", mtu));
    (void)run_in_guest(shell, fmt::format("ip link set eth0 mtu {}", mtu));
    expect_ping(kGuest, fmt::format("-M do -s {}", mtu - 28));
    transfer(shell, 1);
  }
  end(vm);
}

TEST_F(Network, AGibibyteGoesBothWaysAtOnceLong) {
  make_tap();
  Process vm(guest({"-n", "tap,ifname=tap0"}));
  Dialogue& shell = shell_of(vm);
  configure(shell);
  transfer(shell, 64, kGuest, 16);
  end(vm);
}

// Every offload on and off, in pairs of one for each direction.
TEST_P(NetworkCardInDepth, CarriesTheSameBytesWithAnyOffloadsLong) {
  make_tap("tap0", GetParam().tap);
  Process vm(
      guest(GetParam().kernel, GetParam().initrd,
            {"-c", GetParam().cpus, "-n", fmt::format("tap,ifname=tap0{}", GetParam().options)}));
  Dialogue& shell = shell_of(vm);
  configure(shell);
  for (const std::string sending : {"tx", "tso", "gso", "sg"})
    for (const std::string receiving : {"rx", "gro", "tx"})
      for (const std::string state : {"off", "on"}) {
        // Some cards cannot switch some offloads, which is allowed.
        (void)ask(shell, fmt::format("ethtool -K eth0 {} {}", sending, state));
        (void)ask(shell, fmt::format("ethtool -K eth0 {} {}", receiving, state));
        SCOPED_TRACE(sending + " " + receiving + " " + state);
        transfer(shell, 2);
      }
  (void)run_in_guest(shell,
                     "i=0; while [ $i -lt 100 ]; do ip link set eth0 down; "
                     "ip link set eth0 up; i=$((i + 1)); done");
  expect_ping(kGuest);
  transfer(shell, 64);
  end(vm);
}

class NetworkCardStopped : public NetworkCard {};

// Clears the bus master bit of the PCI function by its configuration space in sysfs: no packet
// gets into the guest's memory or out of it. With the bit set again, an e1000 goes on. A virtio
// card waits for a reset by the next kernel's driver. (The driver of Linux 6.1 cannot reset it,
// because it waits for the control queue first.)
TEST_P(NetworkCardStopped, ReceivesNothingWithoutItsBusMasterBit) {
  make_tap("tap0", GetParam().tap);
  Process vm(
      guest(GetParam().kernel, GetParam().initrd,
            {"-c", GetParam().cpus, "-n", fmt::format("tap,ifname=tap0{}", GetParam().options)}));
  Dialogue& shell = shell_of(vm);
  configure(shell);
  expect_ping(kGuest);
  (void)run_in_guest(shell,
                     "d=$(readlink -f /sys/class/net/eth0/device); "
                     "while [ ! -e $d/config ]; do d=${d%/*}; done; "
                     "set_command() { printf $1 | dd of=$d/config bs=1 seek=4 conv=notrunc; }");
  const char* kReceived = "cat /sys/class/net/eth0/statistics/rx_packets";
  (void)run_in_guest(shell, "set_command '\\003'");
  const std::string before = run_in_guest(shell, kReceived);
  EXPECT_NE(finish({"sh", "-c", fmt::format("ping -q -c 3 -W 2 {}", kGuest)}).status, 0);
  EXPECT_EQ(run_in_guest(shell, kReceived), before);
  (void)run_in_guest(shell, "set_command '\\007'");
  if (GetParam().options == std::string_view(",device=e1000")) {
    expect_ping(kGuest);
    transfer(shell, 2);
  } else {
    EXPECT_NE(finish({"sh", "-c", fmt::format("ping -q -c 3 -W 2 {}", kGuest)}).status, 0);
    EXPECT_EQ(run_in_guest(shell, kReceived), before);
  }
  end(vm);
}

class NetworkCardRings : public NetworkCard {};

// VIRTIO_F_RING_RESET while packets arrive.
TEST_P(NetworkCardRings, ChangeTheirSizeUnderTraffic) {
  make_tap("tap0", GetParam().tap);
  Process vm(
      guest(GetParam().kernel, GetParam().initrd,
            {"-c", GetParam().cpus, "-n", fmt::format("tap,ifname=tap0{}", GetParam().options)}));
  Dialogue& shell = shell_of(vm);
  configure(shell);
  expect_ping(kGuest);
  Process traffic({"sh", "-c", fmt::format("exec ping -q -i 0.005 -s 1400 -w 600 {}", kGuest)});
  // Linux sends nothing over a ring of fewer than 19 descriptors (virtio_net: 2 + MAX_SKB_FRAGS).
  for (const unsigned size : {64u, 32u, 128u, 256u}) {
    SCOPED_TRACE(size);
    (void)run_in_guest(shell, fmt::format("ethtool -G eth0 rx {0} tx {0}", size));
    EXPECT_EQ(
        run_in_guest(shell, fmt::format("ethtool -g eth0 | grep -c '^[RT]X:.*[^0-9]{}$'", size)),
        size == 256 ? "4" : "2")
        << "the current size, and the largest";
    expect_ping(kGuest);
    transfer(shell, 1);
  }
  traffic.signal(SIGINT);
  (void)traffic.wait();
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  end(vm);
}

constexpr const char* kGeneric = "debian-generic/vmlinuz";
constexpr const char* kGenericInitrd = "debian-generic/initrd.img";

constexpr Card kVirtio{"Virtio", "bzImage", "initrd.gz", ""};
constexpr Card kE1000{"E1000", "bzImage", "initrd.gz", ",device=e1000"};
constexpr Card kVhost{"Vhost", "bzImage", "initrd.gz", ",vhost=on"};
const auto kNameOfCard = [](const auto& test) { return std::string(test.param.name); };

INSTANTIATE_TEST_SUITE_P(Devices, NetworkCard,
                         testing::Values(kVirtio, kE1000, kVhost,
                                         Card{"VirtioQueuesCpus", "bzImage", "initrd.gz",
                                              ",queues=4", "4", "vnet_hdr multi_queue"}),
                         kNameOfCard);
INSTANTIATE_TEST_SUITE_P(
    DevicesLong, NetworkCard,
    testing::Values(Card{"VirtioQueuesDebianCpus", kGeneric, kGenericInitrd, ",queues=4", "4",
                         "vnet_hdr multi_queue"},
                    Card{"VirtioDebian", kGeneric, kGenericInitrd, ""},
                    Card{"E1000Debian", kGeneric, kGenericInitrd, ",device=e1000"},
                    Card{"E1000Cpus", "bzImage", "initrd.gz", ",device=e1000", "4"}),
    kNameOfCard);
INSTANTIATE_TEST_SUITE_P(Devices, NetworkCardInDepth, testing::Values(kVirtio), kNameOfCard);
INSTANTIATE_TEST_SUITE_P(DevicesLong, NetworkCardInDepth, testing::Values(kE1000), kNameOfCard);

INSTANTIATE_TEST_SUITE_P(Devices, NetworkCardStopped, testing::Values(kVirtio), kNameOfCard);
INSTANTIATE_TEST_SUITE_P(DevicesLong, NetworkCardStopped, testing::Values(kE1000, kVhost),
                         kNameOfCard);
INSTANTIATE_TEST_SUITE_P(Devices, NetworkCardRings, testing::Values(kVirtio), kNameOfCard);
INSTANTIATE_TEST_SUITE_P(DevicesLong, NetworkCardRings, testing::Values(kVhost), kNameOfCard);

TEST_F(Network, TwoMachinesMeetOnTwoBridges) {
  on_host(
      "ip link add br0 type bridge; ip link set br0 up; "
      "ip link add br1 type bridge; ip link set br1 up");
  const std::vector<std::string> cards = {"-n", "tap,bridge=br0", "-n",
                                          "tap,bridge=br1,device=e1000"};
  std::vector<std::string> options = {"--name", "one"};
  options.insert(options.end(), cards.begin(), cards.end());
  Process first(guest(options));
  options[1] = "two";
  Process second(guest(options));
  Dialogue& one = shell_of(first);
  Dialogue& two = shell_of(second);
  const std::string macs = "cat /sys/class/net/eth*/address";
  EXPECT_NE(run_in_guest(one, macs), run_in_guest(two, macs));
  // The driver tells which name belongs to which card.
  const std::string by_driver =
      "for i in eth0 eth1; do case $(readlink /sys/class/net/$i/device/driver) in "
      "*e1000) e=$i ;; *) v=$i ;; esac; done; ";
  for (const auto& [shell, last] : {std::pair(&one, 1), std::pair(&two, 2)})
    (void)run_in_guest(*shell,
                       fmt::format("{0}ip addr add 10.1.0.{1}/24 dev $v; ip link set $v up; "
                                   "ip addr add 10.2.0.{1}/24 dev $e; ip link set $e up",
                                   by_driver, last));
  // With the reason if it does not listen.
  (void)run_in_guest(one,
                     "(iperf3 -s >/tmp/iperf 2>&1 &); for i in $(seq 100); do "
                     "netstat -ltn | grep -q :5201 && break; sleep 0.1; done; "
                     "netstat -ltn | grep :5201 || { cat /tmp/iperf; ps; false; }");
  for (const std::string network : {"10.1.0.", "10.2.0."}) {
    (void)run_in_guest(two, fmt::format("ping -q -c 3 -w 30 {}1", network));
    EXPECT_THAT(run_in_guest(two, fmt::format("iperf3 -n 8M -c {}1", network)),
                HasSubstr("receiver"));
  }
  end(first);
  end(second);
}

TEST_F(Network, UserNetworkNeedsNoRights) {
  Process vm(guest({"--name", "penguin", "-n", "user,hostfwd=tcp:127.0.0.1:2222-:22"}));
  Dialogue& shell = shell_of(vm);
  (void)run_in_guest(shell,
                     "ip link set lo up; ip link set eth0 up; "
                     "printf '#!/bin/sh\\n[ -z $ip ] || ip addr add $ip/$mask dev $interface\\n"
                     "[ -z $router ] || ip route add default via $router\\n' >/tmp/dhcp; "
                     "chmod +x /tmp/dhcp; udhcpc -i eth0 -q -n -s /tmp/dhcp");
  EXPECT_THAT(run_in_guest(shell, "ip addr show dev eth0"), HasSubstr("10.0.2.15/24"));
  (void)run_in_guest(shell, "ping -q -c 2 -w 30 10.0.2.2");
  // In…
  (void)run_in_guest(shell, "(echo from-the-guest | nc -l -p 22 >/tmp/got &) ; sleep 1");
  EXPECT_EQ(on_host("echo from-the-host | socat -t 5 - TCP:127.0.0.1:2222"), "from-the-guest\n");
  EXPECT_EQ(run_in_guest(shell, "cat /tmp/got"), "from-the-host");
  // …and out, to the host's loopback.
  Process server(
      {"socat", "-u", "SYSTEM:head -c 3000000 /dev/zero", "TCP-LISTEN:7000,bind=127.0.0.1"});
  std::this_thread::sleep_for(Seconds(1));
  EXPECT_EQ(run_in_guest(shell, "nc 10.0.2.2 7000 </dev/null | wc -c"), "3000000");
  end(vm);
}

TEST_F(Network, WickNetGivesLeasesNamesAndTheWayOut) {
  // The outside is another namespace.
  on_host(
      "ip netns add outside; ip link add up0 type veth peer name up1 netns outside; "
      "ip addr add 192.0.2.1/24 dev up0; ip link set up0 up; "
      "ip -n outside addr add 192.0.2.9/24 dev up1; ip -n outside link set up1 up");
  const auto wick_net = [](const std::string& what) {
    return on_host(fmt::format("{} net {}", WICK_BINARY, what));
  };
  const std::string state =
      "ip -br link; ip -4 addr; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward";
  const std::string before = on_host(state);
  wick_net("up --user nobody --taps 1");
  const Finished twice = finish(guest({"-n", "tap,ifname=wick0-t0", "-n", "tap,ifname=wick0-t0"}));
  EXPECT_EQ(twice.status, 1);
  EXPECT_THAT(twice.err, HasSubstr("wick0-t0: in use by another machine or by another card"));
  Process vm(guest({"--name", "penguin", "-n", "tap"}));
  Dialogue& shell = shell_of(vm);
  (void)run_in_guest(shell,
                     "ip link set lo up; ip link set eth0 up; "
                     "printf '#!/bin/sh\\n[ -z $ip ] || ip addr add $ip/$mask dev $interface\\n"
                     "[ -z $router ] || ip route add default via $router\\n' >/tmp/dhcp; "
                     "chmod +x /tmp/dhcp; udhcpc -i eth0 -q -n -x hostname:penguin -s /tmp/dhcp",
                     Seconds(120));
  (void)run_in_guest(shell, "ping -q -c 3 -w 30 192.0.2.9");
  EXPECT_THAT(wick_net("hosts"), ContainsRegex("[0-9.]+[ \t]+penguin"));
  EXPECT_THAT(wick_net("status"), HasSubstr("penguin"));
  end(vm);
  wick_net("down");
  EXPECT_EQ(on_host(state), before);
  on_host("ip netns del outside");
}

TEST_F(Network, TapThatIsDeletedIsACablePulledOut) {
  make_tap();
  Process vm(guest({"-n", "tap,ifname=tap0"}));
  Dialogue& shell = shell_of(vm);
  configure(shell);
  expect_ping(kGuest);
  on_host("ip link del tap0");
  (void)run_in_guest(shell, "until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do sleep 0.1; done");
  (void)ask(shell, fmt::format("ping -q -c 2 -w 3 {}", kHost));
  end(vm);
}

// The guest's interface is down, so it takes no packets.
TEST_F(Network, GuestThatTakesNothingCostsNothing) {
  make_tap();
  Process vm(guest({"-n", "tap,ifname=tap0"}));
  Dialogue& shell = shell_of(vm);
  (void)finish({"sh", "-c", "ping -q -b -c 1000 -i 0.002 -w 4 10.9.0.255"});
  configure(shell);
  expect_ping(kGuest);
  end(vm);
}

}  // namespace
}  // namespace wick::lab

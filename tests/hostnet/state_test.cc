// The state file of wick net with hostile content, and the claims of TAPs.
#include "hostnet/state.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/printable.h"
#include "hostnet/leases.h"
#include "hostnet/tap_claim.h"
#include "tests/fakes/temp_dir.h"

namespace wick::hostnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

HostNetwork example() {
  HostNetwork network;
  network.name = "wick0";
  network.address = *net::parse_ipv4_subnet("10.87.0.1/24");
  network.mac = "02:00:00:00:00:01";
  network.nat = HostNetwork::Nat::kNftables;
  network.user = "alice";
  network.uid = 1000;
  network.taps = {"wick0-t0", "wick0-t1"};
  network.made = {
      {"bridge", 7}, {"forwarding", 0}, {"nat", 0}, {"tap wick0-t0", 8}, {"tap wick0-t1", 9}};
  return network;
}

// The example's text with one change.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = to_json(example());
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

std::string error_of(const std::string& text) {
  const auto network = parse_host_network(text);
  return network ? "no error" : network.error().message();
}

TEST(HostNetworkFile, ComesBackAsItWas) {
  const auto network = parse_host_network(to_json(example()));
  ASSERT_TRUE(network) << network.error().message();
  EXPECT_EQ(*network, example());
  EXPECT_EQ(network->find_made("bridge")->index, 7u);
  EXPECT_EQ(network->find_made("dhcp"), nullptr);
}

TEST(HostNetworkFile, CutOffAnywhereIsRefused) {
  std::string text = to_json(example());
  while (text.ends_with('\n')) text.pop_back();
  for (size_t size = 0; size < text.size(); ++size)
    EXPECT_FALSE(parse_host_network(text.substr(0, size))) << size;
}

TEST(HostNetworkFile, OfOtherTypesIsRefused) {
  for (const char* json : {"", "null", "[]", "1", "\"wick0\"", "{}", "{\"version\":1}", "\xff\xfe"})
    EXPECT_NE(error_of(json), "no error") << json;
  const std::pair<const char*, const char*> changes[] = {
      {"\"wick0\",", "5,"},
      {"\"10.87.0.1/24\"", "{}"},
      {"\"10.87.0.1/24\"", "[\"10.87.0.1/24\"]"},
      {"\"dhcp\": true", "\"dhcp\": 1"},
      {"\"dhcp\": true", "\"dhcp\": null"},
      {"\"uid\": 1000", "\"uid\": -1"},
      {"\"uid\": 1000", "\"uid\": 1e3"},
      {"\"uid\": 1000", "\"uid\": 4294967296"},
      {"\"uid\": 1000", "\"uid\": 99999999999999999999999"},
      {"\"uid\": 1000", "\"uid\": \"1000\""},
      {"\"wick0-t0\",", "{\"a\": 1},"},
      {"\"wick0-t0\",", "null,"},
      {"\"what\": \"bridge\"", "\"what\": [1]"},
      {"\"what\": \"bridge\"", "\"who\": \"bridge\""},
      {"\"index\": 7", "\"index\": \"7\""},
      {"\"index\": 7", "\"index\": 7, \"more\": 1"},
      {"\"version\": 1", "\"version\": 2"},
      {"\"version\": 1", "\"more\": 1, \"version\": 1"},
      {"\"domain\": \"wick\",", ""},
  };
  for (const auto& [from, to] : changes)
    EXPECT_NE(error_of(changed(from, to)), "no error") << from << " -> " << to;
}

TEST(HostNetworkFile, WithNamesThatAreNoneIsRefused) {
  for (const char* name :
       {"", ".", "..", "../etc", "a/b", "-x", "--help", "a b", "a\\nb", "a\\u0000b", "a\\u001bc",
        "wick0;reboot", "0wick", "all", "lo", "sixteen-letters-", "w\\u00e4ck", "$(id)", "a\\\"b"})
    EXPECT_NE(error_of(changed("\"name\": \"wick0\"", fmt::format("\"name\": \"{}\"", name))),
              "no error")
        << name;
  for (const char* tap : {"", "../x", "-t0", "a b", "a\\nb", "wick0", "wick0-t1", "lo"})
    EXPECT_NE(error_of(changed("\"wick0-t0\",", fmt::format("\"{}\",", tap))), "no error") << tap;
  for (const char* user : {"", "-u", "a b", "a\\nb", "\\u001b[2J"})
    EXPECT_NE(error_of(changed("\"alice\"", fmt::format("\"{}\"", user))), "no error") << user;
  for (const char* domain : {"", ".", "a..b", "-a", "a/b", "a b", "a,b", "a\\nb"})
    EXPECT_NE(error_of(changed("\"domain\": \"wick\"", fmt::format("\"domain\": \"{}\"", domain))),
              "no error")
        << domain;
}

TEST(HostNetworkFile, WithValuesThatCannotBeIsRefused) {
  for (const char* address :
       {"", "10.87.0.1", "10.87.0.1/", "10.87.0.1/33", "10.87.0.1/31", "10.87.0.1/7", "10.87.0/24",
        "10.87.0.1/24 ", "10.87.0.1/-1", "10.087.0.1/24", "fd00::1/64", "10.87.0.1/24\\u0000"})
    EXPECT_NE(error_of(changed("10.87.0.1/24", address)), "no error") << address;
  for (const char* mac :
       {"", "02:00:00:00:00", "02-00-00-00-00-01", "02:00:00:00:00:0g", "02:00:00:00:00:01 "})
    EXPECT_NE(error_of(changed("02:00:00:00:00:01", mac)), "no error") << mac;
  for (const char* step : {"", "bridges", "tap", "tap wick0-t9", "tap ../x", "forwarding"})
    EXPECT_NE(error_of(changed("\"bridge\"", fmt::format("\"{}\"", step))), "no error") << step;
  EXPECT_NE(error_of(changed("nftables", "ipfw")), "no error");
}

TEST(HostNetworkFile, ThatIsHugeOrDeepIsRefused) {
  EXPECT_THAT(error_of(std::string(10 << 20, ' ') + to_json(example())), HasSubstr("larger"));
  EXPECT_NE(error_of(std::string(60000, '[')), "no error");
  std::string many;
  for (int i = 0; i < 1000; ++i) many += fmt::format("\"t{}\", ", i);
  EXPECT_THAT(error_of(changed("\"wick0-t0\",", many)), HasSubstr("more than 64"));
}

TEST(HostNetworkName, IsOneThatInterfacesAndScriptsTake) {
  for (const char* name : {"w", "wick0", "lab-net_2", "fifteen-letters"})
    EXPECT_TRUE(is_network_name(name)) << name;
  for (const std::string name : {"", "7up", "a.b", "-a", "_a", "a/b", "all", "default", "lo",
                                 "sixteen-letters-", "a\n", "a b"})
    EXPECT_FALSE(is_network_name(name)) << name;
  EXPECT_FALSE(is_network_name(std::string("a\0b", 3)));
}

// Tests with a private folder of networks.
class HostNetworkFolder : public testing::Test {
 protected:
  HostNetworkFolder() {
    set_networks_folder(folder_);
    old_umask_ = ::umask(022);
  }
  ~HostNetworkFolder() override {
    ::umask(old_umask_);
    set_networks_folder(before_);
  }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((folder_ / file).parent_path());
    std::ofstream(folder_ / file) << text;
  }
  mode_t mode_of(const std::string& file) const {
    struct stat status {};
    EXPECT_EQ(::lstat((folder_ / file).c_str(), &status), 0) << file;
    return status.st_mode & 07777;
  }
  static void save_with_locks(const HostNetwork& network) {
    ASSERT_TRUE(save_host_network(network));
    for (const std::string& tap : network.taps) std::ofstream(tap_lock_path(network, tap)) << "";
  }

  const std::string before_ = networks_folder();
  const fakes::TempDir parent_;
  const fs::path folder_ = parent_ / "net";
  mode_t old_umask_ = 0;
};

TEST_F(HostNetworkFolder, HoldsWhatWasSaved) {
  EXPECT_EQ(host_network_names()->size(), 0u);
  auto none = find_host_network();
  ASSERT_TRUE(none);
  EXPECT_EQ(*none, std::nullopt);
  ASSERT_TRUE(save_host_network(example()));
  const auto found = find_host_network();
  ASSERT_TRUE(found && *found);
  EXPECT_EQ(**found, example());
  EXPECT_THAT(*host_network_names(), testing::ElementsAre("wick0"));
}

TEST_F(HostNetworkFolder, IsItsOwnersToWriteToWhateverTheUmask) {
  for (const mode_t mask : {0000, 0022, 0077}) {
    ::umask(mask);
    ASSERT_TRUE(save_host_network(example()));
    for (const char* folder : {"", "wick0"}) EXPECT_EQ(mode_of(folder), 0755u) << folder << mask;
    EXPECT_EQ(mode_of("wick0/state.json"), 0644u) << mask;
    fs::remove_all(folder_);
  }
}

// Root deletes the interfaces that the state file lists.
TEST_F(HostNetworkFolder, WhatOthersMayHaveWrittenIsNotTrusted) {
  ASSERT_TRUE(save_host_network(example()));
  const auto expect_refused = [](const std::string& path, const std::string& why) {
    const auto found = find_host_network();
    ASSERT_FALSE(found) << path;
    EXPECT_THAT(found.error().message(), HasSubstr(path + ": not trusted: " + why));
    EXPECT_THAT(found.error().message(), HasSubstr("chmod go-w " + path));
  };
  for (const char* file : {"/..", "", "/wick0", "/wick0/state.json"}) {
    const std::string path = fs::path(folder_.string() + file).lexically_normal();
    const std::string object = path.ends_with('/') ? path.substr(0, path.size() - 1) : path;
    struct stat status {};
    ASSERT_EQ(::stat(object.c_str(), &status), 0);
    for (const mode_t others : {0020, 0002}) {
      ASSERT_EQ(::chmod(object.c_str(), status.st_mode | others), 0);
      expect_refused(object, "others than its owner may write to it");
      EXPECT_EQ(host_network_names().has_value(), std::string(file).find("/wick0") == 0);
      EXPECT_EQ(save_host_network(example()).has_value(), std::string(file).ends_with(".json"));
      ASSERT_EQ(::chmod(object.c_str(), status.st_mode), 0);
      // Saving creates a new file.
      ASSERT_TRUE(save_host_network(example()));
    }
    if (::geteuid() != 0) continue;
    ASSERT_EQ(::chown(object.c_str(), 12345, 12345), 0);
    expect_refused(object, "its owner is not root");
    ASSERT_EQ(::chown(object.c_str(), 0, 0), 0);
  }
}

TEST_F(HostNetworkFolder, SymbolicLinksAreNotFollowed) {
  ASSERT_TRUE(save_host_network(example()));
  const fs::path state = folder_ / "wick0/state.json";
  fs::rename(state, folder_ / "elsewhere");
  fs::create_symlink(folder_ / "elsewhere", state);
  EXPECT_FALSE(find_host_network());
  fs::create_symlink("/etc/passwd", folder_ / "wick0/leases");
  EXPECT_FALSE(read_dhcp_leases("wick0"));
  fs::rename(folder_ / "elsewhere", state);
  fs::rename(folder_ / "wick0", folder_ / "moved");
  fs::create_directory_symlink(folder_ / "moved", folder_ / "wick0");
  EXPECT_FALSE(find_host_network());
}

// Root may have the environment of a user (sudo -E).
TEST_F(HostNetworkFolder, TheEnvironmentDoesNotChooseIt) {
  ::setenv("WICK_NET_STATE", "/tmp", 1);
  EXPECT_EQ(networks_folder(), folder_);
  ::unsetenv("WICK_NET_STATE");
}

TEST_F(HostNetworkFolder, ALeasesFileThatIsNoneIsNotWaitedFor) {
  ASSERT_TRUE(save_host_network(example()));
  ASSERT_EQ(::mkfifo((folder_ / "wick0/leases").c_str(), 0644), 0);
  EXPECT_FALSE(read_dhcp_leases("wick0"));
}

TEST_F(HostNetworkFolder, ADamagedFileIsAnErrorThatNamesItAndTheMend) {
  write("wick0/state.json", "{\"version\": 1, \"na");
  const auto found = find_host_network();
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message(), HasSubstr((folder_ / "wick0/state.json").string()));
  EXPECT_THAT(found.error().message(), HasSubstr("by hand (docs/networks.md)"));
}

TEST_F(HostNetworkFolder, AFileOfAnotherNetworkIsRefused) {
  ASSERT_TRUE(save_host_network(example()));
  write("wick1/state.json", to_json(example()));
  EXPECT_THAT(find_host_network("wick1").error().message(),
              HasSubstr("it belongs to network wick0"));
}

TEST_F(HostNetworkFolder, WhatIsNoFileIsNotWaitedFor) {
  fs::create_directories(folder_ / "wick0");
  ASSERT_EQ(::mkfifo((folder_ / "wick0/state.json").c_str(), 0600), 0);
  EXPECT_FALSE(find_host_network());
  fs::remove(folder_ / "wick0/state.json");
  fs::create_directory(folder_ / "wick0/state.json");
  EXPECT_FALSE(find_host_network());
}

TEST_F(HostNetworkFolder, NamesThatLeaveItAreRefused) {
  write("state.json", to_json(example()));
  for (const char* name : {"", ".", "..", "../wick0", "a/b"})
    EXPECT_FALSE(find_host_network(name)) << name;
}

TEST_F(HostNetworkFolder, EachTapIsClaimedOnce) {
  save_with_locks(example());
  auto first = claim_tap(example());
  ASSERT_TRUE(first && *first) << first.error().message();
  EXPECT_EQ((*first)->name, "wick0-t0");
  auto second = claim_tap(example());
  ASSERT_TRUE(second && *second);
  EXPECT_EQ((*second)->name, "wick0-t1");
  const auto third = claim_tap(example());
  ASSERT_TRUE(third);
  EXPECT_FALSE(third->has_value());
  first->reset();
  const auto again = claim_tap(example());
  ASSERT_TRUE(again && *again);
  EXPECT_EQ((*again)->name, "wick0-t0");
}

TEST_F(HostNetworkFolder, ATapThatIsNamedIsThatOneOrNone) {
  save_with_locks(example());
  const auto named = claim_tap(example(), "wick0-t1");
  ASSERT_TRUE(named && *named);
  EXPECT_EQ((*named)->name, "wick0-t1");
  const auto again = claim_tap(example(), "wick0-t1");
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->has_value());
}

TEST_F(HostNetworkFolder, ATapThatIsNotThereYetIsNotClaimed) {
  HostNetwork network = example();
  network.made.pop_back();
  network.made.pop_back();
  save_with_locks(network);
  const auto claimed = claim_tap(network);
  ASSERT_TRUE(claimed);
  EXPECT_FALSE(claimed->has_value());
}

TEST_F(HostNetworkFolder, ALockThatIsGoneIsAnErrorWithTheMend) {
  ASSERT_TRUE(save_host_network(example()));
  EXPECT_THAT(claim_tap(example()).error().message(), HasSubstr("wick net up wick0"));
}

TEST(Ipv4, IsReadStrictly) {
  EXPECT_EQ(net::parse_ipv4("10.87.0.1"), 0x0a570001u);
  for (const char* wrong :
       {"", "10.87.0", "10.87.0.256", "10.87.0.1.2", "a.b.c.d", " 10.0.0.1", "1"})
    EXPECT_FALSE(net::parse_ipv4(wrong)) << wrong;
  EXPECT_FALSE(net::parse_ipv4(std::string_view("10.0.0.1\0", 9)));
  const auto subnet = *net::parse_ipv4_subnet("10.87.3.9/22");
  EXPECT_EQ(net::ipv4_string(subnet.first()), "10.87.0.0");
  EXPECT_EQ(net::ipv4_string(subnet.last()), "10.87.3.255");
  EXPECT_EQ(net::ipv4_string(subnet), "10.87.3.9/22");
}

TEST(Ipv4, OverlapsAtTheEdges) {
  const auto overlaps = [](const char* a, const char* b) {
    return net::parse_ipv4_subnet(a)->overlaps(*net::parse_ipv4_subnet(b));
  };
  EXPECT_TRUE(overlaps("10.0.0.1/24", "10.0.0.255"));
  EXPECT_FALSE(overlaps("10.0.0.1/24", "10.0.1.0"));
  EXPECT_TRUE(overlaps("10.0.0.0/8", "10.87.0.1/24"));
  EXPECT_TRUE(overlaps("0.0.0.0/0", "255.255.255.255/32"));
  EXPECT_FALSE(overlaps("128.0.0.0/1", "127.255.255.255"));
}

}  // namespace
}  // namespace wick::hostnet

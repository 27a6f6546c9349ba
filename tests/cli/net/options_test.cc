// The command line of wick net.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "cli/options.h"
#include "hostnet/address.h"

namespace wick::cli {
namespace {

using hostnet::NetCommand;
using hostnet::NetDown;
using hostnet::NetHosts;
using hostnet::NetStatus;
using hostnet::NetUp;
using hostnet::parse_network_address;
using testing::HasSubstr;
using Arguments = std::vector<std::string>;

std::expected<Command, CommandError> parse(Arguments arguments) {
  arguments.insert(arguments.begin(), "net");
  return parse_command(arguments, [](const std::string&) { return nullptr; });
}

template <typename T>
T parsed(const Arguments& arguments) {
  const auto command = parse(arguments);
  if (!command) {
    ADD_FAILURE() << command.error().error.message();
    return {};
  }
  return std::get<T>(std::get<NetCommand>(*command));
}

std::string usage_error(const Arguments& arguments) {
  const auto command = parse(arguments);
  if (command) return "no error";
  EXPECT_EQ(command.error().kind, CommandError::Kind::kUsage);
  return command.error().error.message();
}

net::Ipv4Subnet subnet(const char* text) { return *net::parse_ipv4_subnet(text); }

TEST(NetOptions, OfUp) {
  const auto plain = parsed<NetUp>({"up"});
  EXPECT_EQ(plain.name, "wick0");
  EXPECT_FALSE(plain.address || plain.domain || plain.user || plain.taps);
  EXPECT_FALSE(plain.no_nat || plain.no_dhcp || plain.dry_run || plain.verbosity > 0);
  const auto full =
      parsed<NetUp>({"up", "lab", "--user", "alice", "--taps", "3", "--address", "10.9.0.1/16",
                     "--domain", "lab.test", "--no-nat", "--no-dhcp", "--dry-run", "-vv"});
  EXPECT_EQ(full.name, "lab");
  EXPECT_EQ(full.user, "alice");
  EXPECT_EQ(full.taps, 3u);
  EXPECT_EQ(full.address, subnet("10.9.0.1/16"));
  EXPECT_EQ(full.domain, "lab.test");
  EXPECT_TRUE(full.no_nat && full.no_dhcp && full.dry_run);
  EXPECT_EQ(full.verbosity, 2u);
}

TEST(NetOptions, OfTheOtherCommands) {
  EXPECT_EQ(parsed<NetDown>({"down"}).name, "wick0");
  EXPECT_TRUE(parsed<NetDown>({"down", "lab", "--dry-run"}).dry_run);
  EXPECT_EQ(parsed<NetStatus>({"status"}).name, std::nullopt);
  EXPECT_TRUE(parsed<NetStatus>({"status", "lab", "--output=json"}).json);
  EXPECT_EQ(parsed<NetHosts>({"hosts", "lab"}).name, "lab");
}

TEST(NetOptions, ThatAreWrongAreUsageErrors) {
  EXPECT_THAT(usage_error({}), HasSubstr("the commands are up, down, status, hosts"));
  EXPECT_THAT(usage_error({"start"}), HasSubstr("unknown command 'net start'"));
  EXPECT_THAT(usage_error({"up", "a", "b"}), HasSubstr("'b' is one argument too many"));
  EXPECT_THAT(usage_error({"up", "--what"}), HasSubstr("unknown option '--what'"));
  for (const char* name :
       {"", "a/b", "../a", "a b", "a\nb", "7up", "all", "lo", "sixteen-letters-"})
    for (const char* command : {"up", "down", "status", "hosts"})
      EXPECT_THAT(usage_error({command, name}), HasSubstr("not a valid name of a network")) << name;
  EXPECT_THAT(usage_error({"up", "lo"}), HasSubstr("not all, any, default or lo"));
  EXPECT_THAT(usage_error({"up", "--taps", "2"}), HasSubstr("--user"));
  for (const char* taps : {"", "0", "65", "-1", "2x", "99999999999"})
    EXPECT_THAT(usage_error({"up", "--user", "a", "--taps", taps}), HasSubstr("1 to 64")) << taps;
  EXPECT_THAT(usage_error({"up", "--user", ""}), HasSubstr("name of a user"));
  EXPECT_THAT(usage_error({"up", "--domain", "a..b"}), HasSubstr("--domain"));
  EXPECT_THAT(usage_error({"status", "--output", "xml"}), HasSubstr("human or json"));
}

TEST(NetOptions, NamesLeaveRoomForThoseOfTheTaps) {
  EXPECT_EQ(parsed<NetUp>({"up", "fifteen-letters"}).name, "fifteen-letters");
  EXPECT_EQ(parsed<NetUp>({"up", "twelve-lette", "--user", "a"}).name, "twelve-lette");
  EXPECT_THAT(usage_error({"up", "thirteen-lett", "--user", "a"}), HasSubstr("12 characters"));
  EXPECT_THAT(usage_error({"up", "twelve-lette", "--user", "a", "--taps", "11"}),
              HasSubstr("11 characters"));
}

TEST(NetOptions, AnAddressIsTheHostsInItsNetwork) {
  for (const char* wrong : {"", "10.0.0.1", "10.0.0.1/31", "10.0.0.1/7", "x/24", "10.0.0.1/24/1",
                            "127.0.0.1/8", "224.0.0.1/24", "0.0.0.1/24", "255.255.255.1/24"})
    EXPECT_THAT(usage_error({"up", "--address", wrong}), HasSubstr("--address")) << wrong;
  EXPECT_THAT(usage_error({"up", "--address", "10.0.0.0/24"}),
              HasSubstr("not of a host in it, for example 10.0.0.1/24"));
  EXPECT_THAT(usage_error({"up", "--address", "10.0.0.255/24"}),
              HasSubstr("not of a host in it, for example 10.0.0.1/24"));
  EXPECT_EQ(parse_network_address("10.0.0.2/30"), subnet("10.0.0.2/30"));
}

TEST(NetOptions, HelpFitsAScreenAndEndsWithAnExample) {
  for (const Arguments& arguments :
       {Arguments{"--help"}, Arguments{"up", "--help"}, Arguments{"down", "--help"},
        Arguments{"status", "--help"}, Arguments{"hosts", "--help"}}) {
    const auto help = parse(arguments);
    ASSERT_TRUE(help);
    const std::string text = std::get<PrintText>(*help).text;
    EXPECT_LE(std::ranges::count(text, '\n'), 36) << text;
    EXPECT_THAT(text, HasSubstr("Example:\n  "));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
  }
}

}  // namespace
}  // namespace wick::cli

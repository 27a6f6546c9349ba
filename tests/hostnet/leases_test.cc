// dnsmasq's leases file: the names of guests in it are hostile.
#include "hostnet/leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "hostnet/state.h"

namespace wick::hostnet {
namespace {

constexpr const char* kFile =
    "1795315651 4A:65:3d:94:18:64 10.87.0.105 alpha 01:4a:65:3d:94:18:64\n"
    "0 02:00:00:00:00:02 10.87.0.33 * *\n";

TEST(DhcpLeases, AreReadInTheOrderOfTheirAddresses) {
  const auto leases = parse_dhcp_leases(kFile);
  ASSERT_EQ(leases.size(), 2u);
  EXPECT_EQ(leases[0], (DhcpLease{0, "02:00:00:00:00:02", *net::parse_ipv4("10.87.0.33"), ""}));
  EXPECT_EQ(leases[1],
            (DhcpLease{1795315651, "4a:65:3d:94:18:64", *net::parse_ipv4("10.87.0.105"), "alpha"}));
}

TEST(DhcpLeases, LinesThatAreNoneArePassedOver) {
  const std::string garbage = std::string(
                                  "\n"
                                  " \n"
                                  "duid 00:01:00:01:2d:f8\n"
                                  "1 2\n"
                                  "x 02:00:00:00:00:02 10.87.0.33 * *\n"
                                  "-1 02:00:00:00:00:02 10.87.0.33 * *\n"
                                  "99999999999999999999 02:00:00:00:00:02 10.87.0.33 * *\n"
                                  "1 02:00:00:00:00:02 10.87.0.999 * *\n"
                                  "1 02:00:00:00:00:02 fd00::1 name *\n"
                                  "1 ../../etc 10.87.0.33 name *\n"
                                  "1  02:00:00:00:00:02 10.87.0.33 name *\n"
                                  "1 02:00:00:00:00:02 10.87.0.33 a b c d\n") +
                              std::string(100, '\0') + "\n" + std::string(1 << 20, 'x');
  EXPECT_EQ(parse_dhcp_leases(garbage).size(), 0u);
  EXPECT_EQ(parse_dhcp_leases(garbage + "\n" + kFile).size(), 2u);
  EXPECT_EQ(parse_dhcp_leases("1 02:00:00:00:00:02 10.87.0.33 cut").size(), 1u);
}

TEST(DhcpLeases, AHostsFileGetsNamesAndNothingElse) {
  std::string text = kFile;
  text +=
      "1 02:00:00:00:00:03 10.87.0.40 localhost *\n"
      "1 02:00:00:00:00:03 10.87.0.41 LocalHost *\n"
      "1 02:00:00:00:00:03 10.87.0.42 Build-Host *\n"
      "1 02:00:00:00:00:03 10.87.0.43 debian.org *\n"
      "1 02:00:00:00:00:03 10.87.0.44 \x1b[2J *\n"
      "1 02:00:00:00:00:03 10.87.0.45 a\tlocalhost *\n"
      "1 02:00:00:00:00:03 10.87.0.46 a#b *\n"
      "1 02:00:00:00:00:03 10.87.0.47 127 *\n"
      "1 02:00:00:00:00:03 10.87.0.48 -rf *\n"
      "1 02:00:00:00:00:03 10.87.0.50 host *\n"
      "1 02:00:00:00:00:03 10.87.0.51 WPAD *\n"
      "1 02:00:00:00:00:03 10.87.0.49 beta *\n";
  EXPECT_EQ(hosts_lines(parse_dhcp_leases(text), "wick", "build-host.example"),
            "10.87.0.49 beta beta.wick\n"
            "10.87.0.105 alpha alpha.wick\n");
}

TEST(DhcpLeases, OfANetworkWithoutAFileAreNone) {
  const std::string before = networks_folder();
  set_networks_folder("/nonexistent/net");
  const auto leases = read_dhcp_leases("wick0");
  set_networks_folder(before);
  ASSERT_TRUE(leases);
  EXPECT_TRUE(leases->empty());
}

}  // namespace
}  // namespace wick::hostnet

#include "cli/stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace wick::cli {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

vmm::RunStats example() {
  vmm::RunStats stats;
  stats.vcpu_ns = 1'000'000;
  stats.exits = {{"intr", "", "", false, 2, 1000},
                 {"io", "ttyS0", "LSR", false, 10, 9'000},
                 {"io", "ttyS0", "THR", true, 10, 90'000},
                 {"mmio", "", "", true, 1, 500}};
  stats.kvm_vm = {{"remote_tlb_flush", {3}}, {"pages_1g", {0}}};
  stats.kvm_vcpus = {{{"exits", {42}}, {"halt_wait_hist", {1, 2}}}};
  return stats;
}

TEST(StatsTable, SaysWhatEachRegisterCost) {
  const std::string table = stats_table(example());
  EXPECT_THAT(table, ContainsRegex(" 23 +0.101 +4369 +10.05%  all\n"));
  EXPECT_THAT(table, ContainsRegex(" 20 +0.099 +4950 +9.90%  io\n"));
  EXPECT_THAT(table, ContainsRegex(" 10 +0.090 +9000 +9.00%  io    ttyS0 THR write\n"));
  EXPECT_THAT(table, ContainsRegex(" 1 .*  mmio  no device write\n"));
  EXPECT_LT(table.find("THR"), table.find("LSR")) << "the costliest first";
}

TEST(StatsTable, ShowsKvmsCountersThatMoved) {
  const std::string table = stats_table(example());
  EXPECT_THAT(table, ContainsRegex(" 3  vm remote_tlb_flush\n"));
  EXPECT_THAT(table, ContainsRegex(" 42  vcpu0 exits\n"));
  EXPECT_THAT(table, Not(HasSubstr("pages_1g")));
}

TEST(StatsTable, SaysThatAnOldKernelHasNoCounters) {
  EXPECT_THAT(stats_table({}), HasSubstr("5.14"));
}

TEST(StatsJson, IsOneLineWithEverything) {
  const std::string text = stats_json(example());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["vcpu_ns"], 1'000'000);
  EXPECT_EQ(json["total"]["count"], 23);
  EXPECT_EQ(json["exits"][0]["reason"], "io");
  EXPECT_EQ(json["exits"][0]["user_ns"], 99'000);
  const auto& access = json["accesses"][0];
  EXPECT_EQ(access["device"], "ttyS0");
  EXPECT_EQ(access["register"], "THR");
  EXPECT_EQ(access["direction"], "write");
  EXPECT_DOUBLE_EQ(access["share"], 0.09);
  EXPECT_TRUE(json["accesses"][2]["device"].is_null());
  EXPECT_EQ(json["kvm"]["vm"]["pages_1g"], 0);
  EXPECT_EQ(json["kvm"]["vcpus"][0]["halt_wait_hist"][1], 2);
  EXPECT_TRUE(nlohmann::json::parse(stats_json({}))["kvm"].is_null());
}

}  // namespace
}  // namespace wick::cli

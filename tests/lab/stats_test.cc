// The output of --stats for guests whose exits are all known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/lab/tiny.h"

namespace wick::lab {
namespace {

using guests::Code;
using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr uint32_t kFirstVirtioWindow = 0xd000'0000;

Code ten_bytes() { return Code().print("0123456789").in8(guests::kSerialPort + 5).reset(); }

// The entry of the register's accesses, or null.
json access(const json& stats, const std::string& device, const std::string& reg,
            const std::string& direction) {
  for (const json& one : stats["accesses"])
    if (one["device"] == device && one["register"] == reg && one["direction"] == direction)
      return one;
  return nullptr;
}

TEST(Stats, TableSaysWhatEachRegisterCost) {
  const TempDir dir;
  const Finished run = finish(run_tiny(dir, ten_bytes(), {"--stats"}));
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.err, AllOf(ContainsRegex(" 10 .*  io    ttyS0 THR write\n"),
                             ContainsRegex(" 1 .*  io    ttyS0 LSR read\n"),
                             ContainsRegex(" 1 .*  io    i8042 command write\n"),
                             ContainsRegex(" 12 .*  io\n"), ContainsRegex("[0-9]  vcpu0 exits\n")));
  EXPECT_EQ(last_line(run.err), "wick: the guest rebooted");
}

TEST(Stats, JsonOnStderrIsTheOneLineWithABrace) {
  const TempDir dir;
  const Finished run = finish(run_tiny(dir, ten_bytes(), {"--stats", "json"}));
  const auto err = lines(run.err);
  ASSERT_EQ(err.size(), 2u) << run.err;
  const json stats = json::parse(err[0]);
  EXPECT_EQ(access(stats, "ttyS0", "THR", "write")["count"], 10);
  EXPECT_GT(access(stats, "ttyS0", "THR", "write")["user_ns"], 0);
  EXPECT_GT(stats["kvm"]["vcpus"][0]["exits"], 0);
}

TEST(Stats, JsonGoesToAFileAndShowsUnansweredAccesses) {
  const TempDir dir;
  const Code code = Code()
                        .load8(guests::kUnbacked)
                        .print("up\n")
                        .store8(guests::kUnbacked, 1)
                        .load8(kFirstVirtioWindow + 0x70)
                        .load8(kFirstVirtioWindow + 0x100)
                        .reset();
  const std::string file = dir / "stats.json";
  const Finished run = finish(run_tiny(dir, code,
                                       {"-d", blank_disk(dir, "disk", 1 << 20), "--transport",
                                        "mmio", "--stats=json,file=" + file}));
  EXPECT_EQ(run.err, "wick: the guest rebooted\n");
  const json stats = json::parse(read_file(file));
  EXPECT_EQ(access(stats, "vda", "Status", "read")["count"], 1);
  EXPECT_EQ(access(stats, "vda", "config", "read")["count"], 1);
  uint64_t nobodys = 0;
  for (const json& one : stats["accesses"])
    if (one["device"].is_null()) nobodys += one["count"].get<uint64_t>();
  EXPECT_EQ(nobodys, 2u);
}

TEST(Stats, FileThatCannotBeWrittenEndsTheRunBeforeItStarts) {
  const TempDir dir;
  const Finished run =
      finish(run_tiny(dir, ten_bytes(), {"--stats", "json,file=" + (dir / "no/file")}));
  EXPECT_EQ(run.status, 1);
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, AllOf(HasSubstr("no/file"), HasSubstr("--stats")));
}

}  // namespace
}  // namespace wick::lab

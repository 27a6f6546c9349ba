#include "control/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "control/start_ticks.h"

namespace wick::control {
namespace {

using ::testing::HasSubstr;

MachineRecord sample() {
  MachineRecord record;
  record.name = "web";
  record.pid = 4711;
  record.start_ticks = UINT64_MAX;
  record.since = 1'700'000'000;
  record.background = true;
  record.uuid = "00112233-4455-8677-8899-aabbccddeeff";
  record.kernel = "/boot/vmlinuz \"new\"\\";
  record.memory_bytes = 256 << 20;
  record.cpus = 2;
  record.console_log = "/run/wick/web/console.log";
  record.consoles = {{"ttyS0", "/run/wick/web/ttyS0.sock"}, {"hvc0", ""}};
  record.services = {{"gdb", "tcp:127.0.0.1:41234"}};
  record.folder = "/home/Jürgen";
  record.arguments = {"--append=a\tb\n", "--disk=d", ""};
  return record;
}

TEST(MachineRecord, IsReadAsItWasWritten) {
  const MachineRecord record = sample();
  const auto again = parse_machine_record(to_json(record));
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(to_json(*again), to_json(record));
  EXPECT_EQ(again->name, "web");
  EXPECT_EQ(again->pid, 4711);
  EXPECT_EQ(again->start_ticks, UINT64_MAX);
  EXPECT_EQ(again->since, 1'700'000'000);
  EXPECT_TRUE(again->background);
  EXPECT_EQ(again->uuid, record.uuid);
  EXPECT_EQ(again->kernel, record.kernel);
  EXPECT_EQ(again->memory_bytes, 256u << 20);
  EXPECT_EQ(again->cpus, 2u);
  EXPECT_EQ(again->console_log, record.console_log);
  EXPECT_EQ(again->consoles.at(1).port, "hvc0");
  EXPECT_EQ(again->services.at(0).kind, "gdb");
  EXPECT_EQ(again->services.at(0).address, "tcp:127.0.0.1:41234");
  EXPECT_EQ(again->folder, record.folder);
  EXPECT_EQ(again->arguments, record.arguments);
}

TEST(MachineRecord, IsJsonWhateverBytesANameHas) {
  MachineRecord record = sample();
  for (int byte = 1; byte < 256; ++byte) {
    record.kernel = {'a', static_cast<char>(byte), 'z'};
    const auto again = parse_machine_record(to_json(record));
    ASSERT_TRUE(again) << byte << ": " << again.error().message();
    EXPECT_EQ(again->kernel, byte < 0x80 ? record.kernel : "a\xef\xbf\xbdz");
  }
  // Overlong, a surrogate, above U+10FFFF, and cut off.
  for (const char* const text : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"}) {
    record.kernel = text;
    ASSERT_TRUE(parse_machine_record(to_json(record))) << text;
  }
}

TEST(MachineRecord, WithAWrongTypeOrAMissingKeyIsRefused) {
  const std::string good = to_json(sample());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    const auto parsed = parse_machine_record(text.replace(at, from.size(), to));
    return parsed ? "accepted" : parsed.error().message();
  };
  EXPECT_EQ(with("4711", "-1"), "\"pid\" is not the number of a process");
  EXPECT_EQ(with("4711", "0"), "\"pid\" is not the number of a process");
  EXPECT_EQ(with("4711", "4294967296"), "\"pid\" is out of range");
  EXPECT_EQ(with("4711", "1.5"), "\"pid\" is not a number");
  EXPECT_EQ(with("4711", "\"1\""), "\"pid\" is not a number");
  EXPECT_EQ(with("18446744073709551615", "-1"), "\"start-ticks\" is out of range");
  EXPECT_EQ(with("true", "1"), "\"background\" is not true or false");
  EXPECT_EQ(with("\"web\"", "null"), "\"name\" is not a string");
  EXPECT_EQ(with("\"cpus\"", "\"CPUs\""), "\"cpus\" is not a number");
  EXPECT_EQ(with("\"--disk=d\"", "7"), "\"arguments\" has an entry that is not a string");
  EXPECT_EQ(with("{\"port\":\"hvc0\",\"socket\":\"\"}", "7"), "it is not a JSON object");
  EXPECT_EQ(with("\"port\":\"hvc0\"", "\"port\":[]"), "\"port\" is not a string");
  EXPECT_EQ(with("\"kind\":\"gdb\"", "\"kind\":7"), "\"kind\" is not a string");
  EXPECT_EQ(with("\"pid\"", "\"later\":{},\"pid\""), "accepted");
  EXPECT_EQ(with("\"services\"", "\"later\""), "accepted") << "an earlier wick has none";
}

TEST(MachineRecord, OfGarbageIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("7"),
        std::string(100'000, '['), std::string(2 << 20, ' '), std::string("{}\0{}", 5)}) {
    EXPECT_FALSE(parse_machine_record(text)) << text.substr(0, 20);
    EXPECT_FALSE(parse_ending_record(text)) << text.substr(0, 20);
  }
}

TEST(EndingRecord, IsReadAsItWasWritten) {
  const auto ending = parse_ending_record(to_json({137, "ended by \"signal\" 9", 5}));
  ASSERT_TRUE(ending);
  EXPECT_EQ(ending->status, 137);
  EXPECT_EQ(ending->reason, "ended by \"signal\" 9");
  EXPECT_EQ(ending->when, 5);
  EXPECT_THAT(parse_ending_record("{\"status\":-1,\"reason\":\"\",\"when\":0}").error().message(),
              HasSubstr("not an exit status"));
}

TEST(StartTicks, AreField22WhateverTheProgramIsCalled) {
  const std::string fields = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 12345 20 21 22\n";
  EXPECT_EQ(parse_start_ticks("1 (wick)" + fields), 12345u);
  EXPECT_EQ(parse_start_ticks("1 (a) b (c 1 2 3)" + fields), 12345u);
  EXPECT_FALSE(parse_start_ticks(""));
  EXPECT_FALSE(parse_start_ticks("1 (wick) S 1 2"));
  EXPECT_FALSE(parse_start_ticks("1 (wick) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1234"));
  EXPECT_FALSE(parse_start_ticks("1 (wick) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 1"));
}

TEST(StartTicks, AreTheSameEachTimeAndMissingWithoutAProcess) {
  ASSERT_TRUE(start_ticks(::getpid()));
  EXPECT_EQ(start_ticks(::getpid()), start_ticks(::getpid()));
  EXPECT_GT(*start_ticks(::getpid()), 0u);
  EXPECT_FALSE(start_ticks(-1));
}

}  // namespace
}  // namespace wick::control

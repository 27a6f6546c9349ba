// Runs that are repeated in processes of their own.
#include "cli/exec_repeat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

using testing::HasSubstr;

TEST(ExecRepeat, EachRunIsAProcessWithItsStatus) {
  const auto runs =
      run_repeatedly(5, 2, [](unsigned number, std::string&) { return number == 3 ? 42 : 0; });
  ASSERT_TRUE(runs);
  ASSERT_EQ(runs->size(), 5u);
  for (unsigned i = 0; i < 5; ++i) {
    EXPECT_EQ((*runs)[i].number, i + 1);
    EXPECT_EQ((*runs)[i].status, i == 2 ? 42 : 0);
  }
  EXPECT_EQ(status_of(*runs), 42);
}

TEST(ExecRepeat, NoMoreRunAtOnceThanAsked) {
  const fakes::TempDir dir;
  const auto runs = run_repeatedly(6, 2, [&](unsigned number, std::string&) {
    (void)dir.write(std::to_string(number), "");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    int running = 0;
    for (const auto& entry : std::filesystem::directory_iterator(dir.path()))
      running += entry.is_regular_file();
    std::filesystem::remove(dir / std::to_string(number));
    return running <= 2 ? 0 : 1;
  });
  ASSERT_TRUE(runs);
  EXPECT_EQ(status_of(*runs), 0);
}

TEST(ExecRepeat, ADeadProcessIsAFailure) {
  const auto runs = run_repeatedly(1, 1, [](unsigned, std::string&) -> int {
    ::raise(SIGKILL);
    return 0;
  });
  ASSERT_TRUE(runs);
  EXPECT_EQ(status_of(*runs), 137);
}

TEST(ExecRepeat, ASignalEndsTheRunsAndStartsNoMore) {
  const pid_t parent = ::getpid();
  const auto runs = run_repeatedly(100, 1, [&](unsigned, std::string&) {
    ::kill(parent, SIGTERM);
    ::sleep(60);
    return 0;
  });
  ASSERT_TRUE(runs);
  ASSERT_EQ(runs->size(), 1u);
  EXPECT_EQ(status_of(*runs), 128 + SIGTERM);
}

TEST(ExecRepeat, TheReportEscapesWhatXmlNeeds) {
  const std::string report = junit_report(
      {"a <b> & \"c\"\n", "second"},
      {{.number = 1, .status = 0, .time = {}}, {.number = 2, .status = 3, .time = {}}});
  EXPECT_THAT(report, HasSubstr("tests=\"2\" failures=\"1\" errors=\"0\""));
  EXPECT_THAT(report, HasSubstr("name=\"a &lt;b&gt; &amp; &quot;c&quot;\\x0a\""));
  EXPECT_THAT(report, HasSubstr("message=\"exit status 3\""));
}

// A panic's status may be that of a test, too.
TEST(ExecRepeat, TheReportTellsPanicsFromFailedTests) {
  const auto runs = run_repeatedly(2, 2, [](unsigned number, std::string& error) {
    if (number == 1) error = "the guest's kernel panicked before the command ended";
    return 3;
  });
  ASSERT_TRUE(runs);
  const std::string report = junit_report({"panic", "three"}, *runs);
  EXPECT_THAT(report, HasSubstr("tests=\"2\" failures=\"1\" errors=\"1\""));
  EXPECT_THAT(report,
              testing::ContainsRegex("\"panic\" time=\"[0-9.]+\"><error message=\"the guest's"));
  EXPECT_THAT(report, testing::ContainsRegex("\"three\" time=\"[0-9.]+\"><failure message=\"exit"));
}

TEST(ExecRepeat, TheReportHasTheRunsThatDidNotBegin) {
  const std::string report =
      junit_report({"first", "second"}, {{.number = 2, .status = 0, .time = {}}});
  EXPECT_THAT(report, HasSubstr("tests=\"2\" failures=\"0\" errors=\"1\""));
  EXPECT_THAT(report, HasSubstr("name=\"first\"><error message=\"did not run\"/>"));
}

}  // namespace
}  // namespace wick::cli

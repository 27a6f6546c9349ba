// Machines in the background: what becomes of their consoles, and starts that fail. Those that
// succeed need KVM (tests/lab/machines_test.cc).
#include "cli/background.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>

#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Kind = vmm::SerialConfig::Kind;

class BackgroundTest : public ::testing::Test {
 protected:
  control::MachineEntry claim(const std::string& name) const {
    return *control::Registry::open(folder_ / "run")->claim(name);
  }
  fakes::ShellResult wick(const std::string& arguments) const {
    return fakes::run_shell("export WICK_RUNTIME_DIR=" + (folder_ / "run") + " XDG_CONFIG_HOME=" +
                            (folder_ / "config") + "; " WICK_BINARY " " + arguments);
  }
  static vmm::SerialConfig serial(Kind kind, const std::string& path = {},
                                  const std::string& log = {}) {
    vmm::SerialConfig config;
    config.kind = kind;
    config.path = path;
    config.log_path = log;
    return config;
  }

  const fakes::TempDir folder_{std::filesystem::temp_directory_path()};
};

TEST_F(BackgroundTest, PortsOnStdioGetASocketAndTheFirstConsoleALog) {
  const auto entry = claim("web");
  vmm::MachineConfig config;
  config.serials = {serial(Kind::kNull), serial(Kind::kStdio), serial(Kind::kFile, "out")};
  move_consoles(config, entry);
  EXPECT_EQ(config.serials[0].log_path, "");
  EXPECT_EQ(config.serials[1].kind, Kind::kUnix);
  EXPECT_EQ(config.serials[1].path, folder_ / "run/web/ttyS1.sock");
  EXPECT_EQ(config.serials[1].log_path, folder_ / "run/web/console.log");
  EXPECT_EQ(config.serials[1].log_limit_bytes, 16u << 20);
  EXPECT_EQ(config.serials[2].path, "out");
  EXPECT_EQ(config.serials[2].log_path, "");
}

TEST_F(BackgroundTest, WhatTheUserChoseForAConsoleStays) {
  const auto entry = claim("web");
  vmm::MachineConfig config;
  config.serials = {serial(Kind::kUnix, "my.socket", "my.log")};
  config.consoles = {serial(Kind::kStdio)};
  move_consoles(config, entry);
  EXPECT_EQ(config.serials[0].path, "my.socket");
  EXPECT_EQ(config.serials[0].log_path, "my.log");
  EXPECT_EQ(config.serials[0].log_limit_bytes, 0u) << "the user's own file";
  EXPECT_EQ(config.consoles[0].path, folder_ / "run/web/hvc0.sock");
  EXPECT_EQ(config.consoles[0].log_path, "") << "it is not the first";
}

TEST_F(BackgroundTest, AMachineThatCannotBeBuiltIsAnErrorAndLeavesNothing) {
  for (const char* const start : {"start web", "run --detach --name web", "run --detach"}) {
    const auto [status, output] = wick(std::string(start) + " -k /nowhere/bzImage");
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, StartsWith("wick: /nowhere/bzImage: cannot open: No such file"));
    EXPECT_EQ(std::ranges::count(output, '\n'), 1) << output;
    EXPECT_TRUE(std::filesystem::is_empty(folder_ / "run"));
  }
}

TEST_F(BackgroundTest, ANameInUseIsRefused) {
  const auto entry = claim("web");
  const auto [status, output] = wick("start web -k /nowhere/bzImage");
  EXPECT_EQ(status, 1);
  EXPECT_THAT(output, StartsWith("wick: web: a machine of this name is running; "));
  EXPECT_EQ(control::Registry::open(folder_ / "run")->find("web")->state(),
            control::MachineView::State::kLive);
}

TEST_F(BackgroundTest, AFolderThatCannotBeTrustedStopsNoForegroundRun) {
  std::filesystem::create_directory(folder_ / "run");
  std::filesystem::permissions(folder_ / "run", std::filesystem::perms::all);
  EXPECT_THAT(wick("start web -k /nowhere/bzImage").output,
              HasSubstr("others than its owner may write to it"));
  EXPECT_THAT(wick("run -k /nowhere/bzImage").output,
              StartsWith("wick: /nowhere/bzImage: cannot open"));
}

}  // namespace
}  // namespace wick::cli

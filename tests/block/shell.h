// Commands of the host, for tests that use QEMU's tools.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace wick::block {

// Runs `command` in a shell. If it fails, the output explains why.
inline testing::AssertionResult shell(const std::string& command) {
  const std::string log =
      std::filesystem::current_path() / ("block-test-" + std::to_string(::getpid()) + ".log");
  const bool succeeded = std::system(("(" + command + ") >" + log + " 2>&1").c_str()) == 0;
  std::ifstream file(log);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::filesystem::remove(log);
  if (succeeded) return testing::AssertionSuccess();
  return testing::AssertionFailure() << command << "\n" << text;
}

}  // namespace wick::block

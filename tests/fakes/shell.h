// Commands of the host, for the tests that ask other programs.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

namespace wick::fakes {

struct ShellResult {
  int status = -1;     // exit status; -1 if a signal ended the shell
  std::string output;  // stdout and stderr
};

inline ShellResult run_shell(const std::string& command) {
  ShellResult result;
  std::FILE* const pipe = ::popen(("exec 2>&1; " + command).c_str(), "re");
  if (pipe == nullptr) return result;
  std::array<char, 4096> part;
  while (const size_t got = std::fread(part.data(), 1, part.size(), pipe))
    result.output.append(part.data(), got);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
  return result;
}

// Runs `command` in a shell. If it fails, the output explains why.
inline testing::AssertionResult shell(const std::string& command) {
  const auto [status, output] = run_shell(command);
  if (status == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << command << "\n" << output;
}

}  // namespace wick::fakes

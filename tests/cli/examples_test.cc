// The examples of the help work: those of wick image run, the others are parsed, and so is that of
// its server, which waits for clients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "cli/options.h"
#include "tests/cli/help.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

// The files that the examples name.
constexpr const char* kFiles = R"(
mkdir src &&
wick image create -q -f qcow2 disk.qcow2 4M &&
wick image io -c "write -P 7 1M 64k" disk.qcow2 >log &&
wick image convert -O raw disk.qcow2 disk.raw &&
wick image create -q -f qcow2 alpine.qcow2 4M &&
wick image create -q -f qcow2 alpine-2.qcow2 4M &&
wick image create -q -f qcow2 scratch.qcow2 4M &&
wick image create -q -f qcow2 -b alpine.qcow2 -F qcow2 overlay.qcow2)";

// Runs the shell's commands in a folder with those files.
int run_in_folder(const std::string& commands) {
  const fakes::TempDir folder(::testing::TempDir());
  const std::string program = std::filesystem::path(WICK_BINARY).parent_path();
  const std::string script = "cd " + folder.path() + " && PATH=" + program + ":$PATH && " + kFiles +
                             " && (" + commands + ") >log";
  return std::system(script.c_str());
}

// Why wick's parser does not take it; empty: it does.
std::string refusal(const std::string& example) {
  std::istringstream line(example);
  std::vector<std::string> words;
  for (std::string word; line >> word;) words.push_back(word);
  if (!words.empty() && words.front() == "sudo") words.erase(words.begin());
  if (words.empty() || words.front() != "wick") return "it is no command of wick";
  words.erase(words.begin());
  const auto command = parse_command(words, [](const std::string&) { return nullptr; });
  return command ? "" : command.error().error.message();
}

TEST(Examples, AreInTheHelpOfEveryCommandAndWork) {
  const std::vector<std::string> commands = all_commands();
  EXPECT_GT(commands.size(), 25u);
  for (const std::string& command : commands) {
    const std::vector<std::string> examples = examples_in(help_of(command));
    EXPECT_FALSE(examples.empty()) << command;
    bool own = false;
    for (const std::string& example : examples) {
      own = own || example.find(command + " ") != std::string::npos || example.ends_with(command);
      if (example.starts_with("wick image ") && command != "wick image nbd")
        EXPECT_EQ(run_in_folder(example), 0) << example;
      else
        EXPECT_EQ(refusal(example), "") << example;
    }
    EXPECT_TRUE(own) << "an example shows " << command;
  }
}

TEST(Examples, ThatAreWrongAreSeen) {
  EXPECT_NE(run_in_folder("wick image info --no-such-option disk.qcow2 2>/dev/null"), 0);
  EXPECT_NE(refusal("wick run -k bzImage --no-such-option"), "");
  EXPECT_NE(refusal("qemu-img info disk"), "");
}

}  // namespace
}  // namespace wick::cli

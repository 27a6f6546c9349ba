// The program in scripts: various kinds of standard output, and the exit status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

class Program : public ::testing::Test {
 protected:
  // The exit status of a shell command, in which $wick is the program. The current folder is
  // a temporary one.
  int status(const std::string& command) {
    const std::string line =
        "cd " + folder_.path() + " && wick=" WICK_BINARY " && (" + command + ") 2>stderr";
    const int status = std::system(("bash -c '" + line + "'").c_str());
    said_ = folder_.read("stderr");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  const fakes::TempDir folder_;
  std::string said_;  // on standard error
};

class ResultsThatCannotBeWritten : public Program,
                                   public ::testing::WithParamInterface<const char*> {};

TEST_P(ResultsThatCannotBeWritten, AreAnErrorWithOneLine) {
  ASSERT_EQ(status("$wick image create -q -f qcow2 d.qcow2 4M && $wick image snapshot -c s d.qcow2"
                   " && $wick image create -q -f qcow2 e.qcow2 4M"),
            0)
      << said_;
  EXPECT_EQ(status("$wick " + std::string(GetParam()) + " >/dev/full"), 1);
  EXPECT_THAT(said_, HasSubstr("wick: standard output: cannot write the results: No space left"));
  EXPECT_EQ(std::count(said_.begin(), said_.end(), '\n'), 1) << said_;
  // The caller closed it.
  EXPECT_EQ(status("$wick " + std::string(GetParam()) + " >&-"), 1);
  EXPECT_THAT(said_, HasSubstr("wick: standard output: cannot write the results: Bad file"));
  // The reader of the pipe is gone, with SIGPIPE at its default or ignored.
  EXPECT_EQ(status("trap \"\" PIPE; { sleep 0.2; $wick " + std::string(GetParam()) +
                   "; echo $? >status; } | true; exit $(cat status)"),
            1);
  EXPECT_THAT(said_, HasSubstr("wick: standard output: cannot write the results: Broken pipe"));
}

INSTANTIATE_TEST_SUITE_P(
    Commands, ResultsThatCannotBeWritten,
    ::testing::Values("--help", "--version", "run --help", "image --help", "doctor", "net status",
                      "image info d.qcow2", "image info --output json d.qcow2",
                      "image check d.qcow2", "image map d.qcow2", "image map --output json d.qcow2",
                      "image compare d.qcow2 e.qcow2", "image snapshot -l d.qcow2",
                      "image create -f qcow2 new.qcow2 1M", "image resize e.qcow2 8M",
                      "image convert -p -O raw d.qcow2 d.raw",
                      "image io -c \"write -P 7 0 64k\" -c \"read -P 7 0 64k\" d.qcow2"));

TEST_F(Program, ResultsArriveAtAPipeOrAFile) {
  ASSERT_EQ(status("$wick --version >version && $wick --version | cmp - version"), 0) << said_;
  EXPECT_EQ(said_, "");
}

TEST_F(Program, ResultsArriveWhereSomeoneMadeTheDescriptorNonBlocking) {
  // 64 KiB fill the pipe, and the reader begins late.
  ASSERT_EQ(
      status("$wick image create -q -f raw d.raw 64M;"
             "args=(); for i in {1..900}; do args+=(-c \"read 0 512\"); done;"
             "python3 -c \"import fcntl, os, sys; fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK);"
             "os.execv(sys.argv[1], sys.argv[1:])\" $wick image io -f raw \"${args[@]}\" d.raw"
             " | (sleep 0.5; grep -c ^read) >count; test $(cat count) = 900"),
      0)
      << said_;
}

TEST_F(Program, MessagesThatCannotBeWrittenChangeNothing) {
  EXPECT_EQ(status("$wick image info missing 2>/dev/full"), 1);
  EXPECT_EQ(status("$wick image info missing 2>&-"), 1);
  EXPECT_EQ(status("$wick no-such-command 2>/dev/full"), 2);
  ASSERT_EQ(status("$wick image create -q -f qcow2 d.qcow2 4M"), 0);
  EXPECT_EQ(status("$wick image io -c \"read -P 1 0 512\" -c nonsense d.qcow2 2>/dev/full"), 1);
  EXPECT_EQ(status("$wick image compare d.qcow2 missing 2>/dev/full"), 2);
}

// The backing file's name comes from the author of the image.
TEST_F(Program, MessagesOfImagesDoNotReachTheTerminalAsEscapes) {
  ASSERT_EQ(status("$wick image create -q -f raw b 1M &&"
                   "$wick image create -q -f qcow2 -b b -F raw d.qcow2 &&"
                   "$wick image rebase -u -b $(printf \"\\033[31mred\") -F raw d.qcow2"),
            0)
      << said_;
  EXPECT_NE(status("$wick image compare d.qcow2 b"), 0);
  EXPECT_THAT(said_, HasSubstr("\\x1b[31mred"));
  EXPECT_EQ(said_.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace wick::cli

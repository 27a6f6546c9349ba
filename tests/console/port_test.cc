#include "console/port.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "console/open.h"
#include "tests/console/fakes.h"

namespace wick::console {
namespace {

using ::testing::HasSubstr;

class PortTest : public ConsoleTest {};

TEST_F(PortTest, NullKeepsATranscriptAndWakesNobody) {
  auto port = *open_null(*loop_, "");
  EXPECT_EQ(port->transcript().end(), 0u);
  port->write(bytes("hello\n"));
  port->input_wanted();
  port->flush();
  EXPECT_THAT(port->transcript().last_lines(20), ::testing::ElementsAre("hello"));
}

TEST_F(PortTest, FileGetsTheOutput) {
  std::ofstream(path("out")) << "from an earlier run";
  auto port = *open_file(*loop_, path("out"), "");
  EXPECT_EQ(port->name(), "file:" + path("out"));
  for (int i = 0; i < 100; ++i) port->write(bytes("0123456789"));
  EXPECT_TRUE(run_until([&] { return content("out").size() == 1000; }));
}

TEST_F(PortTest, FlushWritesWithoutTheLoop) {
  auto port = *open_file(*loop_, path("out"), path("log"));
  port->write(bytes("the last words"));
  port->flush();
  EXPECT_EQ(content("out"), "the last words");
  EXPECT_EQ(content("log"), "the last words");
}

TEST_F(PortTest, LogIsACopyOfTheOutput) {
  std::ofstream(path("log")) << "from an earlier run, which was longer";
  auto port = *open_null(*loop_, path("log"));
  port->write(bytes("login: "));
  EXPECT_TRUE(run_until([&] { return content("log") == "login: "; }));
  port->write(bytes("root\r\n"));
  EXPECT_TRUE(run_until([&] { return content("log") == "login: root\r\n"; }));
}

TEST_F(PortTest, ALogThatReachesItsLimitIsContinuedInANewFile) {
  auto port = *open_null(*loop_, {path("log"), 100});
  std::string all;
  for (int i = 0; i < 30; ++i) {
    const std::string line = fmt::format("line {:03}\n", i);
    port->write(bytes(line));
    all += line;
    const auto kept = [&] { return content("log.1") + content("log"); };
    ASSERT_TRUE(run_until([&] { return kept().ends_with(line); }));
    EXPECT_TRUE(all.ends_with(kept())) << kept();
    EXPECT_LT(content("log").size(), 100u);
  }
  // The first file, of twelve lines, is gone.
  EXPECT_EQ(content("log.1"), all.substr(108, 108));
  EXPECT_EQ(content("log"), all.substr(216));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 2);
  port->write(bytes("the last words"));
  port->flush();
  EXPECT_EQ(content("log"), all.substr(216) + "the last words");
}

TEST_F(PortTest, ALogBeginsANewFileOnlyIfItHasALimit) {
  auto port = *open_null(*loop_, path("log"));
  const std::string part(60'000, 'x');
  for (size_t i = 1; i <= 3; ++i) {
    port->write(bytes(part));
    ASSERT_TRUE(run_until([&] { return content("log").size() == i * part.size(); }));
  }
  EXPECT_FALSE(std::filesystem::exists(path("log.1")));
}

TEST_F(PortTest, ALogThatCannotBeRenamedIsContinued) {
  std::filesystem::create_directories(path("log.1/full"));
  auto port = *open_null(*loop_, {path("log"), 10});
  std::string all;
  for (int i = 0; i < 5; ++i) {
    port->write(bytes("0123456789\n"));
    all += "0123456789\n";
    ASSERT_TRUE(run_until([&] { return content("log") == all; }));
  }
  EXPECT_FALSE(std::filesystem::exists(path("log.new")));
  std::filesystem::remove_all(path("log.1"));
  port->write(bytes("0123456789\n"));
  EXPECT_TRUE(run_until([&] { return content("log.1") == all + "0123456789\n"; }));
}

TEST_F(PortTest, AFullDiskEndsTheFileAndNotTheMachine) {
  auto port = *open_file(*loop_, "/dev/full", path("log"));
  port->write(bytes("one"));
  EXPECT_TRUE(run_until([&] { return content("log") == "one"; }));
  port->write(bytes("two"));
  EXPECT_TRUE(run_until([&] { return content("log") == "onetwo"; }));
  EXPECT_FALSE(port->attached());
}

TEST_F(PortTest, SaysWhyAFileCannotBeOpened) {
  const auto folder = open_file(*loop_, folder_.path(), "");
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message(),
              HasSubstr(folder_.path() + ": cannot open for writing: Is a dir"));
  const auto log = open_null(*loop_, path("missing/log"));
  ASSERT_FALSE(log);
  EXPECT_THAT(log.error().message(), HasSubstr("missing/log: cannot open for writing: No such"));
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  const auto fifo = open_file(*loop_, path("fifo"), "");
  ASSERT_FALSE(fifo);
  EXPECT_THAT(fifo.error().message(), HasSubstr("start the reader of this FIFO first"));
}

// The socket keeps one record per write(2), so the port's writes can be counted.
TEST_F(PortTest, ABurstOfBytesIsOneWrite) {
  const Pair out = make_socket_pair(SOCK_SEQPACKET);
  auto port = *open_stdio(*loop_, {}, "", -1, out.write.get());
  for (const char character : std::string_view("login: ")) port->write(bytes({&character, 1}));
  EXPECT_TRUE(delivers(out.read, "login: "));
  for (const char character : std::string_view("root")) port->write(bytes({&character, 1}));
  std::array<char, 100> record;
  ASSERT_TRUE(run_until([&] {
    pollfd readable{.fd = out.read.get(), .events = POLLIN, .revents = 0};
    return ::poll(&readable, 1, 0) > 0;
  }));
  EXPECT_EQ(::recv(out.read.get(), record.data(), record.size(), 0), 4);
}

TEST_F(PortTest, ManyThreadsWriteWhileTheLoopRuns) {
  const Pair out = make_pipe();
  auto port = *open_stdio(*loop_, {}, path("log"), -1, out.write.get());
  constexpr size_t kWriters = 4;
  constexpr size_t kWrites = 400;
  std::vector<std::jthread> writers;
  for (size_t i = 0; i < kWriters; ++i) {
    writers.emplace_back([&] {
      for (size_t n = 0; n < kWrites; ++n) {
        port->write(bytes("0123456789"));
        port->input_wanted();
      }
    });
  }
  // The output is smaller than the transcript, so none of it may be lost.
  std::string got;
  EXPECT_TRUE(run_until([&] {
    receive(out.read, got);
    return got.size() == kWriters * kWrites * 10 && content("log").size() == got.size();
  }));
  EXPECT_EQ(content("log"), got);
}

}  // namespace
}  // namespace wick::console

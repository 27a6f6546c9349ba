#include "debug/core_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <thread>

#include "base/bytes.h"
#include "tests/fakes/temp_dir.h"
#include "tests/fakes/wait_for.h"

namespace wick::debug {
namespace {

using ::testing::HasSubstr;

constexpr auto kSequential = CoreFile::Order::kSequential;
constexpr auto kFlattened = CoreFile::Order::kFlattened;

std::span<const std::byte> bytes(std::string_view text) {
  return as_bytes(text.data(), text.size());
}

class CoreFileTest : public ::testing::Test {
 protected:
  CoreFile create(Fd fd, CoreFile::Order order = kSequential, std::stop_token stop = {}) {
    return CoreFile::create(std::move(fd), "the file", order, std::move(stop)).value();
  }
  // The reading and the writing end.
  std::array<Fd, 2> pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    return {Fd(ends[0]), Fd(ends[1])};
  }
  static std::string drain(int fd) {
    std::string text;
    std::array<char, 4096> part;
    for (ssize_t got; (got = ::read(fd, part.data(), part.size())) > 0;)
      text.append(part.data(), static_cast<size_t>(got));
    return text;
  }

  const fakes::TempDir folder_;
};

TEST_F(CoreFileTest, NamesTheFileAndWhatToDoWhenThereIsNoRoom) {
  CoreFile full = create(Fd(::open("/dev/full", O_WRONLY)));
  const auto result = full.write(0, bytes("x"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ENOSPC);
  EXPECT_THAT(result.error().message(), HasSubstr("the file: cannot write the core: No space"));
  EXPECT_THAT(result.error().message(), HasSubstr("make room"));
}

TEST_F(CoreFileTest, RefusesAFileThatIsNotOpenForWriting) {
  const std::string path = folder_.write("f", "content");
  const auto result = CoreFile::create(Fd(::open(path.c_str(), O_RDONLY)), path, kSequential, {});
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(), HasSubstr(path));
  EXPECT_FALSE(CoreFile::create(Fd(), "none", kSequential, {}));
  EXPECT_EQ(folder_.read("f"), "content");
}

TEST_F(CoreFileTest, SaysWhyAFileCannotBeOpened) {
  EXPECT_THAT(open_core_file(folder_ / "no/such").error().message(), HasSubstr("no/such"));
  EXPECT_THAT(open_core_file(folder_.path()).error().message(), HasSubstr("directory"));
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(open_core_file(folder_ / "fifo").error().message(), HasSubstr("start the reader"));
}

TEST_F(CoreFileTest, MakesAFileThatOthersCannotRead) {
  ASSERT_TRUE(open_core_file(folder_ / "core"));
  struct stat status {};
  ASSERT_EQ(::stat((folder_ / "core").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(CoreFileTest, LeavesHolesWhereNothingIsWritten) {
  CoreFile file = create(open_core_file(folder_ / "core").value());
  ASSERT_TRUE(file.write(0, bytes("start")));
  ASSERT_TRUE(file.write(64 << 20, bytes("end")));
  ASSERT_TRUE(file.finish(128 << 20));
  struct stat status {};
  ASSERT_EQ(::stat((folder_ / "core").c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 128 << 20);
  EXPECT_LT(status.st_blocks * 512, 1 << 20);
}

TEST_F(CoreFileTest, StartsWhereTheDescriptorStands) {
  const std::string path = folder_.write("f", "head, and an old tail");
  Fd fd(::open(path.c_str(), O_RDWR));
  ASSERT_EQ(::lseek(fd.get(), 4, SEEK_SET), 4);
  CoreFile file = create(std::move(fd));
  ASSERT_TRUE(file.write(2, bytes("xy")));
  ASSERT_TRUE(file.finish(5));
  EXPECT_EQ(folder_.read("f"), std::string("head\0\0xy\0", 9));
  file.abandon();
  EXPECT_EQ(folder_.read("f"), "head");
}

TEST_F(CoreFileTest, FillsTheGapsOfAStream) {
  auto [reader, writer] = pipe();
  CoreFile file = create(std::move(writer));
  std::string got;
  std::thread thread([&, fd = reader.get()] { got = drain(fd); });
  ASSERT_TRUE(file.write(0, bytes("start")));
  ASSERT_TRUE(file.write(200000, bytes("end")));
  ASSERT_TRUE(file.finish(200010));
  { const CoreFile closed = std::move(file); }
  thread.join();
  EXPECT_EQ(got, "start" + std::string(199995, '\0') + "end" + std::string(7, '\0'));
}

TEST_F(CoreFileTest, AppendsToAFileThatIsOpenForAppending) {
  const std::string path = folder_.write("f", "head");
  CoreFile file = create(Fd(::open(path.c_str(), O_WRONLY | O_APPEND)));
  ASSERT_TRUE(file.write(2, bytes("x")));
  ASSERT_TRUE(file.finish(3));
  EXPECT_EQ(folder_.read("f"), std::string("head\0\0x", 7));
}

TEST_F(CoreFileTest, WrapsPartsOutOfOrderInRecordsOfAStream) {
  auto [reader, writer] = pipe();
  CoreFile file = create(std::move(writer), kFlattened);
  ASSERT_TRUE(file.write(300, bytes("abc")));
  ASSERT_TRUE(file.write(7, bytes("z")));
  ASSERT_TRUE(file.finish(400));
  { const CoreFile closed = std::move(file); }
  const std::string got = drain(reader.get());
  ASSERT_EQ(got.size(), 4096u + 3 * 16 + 4);
  EXPECT_EQ(got.substr(0, 33), std::string("makedumpfile\0\0\0\0"
                                           "\0\0\0\0\0\0\0\x01"
                                           "\0\0\0\0\0\0\0\x01"
                                           "\0",
                                           33));
  EXPECT_EQ(got.substr(4096, 19), std::string("\0\0\0\0\0\0\x01\x2c"
                                              "\0\0\0\0\0\0\0\x03"
                                              "abc",
                                              19));
  EXPECT_EQ(got.substr(4096 + 19, 17), std::string("\0\0\0\0\0\0\0\x07"
                                                   "\0\0\0\0\0\0\0\x01"
                                                   "z",
                                                   17));
  EXPECT_EQ(got.substr(4096 + 36), std::string(16, '\xff'));
}

TEST_F(CoreFileTest, TellsThatTheReaderIsGone) {
  ::signal(SIGPIPE, SIG_IGN);
  auto [reader, writer] = pipe();
  reader.close();
  CoreFile file = create(std::move(writer));
  const auto result = file.write(0, bytes("x"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, EPIPE);
}

// A reader that does not read.
void stops_when_told(Fd writer) {
  std::stop_source stop;
  CoreFile file =
      CoreFile::create(std::move(writer), "slow", kSequential, stop.get_token()).value();
  std::atomic<int> written{0};
  Result<void> result;
  std::thread thread([&] {
    const std::vector<std::byte> much(4096, std::byte{1});
    for (uint64_t at = 0; result; at += much.size(), ++written) result = file.write(at, much);
  });
  EXPECT_TRUE(fakes::wait_for([&] { return written >= 4; }));
  stop.request_stop();
  thread.join();
  EXPECT_EQ(result.error().code, ECANCELED);
}

TEST_F(CoreFileTest, StopsWhenItIsToldToAlsoIfNobodyReads) {
  auto [reader, writer] = pipe();
  stops_when_told(std::move(writer));
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const Fd other(ends[0]);
  stops_when_told(Fd(ends[1]));
}

}  // namespace
}  // namespace wick::debug

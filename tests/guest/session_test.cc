// A command's streams, signals and end, with the real init as an ordinary process.
#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "base/bytes.h"
#include "tests/fakes/temp_dir.h"
#include "tests/guest/init_process.h"

namespace wick::guest {
namespace {

using Kind = CommandEnd::Kind;
using testing::HasSubstr;

Plan shell(const std::string& script) {
  Plan plan;
  plan.open_port(WICK_PORT_NAME);
  plan.environment(std::vector<std::string>{"PATH=/usr/bin:/bin", "MARK=x"});
  plan.command(std::vector<std::string>{"sh", "-c", script});
  return plan;
}

TEST_F(SessionFixture, ACommandThatSucceedsEndsWithZero) {
  const CommandEnd& end = run({"true"});
  EXPECT_EQ(end.kind, Kind::kExited) << end.message;
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.exit.signal, 0u);
}

TEST_F(SessionFixture, TheStatusIsTheCommands) {
  EXPECT_EQ(run({"sh", "-c", "exit 42"}).status, 42);
}

TEST_F(SessionFixture, ASignalIsToldApartFromAStatus) {
  const CommandEnd& end = run({"sh", "-c", "kill -9 $$"});
  EXPECT_EQ(end.kind, Kind::kExited);
  EXPECT_EQ(end.status, 137);
  EXPECT_EQ(end.exit.signal, 9u);
}

TEST_F(SessionFixture, AMissingCommandIs127) {
  const CommandEnd& end = run({"no-such-command"});
  EXPECT_EQ(end.kind, Kind::kNotStarted);
  EXPECT_EQ(end.status, 127);
  EXPECT_THAT(end.message, HasSubstr("no-such-command: no such command in the guest"));
}

TEST_F(SessionFixture, AFileThatIsNoProgramIs126) {
  const CommandEnd& end = run({"/etc/passwd"});
  EXPECT_EQ(end.kind, Kind::kNotStarted);
  EXPECT_EQ(end.status, 126);
}

TEST_F(SessionFixture, AFolderThatIsMissingIsAFailure) {
  Plan plan;
  plan.open_port(WICK_PORT_NAME).pwd("/no/such/folder").command(std::vector<std::string>{"true"});
  start(plan);
  const CommandEnd& end = finish();
  EXPECT_EQ(end.kind, Kind::kFailed);
  EXPECT_THAT(end.message, HasSubstr("/no/such/folder"));
}

TEST_F(SessionFixture, AStepThatFailsIsNamedAndOneThatMayFailIsNot) {
  Plan plan;
  plan.open_port(WICK_PORT_NAME);
  plan.maybe().make_folder("/proc/no/folder");
  plan.mount("no-such-tag", "/no/such/target", "no-such-type");
  plan.command(std::vector<std::string>{"true"});
  start(plan);
  EXPECT_THAT(finish().message, HasSubstr("mount /no/such/target: "));
}

TEST_F(SessionFixture, OutputAndErrorsAreApart) {
  run({"sh", "-c", "echo to-out; echo to-err >&2; echo again"});
  EXPECT_EQ(out_, "to-out\nagain\n");
  EXPECT_EQ(err_, "to-err\n");
}

TEST_F(SessionFixture, TheEnvironmentIsThePlans) {
  run({"env"});
  EXPECT_EQ(out_, "PATH=/usr/bin:/bin\nMARK=x\n");
}

TEST_F(SessionFixture, ArgumentsKeepEveryByte) {
  run({"printf", "%s|", "", "two words", "\x01\xff", "quote'\"$x"});
  EXPECT_EQ(out_, "|two words|\x01\xff|quote'\"$x|");
}

// --- copies ---

Plan with_copy(const std::string& script, const std::string& from, const std::string& to) {
  Plan plan = shell(script);
  plan.copy(from, to);
  return plan;
}

TEST_F(SessionFixture, ATreeIsCopiedAfterTheCommand) {
  const fakes::TempDir dir;
  start(with_copy("cd " + dir.path() +
                      " && mkdir -p tree/sub && echo text >tree/sub/file && chmod 750 tree/sub && "
                      "ln -s sub/file tree/link && mkfifo tree/pipe && exit 4",
                  dir / "tree", dir / "copy"));
  const CommandEnd& end = finish();
  EXPECT_EQ(end.status, 4);
  EXPECT_EQ(end.copy_errors, std::vector<std::string>());
  EXPECT_EQ(fakes::read_file(dir / "copy/sub/file"), "text\n");
  EXPECT_EQ(std::filesystem::read_symlink(dir / "copy/link"), "sub/file");
  EXPECT_FALSE(std::filesystem::exists(dir / "copy/pipe"));
  EXPECT_EQ(std::filesystem::status(dir / "copy/sub").permissions(), std::filesystem::perms{0750});
  EXPECT_FALSE(std::filesystem::exists(dir / "copy.part"));
}

TEST_F(SessionFixture, AFileThatIsALinkIsCopiedAsAFile) {
  const fakes::TempDir dir;
  start(with_copy("head -c 3000000 /dev/zero >" + (dir / "file") + "; ln -s file " + (dir / "link"),
                  dir / "link", dir / "copy"));
  EXPECT_EQ(finish().copy_errors, std::vector<std::string>());
  EXPECT_EQ(std::filesystem::symlink_status(dir / "copy").type(),
            std::filesystem::file_type::regular);
  EXPECT_EQ(std::filesystem::file_size(dir / "copy"), 3'000'000u);
}

TEST_F(SessionFixture, WhatCannotBeCopiedIsNamed) {
  const fakes::TempDir dir;
  start(with_copy("true", dir / "missing", dir / "copy"));
  EXPECT_EQ(finish().copy_errors,
            std::vector<std::string>{(dir / "missing") + ": No such file or directory"});
  EXPECT_FALSE(std::filesystem::exists(dir / "copy"));
}

TEST_F(SessionFixture, ADeviceIsNotCopied) {
  const fakes::TempDir dir;
  start(with_copy("true", "/dev/null", dir / "copy"));
  EXPECT_EQ(finish().copy_errors, std::vector<std::string>{"/dev/null: Invalid argument"});
}

TEST_F(SessionFixture, WhatIsMountedBelowAFolderIsNotCopied) {
  const fakes::TempDir dir;
  start(with_copy("true", "/dev", dir / "copy"));
  EXPECT_EQ(finish().copy_errors, std::vector<std::string>());
  EXPECT_FALSE(std::filesystem::exists(dir / "copy/pts"));
}

// --- input ---

// The write end of a pipe whose read end is `in`.
Fd pipe_into(Fd& in) {
  std::array<int, 2> ends;
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  in = Fd(ends[0]);
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return Fd(ends[1]);
}

TEST_F(SessionFixture, TheEndOfTheInputIsPassedOn) {
  Fd in;
  Fd writer = pipe_into(in);
  ASSERT_EQ(::write(writer.get(), "abc", 3), 3);
  writer.close();
  EXPECT_EQ(run({"wc", "-c"}, std::move(in)).status, 0);
  EXPECT_EQ(out_, "3\n");
}

std::string noise(size_t size_bytes) {
  std::string bytes(size_bytes, '\0');
  uint64_t state = 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

TEST_F(SessionFixture, TwentyMegabytesOfAnyBytesComeBackUnchanged) {
  const std::string bytes = noise(20 << 20);
  Fd in;
  Fd writer = pipe_into(in);
  std::thread feeder([&] {
    for (std::string_view rest = bytes; !rest.empty();) {
      const ssize_t put = ::write(writer.get(), rest.data(), rest.size());
      if (put <= 0) break;
      rest.remove_prefix(static_cast<size_t>(put));
    }
    writer.close();
  });
  EXPECT_EQ(run({"sh", "-c", "echo on stderr >&2; exec cat"}, std::move(in)).status, 0);
  feeder.join();
  EXPECT_TRUE(out_ == bytes) << out_.size();
  EXPECT_EQ(err_, "on stderr\n");
}

TEST_F(SessionFixture, ARegularFileIsAnInputToo) {
  const std::string bytes = noise(1 << 20);
  Fd in = memory_file(as_bytes(bytes.data(), bytes.size()), "in", MFD_CLOEXEC);
  ::lseek(in.get(), 0, SEEK_SET);
  EXPECT_EQ(run({"cat"}, std::move(in)).status, 0);
  EXPECT_TRUE(out_ == bytes) << out_.size();
}

// PITFALLS 28
TEST_F(SessionFixture, ACommandThatIgnoresItsInputEnds) {
  Fd in;
  Fd writer = pipe_into(in);
  ::fcntl(writer.get(), F_SETFL, O_NONBLOCK);
  const std::string bytes = noise(64 << 10);
  EXPECT_GT(::write(writer.get(), bytes.data(), bytes.size()), 0);
  EXPECT_EQ(run({"sh", "-c", "exit 3"}, std::move(in)).status, 3);
}

TEST_F(SessionFixture, OutputThatNobodyReadsStopsTheCommandAndNothingElse) {
  reads_ = {false, true};
  start(shell("head -c 2000000 /dev/zero & echo still here >&2; wait"));
  auto timer = loop_->timer([this] { loop_->stop(); }).value();
  timer.arm(std::chrono::seconds(1));
  loop_->run();
  EXPECT_EQ(err_, "still here\n");
  EXPECT_FALSE(session_->end().has_value());
}

TEST_F(SessionFixture, AReaderThatGoesAwayEndsTheCommandAsAPipeWould) {
  reads_ = {false, true};
  start(shell("exec yes"));
  when_started_ = [this] { read_ends_[0].close(); };
  EXPECT_EQ(finish().status, 128 + SIGPIPE);
}

TEST_F(SessionFixture, AReaderThatLeftBeforeTheStartEndsTheCommandToo) {
  reads_ = {false, true};
  start(shell("exec yes"));
  read_ends_[0].close();
  EXPECT_EQ(finish().status, 128 + SIGPIPE);
}

// The command has ended, and the rest of its output waits in the guest.
TEST_F(SessionFixture, AReaderThatGoesAwayAfterTheEndHoldsNothingUp) {
  reads_ = {false, true};
  start(shell("head -c 370000 /dev/zero; echo written >&2"));
  auto timer = loop_->timer([this] { read_ends_[0].close(); }).value();
  timer.arm(std::chrono::seconds(1));
  EXPECT_EQ(finish().status, 0);
  EXPECT_EQ(err_, "written\n");
}

TEST_F(SessionFixture, OutputThatCannotBeWrittenIsTold) {
  given_out_ = Fd(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const CommandEnd& end = run({"sh", "-c", "echo text"});
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.output_error, ENOSPC);
}

TEST_F(SessionFixture, WhatACommandLeavesBehindDoesNotHoldUpItsEnd) {
  EXPECT_EQ(run({"sh", "-c", "(while sleep 1; do echo late; done) & echo done; exit 7"}).status, 7);
  EXPECT_THAT(out_, HasSubstr("done\n"));
}

TEST_F(SessionFixture, OutputThatLooksLikeAFrameIsOutput) {
  std::vector<std::byte> frame;
  const wick_exit exit{};
  append_frame(frame, WICK_FRAME_EXIT, 0, as_bytes(&exit, sizeof(exit)));
  std::string octal;
  for (const std::byte byte : frame) octal += fmt::format("\\{:03o}", std::to_integer<int>(byte));
  EXPECT_EQ(run({"sh", "-c", "printf '" + octal + "'; exit 9"}).status, 9);
  EXPECT_EQ(out_.size(), frame.size());
}

// --- signals and the terminal ---

TEST_F(SessionFixture, ASignalReachesTheCommandsProcessGroup) {
  start(shell("trap 'echo got it; exit 5' TERM; sleep 100 & wait"));
  when_started_ = [this] {
    // The shell has set its trap by then.
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    EXPECT_TRUE(session_->send_signal(SIGTERM));
  };
  EXPECT_EQ(finish().status, 5);
  EXPECT_EQ(out_, "got it\n");
}

TEST_F(SessionFixture, ThereIsNothingToSignalBeforeTheStartAndAfterTheEnd) {
  start(plan_of({"true"}));
  EXPECT_FALSE(session_->send_signal(SIGTERM));
  finish();
  EXPECT_FALSE(session_->send_signal(SIGTERM));
}

Plan on_terminal(const std::string& script, bool separate_stderr) {
  Plan plan;
  plan.open_port(WICK_PORT_NAME).terminal({.columns = 100, .rows = 40}, separate_stderr);
  plan.environment(std::vector<std::string>{"PATH=/usr/bin:/bin"});
  plan.command(std::vector<std::string>{"sh", "-c", script});
  return plan;
}

TEST_F(SessionFixture, ATerminalHasTheCallersSizeAndControlsTheSession) {
  start(on_terminal("test -t 0 && test -t 1 && test -t 2 && stty size </dev/tty; echo oops >&2",
                    false));
  EXPECT_EQ(finish().status, 0);
  EXPECT_EQ(out_, "40 100\r\noops\r\n");
}

TEST_F(SessionFixture, StderrMayBeApartFromTheTerminal) {
  start(on_terminal("test -t 1 && ! test -t 2 && echo apart >&2", true));
  EXPECT_EQ(finish().status, 0);
  EXPECT_EQ(err_, "apart\n");
}

TEST_F(SessionFixture, ATerminalTurnsCtrlCIntoASignal) {
  start(on_terminal("exec sleep 100", false));
  when_started_ = [this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    session_->type(std::as_bytes(std::span("\x03", 1)));
  };
  EXPECT_EQ(finish().status, 128 + SIGINT);
}

TEST_F(SessionFixture, ANewSizeReachesTheTerminal) {
  start(on_terminal("trap 'stty size; exit 0' WINCH; while :; do sleep 0.1; done", false));
  when_started_ = [this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    session_->resize({.columns = 33, .rows = 22});
  };
  finish();
  EXPECT_EQ(out_, "22 33\r\n");
}

// --- a hostile guest ---

class HostileGuest : public testing::Test, public console::Guest {
 protected:
  HostileGuest() : loop_(EventLoop::create().value()) {
    session_ =
        Session::create(*loop_, {}, {.started = {}, .ended = [this] { ++ends_; }, .typed = {}})
            .value();
    session_->connect(*this);
  }
  size_t input(std::span<const std::byte> bytes) override { return takes_ ? bytes.size() : 0; }
  void send_break() override {}

  void say(wick_frame_type type, uint8_t stream = 0, Payload payload = {}) {
    std::vector<std::byte> bytes;
    append_frame(bytes, type, stream, payload);
    session_->write(bytes);
  }
  void say(wick_frame_type type, uint32_t number, uint8_t stream = 0) {
    say(type, stream, as_bytes(&number, sizeof(number)));
  }
  void greet() {
    say(WICK_FRAME_HELLO, uint32_t{WICK_PROTOCOL_VERSION});
    say(WICK_FRAME_STARTED);
  }
  std::string failure() const {
    if (!session_->end() || session_->end()->kind != Kind::kFailed) return "no failure";
    return session_->end()->message;
  }

  const std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Session> session_;
  bool takes_ = true;
  int ends_ = 0;
};

TEST_F(HostileGuest, CannotEndACommandThatNeverStarted) {
  const wick_exit exit{};
  say(WICK_FRAME_HELLO, uint32_t{WICK_PROTOCOL_VERSION});
  say(WICK_FRAME_EXIT, 0, as_bytes(&exit, sizeof(exit)));
  EXPECT_THAT(failure(), HasSubstr("at the wrong time"));
  EXPECT_EQ(ends_, 1);
}

TEST_F(HostileGuest, CannotGreetTwiceOrInAnotherVersion) {
  say(WICK_FRAME_HELLO, uint32_t{WICK_PROTOCOL_VERSION + 1});
  EXPECT_THAT(failure(), HasSubstr("version 2, not 1"));
}

TEST_F(HostileGuest, CannotExceedAWindow) {
  greet();
  const std::vector<std::byte> data(WICK_MAX_PAYLOAD_BYTES);
  // Nobody takes the credit that wick gives back for these streams.
  takes_ = false;
  for (int i = 0; i < 10'000 && ends_ == 0; ++i) say(WICK_FRAME_DATA, WICK_STDOUT, data);
  EXPECT_EQ(ends_, 0) << "output that is dropped is taken at any rate";
  say(WICK_FRAME_CREDIT, 1, WICK_STDIN);
  EXPECT_THAT(failure(), HasSubstr("credit that it never took"));
}

TEST_F(HostileGuest, CannotClaimAStatusThatIsNone) {
  greet();
  const wick_exit exit{
      .status = 256, .signal = 0, .user_us = 0, .system_us = 0, .max_resident_kib = 0};
  say(WICK_FRAME_EXIT, 0, as_bytes(&exit, sizeof(exit)));
  EXPECT_THAT(failure(), HasSubstr("status 256"));
}

TEST_F(HostileGuest, CannotChangeTheEnd) {
  greet();
  wick_exit exit{.status = 1, .signal = 0, .user_us = 0, .system_us = 0, .max_resident_kib = 0};
  say(WICK_FRAME_EXIT, 0, as_bytes(&exit, sizeof(exit)));
  exit.status = 0;
  say(WICK_FRAME_EXIT, 0, as_bytes(&exit, sizeof(exit)));
  say(WICK_FRAME_DATA, WICK_STDIN, {});
  EXPECT_EQ(session_->end()->status, 1);
  EXPECT_EQ(ends_, 1);
}

TEST(FrameReader, TakesFramesInPiecesOfAnySize) {
  std::vector<std::byte> bytes;
  const std::string text = "some text";
  for (int i = 0; i < 5; ++i)
    append_frame(bytes, WICK_FRAME_DATA, WICK_STDERR, as_bytes(text.data(), text.size()));
  for (const size_t piece : {1u, 3u, 8u, 17u, 1000u}) {
    FrameReader reader;
    int frames = 0;
    for (size_t at = 0; at < bytes.size(); at += piece)
      ASSERT_TRUE(reader.feed(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)),
                              [&](const wick_frame& frame, Payload payload) -> Result<void> {
                                ++frames;
                                EXPECT_EQ(frame.stream, WICK_STDERR);
                                EXPECT_EQ(payload.size(), text.size());
                                return {};
                              }));
    EXPECT_EQ(frames, 5);
  }
}

TEST(FrameReader, RefusesFramesThatAreNotTheGuests) {
  const wick_frame wrong[] = {
      {.type = 0, .stream = 0, .reserved = 0, .length = 0},
      {.type = WICK_FRAME_EOF, .stream = 0, .reserved = 0, .length = 0},
      {.type = WICK_FRAME_SIGNAL, .stream = 0, .reserved = 0, .length = 4},
      {.type = WICK_FRAME_DATA, .stream = WICK_STDIN, .reserved = 0, .length = 1},
      {.type = WICK_FRAME_DATA, .stream = 3, .reserved = 0, .length = 1},
      {.type = WICK_FRAME_DATA, .stream = WICK_STDOUT, .reserved = 0, .length = 0},
      {.type = WICK_FRAME_DATA, .stream = WICK_STDOUT, .reserved = 1, .length = 1},
      {.type = WICK_FRAME_DATA,
       .stream = WICK_STDOUT,
       .reserved = 0,
       .length = WICK_MAX_PAYLOAD_BYTES + 1},
      {.type = WICK_FRAME_EXIT, .stream = 0, .reserved = 0, .length = 0xffff'ffff},
      {.type = WICK_FRAME_HELLO, .stream = 1, .reserved = 0, .length = 4},
      {.type = WICK_FRAME_CREDIT, .stream = WICK_STDOUT, .reserved = 0, .length = 4},
  };
  for (const wick_frame& frame : wrong)
    EXPECT_FALSE(FrameReader().feed(as_bytes(&frame, sizeof(frame)), [](const wick_frame&,
                                                                        Payload) {
      return Result<void>();
    })) << int{frame.type};
}

}  // namespace
}  // namespace wick::guest

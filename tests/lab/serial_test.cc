// Where the serial ports go: terminals, sockets, files.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <termios.h>

#include <csignal>
#include <cstring>

#include "tests/lab/tiny.h"

namespace wick::lab {
namespace {

using guests::Code;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kEscape = "\x1d";  // Ctrl-]

std::string unix_spec(const TempDir& dir) { return "unix:" + (dir / "serial"); }

// --- stdio ------------------------------------------------------------------

bool is_raw(int terminal) {
  termios modes{};
  EXPECT_EQ(::tcgetattr(terminal, &modes), 0);
  return (modes.c_lflag & (ICANON | ECHO | ISIG)) == 0;
}

TEST(Terminal, BelongsToTheGuestExceptForTheEscapeKeys) {
  const TempDir dir;
  Process vm(wick_run({"-k", image("bzImage"), "-a", "quiet", "-d", alpine_disk(dir)}),
             Stdio::kTerminal);
  Dialogue& console = vm.console();
  EXPECT_FALSE(is_raw(console.fd()));
  log_in(console);
  EXPECT_TRUE(is_raw(console.fd()));
  EXPECT_EQ(run_in_guest(console, "tty"), "/dev/ttyS0");

  // Ctrl-C interrupts the guest's program and not wick. The process that prints "started" is
  // already in the foreground; a program that the shell starts after an echo may not be.
  console.send("sh -c \"echo star''ted; exec sleep 1000\"\n");
  console.expect("started");
  console.send("\x03");
  EXPECT_NE(ask(console, "true").output, "nothing");

  // A BREAK and a letter are SysRq.
  console.send(std::string(kEscape) + "b");
  console.send("h");
  console.expect("sysrq: HELP");
  console.send("\n");
  console.expect(":~# ");

  console.send(std::string(kEscape) + "?");
  console.expect("send a BREAK");

  console.send(std::string(kEscape) + "q");
  expect_ending(vm, 0, "wick: ended by the user");
  EXPECT_FALSE(is_raw(console.fd()));
}

class TerminalSignal : public testing::TestWithParam<int> {};

TEST_P(TerminalSignal, LeavesTheTerminalAsItWas) {
  const TempDir dir;
  Process vm(run_tiny(dir, Code().print("running").spin()), Stdio::kTerminal);
  vm.console().expect("running");
  EXPECT_TRUE(is_raw(vm.console().fd()));
  vm.signal(GetParam());
  EXPECT_EQ(vm.wait(), GetParam() == SIGSEGV ? -SIGSEGV : 128 + GetParam());
  EXPECT_FALSE(is_raw(vm.console().fd()));
}

INSTANTIATE_TEST_SUITE_P(Serial, TerminalSignal, testing::Values(SIGINT, SIGTERM, SIGHUP, SIGSEGV),
                         [](const auto& test) { return std::string(::sigabbrev_np(test.param)); });

TEST(Terminal, IsRestoredAtTheGuestsEnd) {
  const TempDir dir;
  Process vm(run_tiny(dir, Code().print("running").echo_until('x').reset()), Stdio::kTerminal);
  vm.console().expect("running");
  vm.console().send("abcx");
  vm.console().expect("abcx");
  expect_ending(vm, 0, "wick: the guest rebooted");
  EXPECT_FALSE(is_raw(vm.console().fd()));
}

TEST(Stdio, OfAReaderThatGoesAwayIsNotTheEnd) {
  const TempDir dir;
  Process vm(run_tiny(dir, Code().print("first\n").echo_until('x').print("second\n").reset(),
                      {"-s", "stdio,log=" + (dir / "log")}));
  vm.console().expect("first\n");
  vm.console().send("abcx");
  await_in_file(dir / "log", "abc");
  vm.console().hang_up();
  expect_ending(vm, 0, "wick: the guest rebooted");
  EXPECT_EQ(read_file(dir / "log"), "first\nabcxsecond\n");
}

TEST(Stdio, WithoutInputStillShowsTheGuest) {
  const TempDir dir;
  const Finished run = finish(run_tiny(dir, Code().print("hello\n").reset()));
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.out, "hello\n");
  EXPECT_EQ(run.err, "wick: the guest rebooted\n");
}

TEST(Stdio, TakesInputFromAFile) {
  const TempDir dir;
  write_file(dir / "keys", "typed beforehand.");
  const Finished run =
      finish({"sh", "-c", "exec \"$@\" <" + (dir / "keys"), "sh", WICK_BINARY, "run", "-k", [&] {
                write_file(dir / "kernel", guests::bzimage(Code().echo_until('.').reset()));
                return dir / "kernel";
              }()});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "typed beforehand.");
}

// --- the Unix socket --------------------------------------------------------

TEST(SerialSocket, LetsClientsComeAndGo) {
  const TempDir dir;
  const std::string path = dir / "serial";
  Process vm(wick_run({"-k", image("bzImage"), "-a", "loglevel=6", "-d", alpine_disk(dir), "-s",
                       unix_spec(dir) + ",log=" + (dir / "log")}));
  await_in_file(dir / "log", "login: ");
  {
    Process attach(wick({"attach", path}), Stdio::kTerminal);
    // Output from before the first client is played back.
    attach.console().expect("Linux version 6.1.");
    log_in(attach.console());
    (void)run_in_guest(attach.console(), "word=kept");

    // Only one client at a time; the other one is told why.
    Process second(wick({"attach", path}));
    EXPECT_EQ(second.wait(), 1);
    EXPECT_THAT(second.console().transcript(),
                AllOf(StartsWith(fmt::format("wick: refused: process {} ", attach.pid())),
                      HasSubstr(path)));
    EXPECT_THAT(second.errors(), HasSubstr("another client is attached"));
    Dialogue third = Dialogue::connect(path);
    third.expect("wick: refused: ");
    (void)third.expect_end();
    EXPECT_EQ(run_in_guest(attach.console(), "echo unharmed"), "unharmed");

    attach.console().send(kEscape);
    EXPECT_EQ(attach.wait(), 0);
    EXPECT_THAT(attach.errors(), EndsWith("the machine keeps running\n"));
    EXPECT_FALSE(is_raw(attach.console().fd()));
  }
  {
    Process again(wick({"attach", path}), Stdio::kTerminal);
    EXPECT_EQ(run_in_guest(again.console(), "echo $word"), "kept");
    // Output that the first client has seen is not played back.
    EXPECT_THAT(again.console().transcript(), Not(HasSubstr("Linux version")));
    again.console().send(kEscape);
    EXPECT_EQ(again.wait(), 0);
  }
  {
    // In a script: commands in, answers out, and attach ends by itself.
    Process script(wick({"attach", path}));
    script.console().send("echo $word from a script\n");
    script.console().close_output();
    EXPECT_EQ(script.wait(), 0);
    EXPECT_THAT(script.console().transcript(), HasSubstr("kept from a script\r\n"));
  }
  {
    Process socat({"socat", "file:/dev/tty,raw,echo=0", "unix:" + path}, Stdio::kTerminal);
    EXPECT_EQ(run_in_guest(socat.console(), "echo $word by socat"), "kept by socat");
    socat.signal(SIGTERM);
    (void)socat.wait();
  }
  Process last(wick({"attach", path}), Stdio::kTerminal);
  last.console().send("\n");
  last.console().expect(":~# ");
  last.console().send("poweroff\n");
  expect_ending(vm, 0, "wick: the guest powered off");
  EXPECT_EQ(last.wait(), 0);
  EXPECT_THAT(last.errors(), EndsWith("the machine closed the connection\n"));
  EXPECT_FALSE(exists(path));
}

TEST(SerialSocket, WorksWithSocatFromTheLoginOn) {
  const TempDir dir;
  Process vm(wick_run({"-k", image("bzImage"), "-a", "quiet", "-d", alpine_disk(dir), "-s",
                       unix_spec(dir), "-m", "256M"}));
  while (!exists(dir / "serial") && vm.running()) vm.console().listen(10);
  Process socat({"socat", "file:/dev/tty,raw,echo=0", "unix:" + (dir / "serial")},
                Stdio::kTerminal);
  log_in(socat.console(), "student", "student");
  EXPECT_EQ(run_in_guest(socat.console(), "id -un; pwd"), "student\n/home/student");
  EXPECT_EQ(run_in_guest(socat.console(), "seq 1 3000 | md5sum"),
            finish({"sh", "-c", "seq 1 3000 | md5sum"}).out.substr(0, 35));
  EXPECT_EQ(run_in_guest(socat.console(), "seq 1 3000 | tail -n 1"), "3000");
  // Nothing is lost on the way.
  std::string numbers;
  for (int i = 1; i <= 3000; ++i) numbers += fmt::format("{}{}", i == 1 ? "" : "\n", i);
  EXPECT_EQ(run_in_guest(socat.console(), "seq 1 3000"), numbers);
  vm.signal(SIGTERM);
  expect_ending(vm, 143, "wick: ended by signal 15 (SIGTERM)");
  EXPECT_FALSE(exists(dir / "serial"));
}

TEST(SerialSocket, ClientThatStopsReadingDoesNotStopTheGuest) {
  const TempDir dir;
  Code code;
  code.echo_until('g');
  const Code::Label loop = code.repeat(8'000);
  code.print("twenty bytes a line\n").end_repeat(loop).reset();
  Process vm(run_tiny(dir, code, {"-s", unix_spec(dir)}));
  while (!exists(dir / "serial") && vm.running()) vm.console().listen(10);
  Dialogue client = Dialogue::connect(dir / "serial");
  client.send("g");
  // The client never reads; the guest writes 160 kB and ends.
  const std::string errors = expect_ending(vm, 0, "wick: the guest rebooted");
  EXPECT_THAT(errors, HasSubstr("were dropped"));
}

TEST(SerialSocket, PlaysTheLast64KiBToItsFirstClient) {
  const TempDir dir;
  Code code;
  code.print("BEGINNING");
  const Code::Label loop = code.repeat(5000);
  code.print("sixteen bytes..\n").end_repeat(loop).print("END\n").echo_until('x').reset();
  Process vm(run_tiny(dir, code, {"-s", unix_spec(dir) + ",log=" + (dir / "log")}));
  await_in_file(dir / "log", "END\n");
  Dialogue client = Dialogue::connect(dir / "serial");
  client.send("x");
  const std::string played = client.expect_end();
  EXPECT_EQ(played.size(), (64 << 10) + 1u);
  EXPECT_THAT(played, AllOf(Not(HasSubstr("BEGINNING")), EndsWith("sixteen bytes..\nEND\nx")));
  expect_ending(vm, 0, "wick: the guest rebooted");
  EXPECT_EQ(read_file(dir / "log").size(), 9 + 5000 * 16 + 5u);
}

TEST(SerialSocket, OfADeadMachineIsReplacedAndOfALiveOneIsNot) {
  const TempDir dir;
  const Code waits = Code().print("up\n").echo_until('x').reset();
  {
    Process killed(run_tiny(dir, waits, {"-s", unix_spec(dir)}));
    while (!exists(dir / "serial") && killed.running()) killed.console().listen(10);
    Dialogue::connect(dir / "serial").expect("up\n");
    killed.signal(SIGKILL);
    EXPECT_EQ(killed.wait(), -SIGKILL);
  }
  ASSERT_TRUE(exists(dir / "serial"));
  Process vm(run_tiny(dir, waits, {"-s", unix_spec(dir) + ",log=" + (dir / "log")}));
  await_in_file(dir / "log", "up\n");

  const Finished second = finish(run_tiny(dir, waits, {"-s", unix_spec(dir)}));
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.err,
              AllOf(StartsWith("wick: " + unix_spec(dir)), HasSubstr("another process")));

  // The live machine is not affected.
  Dialogue client = Dialogue::connect(dir / "serial");
  client.expect("up\n");
  client.send("x");
  expect_ending(vm, 0, "wick: the guest rebooted");
  EXPECT_FALSE(exists(dir / "serial"));
}

TEST(SerialSocket, LeavesAFileThatIsNotASocketAlone) {
  const TempDir dir;
  write_file(dir / "serial", "precious");
  const Finished run = finish(run_tiny(dir, Code().reset(), {"-s", unix_spec(dir)}));
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.err, HasSubstr("not a socket"));
  EXPECT_EQ(read_file(dir / "serial"), "precious");
}

TEST(Attach, WithoutAMachineSaysSo) {
  const TempDir dir;
  const Finished attach = finish(wick({"attach", dir / "serial"}));
  EXPECT_EQ(attach.status, 1);
  EXPECT_THAT(attach.err, StartsWith("wick: unix:" + (dir / "serial")));
}

// --- the other places -------------------------------------------------------

TEST(SerialPty, IsNamedAndCarriesBothDirections) {
  const TempDir dir;
  const Code code = Code().print("early ").echo_until('!').echo_until('x').reset();
  Process vm(run_tiny(dir, code, {"-s", "pty"}));
  vm.await_error("\n");
  const std::string said = vm.errors();
  ASSERT_THAT(said, StartsWith("wick: ttyS0 is at /dev/pts/"));
  const std::string path = said.substr(said.find("/dev/pts/"), said.find('\n') - said.find("/dev"));
  Fd terminal(::open(path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(terminal.valid()) << path << ": " << std::strerror(errno);
  Fd output(::fcntl(terminal.get(), F_DUPFD_CLOEXEC, 0));
  Dialogue client(std::move(terminal), std::move(output));
  client.expect("early ");
  client.send("there and back!");
  client.expect("there and back!");
  client.send("x");
  expect_ending(vm, 0, "wick: the guest rebooted");
}

TEST(SerialFile, GetsWhatTheGuestWrites) {
  const TempDir dir;
  write_file(dir / "file", "old content, longer than the new one");
  const Finished run = finish(run_tiny(dir, Code().print("hello\n").reset(),
                                       {"-s", "file:" + (dir / "file") + ",log=" + (dir / "log")}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(read_file(dir / "file"), "hello\n");
  EXPECT_EQ(read_file(dir / "log"), "hello\n");
}

TEST(SerialNull, IsSilentButLogs) {
  const TempDir dir;
  const Finished run =
      finish(run_tiny(dir, Code().print("hello\n").reset(), {"-s", "null,log=" + (dir / "log")}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(run.err, "wick: the guest rebooted\n");
  EXPECT_EQ(read_file(dir / "log"), "hello\n");
}

TEST(SerialPorts, AreFourAndEachHasItsOwnPlace) {
  const TempDir dir;
  Code code;
  code.print("one", 0x3f8).print("two", 0x2f8).print("three", 0x3e8).print("four", 0x2e8).reset();
  const Finished run = finish(run_tiny(dir, code,
                                       {"-s", "stdio", "-s", "file:" + (dir / "2"), "-s",
                                        "file:" + (dir / "3"), "-s", "null,log=" + (dir / "4")}));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "one");
  EXPECT_EQ(read_file(dir / "2"), "two");
  EXPECT_EQ(read_file(dir / "3"), "three");
  EXPECT_EQ(read_file(dir / "4"), "four");
}

TEST(SerialPorts, AreAllFoundByLinux) {
  const TempDir dir;
  Process vm(wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh",
                       "-s", "stdio", "-s", "file:" + (dir / "2"), "-s", unix_spec(dir)}));
  vm.console().expect("# ");
  (void)run_in_guest(vm.console(), "echo to the file >/dev/ttyS1");
  await_in_file(dir / "2", "to the file\r\n");
  Dialogue client = Dialogue::connect(dir / "serial");
  // Input before a port is open is lost, as on any PC.
  (void)run_in_guest(vm.console(), "exec 3<>/dev/ttyS2");
  vm.console().send("read -r line <&3; echo \"got $line\"\n");
  client.send("over there\n");
  vm.console().expect("got over there\r\n");
}

}  // namespace
}  // namespace wick::lab

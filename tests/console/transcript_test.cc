#include "console/transcript.h"

#include <gmock/gmock.h>

#include <thread>

#include "tests/console/fakes.h"

namespace wick::console {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string read(const Transcript& transcript, uint64_t position, size_t size) {
  std::string text(size, '\0');
  text.resize(transcript.read(position, std::as_writable_bytes(std::span(text))).size_bytes);
  return text;
}

TEST(Transcript, GivesBackWhatWasWritten) {
  Transcript transcript;
  EXPECT_EQ(transcript.end(), 0u);
  transcript.append(bytes("login: "));
  EXPECT_EQ(transcript.end(), 7u);
  EXPECT_EQ(read(transcript, 0, 100), "login: ");
  EXPECT_EQ(read(transcript, 5, 1), ":");
  EXPECT_EQ(read(transcript, 7, 100), "");
}

TEST(Transcript, KeepsTheLast64KiB) {
  Transcript transcript;
  std::string text;
  for (int i = 0; text.size() < Transcript::kKeptBytes + 1000; ++i) text += std::to_string(i);
  text.resize(Transcript::kKeptBytes + 1000);
  for (const char character : text) transcript.append(bytes({&character, 1}));
  EXPECT_EQ(transcript.oldest(), 1000u);
  std::string kept(Transcript::kKeptBytes, '\0');
  const auto extent = transcript.read(3, std::as_writable_bytes(std::span(kept)));
  EXPECT_EQ(extent.position, 1000u);
  EXPECT_EQ(extent.size_bytes, Transcript::kKeptBytes);
  EXPECT_EQ(kept, text.substr(1000));
}

TEST(Transcript, TellsAListenerOnce) {
  Transcript transcript;
  EXPECT_FALSE(transcript.append(bytes("a")));
  transcript.listen(true);
  EXPECT_TRUE(transcript.append(bytes("b")));
  EXPECT_FALSE(transcript.append(bytes("c")));
  transcript.listen(true);
  transcript.listen(false);
  EXPECT_FALSE(transcript.append(bytes("d")));
}

TEST(Transcript, SeesAPanicSplitOverWrites) {
  Transcript transcript;
  for (const char character : std::string_view("boot\r\n[    1.0] Kernel panic - not syncin")) {
    transcript.append(bytes({&character, 1}));
    EXPECT_FALSE(transcript.panicked());
  }
  transcript.append(bytes("g: VFS: Unable to mount root fs"));
  EXPECT_TRUE(transcript.panicked());
}

bool is_panic(std::string_view text) {
  Transcript transcript;
  transcript.append(bytes(std::string(text)));
  return transcript.panicked();
}

TEST(Transcript, PanicIsWhatPrintkWrites) {
  EXPECT_TRUE(is_panic("Kernel panic - not syncing: x\n"));
  EXPECT_TRUE(is_panic("\r\n[   12.345678] Kernel panic - not syncing: x\r\n"));
  EXPECT_TRUE(is_panic("[   12.345678][  T123] Kernel panic - not syncing: x\n"));
  EXPECT_TRUE(is_panic("<0>[   12.345678] Kernel panic - not syncing: x\n"));
  EXPECT_TRUE(is_panic("<0>Kernel panic - not syncing: x\n"));
  EXPECT_TRUE(is_panic("host login: [   12.345678] Kernel panic - not syncing: x\n"));
  EXPECT_FALSE(is_panic("# echo Kernel panic - not syncing\n"));
  EXPECT_FALSE(is_panic("grep: [log] Kernel panic - not syncing\n"));
  EXPECT_FALSE(is_panic(" Kernel panic - not syncing\n"));
}

TEST(Transcript, KernelThatCannotPanicYetHasOtherLastWords) {
  EXPECT_TRUE(is_panic("PANIC: early exception 0x0e IP 10:ffffffff81000110 error 0 cr2 0x0\n"));
  EXPECT_TRUE(is_panic("[    0.000000] PANIC: early exception 0x0d IP 10:0 error 0 cr2 0x0\n"));
  EXPECT_TRUE(is_panic("Out of memory while allocating output buffer\n\n -- System halted"));
  EXPECT_FALSE(is_panic("[   20.0] reboot: System halted\n"));
  EXPECT_FALSE(is_panic("# echo ' -- System halted'\n"));
}

TEST(Transcript, PanicTextBeforeAnOrderlyEndIsAUsers) {
  const std::string panic = "Kernel panic - not syncing: said a user\n";
  EXPECT_FALSE(is_panic(panic + "[   20.0] reboot: Restarting system\n"));
  EXPECT_FALSE(is_panic(panic + "[   20.0] reboot: System halted\n"));
  EXPECT_TRUE(is_panic(panic + "reboot: now\n"));
  // A crash kernel started after the panic, wrote its dump and rebooted in good order.
  EXPECT_TRUE(
      is_panic(panic + "[    0.0] Linux version 6.1.0\n[   20.0] reboot: Restarting system\n"));
}

TEST(Transcript, APanicBeforeAResetDoesNotCountAfterIt) {
  Transcript transcript;
  transcript.append(bytes("[    1.0] Kernel panic - not syncing: x\n"));
  transcript.append(bytes("[    2.0] Kernel panic - not syncing: a line without an end"));
  transcript.forget_panic();
  transcript.append(bytes("\n"));
  EXPECT_FALSE(transcript.panicked());
  // The kernel that starts now is no crash kernel, so an orderly end takes back what a user wrote.
  transcript.append(
      bytes("[    0.0] Linux version 6.1.0\nKernel panic - not syncing: a user\n"
            "[   20.0] reboot: Restarting system\n"));
  EXPECT_FALSE(transcript.panicked());
}

TEST(Transcript, RemembersAPanicThatWasOverwritten) {
  Transcript transcript;
  transcript.append(bytes("Kernel panic - not syncing: Attempted to kill init!"));
  transcript.append(bytes(std::string(Transcript::kKeptBytes, 'x')));
  EXPECT_TRUE(transcript.panicked());
}

TEST(Transcript, HasTheLastLines) {
  Transcript transcript;
  EXPECT_THAT(transcript.last_lines(20), IsEmpty());
  for (int i = 0; i < 30; ++i) transcript.append(bytes("line " + std::to_string(i) + "\r\n"));
  EXPECT_THAT(transcript.last_lines(3), ElementsAre("line 27", "line 28", "line 29"));
  transcript.append(bytes("\r\nlogin: "));
  EXPECT_THAT(transcript.last_lines(3), ElementsAre("line 29", "", "login: "));
  EXPECT_EQ(transcript.last_lines(20).size(), 20u);
}

TEST(Transcript, LeavesOutALineWhoseStartWasOverwritten) {
  Transcript transcript;
  transcript.append(bytes(std::string(2 * Transcript::kKeptBytes, 'x')));
  transcript.append(bytes("\nwhole\n"));
  EXPECT_THAT(transcript.last_lines(20), ElementsAre("whole"));
}

TEST(Transcript, LinesAreFitForATerminal) {
  EXPECT_EQ(plain_text("\x1b[1;31m*\x1b[0m Starting\x1b(B \x1b]0;title\x07now"), "* Starting now");
  EXPECT_EQ(plain_text("\x1b]0;title\x1b\\x\x1bPq\x1b\\y"), "xy");
  EXPECT_EQ(plain_text("10%\r20%\r\r"), "20%");
  EXPECT_EQ(plain_text("ab\b\bcd\b\b\b\be\x07\x7f\tf"), "e\tf");
  EXPECT_EQ(plain_text("\xc3\xa9t\xc3\xa9 \xc2\x9b"
                       "31m \xc2\xa9"),
            "\xc3\xa9t\xc3\xa9 31m \xc2\xa9");
  for (const std::string_view cut :
       {"a\x1b", "a\x1b[", "a\x1b[1;", "a\x1b]0", "a\x1b(", "a\x1b]\x1b"})
    EXPECT_EQ(plain_text(cut), "a");
}

TEST(Transcript, NothingThatATerminalObeysIsLeft) {
  constexpr std::string_view kAlphabet =
      "\x1b[];m\\\x07\r\b\xc2\x9b"
      "a";
  constexpr size_t kLength = 5;
  size_t combinations = 1;
  for (size_t i = 0; i < kLength; ++i) combinations *= kAlphabet.size();
  for (size_t n = 0; n < combinations; ++n) {
    std::string line;
    for (size_t i = 0, rest = n; i < kLength; ++i, rest /= kAlphabet.size())
      line.push_back(kAlphabet[rest % kAlphabet.size()]);
    const std::string clean = plain_text(line);
    ASSERT_FALSE(clean.contains("\xc2\x9b")) << ::testing::PrintToString(line);
    for (const char character : clean)
      ASSERT_GE(static_cast<unsigned char>(character), 0x20) << ::testing::PrintToString(line);
  }
}

TEST(Transcript, ManyThreadsWriteAndRead) {
  Transcript transcript;
  constexpr int kWriters = 4;
  constexpr int kWrites = 5000;
  std::vector<std::jthread> writers;
  for (int i = 0; i < kWriters; ++i) {
    writers.emplace_back([&] {
      for (int n = 0; n < kWrites; ++n) transcript.append(bytes("0123456789\n"));
    });
  }
  std::string text(1000, '\0');
  while (transcript.end() < uint64_t{kWriters} * kWrites * 11) {
    const auto extent = transcript.read(0, std::as_writable_bytes(std::span(text)));
    ASSERT_LE(extent.size_bytes, 1000u);
    for (const std::string& line : transcript.last_lines(2)) ASSERT_EQ(line, "0123456789");
    std::this_thread::yield();
  }
}

}  // namespace
}  // namespace wick::console

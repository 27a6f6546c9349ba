#include "debug/gdb_launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/process.h"
#include "tests/debug/elf_symbols.h"
#include "tests/fakes/temp_dir.h"

namespace wick::debug {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const auto kNothing = [](const std::string&) { return false; };

TEST(GdbLaunch, ConnectsWithoutSymbols) {
  EXPECT_THAT(gdb_words({.program = "/usr/bin/gdb", .target = "/run/wick/a/gdb"}, kNothing),
              ElementsAre("/usr/bin/gdb", "-ex", "set remotetimeout 30", "-ex",
                          "target remote /run/wick/a/gdb"));
}

TEST(GdbLaunch, LoadsTheVmlinuxBeforeItConnects) {
  EXPECT_THAT(gdb_words({.program = "gdb", .target = "localhost:1234", .vmlinux = "build/vmlinux"},
                        kNothing),
              ElementsAre("gdb", "-ex", "set remotetimeout 30", "-ex", "file \"build/vmlinux\"",
                          "-ex", "target remote localhost:1234"));
}

TEST(GdbLaunch, MovesTheSymbolsByTheSlide) {
  EXPECT_THAT(
      gdb_words({.program = "gdb", .target = "s", .vmlinux = "vmlinux", .slide = 0x1a00'0000},
                kNothing),
      Contains("with confirm off -- add-symbol-file \"vmlinux\" -o 0x1a000000"));
  EXPECT_THAT(
      gdb_words({.program = "gdb", .target = "s", .vmlinux = "vmlinux", .slide = 0}, kNothing),
      Contains("file \"vmlinux\""));
}

TEST(GdbLaunch, LoadsTheKernelsHelpersIfTheyAreBesideTheVmlinux) {
  std::vector<std::string> asked;
  const auto words = gdb_words({.program = "gdb", .target = "s", .vmlinux = "/build/vmlinux"},
                               [&](const std::string& path) {
                                 asked.push_back(path);
                                 return true;
                               });
  EXPECT_THAT(asked, ElementsAre("/build/vmlinux-gdb.py"));
  EXPECT_EQ(words.back(), "source /build/vmlinux-gdb.py") << "they want a connection";
  EXPECT_THAT(gdb_words({.program = "gdb", .target = "s", .vmlinux = "vmlinux"},
                        [](const std::string&) { return true; }),
              Contains("source ./vmlinux-gdb.py"));
}

TEST(GdbLaunch, AppendsTheUsersArguments) {
  const auto words = gdb_words({.program = "gdb", .target = "s", .arguments = {"-tui"}}, kNothing);
  EXPECT_EQ(words.back(), "-tui");
}

TEST(GdbLaunch, NoPathBecomesACommand) {
  const auto words =
      gdb_words({.program = "gdb", .target = "s", .vmlinux = "a\nshell touch x/vmlinux"}, kNothing);
  EXPECT_THAT(words, Not(Contains(HasSubstr("shell"))));
}

TEST(GdbLaunch, IsUnderstoodByGdb) {
  const fakes::TempDir dir;
  std::filesystem::create_directory(dir / "a \"b\" \\c");
  const std::string folder = "a \"b\" \\c/";
  const std::string vmlinux =
      dir.write(folder + "vmlinux",
                ElfSymbols({{"entry_SYSCALL_64", 0x1000}}, {{"current_task", 0x40}}).bytes());
  dir.write(folder + "vmlinux-gdb.py", "print('helpers from ' + __file__[-14:])");
  GdbLaunch launch{.program = "gdb",
                   .target = dir / "no-socket",
                   .vmlinux = vmlinux,
                   .slide = 0x20'0000,
                   .per_cpu_at_zero = true,
                   .arguments = {"-nx", "-batch", "-ex", "info address entry_SYSCALL_64", "-ex",
                                 "info address current_task"}};
  const auto exists = [](const std::string& path) { return std::filesystem::exists(path); };
  const auto outcome = run_process(gdb_words(launch, exists)).value();
  EXPECT_THAT(outcome.output, HasSubstr("Symbol \"entry_SYSCALL_64\" is at 0x201000"))
      << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("Symbol \"current_task\" is at 0x40 "));
  EXPECT_THAT(outcome.output, HasSubstr("helpers from vmlinux-gdb.py"));
}

}  // namespace
}  // namespace wick::debug

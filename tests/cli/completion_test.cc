// Completion, in the shells themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>

#include "tests/cli/help.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;
using ::testing::UnorderedElementsAre;
using Words = std::vector<std::string>;

Words lines_of(const std::string& text) {
  Words lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// In a folder with alpine.ext4 and guests/.
class Completion : public ::testing::Test {
 protected:
  Completion() {
    std::ofstream(folder_ / "alpine.ext4") << "x";
    std::filesystem::create_directory(folder_ / "guests");
  }

  std::string in_folder(const std::string& command) const {
    return output_of("cd " + folder_.string() + " && " + command);
  }

  // `words` as bash has split them; the last one is completed.
  Words bash(const Words& words) const {
    std::string command =
        "bash --norc -c 'source <(\"$0\" --completion bash); COMP_WORDS=(\"$@\");"
        " COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _wick; printf \"%s\\n\" "
        "\"${COMPREPLY[@]}\"' " WICK_BINARY;
    for (const std::string& word : words) command += " '" + word + "'";
    Words replies = lines_of(in_folder(command));
    std::erase(replies, "");  // printf's, when there is none
    return replies;
  }

  // The line when Tab is pressed behind `line`. The key ^G writes it down.
  std::string bash_line(const std::string& line) const {
    std::ofstream(folder_ / "bashrc") << "source <(" WICK_BINARY
                                         " --completion bash)\n"
                                         "show() { printf '%s\\n' \"$READLINE_LINE\" >shown; }\n"
                                         "bind -x '\"\\C-g\": show'\n"
                                         "PS1='ready>'\n";
    std::ofstream(folder_ / "zsh") << "zmodload zsh/zpty\n"
                                      "zpty z bash --noprofile --rcfile bashrc -i\n"
                                      "zpty -r z text '*ready>*'\n"
                                      "zpty -w -n z $'" +
                                          line +
                                          "\\t\\x07'\n"
                                          "until [[ -s shown ]]; do sleep 0.1; done\n"
                                          "zpty -d z\n";
    in_folder("timeout 60 zsh -f zsh >/dev/null; true");
    std::string shown;
    std::getline(std::ifstream(folder_ / "shown"), shown);
    std::filesystem::remove(folder_ / "shown");
    return shown;
  }

  // Descriptions are left out.
  Words fish(const std::string& line) const {
    Words replies = lines_of(in_folder("HOME=" + folder_.string() +
                                       " fish --no-config -c '" WICK_BINARY
                                       " --completion fish | source; complete -C \"" +
                                       line + "\"'"));
    for (std::string& reply : replies) reply = reply.substr(0, reply.find('\t'));
    return replies;
  }

  // What becomes of the line when Tab is pressed. The key ^X writes it down.
  std::string zsh(const std::string& line) const {
    std::ofstream(folder_ / "zsh") << "zmodload zsh/zpty\n"
                                      "zpty z zsh -f -i\n"
                                      "zpty -w z 'PS1=; autoload -Uz compinit; compinit -u -D'\n"
                                      "zpty -w z 'source <(" WICK_BINARY
                                      " --completion zsh)'\n"
                                      "zpty -w z 'show() { print -r -- $BUFFER >shown; exit }'\n"
                                      "zpty -w z 'zle -N show; bindkey \"^X\" show; echo ready'\n"
                                      "zpty -r z text '*ready*ready*'\n"
                                      "zpty -w -n z $'" +
                                          line + "\\t\\x18'\n" + "zpty -r z text '*never*'\n";
    in_folder("HOME=" + folder_.string() + " timeout 60 zsh -f zsh >/dev/null; true");
    std::string shown;
    std::getline(std::ifstream(folder_ / "shown"), shown);
    std::filesystem::remove(folder_ / "shown");
    return shown;
  }

  const fakes::TempDir temp_{::testing::TempDir()};
  const std::filesystem::path folder_ = temp_.path();
};

TEST_F(Completion, OfBashKnowsCommandsAndOptions) {
  EXPECT_THAT(bash({"wick", ""}),
              UnorderedElementsAre("run", "exec", "attach", "image", "net", "doctor", "help",
                                   "start", "list", "info", "console", "logs", "wait", "shutdown",
                                   "reboot", "reset", "destroy", "suspend", "resume", "blockresize",
                                   "screenshot", "monitor", "gdb", "define", "undefine"));
  EXPECT_THAT(bash({"wick", "--c"}), ElementsAre("--completion"));
  EXPECT_THAT(bash({"wick", "image", "c"}),
              UnorderedElementsAre("create", "check", "convert", "commit", "compare"));
  EXPECT_THAT(bash({"wick", "help", "image", "am"}), ElementsAre("amend"));
  EXPECT_THAT(bash({"wick", "run", "-"}), IsSupersetOf({"-k", "--kernel", "--on-reboot", "-v"}));
  EXPECT_THAT(bash({"wick", "run", "-k", "bzImage", "--mem"}), ElementsAre("--memory"));
}

// All that the help names, for each command.
TEST_F(Completion, OfBashIsAsCompleteAsTheHelp) {
  static const std::regex option(R"((?:\n  |,)(-[-\w]+)(?=[ ,]))");
  for (const std::string& command : all_commands()) {
    std::istringstream stream(command);
    Words words((std::istream_iterator<std::string>(stream)), {});
    words.emplace_back("-");
    const Words replies = bash(words);
    const std::string help = help_of(command);
    for (std::sregex_iterator match(help.begin(), help.end(), option), end; match != end; ++match)
      EXPECT_THAT(replies, Contains((*match)[1].str())) << command;
  }
}

TEST_F(Completion, OfBashKnowsTheWordsThatAnOptionTakes) {
  EXPECT_THAT(bash({"wick", "image", "create", "-f", ""}), ElementsAre("raw", "qcow2"));
  EXPECT_THAT(bash({"wick", "image", "create", "--format", "=", "q"}), ElementsAre("qcow2"));
  EXPECT_THAT(bash({"wick", "image", "create", "--format="}),
              ElementsAre("--format=raw", "--format=qcow2"));
  EXPECT_THAT(bash({"wick", "run", "--log-level", "de"}), ElementsAre("debug"));
  EXPECT_THAT(bash({"wick", "run", "--cmdline", ""}), ElementsAre());
  EXPECT_THAT(bash({"wick", "--completion", ""}), ElementsAre("bash", "zsh", "fish"));
}

TEST_F(Completion, OfBashKnowsTheKeysOfASpec) {
  EXPECT_THAT(bash({"wick", "run", "-d", "a.img,ca"}),
              ElementsAre("a.img,cache=", "a.img,cache-size="));
  EXPECT_THAT(bash({"wick", "run", "-d", "a.img,cache", "=", "n"}), ElementsAre("none"));
  EXPECT_THAT(bash({"wick", "run", "-d", "a.img,format", "=", "raw,dev"}),
              ElementsAre("raw,device="));
  EXPECT_THAT(bash({"wick", "run", "-n", "ta"}), ElementsAre("tap"));
  EXPECT_THAT(bash({"wick", "run", "-n", "user,mt"}), ElementsAre("user,mtu="));
  EXPECT_THAT(bash({"wick", "run", "-s", ""}),
              UnorderedElementsAre("stdio", "pty", "null", "unix:", "file:"));
  EXPECT_THAT(bash({"wick", "image", "create", "-o", "lazy_"}), ElementsAre("lazy_refcounts="));
  EXPECT_THAT(bash({"wick", "image", "create", "-o", "lazy_refcounts", "=", ""}),
              ElementsAre("on", "off"));
}

TEST_F(Completion, OfBashKnowsWhereFilesGo) {
  EXPECT_THAT(bash({"wick", "run", "-k", "al"}), ElementsAre("alpine.ext4"));
  EXPECT_THAT(bash({"wick", "run", "-d", ""}), UnorderedElementsAre("alpine.ext4", "guests"));
  EXPECT_THAT(bash({"wick", "run", "-d", "x,data-file", "=", "al"}), ElementsAre("alpine.ext4"));
  EXPECT_THAT(bash({"wick", "run", "-s", "file", ":", "al"}), ElementsAre("alpine.ext4"));
  EXPECT_THAT(bash({"wick", "image", "info", "al"}), ElementsAre("alpine.ext4"));
  EXPECT_THAT(bash({"wick", "image", "dd", "if", "=", "al"}), ElementsAre("alpine.ext4"));
  EXPECT_THAT(bash({"wick", "attach", "gu"}), ElementsAre("guests"));
}

// Without starting wick.
TEST_F(Completion, KnowsTheNamesOfMachines) {
  for (const char* const name : {"web", "web-2", "net"}) {
    std::filesystem::create_directories(folder_ / "run" / name);
    std::ofstream(folder_ / "run" / name / "lock") << "";
  }
  std::filesystem::create_directories(folder_ / "run" / "no-machine");
  std::filesystem::create_directories(folder_ / "config/wick");
  std::ofstream(folder_ / "config/wick/db.toml") << "";
  std::ofstream(folder_ / "config/wick/web.toml") << "";
  ::setenv("WICK_RUNTIME_DIR", (folder_ / "run").c_str(), 1);
  ::setenv("XDG_CONFIG_HOME", (folder_ / "config").c_str(), 1);
  EXPECT_THAT(bash({"wick", "console", ""}), UnorderedElementsAre("db", "web", "web-2"));
  EXPECT_THAT(bash({"wick", "start", "d"}), ElementsAre("db"));
  EXPECT_THAT(bash({"wick", "shutdown", "--timeout", "5", "web-"}), ElementsAre("web-2"));
  EXPECT_THAT(bash({"wick", "start", "web", "--on-r"}), ElementsAre("--on-reboot"));
  EXPECT_THAT(bash({"wick", "start", "web", "-k", "al"}), ElementsAre("alpine.ext4"));
  EXPECT_THAT(bash({"wick", "net", "up", "w"}), ElementsAre());
  EXPECT_THAT(fish("wick console "), UnorderedElementsAre("db", "web", "web-2"));
  EXPECT_THAT(fish("wick start d"), ElementsAre("db"));
  EXPECT_EQ(zsh("wick start d"), "wick start db ");
  EXPECT_EQ(zsh("wick console web-"), "wick console web-2 ");
  ::unsetenv("WICK_RUNTIME_DIR");
  ::unsetenv("XDG_CONFIG_HOME");
}

// A file's name may be a stranger's.
TEST_F(Completion, OfFilesInsertsNoCommandsAndNoKeys) {
  std::ofstream(folder_ / "hostile$(touch ran)") << "x";
  const std::string quoted = "hostile\\$\\(touch\\ ran\\)";
  EXPECT_THAT(bash_line("wick run -k hos"), testing::StartsWith("wick run -k " + quoted));
  EXPECT_THAT(bash_line("wick run -s file:hos"), testing::StartsWith("wick run -s file:" + quoted));
  EXPECT_THAT(zsh("wick run -s file:hos"), testing::StartsWith("wick run -s file:" + quoted));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "ran"));

  std::ofstream(folder_ / "alpine.ext4,backing=any") << "x";
  EXPECT_THAT(bash({"wick", "run", "-d", "al"}), ElementsAre("alpine.ext4"));
  EXPECT_THAT(fish("wick run -d al"), ElementsAre("alpine.ext4"));
  EXPECT_EQ(zsh("wick run -d al"), "wick run -d alpine.ext4");
  EXPECT_THAT(bash({"wick", "run", "-k", "al"}),
              UnorderedElementsAre("alpine.ext4", "alpine.ext4,backing=any"));
}

TEST_F(Completion, OfFishCompletes) {
  EXPECT_THAT(fish("wick "), IsSupersetOf({"run", "attach", "image", "net", "doctor", "help"}));
  EXPECT_THAT(fish("wick image am"), ElementsAre("amend"));
  EXPECT_THAT(fish("wick run --on-r"), ElementsAre("--on-reboot"));
  EXPECT_THAT(fish("wick image create -f "), UnorderedElementsAre("raw", "qcow2"));
  EXPECT_THAT(fish("wick run -d a.img,cache=n"), ElementsAre("a.img,cache=none"));
  EXPECT_THAT(fish("wick run -d a.img,data"), ElementsAre("a.img,data-file="));
  EXPECT_THAT(fish("wick run -k al"), ElementsAre("alpine.ext4"));
  EXPECT_THAT(fish("wick image info al"), ElementsAre("alpine.ext4"));
  EXPECT_THAT(fish("wick image dd if=al"), ElementsAre("if=alpine.ext4"));
}

TEST_F(Completion, OfZshCompletes) {
  EXPECT_EQ(zsh("wick at"), "wick attach ");
  EXPECT_EQ(zsh("wick image am"), "wick image amend ");
  EXPECT_EQ(zsh("wick run --on-r"), "wick run --on-reboot=");
  EXPECT_EQ(zsh("wick image create -f q"), "wick image create -f qcow2 ");
  EXPECT_EQ(zsh("wick run -d a.img,cache=n"), "wick run -d a.img,cache=none");
  EXPECT_EQ(zsh("wick run -d a.img,data"), "wick run -d a.img,data-file=");
  EXPECT_EQ(zsh("wick run -k al"), "wick run -k alpine.ext4 ");
  EXPECT_EQ(zsh("wick image dd if=al"), "wick image dd if=alpine.ext4 ");
}

}  // namespace
}  // namespace wick::cli

#include "base/process.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/printable.h"
#include "base/write_all.h"

namespace wick {

namespace {

constexpr const char* kSbinFolders = "/usr/local/sbin:/usr/sbin:/sbin";

struct Package {
  std::string_view program;
  const char* name;
};
constexpr Package kPackages[] = {{"ip", "iproute2"},          {"nft", "nftables"},
                                 {"iptables", "iptables"},    {"iptables-restore", "iptables"},
                                 {"dnsmasq", "dnsmasq-base"}, {"mke2fs", "e2fsprogs"}};

bool is_program(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         ::access(path.c_str(), X_OK) == 0;
}

Result<Fd> memory_file(const std::string& text) {
  Fd fd(::memfd_create("wick", MFD_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "memfd_create: cannot create a file in memory");
  if (const int error = write_all(fd.get(), text); error != 0)
    return fail_errno(error, "memfd: cannot write");
  ::lseek(fd.get(), 0, SEEK_SET);
  return fd;
}

std::string contents(const Fd& fd) {
  std::string text;
  std::array<char, 4096> buffer;
  while (true) {
    const ssize_t got =
        ::pread(fd.get(), buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
}

// Returns wick's environment, but with LC_ALL=C, so that messages are not translated.
std::vector<char*> child_environment() {
  static char c_locale[] = "LC_ALL=C";
  std::vector<char*> variables;
  for (char** variable = environ; *variable != nullptr; ++variable)
    if (std::strncmp(*variable, "LC_ALL=", 7) != 0) variables.push_back(*variable);
  variables.push_back(c_locale);
  variables.push_back(nullptr);
  return variables;
}

bool needs_no_quotes(const std::string& word) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("@%+=:,./-_").find(c) != std::string_view::npos;
  };
  return !word.empty() && std::ranges::all_of(word, plain);
}

}  // namespace

Result<std::string> find_program(const std::string& name) {
  const char* const path = std::getenv("PATH");
  std::string folders = fmt::format("{}:{}", path != nullptr ? path : "", kSbinFolders);
  for (size_t start = 0; start <= folders.size();) {
    const size_t end = std::min(folders.find(':', start), folders.size());
    const std::string candidate = folders.substr(start, end - start) + "/" + name;
    if (candidate.front() == '/' && end > start && is_program(candidate)) return candidate;
    start = end + 1;
  }
  const auto* const package = std::ranges::find(kPackages, name, &Package::program);
  return with_hint(fail("{}: not found", name),
                   package == std::end(kPackages)
                       ? std::string("install it")
                       : fmt::format("install it: apt-get install {}", package->name));
}

Result<ProcessOutcome> run_process(std::span<const std::string> arguments,
                                   const std::string& input) {
  const std::string program = TRY(find_program(arguments.front()));
  const Fd in = TRY(memory_file(input));
  const Fd out = TRY(memory_file({}));
  const Fd errors = TRY(memory_file({}));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, out.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, errors.get(), STDERR_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  auto variables = child_environment();
  // The program must not inherit wick's mask of blocked signals, and must not ignore SIGPIPE as
  // wick does.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t signals;
  sigemptyset(&signals);
  ::posix_spawnattr_setsigmask(&attributes, &signals);
  sigaddset(&signals, SIGPIPE);
  ::posix_spawnattr_setsigdefault(&attributes, &signals);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error =
      ::posix_spawn(&pid, program.c_str(), &actions, &attributes, argv.data(), variables.data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail_errno(error, "{}: cannot run", program);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return fail_errno(errno, "{}: cannot wait for it", program);
  return ProcessOutcome{WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
                        contents(out), contents(errors)};
}

std::string one_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) text.replace(at, 1, "; ");
  return printable(text, true);
}

std::string shell_words(std::span<const std::string> arguments) {
  std::string line;
  for (const std::string& word : arguments) {
    if (!line.empty()) line += ' ';
    if (needs_no_quotes(word)) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

}  // namespace wick

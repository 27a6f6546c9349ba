#include "tests/lab/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

namespace wick::lab {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kStepMs = 20;  // the interval of checks that cannot use poll()

void report(const std::string& why) { FAIL() << why; }

// Shows everything except newlines and printable ASCII as \xNN.
std::string visible(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\r') continue;
    if (c == '\n' || c == '\t' || (byte >= 0x20 && byte < 0x7f))
      shown += c;
    else
      shown += fmt::format("\\x{:02x}", byte);
  }
  return shown;
}

std::string tail(std::string_view text) {
  constexpr size_t kShownBytes = 1500;
  return visible(text.substr(text.size() - std::min(text.size(), kShownBytes)));
}

struct Ends {
  Fd ours;
  Fd theirs;
};

// Only the descriptors that dup2() sets stay open across exec.
Ends make_pipe(bool we_read) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) give_up("pipe2 failed");
  Fd reader(ends[0]);
  Fd writer(ends[1]);
  return we_read ? Ends{std::move(reader), std::move(writer)}
                 : Ends{std::move(writer), std::move(reader)};
}

Ends make_terminal() {
  Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  std::array<char, 64> path{};
  if (!master.valid() || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0 ||
      ::ptsname_r(master.get(), path.data(), path.size()) != 0)
    give_up("no pseudo terminal: is /dev/pts mounted?");
  Fd slave(::open(path.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave.valid()) give_up(fmt::format("{}: cannot open", path.data()));
  return {std::move(master), std::move(slave)};
}

Fd duplicate(const Fd& fd) { return Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)); }

void set_environment() {
  std::vector<std::string> unwanted;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (text.starts_with("WICK_")) unwanted.emplace_back(text.substr(0, text.find('=')));
  }
  for (const std::string& name : unwanted) ::unsetenv(name.c_str());
  // mke2fs, fsck and others are in sbin, which users' PATH may not have.
  const char* const path = std::getenv("PATH");
  ::setenv("PATH", fmt::format("{}:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin").c_str(), 1);
  ::setenv("LC_ALL", "C", 1);
}

[[noreturn]] void become(const std::vector<std::string>& argv, int in, int out, int errors,
                         bool terminal) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core_files{};
  ::setrlimit(RLIMIT_CORE, &no_core_files);
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  if (terminal) {
    ::setsid();
    ::ioctl(STDIN_FILENO, TIOCSCTTY, 0);
  }
  set_environment();
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  std::fprintf(stderr, "%s: cannot execute: %s\n", words[0], std::strerror(errno));
  ::_exit(127);
}

}  // namespace

void give_up(const std::string& why) {
  report(why);  // throws, see main.cc
  std::abort();
}

// --- files ------------------------------------------------------------------

std::string folder_on_disk() { return std::getenv("WICK_IN_LAB") ? "/scratch" : "/var/tmp"; }

std::string read_file(const std::string& path, uint64_t offset) {
  std::ifstream file(path, std::ios::binary);
  if (!file.seekg(static_cast<std::streamoff>(offset))) give_up(path + ": cannot read");
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

void await_in_file(const std::string& path, std::string_view text, Seconds patience) {
  const auto deadline = Clock::now() + patience;
  std::string content;
  while (Clock::now() < deadline) {
    if (exists(path)) content = read_file(path);
    if (content.find(text) != std::string::npos) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(kStepMs));
  }
  give_up(fmt::format("{} does not show \"{}\" after {} s; it ends with:\n{}", path, visible(text),
                      patience.count(), tail(content)));
}

// --- Dialogue ---------------------------------------------------------------

Dialogue::Dialogue(Fd in, Fd out) : in_(std::move(in)), out_(std::move(out)) {
  for (const Fd* const fd : {&in_, &out_})
    if (fd->valid()) ::fcntl(fd->get(), F_SETFL, ::fcntl(fd->get(), F_GETFL) | O_NONBLOCK);
}

Dialogue Dialogue::connect(const std::string& socket_path) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path))
    give_up(socket_path + ": the path is too long");
  std::ranges::copy(socket_path, address.sun_path);
  // bind(2) makes the file a moment before listen(2).
  const auto deadline = Clock::now() + Seconds(10);
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno != ECONNREFUSED || Clock::now() > deadline)
      give_up(fmt::format("{}: cannot connect: {}", socket_path, std::strerror(errno)));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  Fd out = duplicate(fd);
  return {std::move(fd), std::move(out)};
}

void Dialogue::send(std::string_view text) {
  const auto deadline = Clock::now() + kPatience;
  while (!text.empty()) {
    const ssize_t written = ::write(out_.get(), text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<size_t>(written));
      continue;
    }
    if (written < 0 && errno != EAGAIN && errno != EINTR)
      give_up(fmt::format("cannot send \"{}\": {}", visible(text), std::strerror(errno)));
    if (Clock::now() > deadline) give_up(fmt::format("nobody takes \"{}\"", visible(text)));
    // The other side may wait until its output is read.
    (void)listen(kStepMs);
  }
}

bool Dialogue::listen(int wait_ms) {
  if (ended_ || !in_.valid()) return false;
  pollfd readable{.fd = in_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&readable, 1, wait_ms) <= 0) return true;
  std::array<char, 16384> chunk;
  const ssize_t got = ::read(in_.get(), chunk.data(), chunk.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  // Reading gives EIO if no process has the terminal open any more.
  if (got <= 0) {
    ended_ = true;
    return false;
  }
  received_.append(chunk.data(), static_cast<size_t>(got));
  return true;
}

std::string Dialogue::expect(std::string_view text, Seconds patience) {
  const auto deadline = Clock::now() + patience;
  size_t searched = expected_;
  for (bool open = true;;) {
    const size_t found = received_.find(text, searched);
    if (found != std::string::npos) {
      std::string before = received_.substr(expected_, found - expected_);
      expected_ = found + text.size();
      return before;
    }
    searched = std::max(expected_, received_.size() - std::min(received_.size(), text.size()));
    const bool late = Clock::now() > deadline;
    if (!open || late)
      give_up(fmt::format(
          "\"{}\" did not come{}; what came last:\n{}", visible(text),
          open ? fmt::format(" within {} s", patience.count()) : ", the other side has closed",
          tail(received_)));
    open = listen(kStepMs);
  }
}

std::string Dialogue::expect_end(Seconds patience) {
  const auto deadline = Clock::now() + patience;
  while (listen(kStepMs)) {
    if (Clock::now() > deadline)
      give_up(fmt::format("still open after {} s; what came last:\n{}", patience.count(),
                          tail(received_)));
  }
  std::string rest = received_.substr(expected_);
  expected_ = received_.size();
  return rest;
}

void Dialogue::drain() {
  size_t before = 0;
  do before = received_.size();
  while (listen(0) && received_.size() > before);
}

void Dialogue::hang_up() {
  in_.close();
  out_.close();
}

// --- Process ----------------------------------------------------------------

Process::Process(std::vector<std::string> argv, Stdio stdio)
    : name_(argv.at(0)), errors_(::memfd_create("stderr", MFD_CLOEXEC)) {
  const bool terminal = stdio == Stdio::kTerminal;
  Ends in = terminal ? make_terminal() : make_pipe(false);
  Ends out = terminal ? Ends{duplicate(in.ours), duplicate(in.theirs)} : make_pipe(true);
  pid_ = ::fork();
  if (pid_ < 0) give_up("fork failed");
  if (pid_ == 0) become(argv, in.theirs.get(), out.theirs.get(), errors_.get(), terminal);
  console_ = Dialogue(std::move(out.ours), std::move(in.ours));
}

Process::~Process() {
  if (pid_ < 0) return;
  if (running()) {
    signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    console_.drain();
  }
  if (testing::Test::HasFailure()) show();
}

void Process::show() const {
  std::printf("--- console of %s, process %d:\n%s\n--- its stderr:\n%s---\n", name_.c_str(), pid_,
              visible(console_.transcript()).c_str(), visible(errors()).c_str());
  std::fflush(stdout);
}

std::string Process::errors() const {
  std::string text;
  std::array<char, 4096> chunk;
  ssize_t got = 0;
  // Not read(), which would move the position at which the process writes.
  while ((got = ::pread(errors_.get(), chunk.data(), chunk.size(),
                        static_cast<off_t>(text.size()))) > 0)
    text.append(chunk.data(), static_cast<size_t>(got));
  return text;
}

void Process::await_error(std::string_view text, Seconds patience) {
  const auto deadline = Clock::now() + patience;
  while (errors().find(text) == std::string::npos) {
    if (Clock::now() > deadline || !running())
      give_up(fmt::format("{} did not say \"{}\" on stderr, but:\n{}", name_, text, errors()));
    (void)console_.listen(kStepMs);
  }
}

bool Process::running() {
  if (!ended_ && ::waitpid(pid_, &status_, WNOHANG) == pid_) ended_ = true;
  return !ended_;
}

void Process::signal(int number) const {
  if (!ended_) ::kill(pid_, number);
}

long Process::resident_kib(uint64_t below_bytes) const {
  std::ifstream smaps(fmt::format("/proc/{}/smaps", pid_));
  long total = 0;
  uint64_t size_bytes = 0;
  for (std::string word; smaps >> word;) {
    long kib = 0;
    if (word == "Size:" && smaps >> kib) size_bytes = static_cast<uint64_t>(kib) << 10;
    if (word == "Rss:" && smaps >> kib && size_bytes < below_bytes) total += kib;
  }
  return total;
}

int Process::wait(Seconds patience) {
  const auto deadline = Clock::now() + patience;
  while (running()) {
    if (Clock::now() > deadline)
      give_up(fmt::format("{} still runs after {} s; what it wrote last:\n{}", name_,
                          patience.count(), tail(console_.transcript())));
    // Reads on, so that the process does not block.
    if (!console_.listen(kStepMs)) std::this_thread::sleep_for(std::chrono::milliseconds(kStepMs));
  }
  console_.drain();
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
}

// --- commands ---------------------------------------------------------------

Finished finish(const std::vector<std::string>& argv, Seconds patience) {
  Process process(argv);
  process.console().close_output();
  Finished finished;
  finished.status = process.wait(patience);
  finished.out = process.console().transcript();
  finished.err = process.errors();
  return finished;
}

std::vector<std::string> in_own_mounts(const std::string& script,
                                       const std::vector<std::string>& argv) {
  const std::string options = ::geteuid() == 0 ? "-m" : "-rm";
  std::vector<std::string> command = {
      "unshare", options, "sh", "-c", "set -e; " + script + "; exec \"$@\"", "sh"};
  command.insert(command.end(), argv.begin(), argv.end());
  return command;
}

}  // namespace wick::lab

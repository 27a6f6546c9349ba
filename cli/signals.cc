#include "cli/signals.h"

#include <fmt/format.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "base/output.h"

namespace wick::cli {

namespace {

constexpr std::chrono::milliseconds kDuplicateWindow{500};

sigset_t set_of(std::initializer_list<int> numbers) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : numbers) sigaddset(&set, number);
  return set;
}

Result<Fd> take(const sigset_t& signals) {
  if (const int code = ::pthread_sigmask(SIG_BLOCK, &signals, nullptr); code != 0)
    return fail_errno(code, "signals: cannot block");
  Fd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return fail_errno(errno, "signalfd: cannot create");
  return fd;
}

}  // namespace

Result<std::unique_ptr<Signals>> Signals::take() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGTTOU, SIG_IGN);
  sigset_t endings = set_of({SIGINT, SIGTERM, SIGQUIT});
  struct sigaction hangup {};
  (void)::sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&endings, SIGHUP);

  std::unique_ptr<Signals> self(new Signals);
  self->endings_ = TRY(cli::take(endings));
  self->requests_ = TRY(cli::take(set_of({SIGPWR, SIGUSR1})));
  self->thread_ = TRY(LoopThread::start("signals"));
  EventLoop& loop = self->thread_->loop();
  self->watch_ = TRY(loop.call([&] {
    return loop.watch(self->endings_.get(), EPOLLIN,
                      [raw = self.get()](uint32_t) { raw->received(); });
  }));
  return self;
}

Signals::~Signals() {
  if (thread_) thread_->stop();
}

void Signals::on_end(std::function<void(int number)> end) {
  const MutexLock lock(mutex_);
  end_ = std::move(end);
}

void Signals::on_exit(std::function<void(int status)> exiting) {
  const MutexLock lock(mutex_);
  exiting_ = std::move(exiting);
}

void Signals::received() {
  signalfd_siginfo info{};
  while (::read(endings_.get(), &info, sizeof(info)) == sizeof(info)) {
    const MutexLock lock(mutex_);
    const bool first = number_ == 0;
    number_ = static_cast<int>(info.ssi_signo);
    const auto now = std::chrono::steady_clock::now();
    if (first && end_) {
      first_at_ = now;
      end_(number_);
    } else if (first || now - first_at_ >= kDuplicateWindow) {
      end_process();
    }
  }
}

// Ends the process at once. quick_exit() calls the handlers that restore the terminal and remove
// sockets.
void Signals::end_process() const {
  const char* const abbreviation = ::sigabbrev_np(number_);
  (void)write_message(
      fmt::format("wick: ended by signal {} (SIG{}){}{}", number_,
                  abbreviation != nullptr ? abbreviation : "?",
                  end_ ? ", the second: data that the disks had not flushed may be lost" : "",
                  ::isatty(STDERR_FILENO) == 1 ? "\r\n" : "\n"),
      std::chrono::milliseconds(0));
  if (exiting_) exiting_(128 + number_);
  std::quick_exit(128 + number_);
}

}  // namespace wick::cli

#include "console/resize_watch.h"

#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

namespace wick::console {

std::optional<Size> size_of_terminal(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0) return std::nullopt;
  return Size{.columns = size.ws_col, .rows = size.ws_row};
}

Result<ResizeWatch> ResizeWatch::create(EventLoop& loop, std::function<void()> resized) {
  sigset_t resize;
  sigemptyset(&resize);
  sigaddset(&resize, SIGWINCH);
  (void)::pthread_sigmask(SIG_BLOCK, &resize, nullptr);
  Fd signal(::signalfd(-1, &resize, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signal.valid()) return fail_errno(errno, "signalfd: cannot create");
  auto watch = TRY(loop.watch(signal.get(), EPOLLIN,
                              [fd = signal.get(), resized = std::move(resized)](uint32_t) {
                                signalfd_siginfo info{};
                                while (::read(fd, &info, sizeof(info)) == sizeof(info)) continue;
                                resized();
                              }));
  return ResizeWatch(std::move(signal), std::move(watch));
}

}  // namespace wick::console

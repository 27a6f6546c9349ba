#include "image/background.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace wick::image {

Result<Background::Split> Background::split() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) return fail_errno(errno, "cannot make a pipe");
  Fd from_service(ends[0]);
  Fd to_caller(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "cannot start a process for the background");
  if (child == 0) return Split{Background(std::move(to_caller)), 0};
  to_caller.close();
  char byte = 0;
  ssize_t got = -1;
  do got = ::read(from_service.get(), &byte, 1);
  while (got < 0 && errno == EINTR);
  if (got == 1) return Split{};
  // The new process has ended before the service was ready, and has said why.
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return fail_errno(errno, "cannot wait for the process in the background");
  const int exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return Split{std::nullopt, exit_status == 0 ? 1 : exit_status};
}

void Background::ready() {
  (void)::setsid();
  const Fd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = STDIN_FILENO; nothing.valid() && fd <= STDERR_FILENO; ++fd)
    (void)::dup2(nothing.get(), fd);
  [[maybe_unused]] const ssize_t written = ::write(to_caller_.get(), "+", 1);
  to_caller_.close();
}

}  // namespace wick::image

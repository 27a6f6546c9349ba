// Process 1 of a guest of `wick exec`: it follows its plan, runs one command, and reports how the
// command ended (guest/protocol.h). It is linked statically and needs no other files.
//
// For tests, `init PLAN DESCRIPTOR` does the same as an ordinary process, which gets the port as an
// open descriptor and exits at the end.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/init.h"

static uint32_t number_in(const unsigned char* payload, uint32_t length) {
  uint32_t number = 0;
  if (length >= sizeof(number)) memcpy(&number, payload, sizeof(number));
  return number;
}

static void handle_frame(const struct wick_frame* frame, const unsigned char* payload) {
  switch (frame->type) {
    case WICK_FRAME_DATA:
      take_input(payload, frame->length);
      break;
    case WICK_FRAME_CREDIT:
      if (frame->stream == WICK_STDOUT || frame->stream == WICK_STDERR)
        credit[frame->stream] += number_in(payload, frame->length);
      break;
    case WICK_FRAME_EOF:
      if (frame->stream == WICK_STDIN) {
        in_ended = 1;
        pass_input();
      } else if (frame->stream <= WICK_STDERR) {
        close_output(frame->stream);
      }
      break;
    case WICK_FRAME_SIGNAL:
      if (child > 0 && !child_ended) kill(-child, (int)number_in(payload, frame->length));
      break;
    case WICK_FRAME_RESIZE:
      if (command.pty && frame->length >= 4) {
        memcpy(&command.size.ws_col, payload, 2);
        memcpy(&command.size.ws_row, payload + 2, 2);
        ioctl(from_stream[WICK_STDOUT], TIOCSWINSZ, &command.size);
      }
      break;
    default:
      die("wick has sent a frame of the unknown type %u", frame->type);
  }
}

// Reads the port once and handles the frames that are complete.
static void read_port(void) {
  static unsigned char bytes[sizeof(struct wick_frame) + WICK_MAX_PAYLOAD_BYTES];
  static size_t size;
  const ssize_t got = read(port, bytes + size, sizeof(bytes) - size);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    if (test_port >= 0) exit(kInitFailed);
    sleep_ms(1);  // wick has not connected the port
    return;
  }
  size += (size_t)got;
  size_t at = 0;
  struct wick_frame frame;
  while (size - at >= sizeof(frame)) {
    memcpy(&frame, bytes + at, sizeof(frame));
    if (frame.length > WICK_MAX_PAYLOAD_BYTES)
      die("wick has sent a frame of %u bytes", frame.length);
    if (size - at < sizeof(frame) + frame.length) break;
    handle_frame(&frame, bytes + at + sizeof(frame));
    at += sizeof(frame) + frame.length;
  }
  memmove(bytes, bytes + at, size - at);
  size -= at;
}

void serve(int signals) {
  enum { kPort, kSignals, kStdin, kStdout, kStderr, kCount };
  struct pollfd fds[kCount];
  for (int i = 0; i < kCount; ++i) fds[i] = (struct pollfd){.fd = -1};
  fds[kPort] =
      (struct pollfd){.fd = port, .events = (short)(port_is_busy() ? POLLIN | POLLOUT : POLLIN)};
  fds[kSignals] = (struct pollfd){.fd = signals, .events = POLLIN};
  if (in_size > 0) fds[kStdin] = (struct pollfd){.fd = to_stdin, .events = POLLOUT};
  for (uint8_t stream = WICK_STDOUT; stream <= WICK_STDERR; ++stream)
    if (!child_ended && may_pass_output(stream))
      fds[kStdin + stream] = (struct pollfd){.fd = from_stream[stream], .events = POLLIN};
  if (poll(fds, kCount, -1) < 0) return;
  if (fds[kPort].revents & POLLOUT) flush_some();
  if (fds[kPort].revents & (POLLIN | POLLHUP)) read_port();
  if (fds[kStdin].revents != 0) pass_input();
  for (uint8_t stream = WICK_STDOUT; stream <= WICK_STDERR; ++stream)
    if (fds[kStdin + stream].revents != 0 && may_pass_output(stream)) read_stream(stream);
  if (fds[kSignals].revents != 0) {
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof(info)) == sizeof(info)) continue;
    reap();
  }
}

int main(int argc, char** argv) {
  if (argc == 3) test_port = atoi(argv[2]);
  // Opens the descriptors 0, 1 and 2, so that no other file gets these numbers, which are the
  // command's. The kernel opens none of them if the initramfs has no /dev/console.
  int fd;
  while ((fd = open("/", O_PATH)) >= 0 && fd <= STDERR_FILENO) continue;
  close(fd);
  umask(0);
  signal(SIGPIPE, SIG_IGN);
  read_plan(argc == 3 ? argv[1] : WICK_PLAN_PATH);
  follow_plan();
  umask(022);

  sigset_t handled;
  sigemptyset(&handled);
  sigaddset(&handled, SIGCHLD);
  sigprocmask(SIG_BLOCK, &handled, NULL);
  const int signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) die("signalfd: %s", strerror(errno));
  start_command();
  while (!child_ended) serve(signals);
  drain(WICK_STDOUT, signals);
  drain(WICK_STDERR, signals);
  const struct wick_exit exit_of_command = child_exit;
  copy_results(signals);
  sync();
  send_frame(WICK_FRAME_EXIT, 0, &exit_of_command, sizeof(exit_of_command));
  finish();
}

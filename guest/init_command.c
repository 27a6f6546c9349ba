// The command and its streams.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/init.h"

// Credit is given back in large pieces, so that few frames are needed.
enum { kCreditBytes = WICK_WINDOW_BYTES / 4 };

int to_stdin = -1;
int from_stream[3] = {-1, -1, -1};
uint32_t credit[3] = {0, WICK_WINDOW_BYTES, WICK_WINDOW_BYTES};

pid_t child;
int child_ended;
struct wick_exit child_exit;

// A ring with input that the command has not taken yet. It cannot overflow, because wick sends no
// more than the window.
static unsigned char in[WICK_WINDOW_BYTES];
static size_t in_start;
size_t in_size;
int in_ended;
static uint32_t passed_on;  // bytes of the input for which credit has not been given back yet

static void must_pipe(int ends[2]) {
  if (pipe2(ends, O_CLOEXEC) != 0) die("pipe: %s", strerror(errno));
  // The command may open /dev/stdout again, as its own user.
  if (command.has_user)
    for (int i = 0; i < 2; ++i)
      if (fchown(ends[i], command.uid, command.gid) != 0)
        die("fchown of a pipe: %s", strerror(errno));
}

static void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

// Opens a terminal; returns its master and sets *slave.
static int open_terminal(int* slave) {
  const int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  int unlock = 0;
  if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) != 0)
    die("/dev/ptmx: cannot open a terminal: %s", strerror(errno));
  *slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (*slave < 0) die("/dev/ptmx: cannot open the terminal's other end: %s", strerror(errno));
  if (command.size.ws_col != 0) ioctl(master, TIOCSWINSZ, &command.size);
  if (command.has_user && fchown(*slave, command.uid, (gid_t)-1) != 0)
    die("fchown of the terminal: %s", strerror(errno));
  return master;
}

// Runs in the child, and never returns. If the command cannot be started, writes the step that
// failed and errno to `report`.
static void run_command(const int fds[3], int report) {
  setsid();
  if (command.pty) ioctl(fds[0], TIOCSCTTY, 0);
  for (int i = 0; i < 3; ++i) dup2(fds[i], i);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  // The user may start in a folder that it may not enter, as with sudo(8).
  int step = 'd';
  if (command.pwd == NULL || chdir(command.pwd) == 0) {
    step = 'u';
    if (!command.has_user || (setgroups(command.group_count, command.groups) == 0 &&
                              setresgid(command.gid, command.gid, command.gid) == 0 &&
                              setresuid(command.uid, command.uid, command.uid) == 0)) {
      step = 'x';
      environ = command.environment;
      execvp(command.arguments[0], command.arguments);
    }
  }
  const int error[2] = {step, errno};
  if (write(report, error, sizeof(error)) < 0) _exit(WICK_NOT_FOUND);
  _exit(WICK_NOT_FOUND);
}

static void cannot_start(int step, int error) {
  char text[512];
  const char* const name = command.arguments[0];
  if (step == 'u') die("cannot become user %u: %s", command.uid, strerror(error));
  if (step == 'd')
    die("%s: cannot change to this folder in the guest: %s", command.pwd, strerror(error));
  snprintf(text, sizeof(text), "%s: %s", name,
           error == ENOENT ? "no such command in the guest" : strerror(error));
  send_error(error == ENOENT ? WICK_NOT_FOUND : WICK_CANNOT_EXECUTE, text);
  finish();
}

void start_command(void) {
  int in_pipe[2], out_pipe[2], err_pipe[2], report[2];
  int fds[3];
  if (command.pty) {
    int slave;
    const int master = open_terminal(&slave);
    to_stdin = master;
    from_stream[WICK_STDOUT] = fcntl(master, F_DUPFD_CLOEXEC, 0);
    fds[0] = fds[1] = fds[2] = slave;
  } else {
    must_pipe(in_pipe);
    must_pipe(out_pipe);
    to_stdin = in_pipe[1];
    from_stream[WICK_STDOUT] = out_pipe[0];
    fds[0] = in_pipe[0];
    fds[1] = out_pipe[1];
  }
  if (!command.pty || command.separate_stderr) {
    must_pipe(err_pipe);
    from_stream[WICK_STDERR] = err_pipe[0];
    fds[2] = err_pipe[1];
  }
  set_nonblocking(to_stdin);
  set_nonblocking(from_stream[WICK_STDOUT]);
  if (from_stream[WICK_STDERR] >= 0) set_nonblocking(from_stream[WICK_STDERR]);
  if (pipe2(report, O_CLOEXEC) != 0) die("pipe: %s", strerror(errno));

  child = fork();
  if (child < 0) die("fork: %s", strerror(errno));
  if (child == 0) run_command(fds, report[1]);
  close(report[1]);
  for (int i = 0; i < 3; ++i)
    if (i == 0 || fds[i] != fds[i - 1]) close(fds[i]);
  int error[2];
  if (read(report[0], error, sizeof(error)) == sizeof(error)) cannot_start(error[0], error[1]);
  close(report[0]);
  send_frame(WICK_FRAME_STARTED, 0, NULL, 0);
}

static void close_stdin(void) {
  if (to_stdin >= 0) close(to_stdin);
  to_stdin = -1;
}

static void give_credit(size_t bytes) {
  passed_on += (uint32_t)bytes;
  if (passed_on < kCreditBytes) return;
  send_frame(WICK_FRAME_CREDIT, WICK_STDIN, &passed_on, sizeof(passed_on));
  passed_on = 0;
}

void pass_input(void) {
  while (in_size > 0) {
    const size_t until_wrap = sizeof(in) - in_start < in_size ? sizeof(in) - in_start : in_size;
    ssize_t put = to_stdin < 0 ? (ssize_t)until_wrap : write(to_stdin, in + in_start, until_wrap);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) return;
    if (put < 0) {
      close_stdin();
      continue;
    }
    in_start = (in_start + (size_t)put) % sizeof(in);
    in_size -= (size_t)put;
    give_credit((size_t)put);
  }
  if (in_ended) close_stdin();
}

void take_input(const unsigned char* bytes, size_t size) {
  if (size > sizeof(in) - in_size) die("wick has sent more input than the window allows");
  for (size_t i = 0; i < size;) {
    const size_t at = (in_start + in_size) % sizeof(in);
    const size_t part = sizeof(in) - at < size - i ? sizeof(in) - at : size - i;
    memcpy(in + at, bytes + i, part);
    in_size += part;
    i += part;
  }
  pass_input();
}

// Calls send_from(), but sends no more than the stream's credit, and reduces the credit.
static ssize_t pass_output(uint8_t stream, size_t limit) {
  const ssize_t got =
      send_from(from_stream[stream], stream, limit < credit[stream] ? limit : credit[stream]);
  if (got > 0) credit[stream] -= (uint32_t)got;
  return got;
}

int may_pass_output(uint8_t stream) {
  return from_stream[stream] >= 0 && credit[stream] > 0 && !port_is_busy();
}

void close_output(uint8_t stream) {
  if (from_stream[stream] >= 0) close(from_stream[stream]);
  from_stream[stream] = -1;
}

void read_stream(uint8_t stream) {
  if (pass_output(stream, WICK_MAX_PAYLOAD_BYTES) < 0) close_output(stream);
}

void reap(void) {
  struct rusage usage;
  int status;
  pid_t pid;
  while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
    if (pid != child) continue;
    child_ended = 1;
    child_exit.status = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 0;
    child_exit.signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
    child_exit.user_us =
        (uint64_t)usage.ru_utime.tv_sec * 1000000 + (uint64_t)usage.ru_utime.tv_usec;
    child_exit.system_us =
        (uint64_t)usage.ru_stime.tv_sec * 1000000 + (uint64_t)usage.ru_stime.tv_usec;
    child_exit.max_resident_kib = (uint64_t)usage.ru_maxrss;
  }
}

void drain(uint8_t stream, int signals) {
  if (from_stream[stream] < 0) return;
  const int pipe_bytes = fcntl(from_stream[stream], F_GETPIPE_SZ);
  size_t left = pipe_bytes > 0 ? (size_t)pipe_bytes : 64 << 10;
  while (left > 0 && from_stream[stream] >= 0) {  // serve() may close the stream
    if (!may_pass_output(stream)) {
      serve(signals);
      continue;
    }
    const ssize_t got = pass_output(stream, left);
    if (got <= 0) return;
    left -= (size_t)got;
  }
}

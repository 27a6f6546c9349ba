// Process 1 of a guest of `wick exec`: it follows its plan, runs one command, and reports how that
// ended (guest/protocol.h). It is linked statically and has no other files.
//
// For tests, `init PLAN DESCRIPTOR` does the same as an ordinary process, which has the port as an
// open descriptor and exits in the end.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "guest/protocol.h"

enum {
  kMaxArguments = 1 << 16,
  kMaxGroups = 1024,
  kOutBytes = 64 << 10,
  // Credit is given back in large pieces, so that it costs few frames.
  kCreditBytes = WICK_WINDOW_BYTES / 4,
  kPortTimeoutMs = 10 * 1000,
  kInitFailed = 1,
};

static int test_port = -1;  // of a test; -1: this is process 1
static int port = -1;

// --- messages ---------------------------------------------------------------

static void die(const char* format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void send_error(uint32_t status, const char* text);
static void finish(void) __attribute__((noreturn));

// Tells wick, if that is possible, or else the kernel's log.
static void die(const char* format, ...) {
  char text[WICK_MAX_ERROR_BYTES - 64];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  if (port >= 0) {
    send_error(kInitFailed, text);
    finish();
  }
  const int log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
  dprintf(log >= 0 ? log : STDERR_FILENO, "<2>wick: init: %s\n", text);
  exit(kInitFailed);  // Process 1 must not end, so the kernel panics.
}

// --- the port ---------------------------------------------------------------

// Frames on their way to wick: out[out_start] to out[out_end].
static unsigned char out[kOutBytes];
static size_t out_start, out_end;

static size_t out_room(void) { return sizeof(out) - out_end; }

// Writes what the port takes.
static void flush_some(void) {
  while (out_start < out_end) {
    const ssize_t put = write(port, out + out_start, out_end - out_start);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) return;
    if (put <= 0) exit(kInitFailed);  // wick is gone
    out_start += (size_t)put;
  }
  out_start = out_end = 0;
}

static void flush_all(void) {
  for (flush_some(); out_start < out_end; flush_some()) {
    struct pollfd wait = {.fd = port, .events = POLLOUT};
    poll(&wait, 1, 1000);
  }
}

// Queues a frame. Waits for the port if the buffer has no room for it.
static void send_frame(uint8_t type, uint8_t stream, const void* payload, uint32_t length) {
  const struct wick_frame frame = {.type = type, .stream = stream, .length = length};
  if (out_room() < sizeof(frame) + length) flush_all();
  memcpy(out + out_end, &frame, sizeof(frame));
  if (length > 0) memcpy(out + out_end + sizeof(frame), payload, length);
  out_end += sizeof(frame) + length;
}

static void send_error(uint32_t status, const char* text) {
  unsigned char payload[sizeof(status) + WICK_MAX_ERROR_BYTES];
  const size_t length = strnlen(text, WICK_MAX_ERROR_BYTES);
  memcpy(payload, &status, sizeof(status));
  memcpy(payload + sizeof(status), text, length);
  send_frame(WICK_FRAME_ERROR, 0, payload, (uint32_t)(sizeof(status) + length));
}

// Sends what is left and waits for wick to end the machine.
static void finish(void) {
  flush_all();
  if (test_port >= 0) exit(0);
  for (;;) pause();
}

static void sleep_ms(long ms) {
  struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

// Returns the name of the character device of the port, which lasts until the next call.
static const char* find_port(const char* name) {
  static char device[300];
  DIR* const folder = opendir("/sys/class/virtio-ports");
  if (folder == NULL) return NULL;
  const struct dirent* entry;
  int found = 0;
  while (!found && (entry = readdir(folder)) != NULL) {
    char path[300], text[64] = {0};
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    if (read(fd, text, sizeof(text) - 1) > 0) text[strcspn(text, "\n")] = '\0';
    close(fd);
    found = strcmp(text, name) == 0;
    snprintf(device, sizeof(device), "/dev/%s", entry->d_name);
  }
  closedir(folder);
  return found ? device : NULL;
}

// The driver announces the port some time after its module is loaded, and then that wick is there.
static void open_port(const char* name) {
  if (test_port >= 0) {
    port = test_port;
  } else {
    int fd = -1;
    long waited_ms = 0;
    for (; fd < 0; sleep_ms(1)) {
      const char* const device = find_port(name);
      if (device != NULL) fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
      if (fd < 0 && ++waited_ms > kPortTimeoutMs)
        die("no virtio console has the port %s: the kernel needs VIRTIO_CONSOLE and VIRTIO_PCI "
            "(or VIRTIO_MMIO)",
            name);
    }
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    while (poll(&wait, 1, 1000) >= 0 && (wait.revents & POLLHUP) != 0) {
      if (++waited_ms > kPortTimeoutMs) die("the port %s has no other end", name);
      sleep_ms(1);
    }
    port = fd;
  }
  const uint32_t version = WICK_PROTOCOL_VERSION;
  send_frame(WICK_FRAME_HELLO, 0, &version, sizeof(version));
  flush_some();
}

// --- the plan ---------------------------------------------------------------

static struct {
  char* arguments[kMaxArguments + 1];
  char* environment[kMaxArguments + 1];
  size_t argument_count, environment_count;
  uid_t uid;
  gid_t gid;
  gid_t groups[kMaxGroups];
  size_t group_count;
  int has_user;
  const char* pwd;
  int pty;
  int separate_stderr;
  struct winsize size;
} command;

static char* plan_next;
static char* plan_end;

static char* next_field(void) {
  if (plan_next >= plan_end) die("the plan ends in the middle of a step");
  char* const field = plan_next;
  plan_next += strlen(field) + 1;
  return field;
}

static void read_plan(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) die("%s: cannot open: %s", path, strerror(errno));
  char* const text = malloc((size_t)status.st_size + 1);
  if (text == NULL) die("%s: no memory for %ld bytes", path, (long)status.st_size);
  size_t size = 0;
  while (size < (size_t)status.st_size) {
    const ssize_t got = read(fd, text + size, (size_t)status.st_size - size);
    if (got <= 0) break;
    size += (size_t)got;
  }
  close(fd);
  text[size] = '\0';
  plan_next = text;
  plan_end = text + size;
  if (strcmp(next_field(), WICK_PLAN_MAGIC) != 0) die("%s: not a plan of this version", path);
}

// Returns 0, or -1 with errno, as the other steps do.
static int make_folders(char* path, mode_t mode) {
  struct stat status;
  for (char* slash = path + 1; (slash = strchr(slash, '/')) != NULL; ++slash) {
    *slash = '\0';
    if (mkdir(path, 0755) != 0 && errno == EROFS && stat(path, &status) != 0) return -1;
    *slash = '/';
  }
  if (mkdir(path, mode) == 0) return chmod(path, mode);
  const int error = errno;
  if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) return 0;
  errno = error;
  return -1;
}

static int load_module(const char* path, const char* parameters) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  const long done = syscall(SYS_finit_module, fd, parameters, 0);
  const int error = errno;
  close(fd);
  errno = error;
  return done == 0 || error == EEXIST ? 0 : -1;
}

static int move_root(const char* folder) {
  if (chdir(folder) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0)
    return -1;
  return chdir("/");
}

static int set_loopback_up(void) {
  struct ifreq request = {.ifr_name = "lo"};
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int done = ioctl(fd, SIOCGIFFLAGS, &request);
  request.ifr_flags |= IFF_UP;
  if (done == 0) done = ioctl(fd, SIOCSIFFLAGS, &request);
  close(fd);
  return done;
}

static void set_user(const char* uid, const char* gid, char* groups) {
  command.has_user = 1;
  command.uid = (uid_t)strtoul(uid, NULL, 10);
  command.gid = (gid_t)strtoul(gid, NULL, 10);
  for (char* group = strtok(groups, ","); group != NULL; group = strtok(NULL, ",")) {
    if (command.group_count == kMaxGroups) die("the user has more than %d groups", kMaxGroups);
    command.groups[command.group_count++] = (gid_t)strtoul(group, NULL, 10);
  }
}

static void add(char** list, size_t* count, char* text) {
  if (*count == kMaxArguments)
    die("the command has more than %d arguments or variables", kMaxArguments);
  list[(*count)++] = text;
}

static void follow_plan(void) {
  int may_fail = 0;
  while (plan_next < plan_end) {
    const char* const step = next_field();
    char* object = NULL;  // what the step is about, for messages
    int done = 0;
    if (strcmp(step, "try") == 0) {
      may_fail = 1;
      continue;
    }
    if (strcmp(step, "module") == 0) {
      object = next_field();
      done = load_module(object, next_field());
    } else if (strcmp(step, "mkdir") == 0) {
      object = next_field();
      done = make_folders(object, (mode_t)strtoul(next_field(), NULL, 8));
    } else if (strcmp(step, "mount") == 0) {
      const char* const source = next_field();
      object = next_field();
      const char* const type = next_field();
      const unsigned long flags = strtoul(next_field(), NULL, 10);
      const char* const data = next_field();
      done = mount(source, object, type, flags, data);
    } else if (strcmp(step, "symlink") == 0) {
      const char* const text = next_field();
      object = next_field();
      done = symlink(text, object) == 0 || errno == EEXIST ? 0 : -1;
    } else if (strcmp(step, "port") == 0) {
      open_port(next_field());
    } else if (strcmp(step, "move-root") == 0) {
      object = next_field();
      done = move_root(object);
    } else if (strcmp(step, "hostname") == 0) {
      object = next_field();
      done = sethostname(object, strlen(object));
    } else if (strcmp(step, "loopback") == 0) {
      done = set_loopback_up();
    } else if (strcmp(step, "user") == 0) {
      const char* const uid = next_field();
      const char* const gid = next_field();
      set_user(uid, gid, next_field());
    } else if (strcmp(step, "pwd") == 0) {
      command.pwd = next_field();
    } else if (strcmp(step, "pty") == 0) {
      command.pty = 1;
      command.size.ws_col = (unsigned short)strtoul(next_field(), NULL, 10);
      command.size.ws_row = (unsigned short)strtoul(next_field(), NULL, 10);
      command.separate_stderr = strcmp(next_field(), "1") == 0;
    } else if (strcmp(step, "env") == 0) {
      add(command.environment, &command.environment_count, next_field());
    } else if (strcmp(step, "arg") == 0) {
      add(command.arguments, &command.argument_count, next_field());
    } else {
      die("the plan has the unknown step \"%s\"", step);
    }
    if (done != 0 && !may_fail && errno == ENODEV && strcmp(step, "mount") == 0)
      die("mount %s: the kernel does not know this file system; build it in, or give its modules "
          "with --modules",
          object);
    if (done != 0 && !may_fail)
      die("%s %s: %s", step, object != NULL ? object : "", strerror(errno));
    may_fail = 0;
  }
  if (port < 0 || command.argument_count == 0) die("the plan names no port or no command");
}

// --- the command ------------------------------------------------------------

// The command's end of a stream is a pipe or the terminal; these are init's ends. -1: closed.
static int to_stdin = -1;
static int from_stream[3] = {-1, -1, -1};  // by enum wick_stream; only stdout and stderr
static uint32_t credit[3] = {0, WICK_WINDOW_BYTES, WICK_WINDOW_BYTES};

static pid_t child;
static int child_ended;
static struct wick_exit child_exit;

// Input for the command, in a ring: the window bounds it.
static unsigned char in[WICK_WINDOW_BYTES];
static size_t in_start, in_size;
static int in_ended;
static uint32_t passed_on;  // bytes of the input for which credit has not been given back yet

static void must_pipe(int ends[2]) {
  if (pipe2(ends, O_CLOEXEC) != 0) die("pipe: %s", strerror(errno));
  // The command may open /dev/stdout anew, as its user.
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

// In the child: never returns. `report` gets errno if the command cannot be started.
static void run_command(const int fds[3], int report) {
  setsid();
  if (command.pty) ioctl(fds[0], TIOCSCTTY, 0);
  for (int i = 0; i < 3; ++i) dup2(fds[i], i);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  int step = 'u';
  if (!command.has_user || (setgroups(command.group_count, command.groups) == 0 &&
                            setresgid(command.gid, command.gid, command.gid) == 0 &&
                            setresuid(command.uid, command.uid, command.uid) == 0)) {
    step = 'd';
    if (command.pwd == NULL || chdir(command.pwd) == 0) {
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

static void start_command(void) {
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

// Passes input to the command while it takes some. If it has closed its end, the rest is dropped.
static void pass_input(void) {
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

static void take_input(const unsigned char* bytes, size_t size) {
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

// Sends output of a stream, at most `limit` bytes. Returns how many bytes it sent; 0: there is
// nothing more now; -1: there will never be more.
static ssize_t pass_output(uint8_t stream, size_t limit) {
  const struct wick_frame frame = {.type = WICK_FRAME_DATA, .stream = stream};
  if (limit > WICK_MAX_PAYLOAD_BYTES) limit = WICK_MAX_PAYLOAD_BYTES;
  if (limit > credit[stream]) limit = credit[stream];
  unsigned char* const at = out + out_end;
  const ssize_t got = read(from_stream[stream], at + sizeof(frame), limit);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (got <= 0) return -1;  // EIO: the terminal has no user any more
  memcpy(at, &frame, sizeof(frame));
  const uint32_t length = (uint32_t)got;
  memcpy(at + offsetof(struct wick_frame, length), &length, sizeof(length));
  out_end += sizeof(frame) + (size_t)got;
  credit[stream] -= length;
  flush_some();
  return got;
}

static int may_pass_output(uint8_t stream) {
  return from_stream[stream] >= 0 && credit[stream] > 0 && out_end == 0;
}

static void close_output(uint8_t stream) {
  if (from_stream[stream] >= 0) close(from_stream[stream]);
  from_stream[stream] = -1;
}

static void read_stream(uint8_t stream) {
  if (pass_output(stream, WICK_MAX_PAYLOAD_BYTES) < 0) close_output(stream);
}

static void reap(void) {
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

// --- frames from wick -------------------------------------------------------

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
    sleep_ms(1);  // wick has not connected the port.
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

// --- the loop ---------------------------------------------------------------

// Waits until something happens, and handles it.
static void serve(int signals) {
  enum { kPort, kSignals, kStdin, kStdout, kStderr, kCount };
  struct pollfd fds[kCount];
  for (int i = 0; i < kCount; ++i) fds[i] = (struct pollfd){.fd = -1};
  fds[kPort] =
      (struct pollfd){.fd = port, .events = (short)(out_end > 0 ? POLLIN | POLLOUT : POLLIN)};
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

// What the command has written is in the pipe or the terminal. Processes that it left behind may
// go on to write, so the rest is bounded by what a pipe or a terminal holds.
static void drain(uint8_t stream, int signals) {
  if (from_stream[stream] < 0) return;
  const int pipe_bytes = fcntl(from_stream[stream], F_GETPIPE_SZ);
  size_t left = pipe_bytes > 0 ? (size_t)pipe_bytes : 64 << 10;
  while (left > 0 && from_stream[stream] >= 0) {  // until its reader has left
    if (!may_pass_output(stream)) {
      serve(signals);
      continue;
    }
    const ssize_t got = pass_output(stream, left);
    if (got <= 0) return;
    left -= (size_t)got;
  }
}

int main(int argc, char** argv) {
  if (argc == 3) test_port = atoi(argv[2]);
  // The command gets these three, so nothing else may be there. The kernel opens none of them if
  // the initramfs has no /dev/console.
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
  sync();
  send_frame(WICK_FRAME_EXIT, 0, &child_exit, sizeof(child_exit));
  finish();
}

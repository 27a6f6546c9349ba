// The port to wick, and how init reports an error without a port.
#include "guest/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
  kOutBytes = 64 << 10,
  kPortTimeoutMs = 10 * 1000,
};

int test_port = -1;
int port = -1;

void die(const char* format, ...) {
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
  exit(kInitFailed);  // the end of process 1 makes the kernel panic
}

// Frames that wait for the port: out[out_start] to out[out_end].
static unsigned char out[kOutBytes];
static size_t out_start, out_end;

static size_t out_room(void) { return sizeof(out) - out_end; }

void flush_some(void) {
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

void send_frame(uint8_t type, uint8_t stream, const void* payload, uint32_t length) {
  const struct wick_frame frame = {.type = type, .stream = stream, .length = length};
  if (out_room() < sizeof(frame) + length) flush_all();
  memcpy(out + out_end, &frame, sizeof(frame));
  if (length > 0) memcpy(out + out_end + sizeof(frame), payload, length);
  out_end += sizeof(frame) + length;
}

int port_is_busy(void) { return out_end > 0; }

ssize_t send_from(int fd, uint8_t stream, size_t limit) {
  const struct wick_frame frame = {.type = WICK_FRAME_DATA, .stream = stream};
  if (limit > WICK_MAX_PAYLOAD_BYTES) limit = WICK_MAX_PAYLOAD_BYTES;
  unsigned char* const at = out + out_end;
  const ssize_t got = read(fd, at + sizeof(frame), limit);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (got <= 0) return -1;  // EIO: no process has the terminal open any more
  memcpy(at, &frame, sizeof(frame));
  const uint32_t length = (uint32_t)got;
  memcpy(at + offsetof(struct wick_frame, length), &length, sizeof(length));
  out_end += sizeof(frame) + (size_t)got;
  flush_some();
  return got;
}

void send_error(uint32_t status, const char* text) {
  unsigned char payload[sizeof(status) + WICK_MAX_ERROR_BYTES];
  const size_t length = strnlen(text, WICK_MAX_ERROR_BYTES);
  memcpy(payload, &status, sizeof(status));
  memcpy(payload + sizeof(status), text, length);
  send_frame(WICK_FRAME_ERROR, 0, payload, (uint32_t)(sizeof(status) + length));
}

void finish(void) {
  flush_all();
  if (test_port >= 0) exit(0);
  for (;;) pause();
}

void sleep_ms(long ms) {
  struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

// Returns the name of the port's character device, which is valid until the next call; NULL if
// there is no such port.
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

// The driver announces the port some time after its module is loaded. Still later it announces that
// wick has connected the port; until then poll() reports POLLHUP.
void open_port(const char* name) {
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

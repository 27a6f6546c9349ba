// The plan: what to do before the command starts (guest/protocol.h).
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/init.h"

struct command command;

static char* plan_next;
static char* plan_end;

static char* next_field(void) {
  if (plan_next >= plan_end) die("the plan ends in the middle of a step");
  char* const field = plan_next;
  plan_next += strlen(field) + 1;
  return field;
}

void read_plan(const char* path) {
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

// Creates a folder and its parents. Returns 0, or -1 with errno, as the functions for other steps
// do.
static int make_folders(char* path, mode_t mode) {
  struct stat status;
  for (char* slash = path + 1; (slash = strchr(slash, '/')) != NULL; ++slash) {
    *slash = '\0';
    const int error = mkdir(path, 0755) == 0 ? 0 : errno;
    const int missing = error == EROFS && stat(path, &status) != 0;
    *slash = '/';
    if (missing) {
      errno = error;
      return -1;
    }
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

static void add_copy(const char* from, const char* to) {
  if (command.copy_count == kMaxCopies) die("the plan has more than %d copies", kMaxCopies);
  command.copies[command.copy_count++] = (struct copy){.from = from, .to = to};
}

static void add(char** list, size_t* count, char* text) {
  if (*count == kMaxArguments)
    die("the command has more than %d arguments or variables", kMaxArguments);
  list[(*count)++] = text;
}

void follow_plan(void) {
  int may_fail = 0;
  while (plan_next < plan_end) {
    const char* const step = next_field();
    char* object = NULL;  // what the step concerns, for messages
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
    } else if (strcmp(step, "copy") == 0) {
      const char* const from = next_field();
      add_copy(from, next_field());
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

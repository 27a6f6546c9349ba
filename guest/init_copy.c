// Copies results of the command to folders of the host (wick exec --copy-out).
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/init.h"

static int copy_at(int from_folder, const char* from, int to_folder, const char* to, int is_top);

static dev_t top_device;

// Copies the bytes of a file. Returns 0, or -1 with errno, as copy_link(), copy_folder() and
// copy_at() do.
static int copy_content(int from, int to) {
  for (;;) {
    const ssize_t done = sendfile(to, from, NULL, 1 << 20);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return (int)done;
  }
}

static int copy_link(int from_folder, const char* from, int to_folder, const char* to) {
  char text[4096];
  const ssize_t length = readlinkat(from_folder, from, text, sizeof(text) - 1);
  if (length < 0) return -1;
  text[length] = '\0';
  return symlinkat(text, to_folder, to);
}

static int copy_folder(int from, int to) {
  DIR* const folder = fdopendir(from);
  if (folder == NULL) return -1;
  const struct dirent* entry;
  int done = 0;
  while (done == 0 && (errno = 0, entry = readdir(folder)) != NULL)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      done = copy_at(dirfd(folder), entry->d_name, to, entry->d_name, 0);
  const int error = errno;
  closedir(folder);
  errno = error;
  return error == 0 ? done : -1;
}

// Copies a file, or a folder with all that is in it. Leaves out devices, sockets and pipes, and
// folders on which something is mounted, such as the kernel's file systems and the copy itself.
static int copy_at(int from_folder, const char* from, int to_folder, const char* to, int is_top) {
  struct stat status;
  if (fstatat(from_folder, from, &status, is_top ? 0 : AT_SYMLINK_NOFOLLOW) != 0) return -1;
  if (is_top) top_device = status.st_dev;
  if (S_ISLNK(status.st_mode)) return copy_link(from_folder, from, to_folder, to);
  const int is_folder = S_ISDIR(status.st_mode);
  if (is_folder && status.st_dev != top_device) return 0;
  if (!is_folder && !S_ISREG(status.st_mode)) {
    errno = EINVAL;
    return is_top ? -1 : 0;
  }
  const int source = openat(from_folder, from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (source < 0) return -1;
  int target = -1;
  if (!is_folder)
    target = openat(to_folder, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  else if (mkdirat(to_folder, to, 0700) == 0)
    target = openat(to_folder, to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int done = target < 0  ? -1
             : is_folder ? copy_folder(dup(source), target)
                         : copy_content(source, target);
  if (done == 0) done = fchmod(target, status.st_mode & 0777);
  if (done == 0) done = futimens(target, (struct timespec[]){status.st_atim, status.st_mtim});
  const int error = errno;
  close(source);
  if (target >= 0 && close(target) != 0 && done == 0) return -1;
  errno = error;
  return done;
}

// Copies under another name first, so that only a complete copy has the name `to`. Returns 0 or an
// errno.
static int copy_whole(const struct copy* copy) {
  char part[4096];
  if ((size_t)snprintf(part, sizeof(part), "%s.part", copy->to) >= sizeof(part))
    return ENAMETOOLONG;
  if (copy_at(AT_FDCWD, copy->from, AT_FDCWD, part, 1) != 0) return errno;
  return rename(part, copy->to) == 0 ? 0 : errno;
}

// Copies in a process of its own, because the copying may wait for the host while init must serve
// the port.
static void copy_one(const struct copy* copy, int signals) {
  child_ended = 0;
  child = fork();
  if (child < 0) die("fork: %s", strerror(errno));
  if (child == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    _exit(copy_whole(copy));
  }
  while (!child_ended) serve(signals);
  if (child_exit.status == 0 && child_exit.signal == 0) return;
  char text[WICK_MAX_ERROR_BYTES];
  snprintf(text, sizeof(text), "%s: %s", copy->from,
           child_exit.signal != 0 ? "the copying was ended" : strerror((int)child_exit.status));
  send_frame(WICK_FRAME_NOT_COPIED, 0, text, (uint32_t)strlen(text));
}

void copy_results(int signals) {
  for (size_t i = 0; i < command.copy_count; ++i) copy_one(&command.copies[i], signals);
}

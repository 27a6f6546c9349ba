/* Runs as init of a benchmark guest: times O_DIRECT I/O on /dev/vdb, or on
 * /dev/sda if there is none, by the guest's clock. Before each pattern it prints
 * READY and waits for a line, so that exits can be counted. At the end it prints
 * the results and powers off. Uses Linux AIO for the depth, because that needs
 * no library. Built statically by bench/blk. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEPTH = 32, MIB = 1 << 20 };

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char* what) {
  perror(what);
  reboot(RB_POWER_OFF);
}

/* `count` transfers of `size` bytes, `depth` at a time. */
static void measure(int fd, long disk_size, const char* name, int opcode, long size, int depth,
                    long count, int random_offsets) {
  static char* memory;
  if (!memory && posix_memalign((void**)&memory, 4096, MAX_DEPTH * 4096 > MIB ? MAX_DEPTH * 4096 : MIB))
    die("posix_memalign");
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, MAX_DEPTH, &context)) die("io_setup");
  struct iocb blocks[MAX_DEPTH];
  struct io_event events[MAX_DEPTH];
  long submitted = 0, done = 0;
  srand(1);
  char line[16];
  dprintf(STDOUT_FILENO, "READY %s\n", name);
  if (read(STDIN_FILENO, line, sizeof line) < 1) die("standard input");
  const double begin = now_s();
  int free_blocks[MAX_DEPTH], free_count = depth;
  for (int i = 0; i < depth; i++) free_blocks[i] = i;
  while (done < count) {
    struct iocb* batch[MAX_DEPTH];
    int n = 0;
    while (free_count && submitted < count) {
      const int i = free_blocks[--free_count];
      const long slots = disk_size / size;
      const long slot = random_offsets ? rand() % slots : submitted % slots;
      memset(&blocks[i], 0, sizeof blocks[i]);
      blocks[i].aio_data = i;
      blocks[i].aio_fildes = fd;
      blocks[i].aio_lio_opcode = opcode;
      blocks[i].aio_buf = (unsigned long)(memory + (depth > 1 ? i * size : 0));
      blocks[i].aio_nbytes = size;
      blocks[i].aio_offset = slot * size;
      batch[n++] = &blocks[i];
      submitted++;
    }
    if (n && syscall(SYS_io_submit, context, n, batch) != n) die("io_submit");
    const int got = syscall(SYS_io_getevents, context, 1, MAX_DEPTH, events, NULL);
    if (got < 1) die("io_getevents");
    for (int i = 0; i < got; i++) {
      if ((long)events[i].res != size) die("transfer");
      free_blocks[free_count++] = events[i].data;
    }
    done += got;
  }
  const double took = now_s() - begin;
  syscall(SYS_io_destroy, context);
  printf("RESULT %s %.3f us %ld requests\n", name, took / count * 1e6, count);
}

int main(void) {
  static char results[4096]; /* printed only at the end: each character is an exit */
  setvbuf(stdout, results, _IOFBF, sizeof results);
  mount("none", "/dev", "devtmpfs", 0, NULL);
  int fd = open("/dev/vdb", O_RDWR | O_DIRECT);
  if (fd < 0) fd = open("/dev/sda", O_RDWR | O_DIRECT);
  if (fd < 0) die("/dev/vdb, /dev/sda");
  const long size = lseek(fd, 0, SEEK_END);
  measure(fd, size, "warm-up", IOCB_CMD_PREAD, MIB, 1, size / MIB, 0);
  measure(fd, size, "read-4k-1", IOCB_CMD_PREAD, 4096, 1, 1000, 1);
  measure(fd, size, "write-4k-1", IOCB_CMD_PWRITE, 4096, 1, 1000, 1);
  measure(fd, size, "read-4k-32", IOCB_CMD_PREAD, 4096, 32, 4000, 1);
  measure(fd, size, "write-4k-32", IOCB_CMD_PWRITE, 4096, 32, 4000, 1);
  measure(fd, size, "read-1m", IOCB_CMD_PREAD, MIB, 1, 64, 0);
  measure(fd, size, "write-1m", IOCB_CMD_PWRITE, MIB, 1, 64, 0);
  printf("RESULT end\n");
  fflush(stdout);
  reboot(RB_POWER_OFF);
}

/* Runs as init of a benchmark guest: times O_DIRECT I/O on /dev/vdb, or on
 * /dev/sda if there is none, by the guest's clock. Its arguments are patterns:
 * OPERATION-SIZE-DEPTH, as in read-4k-32 or write-1m-1. 4 KiB requests go to
 * random places, others one after the other. One process per CPU makes the
 * requests, as far as the depth can be shared. Before each pattern it prints
 * READY and waits for a line, so that exits can be counted. At the end it prints
 * the results and powers off. Uses Linux AIO for the depth, because that needs
 * no library. Built statically by bench/blk. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEPTH = 128, MIB = 1 << 20 };

struct pattern {
  int opcode;
  long size; /* of a request, in bytes */
  int depth; /* of each process */
  long count; /* of requests of each process */
};

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char* what) {
  perror(what);
  reboot(RB_POWER_OFF);
}

/* `buffers` has a buffer for each request of the depth. */
static void transfer(int fd, long disk_size, struct pattern p, char* buffers, aio_context_t context) {
  struct iocb blocks[MAX_DEPTH];
  struct io_event events[MAX_DEPTH];
  long submitted = 0, done = 0;
  int free_blocks[MAX_DEPTH], free_count = p.depth;
  for (int i = 0; i < p.depth; i++) free_blocks[i] = i;
  while (done < p.count) {
    struct iocb* batch[MAX_DEPTH];
    int n = 0;
    while (free_count && submitted < p.count) {
      const int i = free_blocks[--free_count];
      const long slots = disk_size / p.size;
      const long slot = p.size == 4096 ? rand() % slots : submitted % slots;
      memset(&blocks[i], 0, sizeof blocks[i]);
      blocks[i].aio_data = i;
      blocks[i].aio_fildes = fd;
      blocks[i].aio_lio_opcode = p.opcode;
      blocks[i].aio_buf = (unsigned long)(buffers + i * p.size);
      blocks[i].aio_nbytes = p.size;
      blocks[i].aio_offset = slot * p.size;
      batch[n++] = &blocks[i];
      submitted++;
    }
    if (n && syscall(SYS_io_submit, context, n, batch) != n) die("io_submit");
    const int got = syscall(SYS_io_getevents, context, 1, MAX_DEPTH, events, NULL);
    if (got < 1) die("io_getevents");
    for (int i = 0; i < got; i++) {
      if ((long)events[i].res != p.size) die("transfer");
      free_blocks[free_count++] = events[i].data;
    }
    done += got;
  }
}

/* A process on its own CPU: says "ready", transfers when `start` is closed, and
 * leaves the time of its end. */
static void run_process(int fd, long disk_size, struct pattern p, int cpu, int ready, int start,
                        double* end) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu, &cpus);
  if (sched_setaffinity(0, sizeof cpus, &cpus)) die("sched_setaffinity");
  char* buffers = NULL;
  if (posix_memalign((void**)&buffers, 4096, p.depth * p.size)) die("posix_memalign");
  memset(buffers, 1, p.depth * p.size);
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, MAX_DEPTH, &context)) die("io_setup");
  srand(1 + cpu);
  char byte = 0;
  if (write(ready, &byte, 1) != 1) die("pipe");
  if (read(start, &byte, 1) != 0) die("pipe");
  transfer(fd, disk_size, p, buffers, context);
  *end = now_s();
  _exit(0);
}

static void measure(int fd, long disk_size, const char* name, struct pattern p, int processes) {
  double* const ends = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int ready[2], start[2];
  if (ends == MAP_FAILED || pipe(ready) || pipe(start)) die("pipe");
  for (int i = 0; i < processes; i++)
    if (fork() == 0) {
      close(start[1]);
      run_process(fd, disk_size, p, i, ready[1], start[0], &ends[i]);
    }
  char line[16];
  for (int i = 0; i < processes; i++)
    if (read(ready[0], line, 1) != 1) die("pipe");
  dprintf(STDOUT_FILENO, "READY %s\n", name);
  if (read(STDIN_FILENO, line, sizeof line) < 1) die("standard input");
  const double begin = now_s();
  close(start[1]);
  double end = 0;
  while (wait(NULL) > 0) {
  }
  for (int i = 0; i < processes; i++)
    if (ends[i] > end) end = ends[i];
  const long requests = p.count * processes;
  printf("RESULT %s %.3f us %ld requests\n", name, (end - begin) / requests * 1e6, requests);
  munmap(ends, 4096);
  close(ready[0]);
  close(ready[1]);
  close(start[0]);
}

static void parse_and_measure(int fd, long disk_size, const char* name, int cpus) {
  char operation[8], size[4];
  int depth;
  if (sscanf(name, "%7[a-z]-%3[0-9mk]-%d", operation, size, &depth) != 3 || depth < 1 ||
      depth > MAX_DEPTH) {
    dprintf(STDOUT_FILENO, "%s: not a pattern\n", name);
    reboot(RB_POWER_OFF);
  }
  struct pattern p = {.opcode = strcmp(operation, "read") ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
                      .size = strcmp(size, "1m") ? 4096 : MIB};
  const int processes = depth < cpus ? depth : cpus;
  p.depth = depth / processes;
  p.count = (p.size == MIB ? disk_size / MIB : depth == 1 ? 1000 : 4096) / processes;
  measure(fd, disk_size, name, p, processes);
}

int main(int argc, char** argv) {
  static char results[4096]; /* printed only at the end: each character is an exit */
  setvbuf(stdout, results, _IOFBF, sizeof results);
  mount("none", "/dev", "devtmpfs", 0, NULL);
  int fd = open("/dev/vdb", O_RDWR | O_DIRECT);
  if (fd < 0) fd = open("/dev/sda", O_RDWR | O_DIRECT);
  if (fd < 0) die("/dev/vdb, /dev/sda");
  const long disk_size = lseek(fd, 0, SEEK_END);
  cpu_set_t online;
  if (sched_getaffinity(0, sizeof online, &online)) die("sched_getaffinity");
  const int cpus = CPU_COUNT(&online);
  const struct pattern warm_up = {IOCB_CMD_PREAD, MIB, 1, disk_size / MIB};
  measure(fd, disk_size, "warm-up", warm_up, 1);
  for (int i = 1; i < argc; i++) parse_and_measure(fd, disk_size, argv[i], cpus);
  printf("RESULT end\n");
  fflush(stdout);
  reboot(RB_POWER_OFF);
}

// Changes a file at random, and compares it with a model in memory after each step: what fsx does
// for file systems. Runs in a guest, on a share.
//
//   file_exerciser FILE STEPS SEED
//
// Prints "equal HASH", where HASH is FNV-1a of the file's content, for the host to compare. A
// difference is printed with its step, and the exit status is 1.
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_BYTES = 300 * 1000, MAX_PIECE = 70 * 1000 };

static unsigned char model[MAX_BYTES];
static size_t size;
static const char* path;
static int fd;
static long step;
static const char* operation = "open";

static void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("step %ld, %s, of %zu bytes: ", step, operation, size);
  vprintf(format, arguments);
  printf(" (%m)\n");
  exit(1);
}

static size_t below(size_t limit) { return limit == 0 ? 0 : (size_t)rand() % limit; }

static void compare(const unsigned char* found, size_t at, size_t count) {
  for (size_t i = 0; i < count; ++i)
    if (found[i] != model[at + i])
      die("byte %zu is %#x in place of %#x", at + i, found[i], model[at + i]);
}

static void write_at(size_t at, size_t count) {
  operation = "write";
  if (at + count > MAX_BYTES) count = MAX_BYTES - at;
  if (at > size) memset(model + size, 0, at - size);
  for (size_t i = 0; i < count; ++i) model[at + i] = (unsigned char)rand();
  if (pwrite(fd, model + at, count, (off_t)at) != (ssize_t)count) die("pwrite of %zu at %zu", count, at);
  if (at + count > size) size = at + count;
}

static void read_at(size_t at, size_t count) {
  static unsigned char buffer[MAX_PIECE];
  operation = "read";
  const ssize_t got = pread(fd, buffer, count, (off_t)at);
  const size_t expected = at >= size ? 0 : size - at < count ? size - at : count;
  if (got != (ssize_t)expected) die("pread of %zu at %zu: %zd", count, at, got);
  compare(buffer, at, expected);
}

static void truncate_to(size_t bytes) {
  operation = "truncate";
  if (ftruncate(fd, (off_t)bytes)) die("ftruncate to %zu", bytes);
  if (bytes > size) memset(model + size, 0, bytes - size);
  size = bytes;
}

static void map_at(size_t at, size_t count, int writes) {
  operation = writes ? "mapped write" : "mapped read";
  if (at >= size) return;
  if (count > size - at) count = size - at;
  const size_t begin = at / 4096 * 4096;
  unsigned char* const mapped =
      mmap(NULL, at - begin + count, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, fd, (off_t)begin);
  if (mapped == MAP_FAILED) die("mmap");
  compare(mapped + (at - begin), at, count);
  for (size_t i = 0; writes && i < count; ++i) mapped[at - begin + i] = model[at + i] = (unsigned char)rand();
  if (writes && msync(mapped, at - begin + count, MS_SYNC)) die("msync");
  munmap(mapped, at - begin + count);
}

static void punch(size_t at, size_t count) {
  operation = "punch hole";
  // 9P has no such request.
  if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)count + 1)) return;
  for (size_t i = at; i <= at + count && i < size; ++i) model[i] = 0;
}

static void copy(size_t from, size_t to, size_t count) {
  operation = "copy";
  if (from + count > size || to + count > MAX_BYTES || (from < to + count && to < from + count)) return;
  off_t in = (off_t)from, out = (off_t)to;
  for (size_t left = count; left > 0;) {
    const ssize_t copied = copy_file_range(fd, &in, fd, &out, left, 0);
    if (copied <= 0) die("copy_file_range");
    left -= (size_t)copied;
  }
  if (count == 0) return;
  if (to > size) memset(model + size, 0, to - size);
  memmove(model + to, model + from, count);
  if (to + count > size) size = to + count;
}

static void reopen(void) {
  operation = "open again";
  close(fd);
  fd = open(path, O_RDWR);
  if (fd < 0) die("open");
  struct stat status;
  if (fstat(fd, &status) || (size_t)status.st_size != size) die("its size is %ld", (long)status.st_size);
}

static void drop_caches(void) {
  operation = "drop caches";
  fsync(fd);
  const int caches = open("/proc/sys/vm/drop_caches", O_WRONLY);
  if (caches < 0 || write(caches, "1", 1) != 1) die("drop_caches");
  close(caches);
}

static void do_step(void) {
  const size_t at = below(MAX_BYTES), count = below(MAX_PIECE);
  switch (below(20)) {
    case 0: return truncate_to(at);
    case 1: return reopen();
    case 2: return drop_caches();
    case 3:
    case 4: return punch(at, count);
    case 5:
    case 6: return copy(at, below(MAX_BYTES), count);
    case 7:
    case 8:
    case 9: return map_at(at, count, 1);
    case 10:
    case 11: return map_at(at, count, 0);
    case 12:
    case 13:
    case 14:
    case 15: return write_at(at, count);
    default: return read_at(at, count);
  }
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  path = argv[1];
  srand((unsigned)atoi(argv[3]));
  fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) die("open");
  for (step = 1; step <= atol(argv[2]); ++step) do_step();
  reopen();
  for (size_t at = 0; at < size; at += MAX_PIECE) read_at(at, MAX_PIECE);
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < size; ++i) hash = (hash ^ model[i]) * 0x100000001b3;
  if (close(fd)) die("close");
  printf("equal %llx\n", (unsigned long long)hash);
  return 0;
}

// What the parts of a guest's init share. init.c has main() and the loop, init_port.c sends to
// wick, init_plan.c prepares the guest, init_command.c runs the command, init_copy.c copies its
// results.
//
// Thread rule: there is one thread.
#ifndef WICK_GUEST_INIT_H
#define WICK_GUEST_INIT_H

#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "guest/protocol.h"

enum {
  kMaxArguments = 1 << 16,
  kMaxGroups = 1024,
  kMaxCopies = 16,
  kInitFailed = 1,
};

// --- init.c

// Waits until something happens, and handles it. `signals` is a signalfd(2) of SIGCHLD.
void serve(int signals);

// --- init_port.c

extern int test_port;  // the port of a test; -1: this is process 1
extern int port;       // the port to wick; -1: not open yet

// Waits for the port of this name and greets wick.
void open_port(const char* name);
// Queues a frame. Waits for the port if the buffer has no room for it.
void send_frame(uint8_t type, uint8_t stream, const void* payload, uint32_t length);
void send_error(uint32_t status, const char* text);
// Sends at most `limit` bytes of a descriptor as WICK_FRAME_DATA, and returns how many bytes it has
// sent; 0: there is nothing more now; -1: there will never be more. Must be called only while
// !port_is_busy().
ssize_t send_from(int fd, uint8_t stream, size_t limit);
// Returns whether frames wait for the port.
int port_is_busy(void);
// Writes as many of the queued frames' bytes as the port takes.
void flush_some(void);
// Sends the frames that are left, and waits for wick to end the machine.
void finish(void) __attribute__((noreturn));
// Reports an error to wick, if that is possible, or else to the kernel's log, and ends init.
void die(const char* format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void sleep_ms(long ms);

// --- init_plan.c

// What the plan says about the command.
struct command {
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
  // What is copied after the command has ended.
  struct copy {
    const char* from;
    const char* to;
  } copies[kMaxCopies];
  size_t copy_count;
};
extern struct command command;

void read_plan(const char* path);
void follow_plan(void);

// --- init_command.c

// The command has one end of each stream, which is a pipe or the terminal. These are init's ends.
// -1: closed.
extern int to_stdin;
extern int from_stream[3];  // by enum wick_stream; only stdout and stderr
extern uint32_t credit[3];  // the bytes that wick still takes, by enum wick_stream
extern size_t in_size;      // bytes of input that the command has not taken yet
extern int in_ended;        // no input follows these bytes

// The process of the command, or afterwards the process of a copy.
extern pid_t child;
extern int child_ended;
extern struct wick_exit child_exit;

void start_command(void);
// Passes input to the command as long as the command takes it. If the command has closed its end,
// drops the rest.
void pass_input(void);
void take_input(const unsigned char* bytes, size_t size);
int may_pass_output(uint8_t stream);
void read_stream(uint8_t stream);
void close_output(uint8_t stream);
// Sends the output that the command has written before its end and that is still in the pipe or the
// terminal. Processes that the command left behind may go on to write, so no more is sent than a
// pipe or a terminal holds.
void drain(uint8_t stream, int signals);
// Collects the exit status of `child`, if it has ended, and those of orphans.
void reap(void);

// --- init_copy.c

// Copies what the plan names, after the command has ended. Tells wick what could not be copied.
void copy_results(int signals);

#endif

// What the parts of a guest's init share. init.c begins and has the loop, init_port.c sends to
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

extern int test_port;  // of a test; -1: this is process 1
extern int port;       // to wick; -1: not open yet

// Waits for the port of this name and greets wick.
void open_port(const char* name);
// Queues a frame. Waits for the port if the buffer has no room for it.
void send_frame(uint8_t type, uint8_t stream, const void* payload, uint32_t length);
void send_error(uint32_t status, const char* text);
// Sends at most `limit` bytes of a descriptor as WICK_FRAME_DATA. Returns how many these are; 0:
// there is nothing more now; -1: there will never be more. Only while !port_is_busy().
ssize_t send_from(int fd, uint8_t stream, size_t limit);
// Whether frames wait for the port.
int port_is_busy(void);
// Writes what the port takes.
void flush_some(void);
// Sends what is left and waits for wick to end the machine.
void finish(void) __attribute__((noreturn));
// Tells wick, if that is possible, or else the kernel's log.
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
  // What is copied after its end.
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

// The command's end of a stream is a pipe or the terminal; these are init's ends. -1: closed.
extern int to_stdin;
extern int from_stream[3];  // by enum wick_stream; only stdout and stderr
extern uint32_t credit[3];  // likewise, in bytes
extern size_t in_size;      // bytes of input that the command has not taken yet
extern int in_ended;        // no input follows these

// The command, or what init runs after it.
extern pid_t child;
extern int child_ended;
extern struct wick_exit child_exit;

void start_command(void);
// Passes input to the command while it takes some. If it has closed its end, the rest is dropped.
void pass_input(void);
void take_input(const unsigned char* bytes, size_t size);
int may_pass_output(uint8_t stream);
void read_stream(uint8_t stream);
void close_output(uint8_t stream);
// What the command has written is in the pipe or the terminal. Processes that it left behind may
// go on to write, so the rest is bounded by what a pipe or a terminal holds.
void drain(uint8_t stream, int signals);
// Takes the status of `child` if it has ended, and those of orphans.
void reap(void);

// --- init_copy.c

// Copies what the plan names, after the command has ended. Tells wick what could not be copied.
void copy_results(int signals);

#endif

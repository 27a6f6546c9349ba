// What wick (guest/session.h, guest/plan.h) and the init in a guest of `wick exec` (guest/init.c)
// say to each other. Both include this file; it is C as well as C++.
//
// 1. The plan is the file WICK_PLAN_PATH of the initramfs. It tells init what to do, step by step.
// It consists of strings that each end with a NUL. The first is WICK_PLAN_MAGIC. Then each step
// is a keyword and its fields:
//
// clang-format off
//   try                                    the next step may fail
//   module PATH PARAMETERS                 finit_module(2); a module that is loaded already is fine
//   mkdir PATH MODE                        with its parents; MODE is octal; it may exist already
//   mount SOURCE TARGET TYPE FLAGS DATA    mount(2); FLAGS is decimal
//   symlink TEXT PATH
//   port NAME                              waits for the port of this name and opens it
//   move-root DIRECTORY                    makes it the root of what follows, as switch_root(8)
//   hostname NAME
//   loopback                               sets lo up
//   user UID GID GROUP,GROUP…              of the command; decimal
//   pwd DIRECTORY
//   pty COLUMNS ROWS SEPARATE              the command gets a terminal in place of pipes; if
//                                          SEPARATE is 1, its stderr is a pipe all the same
//   env NAME=VALUE                         of the command; may repeat
//   arg TEXT                               of the command; the first names it; may repeat
//   copy FROM TO                           when the command has ended, a file or folder is copied;
//                                          what is at TO is complete
// clang-format on
//
// After the last step init starts the command. If a step fails before the port is open, init
// writes a line to the kernel's log and exits, so that the kernel panics.
//
// 2. The port is a port of the virtio console with the name WICK_PORT_NAME (virtio 1.2, 5.3). It
// carries frames in both directions: struct wick_frame, then `length` bytes of payload, integers
// in little-endian order. What the command writes travels only as the payload of
// WICK_FRAME_DATA, so no output of it can be taken for another frame.
//
// Each stream has a window, so that one whose reader is slow does not hold up the others: the
// sender starts with WICK_WINDOW_BYTES, each byte of WICK_FRAME_DATA takes one, and the receiver
// gives some back by WICK_FRAME_CREDIT when it has passed the bytes on. A sender that exceeds the
// window breaks the protocol. Both sides read the port all the time.
//
// The guest sends WICK_FRAME_HELLO first, and WICK_FRAME_EXIT or WICK_FRAME_ERROR last.
#ifndef WICK_GUEST_PROTOCOL_H
#define WICK_GUEST_PROTOCOL_H

#include <stdint.h>

#define WICK_PLAN_MAGIC "wick-plan 1"
#define WICK_PLAN_PATH "/wick/plan"
#define WICK_PORT_NAME "wick.exec"

enum {
  WICK_PROTOCOL_VERSION = 1,
  WICK_WINDOW_BYTES = 256 << 10,
  // A frame fits in one write of Linux's driver, which takes 32 KiB at a time.
  WICK_MAX_PAYLOAD_BYTES = (32 << 10) - 8,
  WICK_MAX_ERROR_BYTES = 1024,
};

enum wick_stream { WICK_STDIN = 0, WICK_STDOUT = 1, WICK_STDERR = 2 };

enum wick_frame_type {
  // From the guest.
  WICK_FRAME_HELLO = 1,    // payload: uint32_t WICK_PROTOCOL_VERSION
  WICK_FRAME_STARTED = 2,  // the command runs; no payload
  WICK_FRAME_EXIT = 3,     // payload: struct wick_exit
  WICK_FRAME_ERROR = 4,    // the command could not be started; payload: uint32_t status, then text
  WICK_FRAME_NOT_COPIED = 5,  // a copy of the plan failed; payload: text
  // From both.
  WICK_FRAME_DATA = 16,    // of `stream`; at least one byte
  WICK_FRAME_CREDIT = 17,  // for `stream`; payload: uint32_t number of bytes
  // From wick.
  // Of `stream`: the end of WICK_STDIN, or that nobody reads WICK_STDOUT or WICK_STDERR any more.
  WICK_FRAME_EOF = 32,     // no payload
  WICK_FRAME_SIGNAL = 33,  // for the command's process group; payload: uint32_t number
  WICK_FRAME_RESIZE = 34,  // of the terminal; payload: uint16_t columns, uint16_t rows
};

struct wick_frame {
  uint8_t type;
  uint8_t stream;  // 0 if the type has none
  uint16_t reserved;
  uint32_t length;  // of the payload in bytes
};

// How the command ended.
struct wick_exit {
  uint32_t status;  // the exit status, or 0
  uint32_t signal;  // the signal that killed it, or 0
  uint64_t user_us;
  uint64_t system_us;
  uint64_t max_resident_kib;
};

// Statuses of WICK_FRAME_ERROR, as shells have them; every other status is a failure of init.
enum { WICK_CANNOT_EXECUTE = 126, WICK_NOT_FOUND = 127 };

#endif

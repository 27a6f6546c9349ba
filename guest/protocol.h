// The protocol between wick (guest/session.h, guest/plan.h) and the init in a guest of `wick exec`
// (guest/init.c). Both include this file, which is C as well as C++.
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
//   port NAME                              waits for the port with this name and opens it
//   move-root DIRECTORY                    makes it the root from here on, as switch_root(8) does
//   hostname NAME
//   loopback                               sets lo up
//   user UID GID GROUP,GROUP…              the command's user; decimal
//   pwd DIRECTORY
//   pty COLUMNS ROWS SEPARATE              the command gets a terminal in place of pipes; if
//                                          SEPARATE is 1, its stderr is a pipe all the same
//   env NAME=VALUE                         a variable of the command; may repeat
//   arg TEXT                               an argument of the command; the first is the program
//   copy FROM TO                           after the command's end, copies a file or folder;
//                                          TO appears when the copy is complete
// clang-format on
//
// After the last step init starts the command. If a step fails before the port is open, init
// writes a line to the kernel's log and exits, so that the kernel panics.
//
// 2. The port is a port of the virtio console with the name WICK_PORT_NAME (virtio 1.2, 5.3). It
// carries frames in both directions: struct wick_frame, then `length` bytes of payload, integers in
// little-endian order. What the command writes travels only as the payload of WICK_FRAME_DATA, so
// the command's output cannot be taken for another frame.
//
// Each stream has a window, so that a stream whose reader is slow does not hold up the others. The
// sender starts with WICK_WINDOW_BYTES, and each byte of WICK_FRAME_DATA takes one byte of the
// window. The receiver gives bytes back by WICK_FRAME_CREDIT when it has passed the data on. A
// sender that exceeds the window breaks the protocol. Both sides read the port all the time.
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
  // Sent by the guest.
  WICK_FRAME_HELLO = 1,    // payload: uint32_t WICK_PROTOCOL_VERSION
  WICK_FRAME_STARTED = 2,  // the command runs; no payload
  WICK_FRAME_EXIT = 3,     // payload: struct wick_exit
  // The command could not be started, or init failed. Payload: uint32_t status, then text.
  WICK_FRAME_ERROR = 4,
  WICK_FRAME_NOT_COPIED = 5,  // a copy of the plan failed; payload: text
  // Sent by both sides.
  WICK_FRAME_DATA = 16,    // bytes of `stream`; at least one
  WICK_FRAME_CREDIT = 17,  // for `stream`; payload: uint32_t number of bytes
  // Sent by wick.

  // `stream` has ended (WICK_STDIN), or nobody reads it any more (WICK_STDOUT, WICK_STDERR).
  WICK_FRAME_EOF = 32,     // no payload
  WICK_FRAME_SIGNAL = 33,  // for the command's process group; payload: uint32_t signal
  WICK_FRAME_RESIZE = 34,  // the terminal's size; payload: uint16_t columns, uint16_t rows
};

struct wick_frame {
  uint8_t type;
  uint8_t stream;  // 0 if the type has no stream
  uint16_t reserved;
  uint32_t length;  // the payload's length in bytes
};

// How the command ended.
struct wick_exit {
  uint32_t status;  // the exit status, or 0
  uint32_t signal;  // the signal that killed the command, or 0
  uint64_t user_us;
  uint64_t system_us;
  uint64_t max_resident_kib;
};

// Statuses of WICK_FRAME_ERROR, with the meanings that shells give them. Any other status is a
// failure of init.
enum { WICK_CANNOT_EXECUTE = 126, WICK_NOT_FOUND = 127 };

#endif

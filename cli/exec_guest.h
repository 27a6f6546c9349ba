// Prepares the guest of wick exec: the plan of its init, and the initramfs with that init.
//
// Thread rule: one thread at a time, because find_exec_user() uses getpwnam(3).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "console/backend.h"
#include "guest/plan.h"

namespace wick::cli {

// The user who runs the command.
struct ExecUser {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  // Empty for a user without an entry in the host's list of users.
  std::string name, home, shell;
};

// Finds the user `spec`, a NAME, UID or UID:GID of the host; empty: the caller.
Result<ExecUser> find_exec_user(const std::string& spec);

// Returns the command's environment: the variables of the caller that the command also gets, then
// those of `more` (NAME or NAME=VALUE). `user` is nullopt if the caller runs the command. Each
// element of `caller` is "NAME=VALUE".
std::vector<std::string> exec_environment(const std::vector<std::string>& caller,
                                          const std::vector<std::string>& more,
                                          const std::optional<ExecUser>& user);

struct ExecGuest {
  // A share of the host's files (virtio-fs).
  struct Share {
    std::string tag;
    std::string target;  // the path in the guest
    bool read_only = false;
  };
  std::string root_tag;  // the share that becomes the root; empty: the initramfs stays
  // The share that keeps what the guest writes to its root; empty: memory keeps it.
  std::string overlay_tag;
  std::vector<Share> shares;
  std::vector<std::string> tmpfs;
  // The copies to make when the command has ended: an absolute path of the guest, and the tag of
  // the share that gets the copy.
  std::vector<std::pair<std::string, std::string>> copies = {};
  std::string hostname;
  ExecUser user;
  std::string pwd;
  std::vector<std::string> environment;
  std::vector<std::string> command;
  // The size of the command's terminal; nullopt: the command has three pipes instead.
  std::optional<console::Size> terminal;
  // True: standard error is a pipe although there is a terminal.
  bool separate_stderr = false;
  std::vector<std::string> modules;  // files of the host, in the order of loading
};

// Returns the plan for init. `modules` are the modules' paths in the initramfs.
guest::Plan exec_plan(const ExecGuest& guest, const std::vector<std::string>& modules);

// The path of init in the initramfs, for the kernel's parameter rdinit=.
inline constexpr const char* kExecInit = "/wick/init";

// Returns an archive in a memfd. It consists of the initramfs at `base_path`, unless that is empty,
// and of init, its plan and the modules.
Result<Fd> make_exec_initramfs(const ExecGuest& guest, const std::string& base_path);

}  // namespace wick::cli

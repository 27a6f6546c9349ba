// What the guest of wick exec starts with: the plan of its init and the initramfs with it.
//
// Thread rule: none.
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

// Who runs the command.
struct ExecUser {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  // Empty for a user without an entry in the host's list of users.
  std::string name, home, shell;
};

// `spec` is a NAME, UID or UID:GID of the host; empty: the caller.
Result<ExecUser> find_exec_user(const std::string& spec);

// The variables of the caller that the command gets too, then those of `more` (NAME or
// NAME=VALUE). `user` is set if it is not the caller. `caller` has "NAME=VALUE".
std::vector<std::string> exec_environment(const std::vector<std::string>& caller,
                                          const std::vector<std::string>& more,
                                          const std::optional<ExecUser>& user);

struct ExecGuest {
  // A share of the host's files (virtio-fs).
  struct Share {
    std::string tag;
    std::string target;  // in the guest
    bool read_only = false;
  };
  std::string root_tag;     // the share that becomes the root; empty: the initramfs stays
  std::string overlay_tag;  // the share that keeps what is written to it; empty: memory
  std::vector<Share> shares;
  std::vector<std::string> tmpfs;
  // What is copied in the end: an absolute path of the guest, and the tag of a share for it.
  std::vector<std::pair<std::string, std::string>> copies = {};
  std::string hostname;
  ExecUser user;
  std::string pwd;
  std::vector<std::string> environment;
  std::vector<std::string> command;
  std::optional<console::Size> terminal;  // nullopt: three pipes
  bool separate_stderr = false;           // with a terminal
  std::vector<std::string> modules;       // files, in the order of loading
};

// `modules` are the paths in the initramfs.
guest::Plan exec_plan(const ExecGuest& guest, const std::vector<std::string>& modules);

// Where init is in the initramfs, for the kernel's parameter rdinit=.
inline constexpr const char* kExecInit = "/wick/init";

// An archive in a memfd: the file at `base_path`, an initramfs, unless that is empty; then init,
// its plan and the modules.
Result<Fd> make_exec_initramfs(const ExecGuest& guest, const std::string& base_path);

}  // namespace wick::cli

#include "cli/exec_guest.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "base/bytes.h"
#include "base/write_all.h"
#include "boot/input_file.h"
#include "cli/exec_copy.h"
#include "guest/cpio.h"
#include "guest/init_image.h"
#include "guest/modules.h"
#include "guest/protocol.h"

namespace wick::cli {

namespace {

// The variables that the command gets from its caller: those that find programs and files, and
// those that tell the user's language and terminal. Other variables belong to the caller's session
// on the host (sockets, agents, secrets).
constexpr std::array<std::string_view, 11> kPassedOn = {"PATH",  "HOME",      "USER",     "LOGNAME",
                                                        "SHELL", "LANG",      "LANGUAGE", "TERM",
                                                        "TZ",    "COLORTERM", "NO_COLOR"};

constexpr std::string_view kDefaultPath =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

bool is_passed_on(std::string_view variable) {
  const std::string_view name = name_of(variable);
  return name.starts_with("LC_") || std::ranges::find(kPassedOn, name) != kPassedOn.end();
}

void set_variable(std::vector<std::string>& variables, const std::string& variable) {
  const auto same = [&](const std::string& other) { return name_of(other) == name_of(variable); };
  std::erase_if(variables, same);
  variables.push_back(variable);
}

std::optional<unsigned> number_in(std::string_view text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// setuid(2) takes this number for "no change", so that the command would stay root.
constexpr unsigned kNoId = ~0u;

void add_entry(ExecUser& user, const passwd& entry) {
  user.uid = entry.pw_uid;
  user.gid = entry.pw_gid;
  user.name = entry.pw_name;
  user.home = entry.pw_dir;
  user.shell = entry.pw_shell;
}

void add_groups(ExecUser& user) {
  const auto get = [&](int& count) {
    user.groups.resize(static_cast<size_t>(count));
    return ::getgrouplist(user.name.c_str(), user.gid, user.groups.data(), &count) >= 0;
  };
  int count = 64;
  // A first call that fails sets `count` to the number of groups.
  if (!get(count) && !get(count)) count = 0;
  user.groups.resize(static_cast<size_t>(count));
}

}  // namespace

Result<ExecUser> find_exec_user(const std::string& spec) {
  ExecUser user;
  if (spec.empty()) {
    user.uid = ::getuid();
    user.gid = ::getgid();
    user.groups.resize(static_cast<size_t>(std::max(::getgroups(0, nullptr), 0)));
    const int count = ::getgroups(static_cast<int>(user.groups.size()), user.groups.data());
    user.groups.resize(static_cast<size_t>(std::max(count, 0)));
    return user;
  }
  const size_t colon = spec.find(':');
  if (const auto uid = number_in(spec.substr(0, colon))) {
    user.uid = *uid;
    user.gid = *uid;
    if (const passwd* const entry = ::getpwuid(*uid)) add_entry(user, *entry);
    if (colon != spec.npos) {
      const auto gid = number_in(spec.substr(colon + 1));
      if (!gid) return fail("--user {}: the group must be a number", spec);
      user.gid = *gid;
    }
    if (user.uid == kNoId || user.gid == kNoId)
      return with_hint(fail("--user {}: {} is the ID of no user or group", spec, kNoId),
                       "give a smaller number");
  } else {
    const passwd* const entry = ::getpwnam(spec.c_str());
    if (entry == nullptr)
      return with_hint(fail("--user {}: this host has no such user", spec), "give UID:GID");
    add_entry(user, *entry);
  }
  if (!user.name.empty()) add_groups(user);
  return user;
}

std::vector<std::string> exec_environment(const std::vector<std::string>& caller,
                                          const std::vector<std::string>& more,
                                          const std::optional<ExecUser>& user) {
  std::vector<std::string> variables;
  for (const std::string& variable : caller)
    if (is_passed_on(variable)) variables.push_back(variable);
  const auto has_path = [](const std::string& variable) { return name_of(variable) == "PATH"; };
  if (std::ranges::none_of(variables, has_path)) variables.emplace_back(kDefaultPath);
  if (user) {
    for (const auto& [name, value] :
         {std::pair("USER=", user->name), std::pair("LOGNAME=", user->name),
          std::pair("HOME=", user->home), std::pair("SHELL=", user->shell)})
      if (!value.empty()) set_variable(variables, name + value);
  }
  for (const std::string& wanted : more) {
    if (wanted.find('=') != wanted.npos) {
      set_variable(variables, wanted);
      continue;
    }
    for (const std::string& variable : caller)
      if (name_of(variable) == wanted) set_variable(variables, variable);
  }
  return variables;
}

guest::Plan exec_plan(const ExecGuest& guest, const std::vector<std::string>& modules) {
  guest::Plan plan;
  for (const std::string& path : modules) plan.module(path);
  // init needs these mounts to find the port. Errors before the port is open are only in the
  // kernel's log.
  plan.make_folder("/sys").mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC);
  plan.make_folder("/dev").mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
  plan.open_port(WICK_PORT_NAME);
  if (!guest.root_tag.empty()) {
    plan.make_folder("/wick/lower");
    plan.mount(guest.root_tag, "/wick/lower", "virtiofs", MS_RDONLY);
    plan.make_folder("/wick/upper");
    if (guest.overlay_tag.empty())
      plan.mount("upper", "/wick/upper", "tmpfs", 0, "mode=0755");
    else
      plan.mount(guest.overlay_tag, "/wick/upper", "virtiofs");
    plan.make_folder("/wick/upper/root").make_folder("/wick/upper/work").make_folder("/wick/root");
    plan.mount("root", "/wick/root", "overlay", 0,
               std::string("lowerdir=/wick/lower,upperdir=/wick/upper/root,"
                           "workdir=/wick/upper/work") +
                   (guest.overlay_tag.empty() ? "" : ",userxattr"));
    plan.move_root("/wick/root");
    plan.make_folder("/sys").mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC);
    plan.make_folder("/dev").mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    // A new /run, because the host's sockets and locks are of no use in the guest.
    plan.make_folder("/run").mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
  }
  plan.make_folder("/proc").mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC);
  // These steps may fail, because a kernel may be built without the features.
  plan.maybe()
      .make_folder("/dev/pts")
      .maybe()
      .mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666");
  plan.maybe()
      .make_folder("/dev/shm")
      .maybe()
      .mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
  plan.maybe().mount("cgroup", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC);
  plan.maybe().mount("debugfs", "/sys/kernel/debug", "debugfs");
  plan.maybe().mount("tracefs", "/sys/kernel/tracing", "tracefs");
  for (const auto& [text, path] :
       {std::pair("/proc/self/fd", "/dev/fd"), std::pair("/proc/self/fd/0", "/dev/stdin"),
        std::pair("/proc/self/fd/1", "/dev/stdout"), std::pair("/proc/self/fd/2", "/dev/stderr")})
    plan.maybe().symlink(text, path);
  if (guest.root_tag.empty()) plan.make_folder("/tmp", 01777);
  // With root's files of the host in them, set-user-ID programs would give the user root's rights.
  for (const ExecGuest::Share& share : guest.shares)
    plan.make_folder(share.target)
        .mount(share.tag, share.target, "virtiofs",
               MS_NOSUID | MS_NODEV | (share.read_only ? MS_RDONLY : 0));
  for (const std::string& folder : guest.tmpfs)
    plan.make_folder(folder).mount("tmpfs", folder, "tmpfs", 0, "mode=1777");
  for (const auto& [path, tag] : guest.copies) {
    const std::string folder = "/run/" + tag;
    plan.make_folder(folder).mount(tag, folder, "virtiofs");
    plan.copy(path, fmt::format("{}/{}", folder, ExecCopy::kName));
  }
  plan.maybe().loopback();
  plan.hostname(guest.hostname);
  plan.user(guest.user.uid, guest.user.gid, guest.user.groups).pwd(guest.pwd);
  if (guest.terminal) plan.terminal(*guest.terminal, guest.separate_stderr);
  return plan.environment(guest.environment).command(guest.command);
}

namespace {

Result<void> append_file(std::vector<std::byte>& archive, const std::string& path) {
  constexpr uint64_t kMaxBytes = 1 << 30;
  const auto file = TRY(boot::InputFile::open(path));
  if (file.size_bytes() > kMaxBytes) return fail("{}: too large for an initramfs", path);
  archive.resize(file.size_bytes());
  TRY(file.read(0, archive));
  // The archive that follows must begin at a multiple of 4 bytes.
  archive.resize(align_up(archive.size(), 4));
  return {};
}

}  // namespace

Result<Fd> make_exec_initramfs(const ExecGuest& guest, const std::string& base_path) {
  std::vector<std::byte> base;
  if (!base_path.empty()) TRY(append_file(base, base_path));
  guest::Cpio cpio;
  std::vector<std::string> modules;
  for (const std::string& path : guest.modules) {
    const auto content = TRY(guest::read_module(path));
    modules.push_back(fmt::format("/wick/modules/{}.ko", guest::module_name(path)));
    cpio.add_file(modules.back().substr(1), content);
  }
  const guest::Plan plan = exec_plan(guest, modules);
  cpio.add_file(&WICK_PLAN_PATH[1], as_bytes(plan.text().data(), plan.text().size()), 0600);
  cpio.add_file(&kExecInit[1], guest::init_image(), 0755);
  const std::vector<std::byte> archive = cpio.finish();

  Fd file(::memfd_create("initramfs", MFD_CLOEXEC));
  if (!file.valid()) return fail_errno(errno, "memfd: cannot create the initramfs");
  using Bytes = std::span<const std::byte>;
  for (const Bytes part : {Bytes(base), Bytes(archive)})
    if (const int error = write_all(file.get(), part); error != 0)
      return fail_errno(error, "memfd: cannot write the initramfs");
  return file;
}

}  // namespace wick::cli

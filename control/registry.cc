#include "control/registry.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <thread>

#include "base/replace_file.h"
#include "base/unix_socket.h"
#include "control/start_ticks.h"

namespace wick::control {

namespace {

using std::chrono::milliseconds;

constexpr const char* kLock = "lock";
constexpr const char* kMachineFile = "machine.json";
constexpr const char* kEndingFile = "ending.json";
// The folder in /run/wick that belongs to wick net; the other folders there are entries of root's
// machines.
constexpr std::string_view kFolderOfNetworks = "net";
constexpr milliseconds kRetryPeriod{1};
constexpr int kMaxTries = 500;

// Opens a folder of the user's own that nobody else can write to.
Result<Fd> open_own_folder(const Fd& parent, const std::string& name, const std::string& path) {
  Fd folder(::openat(parent.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.valid()) {
    const bool link = errno == ELOOP || errno == ENOTDIR;
    if (link)
      return with_hint(fail("{}: not a folder; links are not followed", path),
                       "remove it: wick makes a new one");
    return fail_errno(errno, "{}: cannot open the folder of machines", path);
  }
  struct stat status {};
  if (::fstat(folder.get(), &status) < 0) return fail_errno(errno, "{}: cannot stat", path);
  const bool owned = status.st_uid == ::geteuid();
  if (owned && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0) return folder;
  constexpr const char* kOther = "set WICK_RUNTIME_DIR to a folder of your own";
  if (!owned) return with_hint(fail("{}: not trusted: it is another user's", path), kOther);
  return with_hint(fail("{}: not trusted: others than its owner may write to it", path),
                   fmt::format("chmod go-w {}, or {}", path, kOther));
}

struct flock whole_file(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

bool try_lock(const Fd& file) {
  auto lock = whole_file(F_WRLCK);
  return ::fcntl(file.get(), F_OFD_SETLK, &lock) == 0;
}

// Returns true if a machine's process holds the lock. Read locks of processes that wait for the
// machine's end do not count.
bool is_locked(const Fd& file) {
  auto lock = whole_file(F_RDLCK);
  return ::fcntl(file.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK;
}

bool same_file(const Fd& file, const Fd& folder, const char* name) {
  struct stat open {};
  struct stat named {};
  return ::fstat(file.get(), &open) == 0 &&
         ::fstatat(folder.get(), name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         open.st_ino == named.st_ino && open.st_dev == named.st_dev;
}

using Directory = std::unique_ptr<DIR, decltype([](DIR* directory) { ::closedir(directory); })>;

std::vector<std::string> names_in(const Fd& folder) {
  std::vector<std::string> names;
  // The folder is opened again, because reading moves the offset of an open file description.
  const int copy = ::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const Directory directory(copy < 0 ? nullptr : ::fdopendir(copy));
  if (!directory) return names;
  while (const dirent* const entry = ::readdir(directory.get())) names.emplace_back(entry->d_name);
  return names;
}

// Removes all files but the lock. Folders, which wick does not make, stay.
void remove_content(const Fd& folder) {
  for (const std::string& name : names_in(folder))
    if (name != kLock) (void)::unlinkat(folder.get(), name.c_str(), 0);
}

// Removes an entry. The lock is removed last, because a folder without a lock is no entry.
void remove_entry(const Fd& registry, const std::string& name, const Fd& folder) {
  remove_content(folder);
  (void)::unlinkat(folder.get(), kLock, 0);
  (void)::unlinkat(registry.get(), name.c_str(), AT_REMOVEDIR);
}

Result<Fd> open_for_reading(const Fd& folder, const char* name) {
  // O_NONBLOCK: a FIFO must not make wick wait.
  Fd file(::openat(folder.get(), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid()) return fail_errno(errno, "{}: cannot open", name);
  struct stat status {};
  if (::fstat(file.get(), &status) < 0 || !S_ISREG(status.st_mode))
    return fail("{}: not a file", name);
  return file;
}

// Returns the content of a file from its start, limited to about kMaxRecordBytes.
std::string content_of(const Fd& file) {
  std::string text;
  std::array<char, 4096> part;
  while (text.size() <= kMaxRecordBytes) {
    const ssize_t got =
        ::pread(file.get(), part.data(), part.size(), static_cast<off_t>(text.size()));
    if (got <= 0) break;
    text.append(part.data(), static_cast<size_t>(got));
  }
  return text;
}

std::unexpected<Error> already_running(const std::string& name) {
  return with_hint(fail("{}: a machine of this name is running", name),
                   fmt::format("choose another name, or end it: wick shutdown {}", name));
}

}  // namespace

Result<void> check_machine_name(std::string_view name) {
  const auto refuse = [&](std::string_view why) {
    return with_hint(fail("'{}': {}", name, why), "choose a name such as web-1");
  };
  const auto unfit = [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; };
  if (name.empty()) return refuse("the name of a machine must not be empty");
  if (name.size() > kMaxMachineNameBytes)
    return refuse(fmt::format("the name of a machine has at most {} bytes, this one has {}",
                              kMaxMachineNameBytes, name.size()));
  if (name.front() == '.' || name.front() == '-')
    return refuse("the name of a machine must not begin with '.' or '-'");
  if (name.find('/') != name.npos || std::ranges::any_of(name, unfit))
    return refuse("the name of a machine must not contain slashes, blanks or control characters");
  if (name == kFolderOfNetworks)
    return refuse("this name is reserved for the networks of wick net");
  return {};
}

std::string registry_folder(const RegistryVariables& variables, uid_t user) {
  const auto is_absolute = [](const char* path) { return path != nullptr && *path == '/'; };
  if (is_absolute(variables.wick_runtime_dir)) return variables.wick_runtime_dir;
  if (user == 0) return "/run/wick";
  if (is_absolute(variables.xdg_runtime_dir))
    return fmt::format("{}/wick", variables.xdg_runtime_dir);
  return fmt::format("/tmp/wick-{}", user);
}

Result<Registry> Registry::open() {
  RegistryVariables variables{std::getenv("WICK_RUNTIME_DIR"), std::getenv("XDG_RUNTIME_DIR")};
  // In a container XDG_RUNTIME_DIR is often set, although there is no such folder.
  if (variables.xdg_runtime_dir != nullptr && ::access(variables.xdg_runtime_dir, W_OK) != 0)
    variables.xdg_runtime_dir = nullptr;
  return open(registry_folder(variables, ::geteuid()));
}

Result<Registry> Registry::open(const std::string& folder) {
  std::string path = folder;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const size_t slash = path.rfind('/');
  if (slash == path.npos || path.size() == 1)
    return fail("{}: the folder of machines needs an absolute path", folder);
  const std::string parent = slash == 0 ? "/" : path.substr(0, slash);
  const std::string name = path.substr(slash + 1);
  const Fd above(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!above.valid())
    return with_hint(fail_errno(errno, "{}: cannot open the folder of machines", parent),
                     "set WICK_RUNTIME_DIR or XDG_RUNTIME_DIR to a folder of your own");
  // All users may read /run/wick, for `wick net status`. The entries in it are readable for root
  // only.
  const mode_t mode = ::geteuid() == 0 ? 0755 : 0700;
  if (::mkdirat(above.get(), name.c_str(), mode) < 0 && errno != EEXIST)
    return with_hint(fail_errno(errno, "{}: cannot make the folder of machines", path),
                     "set WICK_RUNTIME_DIR or XDG_RUNTIME_DIR to a folder of your own");
  return Registry(path, TRY(open_own_folder(above, name, path)));
}

Result<MachineEntry> Registry::claim(const std::string& name) const {
  TRY(check_machine_name(name));
  const std::string path = path_ + '/' + name;
  // Of all sockets in the entry, monitor.sock has the longest path.
  if (!unix_address(path + "/monitor.sock"))
    return with_hint(fail("{}: too long for the path of a socket", path),
                     "choose a shorter name, or set WICK_RUNTIME_DIR to a shorter path");
  // A try fails only if another process has just changed the entry, or briefly holds its lock.
  for (int tries = 0; tries < kMaxTries; ++tries) {
    if (::mkdirat(folder_.get(), name.c_str(), 0700) < 0 && errno != EEXIST)
      return fail_errno(errno, "{}: cannot make the machine's folder", path);
    Fd folder = TRY(open_own_folder(folder_, name, path));
    constexpr int kFlags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    Fd lock(::openat(folder.get(), kLock, kFlags | O_CREAT | O_EXCL, 0600));
    const bool fresh = lock.valid();
    if (!fresh) lock = Fd(::openat(folder.get(), kLock, kFlags));
    if (!lock.valid()) {
      if (errno == ENOENT) continue;
      return with_hint(fail_errno(errno, "{}/{}: cannot open", path, kLock), "remove it");
    }
    if (!try_lock(lock)) {
      if (is_locked(lock)) return already_running(name);
      // A process that waited for the end of the last machine holds the lock for a moment.
      std::this_thread::sleep_for(kRetryPeriod);
      continue;
    }
    if (!same_file(lock, folder, kLock) || !same_file(folder, folder_, name.c_str())) continue;
    if (fresh)
      return MachineEntry(name, path, Fd(::fcntl(folder_.get(), F_DUPFD_CLOEXEC, 0)),
                          std::move(folder), std::move(lock));

    // Processes that wait for the ending of the last machine have its lock open, so the new machine
    // gets a new lock.
    remove_content(folder);
    constexpr const char* kNewLock = "lock.new";
    Fd new_lock(::openat(folder.get(), kNewLock, kFlags | O_CREAT | O_EXCL, 0600));
    if (!new_lock.valid() || !try_lock(new_lock) ||
        ::renameat(folder.get(), kNewLock, folder.get(), kLock) < 0)
      return fail_errno(errno, "{}/{}: cannot make", path, kLock);
    return MachineEntry(name, path, Fd(::fcntl(folder_.get(), F_DUPFD_CLOEXEC, 0)),
                        std::move(folder), std::move(new_lock));
  }
  return fail("{}: other processes keep changing this folder", path);
}

Result<std::optional<MachineView>> Registry::look_up(const std::string& name) const {
  Fd folder(::openat(folder_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.valid()) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return std::nullopt;
    return fail_errno(errno, "{}/{}: cannot open", path_, name);
  }
  auto lock = open_for_reading(folder, kLock);
  if (!lock) return std::nullopt;
  return MachineView(name, path_ + '/' + name, std::move(folder), *std::move(lock));
}

Result<MachineView> Registry::find(const std::string& name) const {
  TRY(check_machine_name(name));
  auto found = TRY(look_up(name));
  if (!found) return with_hint(fail("{}: no machine of this name", name), "see wick list --all");
  return *std::move(found);
}

Result<std::vector<std::string>> Registry::names() const {
  std::vector<std::string> names;
  for (const std::string& name : names_in(folder_))
    if (check_machine_name(name) && TRY(look_up(name))) names.push_back(name);
  std::ranges::sort(names);
  return names;
}

Result<void> Registry::remove(const std::string& name) const {
  const MachineView view = TRY(find(name));
  const Fd lock(::openat(view.folder_.get(), kLock, O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!lock.valid()) return fail_errno(errno, "{}/{}: cannot open", view.folder_path_, kLock);
  for (int tries = 0; !try_lock(lock); ++tries) {
    if (is_locked(lock) || tries == kMaxTries) return already_running(name);
    std::this_thread::sleep_for(kRetryPeriod);
  }
  if (!same_file(lock, view.folder_, kLock)) return already_running(name);
  remove_entry(folder_, name, view.folder_);
  return {};
}

// --- MachineEntry ---

Result<Fd> MachineEntry::create_file(const char* file) const {
  Fd made(::openat(folder_.get(), file,
                   O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!made.valid()) return fail_errno(errno, "{}: cannot create", path(file));
  return made;
}

// Writes a file without a sync: after a power failure nobody reads the entry, because the machine
// has ended.
Result<void> MachineEntry::write_file(const char* file, std::string_view text) const {
  auto written = replace_file_at(folder_.get(), file, text, {.sync = false});
  if (!written) written.error().context = folder_path_ + '/' + written.error().context;
  return written;
}

Result<void> MachineEntry::publish(const MachineRecord& record) const {
  return write_file(kMachineFile, to_json(record));
}

void MachineEntry::write_ending(const EndingRecord& ending) const {
  const std::string text = to_json(ending);
  (void)!::pwrite(lock_.get(), text.data(), text.size(), 0);
}

Result<void> MachineEntry::finish(int status, const std::string& reason) const {
  const EndingRecord ending{status, reason, ::time(nullptr)};
  write_ending(ending);
  return write_file(kEndingFile, to_json(ending));
}

void MachineEntry::remove(int status, const std::string& reason) const {
  write_ending({status, reason, ::time(nullptr)});
  remove_entry(registry_, name_, folder_);
}

// --- MachineView ---

MachineView::State MachineView::state() const {
  if (is_locked(lock_)) return State::kLive;
  return ending() ? State::kEnded : State::kCrashed;
}

std::optional<MachineRecord> MachineView::record() const {
  const auto file = open_for_reading(folder_, kMachineFile);
  if (!file) return std::nullopt;
  auto record = parse_machine_record(content_of(*file));
  if (!record) return std::nullopt;
  return *std::move(record);
}

std::optional<EndingRecord> MachineView::ending() const {
  auto ending = parse_ending_record(content_of(lock_));
  if (!ending) return std::nullopt;
  return *std::move(ending);
}

Result<Fd> MachineView::open_file(const char* file) const {
  auto opened = open_for_reading(folder_, file);
  if (!opened) opened.error().context = folder_path_ + '/' + opened.error().context;
  return opened;
}

Result<bool> MachineView::wait(std::optional<milliseconds> timeout) const {
  if (timeout) {
    const auto deadline = std::chrono::steady_clock::now() + *timeout;
    constexpr milliseconds kPeriod{5};
    while (is_locked(lock_)) {
      if (std::chrono::steady_clock::now() >= deadline) return false;
      std::this_thread::sleep_for(kPeriod);
    }
    return true;
  }
  auto lock = whole_file(F_RDLCK);
  while (::fcntl(lock_.get(), F_OFD_SETLKW, &lock) < 0)
    if (errno != EINTR) return fail_errno(errno, "{}: cannot wait for its end", name_);
  lock = whole_file(F_UNLCK);
  (void)::fcntl(lock_.get(), F_OFD_SETLK, &lock);
  return true;
}

Result<void> MachineView::kill() const {
  const auto described = record();
  if (!described) {
    if (!is_locked(lock_)) return {};
    return with_hint(fail("{}: its process is not known", path(kMachineFile)),
                     fmt::format("find it with: fuser {}", path("lock")));
  }
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, described->pid, 0)));
  const int error = errno;
  // A process with the recorded PID and start time is the machine's. The lock is checked last: if
  // it is still held, the machine has not ended since its record was read, so the pidfd refers to
  // the machine's process.
  const auto ticks = start_ticks(described->pid);
  if (!is_locked(lock_)) return {};
  if (!process.valid())
    return fail_errno(error, "{}: cannot open process {}", name_, described->pid);
  if (!ticks || *ticks != described->start_ticks)
    return with_hint(fail("{}: process {} is not the machine's", name_, described->pid),
                     "is the machine in another container?");
  if (::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) < 0 && errno != ESRCH)
    return fail_errno(errno, "{}: cannot kill process {}", name_, described->pid);
  return {};
}

}  // namespace wick::control

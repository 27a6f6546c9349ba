#include "base/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "base/mutex.h"

namespace wick {

namespace {

int bind_to(const Fd& socket, const sockaddr_un& address) {
  return ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

int connect_to(const Fd& socket, const sockaddr_un& address) {
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

// Removes the socket of a process that died. Two processes that find the same stale socket could
// race: one could remove the other's new socket. The second lstat() narrows that race to a few
// instructions.
Result<void> remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) return {};  // another process has removed it
  if (!S_ISSOCK(found.st_mode))
    return with_hint(fail("unix:{}: the file exists and is not a socket", path),
                     "remove it or choose another path");

  // The probe is a datagram socket, so that the listener accepts no connection: a
  // stream socket would become its client and get the guest's output.
  const Fd probe(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return fail_errno(errno, "unix:{}: cannot make a socket", path);
  const int error = connect_to(probe, address) == 0 ? 0 : errno;
  if (error == 0 || error == EPROTOTYPE)
    return with_hint(fail("unix:{}: another process is using this socket", path),
                     "choose another path, or end that process");
  if (error == ENOENT) return {};
  if (error != ECONNREFUSED)
    return fail_errno(error, "unix:{}: cannot find out whether this socket is in use", path);

  struct stat now {};
  if (::lstat(path.c_str(), &now) == 0 && now.st_ino == found.st_ino &&
      now.st_dev == found.st_dev && ::unlink(path.c_str()) != 0)
    return fail_errno(errno, "unix:{}: cannot remove a stale socket", path);
  return {};
}

// The files that quick_exit() removes.
Mutex files_mutex;
std::vector<const UnixSocketFile*> files GUARDED_BY(files_mutex);

}  // namespace

UnixSocketFile::UnixSocketFile(std::string path) : path_(std::move(path)) {
  struct stat file {};
  if (::lstat(path_.c_str(), &file) == 0) {
    device_ = file.st_dev;
    inode_ = file.st_ino;
  }
  static const int at_quick_exit = std::at_quick_exit([] {
    const MutexLock lock(files_mutex);
    for (const UnixSocketFile* const made : files) made->remove();
  });
  (void)at_quick_exit;
  const MutexLock lock(files_mutex);
  files.push_back(this);
}

UnixSocketFile::~UnixSocketFile() {
  const MutexLock lock(files_mutex);
  std::erase(files, this);
  remove();
}

void UnixSocketFile::remove() const {
  struct stat now {};
  const bool ours =
      ::lstat(path_.c_str(), &now) == 0 && now.st_ino == inode_ && now.st_dev == device_;
  if (ours) (void)::unlink(path_.c_str());
}

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty()) return fail("unix: the socket's path is empty");
  if (path.size() >= sizeof(address.sun_path))
    return with_hint(fail("unix:{}: the path has {} bytes; the path of a socket has at most {}",
                          path, path.size(), sizeof(address.sun_path) - 1),
                     "use a shorter or a relative path");
  std::ranges::copy(path, address.sun_path);
  return address;
}

Result<Fd> listen_unix(const std::string& path) {
  const sockaddr_un address = TRY(unix_address(path));
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener.valid()) return fail_errno(errno, "unix:{}: cannot make a socket", path);
  // bind() gives the socket's mode to the file, so the file is never accessible to others.
  (void)::fchmod(listener.get(), 0600);
  int error = bind_to(listener, address) == 0 ? 0 : errno;
  if (error == EADDRINUSE) {
    TRY(remove_stale(path, address));
    error = bind_to(listener, address) == 0 ? 0 : errno;
  }
  if (error != 0)
    return with_hint(fail_errno(error, "unix:{}: cannot make the socket", path),
                     "check the directory and its permissions");
  if (::listen(listener.get(), 8) != 0) return fail_errno(errno, "unix:{}: cannot listen", path);
  return listener;
}

Result<Fd> connect_unix(const std::string& path) {
  const sockaddr_un address = TRY(unix_address(path));
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return fail_errno(errno, "unix:{}: cannot make a socket", path);
  if (connect_to(socket, address) == 0) return socket;
  const int error = errno;
  const char* hint = "check the path and its permissions";
  if (error == ENOENT) hint = "there is no such socket; is the machine running?";
  std::error_code absent;
  if (error == ECONNREFUSED)
    hint = std::filesystem::is_socket(path, absent) ? "no machine listens on this socket"
                                                    : "the file is not a socket";
  return with_hint(fail_errno(error, "unix:{}: cannot connect", path), hint);
}

}  // namespace wick

// Opens Unix stream sockets, for listening and for connecting.
#pragma once

#include <sys/types.h>
#include <sys/un.h>

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wick {

// Fails if `path` is too long for a socket address.
Result<sockaddr_un> unix_address(const std::string& path);

// Makes a non-blocking socket that listens at `path`, with mode 0600. A stale socket
// at `path` is replaced; any other existing file is an error.
Result<Fd> listen_unix(const std::string& path);

Result<Fd> connect_unix(const std::string& path);

// Removes the file of a socket when destroyed, and in quick_exit(), which ends a process whose
// main thread cannot be joined. A file that has replaced it is kept.
class UnixSocketFile {
 public:
  explicit UnixSocketFile(std::string path);
  UnixSocketFile(const UnixSocketFile&) = delete;
  UnixSocketFile& operator=(const UnixSocketFile&) = delete;
  ~UnixSocketFile();

 private:
  void remove() const;

  const std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace wick

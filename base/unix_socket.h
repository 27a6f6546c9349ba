// Opens Unix stream sockets, for listening and for connecting.
#pragma once

#include <sys/types.h>
#include <sys/un.h>

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wick {

// Returns the socket address of `path`. Fails if the path is empty or too long for it.
Result<sockaddr_un> unix_address(const std::string& path);

// Makes a non-blocking socket that listens at `path`, with mode 0600. Replaces a stale socket at
// `path`; any other existing file is an error.
Result<Fd> listen_unix(const std::string& path);

Result<Fd> connect_unix(const std::string& path);

// Removes a socket's file when destroyed, and in quick_exit(), which runs no destructors. If the
// path then leads to another file, that file is not removed.
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

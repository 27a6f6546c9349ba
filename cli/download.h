// Downloads files with libcurl: by HTTP, HTTPS or FTP, through the proxies of the environment
// (http_proxy and others, as curl(1) does).
//
// A server is hostile: redirects, sizes and times are bounded, and a redirect leads only to
// HTTP or HTTPS, from HTTPS only to HTTPS.
//
// Thread rule: an object belongs to one thread, which waits until a transfer ends.
//
// Specification: RFC 9110 (HTTP), 13.1 for validators.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/curl.h"

namespace wick::cli {

// What identifies a version of a file on a server, to ask later whether the file has changed.
struct Validators {
  std::string etag;           // with its quotes; empty: none
  std::string last_modified;  // as the server wrote it; empty: none

  bool empty() const { return etag.empty() && last_modified.empty(); }
};

// A file on a server, now in a file of the host.
struct Downloaded {
  bool unmodified = false;  // the server has the version of the given validators; nothing written
  Validators validators;
  std::string sha256;
};

struct DownloadTimes {
  std::chrono::seconds connect{20};
  std::chrono::seconds stalled{30};  // with next to no data
  std::chrono::seconds small{60};    // for the whole of has() and read()
};

class Downloader {
 public:
  static Result<Downloader> create(const DownloadTimes& times = {});

  // Whether the server has the file.
  Result<bool> has(const std::string& url);
  // The content of a small file; nullopt: there is none. An error if it has more bytes.
  Result<std::optional<std::string>> read(const std::string& url, size_t max_bytes);
  // Writes the file to `fd`, from its position on. With `known`, only if it has changed. Shows
  // its progress on a terminal if it takes long. After an error the file has some of the bytes.
  Result<Downloaded> fetch(const std::string& url, int fd, uint64_t max_bytes,
                           const Validators& known = {});

 private:
  struct Handle {
    const CurlLibrary* library;
    void operator()(CURL* handle) const { library->destroy(handle); }
  };
  struct Transfer;
  struct Headers;

  Downloader(const CurlLibrary& library, CURL* handle, const DownloadTimes& times)
      : library_(&library), times_(times), handle_(handle, Handle{&library}) {}
  // Performs a request and sets the status of `transfer`. False: there is no such file.
  Result<bool> perform(Transfer& transfer);
  bool set_options(Transfer& transfer, Headers& headers, std::array<char, CURL_ERROR_SIZE>& reason);
  Result<bool> result_of(const Transfer& transfer, CURLcode done, std::string_view reason) const;

  const CurlLibrary* library_;
  DownloadTimes times_;
  std::unique_ptr<CURL, Handle> handle_;
};

// Whether `location` is a URL (SCHEME://…), of whatever scheme.
bool is_url(std::string_view location);

// An error unless `url` is one that can be downloaded from, and to which a path can be appended.
Result<void> check_url(const std::string& url);

// For messages and logs: without the user's name and password.
std::string without_password(std::string_view url);

// The URL of a file below `url`. Characters of `path` that mean something in a URL are escaped.
std::string url_below(std::string_view url, std::string_view path);

}  // namespace wick::cli

// Downloads files with libcurl: by HTTP, HTTPS or FTP, through the proxies of the environment
// (http_proxy and others, as curl(1) does).
//
// A server is treated as hostile: redirects, sizes and times are bounded. A redirect may lead only
// to HTTP or HTTPS, and if the URL is an HTTPS URL, only to HTTPS.
//
// Thread rule: an object belongs to one thread, which it blocks until a transfer ends.
//
// Specification: RFC 9110 (HTTP), 13.1 (validators).
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

// The validators of a file on a server. They identify a version of the file, so that a later
// request can ask whether the file has changed.
struct Validators {
  std::string etag;           // with its quotes; empty: none
  std::string last_modified;  // as the server wrote it; empty: none

  bool empty() const { return etag.empty() && last_modified.empty(); }
};

// The result of a download into a file of the host.
struct Downloaded {
  bool unmodified = false;  // true: the given validators still match, so nothing was written
  Validators validators;
  std::string sha256;
};

struct DownloadTimes {
  std::chrono::seconds connect{20};
  std::chrono::seconds stalled{30};  // the time with almost no data after which a transfer fails
  std::chrono::seconds small{60};    // the limit for the whole of has() or read()
};

class Downloader {
 public:
  static Result<Downloader> create(const DownloadTimes& times = {});

  // Returns true if the server has the file.
  Result<bool> has(const std::string& url);
  // Returns the content of a small file; nullopt: the server has no such file. Fails if the file
  // has more than `max_bytes`.
  Result<std::optional<std::string>> read(const std::string& url, size_t max_bytes);
  // Writes the file to `fd`, from the descriptor's position on; with `known`, only if the file has
  // changed. A terminal shows the progress of a long transfer. After an error `fd` may have some of
  // the bytes.
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
  // Performs a request and sets the status of `transfer`. Returns false if there is no such file.
  Result<bool> perform(Transfer& transfer);
  bool set_options(Transfer& transfer, Headers& headers, std::array<char, CURL_ERROR_SIZE>& reason);
  Result<bool> result_of(const Transfer& transfer, CURLcode done, std::string_view reason) const;

  const CurlLibrary* library_;
  DownloadTimes times_;
  std::unique_ptr<CURL, Handle> handle_;
};

// Returns true if `location` is a URL (SCHEME://…) of any scheme.
bool is_url(std::string_view location);

// Fails unless wick can download from `url`, and a path can be appended to it.
Result<void> check_url(const std::string& url);

// Returns the URL without the user's name and password, for messages and logs.
std::string without_password(std::string_view url);

// Returns the URL of the file `path` below `url`. Characters of `path` that have a meaning in a URL
// are escaped.
std::string url_below(std::string_view url, std::string_view path);

}  // namespace wick::cli

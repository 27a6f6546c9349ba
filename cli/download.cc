#include "cli/download.h"

#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <span>
#include <utility>

#include "base/human_size.h"
#include "base/output.h"
#include "base/printable.h"
#include "base/write_all.h"
#include "boot/sha256.h"

namespace wick::cli {

namespace {

using Clock = std::chrono::steady_clock;

constexpr long kMaxRedirects = 10;
constexpr long kStalledBytesPerSecond = 100;
constexpr size_t kMaxDiscardedBytes = 64 << 10;  // limit for the page that comes with an error
constexpr size_t kMaxValidatorBytes = 256;
constexpr std::array<std::string_view, 3> kSchemes = {"http://", "https://", "ftp://"};
constexpr std::chrono::milliseconds kQuiet{3000};  // time before the progress is shown
constexpr std::chrono::milliseconds kProgressInterval{250};
constexpr std::string_view kEraseLine = "\r\x1b[K";

bool has_prefix(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         ::strncasecmp(text.data(), prefix.data(), prefix.size()) == 0;
}

// A line on the terminal for a transfer that takes long; the destructor erases it.
class Progress {
 public:
  explicit Progress(std::string name) : name_(std::move(name)) {}
  ~Progress() {
    if (shown_) (void)write_message(kEraseLine);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Shows the progress. `total_bytes` is 0 if the server has not told the size.
  void update(uint64_t bytes, uint64_t total_bytes) {
    const auto now = Clock::now();
    if (!terminal_ || now < next_) return;
    next_ = now + kProgressInterval;
    shown_ = true;
    const std::string of = total_bytes == 0 ? "" : " of " + human_size(total_bytes);
    (void)write_message(fmt::format("{}wick: {}: {}{}", kEraseLine, name_, human_size(bytes), of));
  }

 private:
  const std::string name_;
  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  Clock::time_point next_ = Clock::now() + kQuiet;
  bool shown_ = false;
};

std::string name_of(std::string_view url) {
  return printable(url.substr(url.rfind('/') + 1).substr(0, 60));
}

}  // namespace

// A request and its result.
struct Downloader::Transfer {
  const std::string& url;
  bool body = true;  // false: only the headers are requested
  uint64_t max_bytes = 0;
  // Takes a part of the body. Returns false, with errno set, if the part cannot be written.
  std::function<bool(std::span<const std::byte>)> consume;
  const Validators* known = nullptr;
  Progress* progress = nullptr;

  long status = 0;  // the status of HTTP, or the reply code of FTP
  uint64_t bytes = 0;
  uint64_t discarded_bytes = 0;
  bool too_large = false;
  int write_error = 0;  // the errno of a failed write; 0: none
  Validators validators{};

  const CurlLibrary* library = nullptr;
  CURL* handle = nullptr;

  bool is_http() const { return has_prefix(url, "http"); }
  std::string shown() const { return printable(without_password(url)); }

  // The callbacks of libcurl.
  static size_t on_body(char* data, size_t size, size_t count, void* transfer);
  static size_t on_header(char* data, size_t size, size_t count, void* transfer);
  static int on_progress(void* transfer, curl_off_t total, curl_off_t now, curl_off_t, curl_off_t);
  size_t take(std::span<const std::byte> data);
};

// Additional header lines of a request.
struct Downloader::Headers {
  explicit Headers(const CurlLibrary& with) : library(with) {}
  ~Headers() { library.free_list(lines); }
  Headers(const Headers&) = delete;
  Headers& operator=(const Headers&) = delete;

  // Returns false if there is no memory.
  bool add(const std::string& line) {
    curl_slist* const longer = library.append(lines, line.c_str());
    if (longer != nullptr) lines = longer;
    return longer != nullptr;
  }

  const CurlLibrary& library;
  curl_slist* lines = nullptr;
};

size_t Downloader::Transfer::on_body(char* data, size_t size, size_t count, void* transfer) {
  Transfer& to = *static_cast<Transfer*>(transfer);
  (void)to.library->get_info(to.handle, CURLINFO_RESPONSE_CODE, &to.status);
  return to.take(std::as_bytes(std::span(data, size * count)));
}

size_t Downloader::Transfer::on_header(char* data, size_t size, size_t count, void* transfer) {
  Validators& validators = static_cast<Transfer*>(transfer)->validators;
  const std::string_view line(data, size * count);
  const auto value = [line](std::string_view name) {
    std::string_view rest = line.substr(name.size());
    while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t')) rest.remove_prefix(1);
    while (!rest.empty() && (rest.back() == '\r' || rest.back() == '\n')) rest.remove_suffix(1);
    return rest.size() > kMaxValidatorBytes || printable(rest) != rest ? "" : std::string(rest);
  };
  if (has_prefix(line, "HTTP/")) validators = {};  // the headers of another response begin
  if (has_prefix(line, "ETag:")) validators.etag = value("ETag:");
  if (has_prefix(line, "Last-Modified:")) validators.last_modified = value("Last-Modified:");
  return line.size();
}

int Downloader::Transfer::on_progress(void* transfer, curl_off_t total, curl_off_t now, curl_off_t,
                                      curl_off_t) {
  Progress* const progress = static_cast<Transfer*>(transfer)->progress;
  if (progress != nullptr)
    progress->update(static_cast<uint64_t>(now), static_cast<uint64_t>(total));
  return 0;
}

// Takes a part of the body. Returns the number of bytes taken; if it is less than the part's size,
// libcurl ends the transfer.
size_t Downloader::Transfer::take(std::span<const std::byte> data) {
  if (is_http() && status / 100 != 2) {
    discarded_bytes += data.size();
    return discarded_bytes <= kMaxDiscardedBytes ? data.size() : 0;
  }
  bytes += data.size();
  too_large = bytes > max_bytes;
  if (too_large) return 0;
  if (consume(data)) return data.size();
  write_error = errno;
  return 0;
}

Result<Downloader> Downloader::create(const DownloadTimes& times) {
  const CurlLibrary* const library = TRY(load_curl());
  CURL* const handle = library->create();
  if (handle == nullptr) return fail("download: libcurl cannot start");
  return Downloader(*library, handle, times);
}

// Sets libcurl's options for a request. libcurl will write the text of an error to `reason`.
// Returns false if libcurl does not know an option.
bool Downloader::set_options(Transfer& transfer, Headers& headers,
                             std::array<char, CURL_ERROR_SIZE>& reason) {
  bool set = true;
  const auto option = [&](CURLoption name, auto value) {
    set = library_->set_option(handle_.get(), name, value) == CURLE_OK && set;
  };
  option(CURLOPT_ERRORBUFFER, reason.data());
  option(CURLOPT_URL, transfer.url.c_str());
  option(CURLOPT_USERAGENT, "wick");
  option(CURLOPT_NOSIGNAL, 1L);
  option(CURLOPT_PROTOCOLS_STR, "http,https,ftp");
  option(CURLOPT_FOLLOWLOCATION, 1L);
  option(CURLOPT_MAXREDIRS, kMaxRedirects);
  option(CURLOPT_REDIR_PROTOCOLS_STR, has_prefix(transfer.url, "https:") ? "https" : "http,https");
  option(CURLOPT_CONNECTTIMEOUT, static_cast<long>(times_.connect.count()));
  option(CURLOPT_LOW_SPEED_TIME, static_cast<long>(times_.stalled.count()));
  option(CURLOPT_LOW_SPEED_LIMIT, kStalledBytesPerSecond);
  // A large file has no time limit; the terminal shows its progress.
  if (transfer.progress == nullptr)
    option(CURLOPT_TIMEOUT, static_cast<long>(times_.small.count()));
  option(CURLOPT_NOBODY, transfer.body ? 0L : 1L);
  option(CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(transfer.max_bytes));
  option(CURLOPT_HEADERFUNCTION, &Transfer::on_header);
  option(CURLOPT_HEADERDATA, &transfer);
  option(CURLOPT_NOPROGRESS, 0L);
  option(CURLOPT_XFERINFOFUNCTION, &Transfer::on_progress);
  option(CURLOPT_XFERINFODATA, &transfer);
  option(CURLOPT_WRITEFUNCTION, &Transfer::on_body);
  option(CURLOPT_WRITEDATA, &transfer);
  const Validators known = transfer.known == nullptr ? Validators{} : *transfer.known;
  if (!known.etag.empty()) set = headers.add("If-None-Match: " + known.etag) && set;
  if (!known.last_modified.empty())
    set = headers.add("If-Modified-Since: " + known.last_modified) && set;
  if (headers.lines != nullptr) option(CURLOPT_HTTPHEADER, headers.lines);
  return set;
}

Result<bool> Downloader::perform(Transfer& transfer) {
  transfer.library = library_;
  transfer.handle = handle_.get();
  library_->reset(transfer.handle);  // the handle keeps its connections
  std::array<char, CURL_ERROR_SIZE> reason{};
  Headers headers(*library_);
  if (!set_options(transfer, headers, reason))
    return with_hint(fail("{}: libcurl is too old for this download", transfer.shown()),
                     "install libcurl4, 7.85 or later");
  const CURLcode done = library_->perform(transfer.handle);
  (void)library_->get_info(transfer.handle, CURLINFO_RESPONSE_CODE, &transfer.status);
  return result_of(transfer, done,
                   reason.front() != '\0' ? reason.data() : library_->describe(done));
}

// Returns the result of a transfer that has ended with `done`: false if there is no such file.
// `reason` is libcurl's text for `done`.
Result<bool> Downloader::result_of(const Transfer& transfer, CURLcode done,
                                   std::string_view reason) const {
  const std::string shown = transfer.shown();
  long redirects = 0;
  (void)library_->get_info(handle_.get(), CURLINFO_REDIRECT_COUNT, &redirects);
  if (transfer.too_large || done == CURLE_FILESIZE_EXCEEDED)
    return with_hint(fail("{}: larger than the limit of {}", shown, human_size(transfer.max_bytes)),
                     "check the location");
  if (transfer.write_error != 0)
    return fail_errno(transfer.write_error, "{}: cannot write what was downloaded", shown);
  if (!transfer.is_http() &&
      (done == CURLE_REMOTE_FILE_NOT_FOUND || done == CURLE_REMOTE_ACCESS_DENIED ||
       done == CURLE_FTP_COULDNT_RETR_FILE))
    return false;
  // A page that came with an error status is cut off at kMaxDiscardedBytes, which is no error of
  // its own.
  const bool ended = done == CURLE_WRITE_ERROR && transfer.discarded_bytes > kMaxDiscardedBytes;
  if (done == CURLE_UNSUPPORTED_PROTOCOL && redirects > 0)
    return with_hint(fail("{}: redirects to another protocol, which is not followed", shown),
                     "give the URL of a mirror");
  if (done != CURLE_OK && !ended)
    return with_hint(fail("{}: {}", shown, printable(reason)),
                     "check the URL and the network (and http_proxy, if it is set)");
  if (!transfer.is_http() || transfer.status / 100 == 2) return true;
  if (transfer.status == 304 && transfer.known != nullptr) return true;
  // An object store that does not list its objects answers 403 for an object that does not exist.
  if (transfer.status == 404 || transfer.status == 410 || transfer.status == 403) return false;
  return with_hint(fail("{}: the server's answer is HTTP status {}", shown, transfer.status),
                   "check the URL, or try again later");
}

Result<bool> Downloader::has(const std::string& url) {
  Transfer transfer{.url = url, .body = false, .consume = [](auto) { return true; }};
  transfer.max_bytes = INT64_MAX;
  return perform(transfer);
}

Result<std::optional<std::string>> Downloader::read(const std::string& url, size_t max_bytes) {
  std::string content;
  Transfer transfer{.url = url, .max_bytes = max_bytes, .consume = [&content](auto part) {
                      content.append(reinterpret_cast<const char*>(part.data()), part.size());
                      return true;
                    }};
  if (!TRY(perform(transfer))) return std::nullopt;
  return content;
}

Result<Downloaded> Downloader::fetch(const std::string& url, int fd, uint64_t max_bytes,
                                     const Validators& known) {
  boot::Sha256 hash;
  const auto write = [&hash, fd](std::span<const std::byte> part) {
    hash.update(part);
    return write_all(fd, part) == 0;
  };
  Progress progress(name_of(url));
  Transfer transfer{.url = url, .max_bytes = max_bytes, .consume = write};
  transfer.known = known.empty() ? nullptr : &known;
  transfer.progress = &progress;
  if (!TRY(perform(transfer)))
    return with_hint(fail("{}: the server has no such file", printable(without_password(url))),
                     "the tree is incomplete: try another mirror");
  return Downloaded{.unmodified = transfer.is_http() && transfer.status == 304,
                    .validators = std::move(transfer.validators),
                    .sha256 = hash.finish()};
}

bool is_url(std::string_view location) {
  const size_t end = location.find("://");
  return end != location.npos && end > 0 &&
         std::ranges::all_of(location.substr(0, end), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '+' || c == '-' || c == '.';
         });
}

Result<void> check_url(const std::string& url) {
  const std::string shown = printable(without_password(url));
  const auto scheme = std::ranges::find_if(
      kSchemes, [&](std::string_view prefix) { return has_prefix(url, prefix); });
  if (scheme == kSchemes.end())
    return with_hint(fail("{}: wick downloads only by http, https and ftp", shown),
                     "for files of this host, give the path of a folder");
  if (url.size() == scheme->size() || url[scheme->size()] == '/')
    return with_hint(fail("{}: the URL names no server", shown), "write http://SERVER/PATH");
  if (url.find_first_of("?#") != url.npos)
    return with_hint(fail("{}: the URL has a query or a fragment (? or #)", shown),
                     "give the URL of a folder");
  if (!std::ranges::all_of(url, [](char c) { return c > ' ' && c < 0x7f; }))
    return with_hint(fail("{}: the URL has characters that URLs do not have", shown),
                     "escape them as %NN");
  return {};
}

std::string without_password(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme == url.npos) return std::string(url);
  const size_t host = scheme + 3;
  const size_t at = url.substr(0, url.find_first_of("/?#", host)).rfind('@');
  if (at == url.npos || at < host) return std::string(url);
  return std::string(url.substr(0, host)) + std::string(url.substr(at + 1));
}

std::string url_below(std::string_view url, std::string_view path) {
  constexpr std::string_view kPlain = "-._~/";
  while (url.ends_with('/')) url.remove_suffix(1);
  std::string whole = std::string(url) + '/';
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       kPlain.find(c) != kPlain.npos;
    whole += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return whole;
}

}  // namespace wick::cli

#include "cli/download.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <string>

#include "boot/sha256.h"
#include "tests/fakes/http_server.h"

namespace wick::cli {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class DownloadTest : public ::testing::Test {
 protected:
  // Not through a proxy of the person who runs the tests.
  static void SetUpTestSuite() { ::setenv("no_proxy", "127.0.0.1", 1); }

  Result<Downloaded> fetch(const std::string& url, uint64_t max_bytes = 1 << 20,
                           const Validators& known = {}) {
    if (::ftruncate(file_.get(), 0) != 0 || ::lseek(file_.get(), 0, SEEK_SET) != 0) abort();
    return downloader_.fetch(url, file_.get(), max_bytes, known);
  }
  std::string error_of(const std::string& url, uint64_t max_bytes = 1 << 20) {
    const auto got = fetch(url, max_bytes);
    return got ? "no error" : got.error().message();
  }
  std::string content() const {
    std::string text(static_cast<size_t>(::lseek(file_.get(), 0, SEEK_END)), '\0');
    if (::pread(file_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
      abort();
    return text;
  }

  fakes::HttpServer server_;
  Downloader downloader_ =
      Downloader::create({.connect = seconds(10), .stalled = seconds(1), .small = seconds(1)})
          .value();
  const Fd file_{::memfd_create("download", MFD_CLOEXEC)};
};

TEST_F(DownloadTest, WritesTheFileAndItsChecksum) {
  const std::string kernel(300'000, 'k');
  server_.put("/linux", kernel, "ETag: \"1\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n");
  const auto got = fetch(server_.url("/linux"));
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(content(), kernel);
  EXPECT_EQ(got->sha256, boot::sha256_of(kernel));
  EXPECT_FALSE(got->unmodified);
  EXPECT_EQ(got->validators.etag, "\"1\"");
  EXPECT_EQ(got->validators.last_modified, "Mon, 01 Jan 2024 00:00:00 GMT");
}

TEST_F(DownloadTest, SaysWhetherAFileIsThere) {
  server_.put("/linux", "kernel");
  EXPECT_TRUE(downloader_.has(server_.url("/linux")).value());
  EXPECT_FALSE(downloader_.has(server_.url("/vmlinuz")).value());
  EXPECT_THAT(server_.take_requests(), ElementsAre("HEAD /linux", "HEAD /vmlinuz"));
}

TEST_F(DownloadTest, TakesForbiddenForAbsent) {
  server_.put_raw("/linux", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n", "");
  EXPECT_FALSE(downloader_.has(server_.url("/linux")).value());
}

TEST_F(DownloadTest, ReadsSmallFiles) {
  server_.put("/.treeinfo", "[tree]");
  EXPECT_EQ(downloader_.read(server_.url("/.treeinfo"), 6).value(), "[tree]");
  EXPECT_EQ(downloader_.read(server_.url("/treeinfo"), 6).value(), std::nullopt);
  EXPECT_THAT(downloader_.read(server_.url("/.treeinfo"), 5).error().message(),
              HasSubstr("/.treeinfo: larger than the limit of 5 B"));
}

TEST_F(DownloadTest, OfAMissingFileNamesIt) {
  EXPECT_THAT(error_of(server_.url("/linux")),
              HasSubstr(server_.url("/linux") + ": the server has no such file"));
  EXPECT_THAT(content(), IsEmpty());
}

TEST_F(DownloadTest, OfAServerInTroubleNamesItsStatus) {
  server_.put_raw("/linux", "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n", "busy");
  EXPECT_THAT(error_of(server_.url("/linux")), HasSubstr("HTTP status 503"));
  EXPECT_THAT(content(), IsEmpty());
  EXPECT_THAT(downloader_.has(server_.url("/linux")).error().message(), HasSubstr("503"));
}

TEST_F(DownloadTest, TakesLittleOfAnEndlessErrorPage) {
  server_.put_raw("/linux", "HTTP/1.1 404 Not Found\r\n", std::string(8 << 20, 'x'), true);
  EXPECT_THAT(error_of(server_.url("/linux")), HasSubstr("no such file"));
}

TEST_F(DownloadTest, ThatIsCutOffIsAnError) {
  server_.put_raw("/linux", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n", "only this");
  EXPECT_THAT(error_of(server_.url("/linux")), HasSubstr(server_.url("/linux") + ": "));
  EXPECT_THAT(error_of(server_.url("/linux")), HasSubstr("remaining"));
}

TEST_F(DownloadTest, ThatStallsEnds) {
  server_.put_raw("/linux", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n", "only this", true);
  EXPECT_THAT(error_of(server_.url("/linux")), HasSubstr("too slow"));
  EXPECT_THAT(downloader_.read(server_.url("/linux"), 1000).error().message(),
              HasSubstr(server_.url("/linux")));
}

TEST_F(DownloadTest, OfALargeFileIsRefusedBeforeItComes) {
  server_.put_raw("/linux", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n", "x", true);
  EXPECT_THAT(error_of(server_.url("/linux")), HasSubstr("larger than the limit of 1 MiB"));
  EXPECT_THAT(content(), IsEmpty());
}

TEST_F(DownloadTest, OfAnEndlessFileEndsAtTheLimit) {
  server_.put_raw("/linux", "HTTP/1.1 200 OK\r\n", std::string(1 << 20, 'x'), true);
  EXPECT_THAT(error_of(server_.url("/linux"), 1000),
              HasSubstr("larger than the limit of 0.977 KiB"));
  EXPECT_LE(content().size(), 1000u);
}

TEST_F(DownloadTest, FollowsRedirects) {
  server_.redirect("/linux", "/mirror/linux");
  server_.put("/mirror/linux", "kernel", "ETag: \"2\"\r\n");
  const auto got = fetch(server_.url("/linux"));
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(content(), "kernel");
  EXPECT_EQ(got->validators.etag, "\"2\"");
}

TEST_F(DownloadTest, HasNoValidatorsOfARedirect) {
  server_.put_raw("/linux",
                  "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nETag: \"1\"\r\nLocation: /file\r\n",
                  "");
  server_.put("/file", "kernel");
  const auto got = fetch(server_.url("/linux"));
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_TRUE(got->validators.empty());
}

TEST_F(DownloadTest, EndsARedirectLoop) {
  server_.redirect("/a", "/b");
  server_.redirect("/b", "/a");
  EXPECT_THAT(error_of(server_.url("/a")), AllOf(HasSubstr(server_.url("/a")), HasSubstr("10")));
  EXPECT_THAT(server_.take_requests(), SizeIs(11));
}

TEST_F(DownloadTest, FollowsNoRedirectToFilesOfTheHostNorToFtp) {
  for (const std::string to : {"file:///etc/passwd", "ftp://127.0.0.1/linux", "gopher://127.0.0.1/",
                               "dict://127.0.0.1/", "scp://127.0.0.1/linux"}) {
    server_.redirect("/linux", to);
    EXPECT_THAT(error_of(server_.url("/linux")), HasSubstr("redirects to another protocol")) << to;
    EXPECT_THAT(content(), IsEmpty()) << to;
  }
}

TEST_F(DownloadTest, AsksWhetherAFileHasChanged) {
  server_.put("/linux", "kernel", "ETag: \"1\"\r\n");
  const std::string date = "Mon, 01 Jan 2024 00:00:00 GMT";
  auto got = fetch(server_.url("/linux"), 1000, {.etag = "\"1\"", .last_modified = date});
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_TRUE(got->unmodified);
  EXPECT_THAT(content(), IsEmpty());
  EXPECT_THAT(server_.last_request(), HasSubstr("If-Modified-Since: " + date + "\r\n"));
  server_.put("/linux", "newer kernel", "ETag: \"2\"\r\n");
  got = fetch(server_.url("/linux"), 1000, {.etag = "\"1\"", .last_modified = {}});
  ASSERT_TRUE(got);
  EXPECT_FALSE(got->unmodified);
  EXPECT_EQ(content(), "newer kernel");
}

TEST_F(DownloadTest, IsNotUnmodifiedUnlessItAsked) {
  server_.put_raw("/linux", "HTTP/1.1 304 Not Modified\r\n", "");
  EXPECT_THAT(error_of(server_.url("/linux")), HasSubstr("HTTP status 304"));
}

TEST_F(DownloadTest, KeepsNoValidatorThatIsLongOrUnprintable) {
  server_.put("/linux", "kernel",
              "ETag: \"" + std::string(1000, 'x') + "\"\r\nLast-Modified: \x1b[2J\r\n");
  const auto got = fetch(server_.url("/linux"));
  ASSERT_TRUE(got);
  EXPECT_TRUE(got->validators.empty());
}

TEST_F(DownloadTest, FromNobodyNamesTheUrlAndTheReason) {
  const Fd unused(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(unused.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::getsockname(unused.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string server = fmt::format("127.0.0.1:{}", ntohs(address.sin_port));
  EXPECT_THAT(error_of("http://user:secret@" + server + "/linux"),
              AllOf(HasSubstr("http://" + server + "/linux: "), HasSubstr("connect"),
                    Not(HasSubstr("secret"))));
}

TEST_F(DownloadTest, ThatCannotBeWrittenSaysWhy) {
  server_.put("/linux", "kernel");
  const Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const auto got = downloader_.fetch(server_.url("/linux"), full.get(), 1000);
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().message(), HasSubstr("No space left on device"));
}

TEST(Url, IsOneThatFilesCanBeDownloadedFrom) {
  for (const std::string good : {"http://h", "https://h/", "ftp://h/a/b", "HTTP://h:80/%20"}) {
    EXPECT_TRUE(is_url(good));
    EXPECT_TRUE(check_url(good)) << good;
  }
  for (const std::string bad : {"file:///etc", "scp://h/a", "http:///a", "http://", "http://h/?a",
                                "http://h/#a", "http://h/a b", "http://h/\n"}) {
    EXPECT_TRUE(is_url(bad));
    EXPECT_FALSE(check_url(bad)) << bad;
  }
  EXPECT_FALSE(is_url("/a/b"));
  EXPECT_FALSE(is_url("a"));
  EXPECT_FALSE(is_url("://"));
  EXPECT_FALSE(is_url("a/b://c"));
}

TEST(Url, IsShownWithoutAPassword) {
  EXPECT_EQ(without_password("http://user:a@b@host/path@x"), "http://host/path@x");
  EXPECT_EQ(without_password("http://host/user@x"), "http://host/user@x");
  EXPECT_EQ(without_password("http://host"), "http://host");
  EXPECT_EQ(without_password("a@b"), "a@b");
}

TEST(Url, OfAFileEscapesWhatMeansSomething) {
  EXPECT_EQ(url_below("http://h/a//", "b/c.d-1~2_3"), "http://h/a/b/c.d-1~2_3");
  EXPECT_EQ(url_below("http://h", "a?b#c%2e+d"), "http://h/a%3Fb%23c%252e%2Bd");
}

}  // namespace
}  // namespace wick::cli

// The web page with a VNC client, and who may use WebSockets.
#include "display/web_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <filesystem>

#include "display/vnc.h"
#include "tests/display/fake_screen.h"
#include "tests/display/rfb_client.h"
#include "tests/fakes/temp_dir.h"

namespace wick::display {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::string path(std::string_view head) {
  const auto request = WebRequest::parse(head);
  return request ? request->path : "refused";
}

TEST(WebRequest, NamesAFile) {
  EXPECT_EQ(path("GET /vnc.html HTTP/1.1\r\nHost: a"), "vnc.html");
  EXPECT_EQ(path("GET /app/ui.js?x=/../y HTTP/1.0"), "app/ui.js");
  EXPECT_EQ(path("GET / HTTP/1.1"), "");
  EXPECT_EQ(path("GET /?a HTTP/1.1"), "");
  EXPECT_TRUE(WebRequest::parse("GET /a HTTP/1.1")->body);
  EXPECT_FALSE(WebRequest::parse("HEAD /a HTTP/1.1")->body);
}

TEST(WebRequest, ThatLeavesTheFolderIsRefused) {
  for (const std::string_view head :
       {"GET /../secret HTTP/1.1", "GET /a/../../secret HTTP/1.1", "GET //etc/passwd HTTP/1.1",
        "GET /a//b HTTP/1.1", "GET /.hidden HTTP/1.1", "GET /%2e%2e/secret HTTP/1.1",
        "GET /a\\..\\b HTTP/1.1", "GET /a/ HTTP/1.1", "GET /a/. HTTP/1.1"})
    EXPECT_EQ(path(head), "refused") << head;
}

TEST(WebRequest, OfAnotherFormIsRefused) {
  for (const std::string_view head :
       {"", "GET", "GET ", "GET /", "GET /a", "GET /a FTP", "POST /a HTTP/1.1", "get /a HTTP/1.1",
        "GET http://a/b HTTP/1.1", "GET  /a HTTP/1.1", "\r\nGET /a HTTP/1.1", "HEAD a HTTP/1.1"})
    EXPECT_EQ(path(head), "refused") << head;
  EXPECT_EQ(path(std::string_view("GET /a\0b HTTP/1.1", 17)), "refused");
}

TEST(WebSocketRequest, OfAPageOfTheSameHostIsWelcome) {
  EXPECT_TRUE(is_request_of_own_page(
      "GET /websockify HTTP/1.1\r\nHost: 127.0.0.1:5900\r\nOrigin: http://127.0.0.1:5800"));
  EXPECT_TRUE(
      is_request_of_own_page("GET / HTTP/1.1\r\nhost:[::1]:5900\r\nORIGIN: http://[::1]:1"));
  EXPECT_TRUE(is_request_of_own_page("GET / HTTP/1.1\r\nHost: Lab\r\nOrigin: https://lab"));
}

TEST(WebSocketRequest, OfAnotherPageIsRefused) {
  for (const std::string_view request : {
           "GET / HTTP/1.1\r\nHost: 127.0.0.1:5900\r\nOrigin: http://evil.example:5800",
           "GET / HTTP/1.1\r\nHost: 127.0.0.1:5900\r\nOrigin: http://127.0.0.1.evil.example",
           "GET / HTTP/1.1\r\nHost: [::1]:5900\r\nOrigin: http://[::2]:5900",
           "GET / HTTP/1.1\r\nHost: 127.0.0.1:5900\r\nOrigin: null",
           "GET / HTTP/1.1\r\nHost: 127.0.0.1:5900",
           "GET / HTTP/1.1\r\nOrigin: http://127.0.0.1:5800",
           "GET / HTTP/1.1\r\nHost:\r\nOrigin: http://",
           "GET / HTTP/1.1\r\nHost: [\r\nOrigin: http://]",
           // Two of a header, of which libvncserver takes the last
           "GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://b",
           "GET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a",
       })
    EXPECT_FALSE(is_request_of_own_page(request)) << request;
}

class WebTest : public testing::Test {
 protected:
  WebTest() {
    folder_.write("vnc.html", "<html>");
    std::filesystem::create_directory(folder_ / "app");
    folder_.write("app/ui.js", "let x;");
    folder_.write("large.js", std::string(3 << 20, 'x'));
    folder_.write("huge.js", std::string(5 << 20, 'x'));
    VncConfig config;
    config.address = StreamAddress::parse("tcp:127.0.0.1:0").value();
    config.web_port = 0;
    config.web_folder = folder_.path();
    server_ = VncServer::create(config, "guest", &card_, input_).value();
  }

  RfbClient connect() {
    // "http://127.0.0.1:1234/"
    const std::string& address = server_->web_address();
    return RfbClient("tcp:" + address.substr(7, address.size() - 8));
  }
  static std::string read_all(RfbClient& client) {
    std::string all;
    for (std::string part = client.read(4096); !part.empty(); part = client.read(4096)) all += part;
    return all;
  }
  std::string get(std::string_view request) {
    RfbClient client = connect();
    client.send(request);
    return read_all(client);
  }
  // A WebSocket's opening handshake; the status line.
  std::string open_socket(RfbClient& client, std::string_view origin) {
    client.send(fmt::format(
        "GET /websockify HTTP/1.1\r\nHost: 127.0.0.1:5900\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nOrigin: {}\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: binary\r\n\r\n",
        origin));
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      const std::string byte = client.read(1);
      if (byte.empty()) break;
      head += byte;
    }
    return head;
  }

  fakes::TempDir folder_;
  FakeCard card_{32, 20};
  RecordingInput input_;
  std::unique_ptr<VncServer> server_;
};

TEST_F(WebTest, ServesFiles) {
  const std::string answer = get("GET /app/ui.js HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Type: text/javascript; charset=utf-8\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Length: 6\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\nlet x;"));
  EXPECT_THAT(get("HEAD /app/ui.js HTTP/1.1\r\n\r\n"), EndsWith("\r\n\r\n"));
  EXPECT_GT(get("GET /large.js HTTP/1.1\r\n\r\n").size(), size_t{3} << 20);
}

TEST_F(WebTest, LinksLeadToNoFileOutsideTheFolder) {
  std::filesystem::create_symlink("app/ui.js", folder_ / "inside.js");
  std::filesystem::create_symlink("/etc/passwd", folder_ / "outside.js");
  std::filesystem::create_symlink("/etc", folder_ / "etc");
  EXPECT_THAT(get("GET /inside.js HTTP/1.1\r\n\r\n"), EndsWith("let x;"));
  EXPECT_THAT(get("GET /outside.js HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(get("GET /etc/passwd HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
}

TEST_F(WebTest, TheFirstPageConnectsToTheScreen) {
  const std::string port = server_->address().substr(server_->address().rfind(':') + 1);
  EXPECT_THAT(get("GET / HTTP/1.1\r\n\r\n"),
              testing::AllOf(StartsWith("HTTP/1.1 302 "), HasSubstr("Location: /vnc.html?"),
                             HasSubstr("port=" + port + "\r\n")));
}

TEST_F(WebTest, WhatIsNotThereIsNotFound) {
  EXPECT_THAT(get("GET /none HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(get("GET /app HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(get("GET /huge.js HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(get("GET /../x HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_EQ(get(std::string(2 * WebFiles::kMaxRequestBytes, 'x')), "");
}

TEST_F(WebTest, SilentClientsDoNotHoldOthersUp) {
  std::vector<RfbClient> silent;
  for (size_t i = 0; i < 2 * WebFiles::kMaxClients; ++i) {
    silent.push_back(connect());
    silent.back().send("GET /large.js HTTP/1.1\r\n");
  }
  EXPECT_THAT(get("GET /vnc.html HTTP/1.1\r\n\r\n"), EndsWith("<html>"));
  EXPECT_TRUE(silent.front().sees_the_end());
}

TEST_F(WebTest, AWebSocketCarriesRfb) {
  RfbClient browser(server_->address());
  const std::string head = open_socket(browser, "http://127.0.0.1:5800");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 101 "));
  // RFC 6455, 1.3: the accept value of this key.
  EXPECT_THAT(head, HasSubstr("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
  EXPECT_EQ(browser.read(14), "\x82\x0cRFB 003.008\n");
}

TEST_F(WebTest, APageOfAnotherSiteGetsNoWebSocket) {
  RfbClient browser(server_->address());
  (void)open_socket(browser, "http://evil.example");
  EXPECT_TRUE(browser.sees_the_end());
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(WebTest, PlainClientsAreWelcomeToo) {
  RfbClient client(server_->address());
  EXPECT_TRUE(client.log_in());
  EXPECT_TRUE(client.wait_for_pixel(0, 0, 0x102030));
}

TEST(Web, WithoutNoVncIsAnErrorWithTheFix) {
  const fakes::TempDir folder;
  RecordingInput input;
  VncConfig config;
  config.address = StreamAddress::parse("tcp:127.0.0.1:0").value();
  config.web_port = 0;
  config.web_folder = folder.path();
  const auto server = VncServer::create(config, "guest", nullptr, input);
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message(),
              testing::AllOf(HasSubstr("vnc.html"), HasSubstr("install the package novnc")));
}

}  // namespace
}  // namespace wick::display

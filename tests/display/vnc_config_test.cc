// The option of a VNC server, and the file of its password.
#include "display/vnc_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/fakes/temp_dir.h"

namespace wick::display {
namespace {

std::string address(std::string_view text) {
  const auto config = parse_vnc(text);
  return config ? config->address.text() : config.error().message();
}
std::string error(std::string_view text) {
  const auto config = parse_vnc(text);
  return config ? "none" : config.error().message();
}

TEST(VncConfig, ADisplayNumberIsAPort) {
  EXPECT_EQ(address("127.0.0.1:0"), "tcp:127.0.0.1:5900");
  EXPECT_EQ(address("0.0.0.0:7"), "tcp:0.0.0.0:5907");
  EXPECT_EQ(address(":1"), "tcp:127.0.0.1:5901");
  EXPECT_EQ(address("[::1]:2"), "tcp:[::1]:5902");
  EXPECT_EQ(address("host:59635"), "tcp:host:65535");
}

TEST(VncConfig, APathIsAUnixSocket) {
  EXPECT_EQ(address("unix:/run/screen"), "unix:/run/screen");
  EXPECT_EQ(address("unix:a,,b"), "unix:a,b");
}

TEST(VncConfig, HasNoPasswordAndNoPageByItself) {
  const auto config = parse_vnc(":0").value();
  EXPECT_EQ(config.password_file, "");
  EXPECT_FALSE(config.web_port);
  EXPECT_FALSE(parse_vnc(":0,web=off").value().web_port);
}

TEST(VncConfig, TakesItsKeys) {
  const auto config = parse_vnc(":3,web=on,password-file=/etc/a,,b").value();
  EXPECT_EQ(config.password_file, "/etc/a,b");
  EXPECT_EQ(config.web_port, 5803);
}

TEST(VncConfig, MistakesNameTheValueAndWhatIsValid) {
  EXPECT_EQ(error(""), "the value before the first comma is missing; write HOST:N or unix:PATH");
  EXPECT_EQ(
      error("5900"),
      "'5900' has no display number; write HOST:N or unix:PATH; :0 is port 5900 of 127.0.0.1");
  EXPECT_EQ(error(":x"),
            "'x' is not a display number; write 0 to 59635; display N is port 5900 + N");
  EXPECT_EQ(error(":59636"),
            "'59636' is not a display number; write 0 to 59635; display N is port 5900 + N");
  EXPECT_EQ(error(":-1"),
            "'-1' is not a display number; write 0 to 59635; display N is port 5900 + N");
  EXPECT_EQ(error("::1"), "':' is not a host; write an IPv6 address as [::1]:N");
  EXPECT_EQ(error("unix:"), "unix:: the socket's path is missing");
  EXPECT_EQ(error(":0,colour=on"), "unknown key 'colour'; the keys are password-file, web");
  EXPECT_EQ(error(":0,"), "'' has no key; the keys are password-file, web");
  EXPECT_EQ(error(":0,web"), "key 'web' has no value; write web=VALUE");
  EXPECT_EQ(error(":0,web="), "key 'web' has no value; write web=VALUE");
  EXPECT_EQ(error(":0,web=yes"), "web=yes: must be on or off");
  EXPECT_EQ(error(":0,web=on,web=off"),
            "key 'web' is given twice; the keys are password-file, web");
  EXPECT_EQ(error("unix:s,web=on"), "web=on needs a port, and unix:s has none; write HOST:N");
}

class VncPasswordFile : public testing::Test {
 protected:
  std::string file(std::string_view content, mode_t mode = 0600) {
    std::string path = folder_.write("password", content);
    ::chmod(path.c_str(), mode);
    return path;
  }
  std::string error_of(const std::string& path) {
    const auto password = read_vnc_password(path);
    return password ? "none" : password.error().message();
  }
  fakes::TempDir folder_;
};

TEST_F(VncPasswordFile, ItsFirstLineCounts) {
  EXPECT_EQ(read_vnc_password(file("secret")).value(), "secret");
  EXPECT_EQ(read_vnc_password(file("with blanks \nmore\n")).value(), "with blanks ");
  EXPECT_EQ(read_vnc_password(file("dos\r\n")).value(), "dos");
  EXPECT_EQ(read_vnc_password(file("secret", 0400)).value(), "secret");
}

TEST_F(VncPasswordFile, ThatOthersMayReadIsRefused) {
  for (const mode_t mode : {0644u, 0640u, 0604u, 0620u, 0602u}) {
    const std::string path = file("secret", mode);
    EXPECT_EQ(
        error_of(path),
        fmt::format("{}: other users may access the password file; run chmod 600 {}", path, path));
  }
}

TEST_F(VncPasswordFile, WithoutAPasswordIsRefused) {
  for (const std::string_view content :
       {std::string_view(""), std::string_view("\nsecret"), std::string_view("\0secret", 7)})
    EXPECT_THAT(error_of(file(content)), testing::HasSubstr("first line is empty"));
  EXPECT_THAT(error_of(folder_ / "none"), testing::HasSubstr("No such file"));
  EXPECT_THAT(error_of(folder_.path()), testing::HasSubstr("not a regular file"));
}

// A reader that waited for the FIFO's writer would wait for ever.
TEST_F(VncPasswordFile, AFifoIsNotWaitedFor) {
  const std::string path = folder_ / "fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(error_of(path), testing::HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace wick::display

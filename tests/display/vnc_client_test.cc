// VNC clients that others wrote see the picture that the server has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/input-event-codes.h>

#include <string>
#include <vector>

#include "display/vnc.h"
#include "tests/display/fake_screen.h"
#include "tests/fakes/png_file.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::display {
namespace {

class VncClient : public testing::Test {
 protected:
  // A port for the web page of `--display vnc=...,web=on`, or none.
  void start(std::optional<uint16_t> web_port) {
    for (uint32_t i = 0; i < 100; ++i)
      card_.paint({i * 6, i * 4, 40, 30}, i * 0x02'0d'31 & 0xff'ff'ff);
    VncConfig config;
    config.address = StreamAddress::parse("tcp:127.0.0.1:0").value();
    config.web_port = web_port;
    server_ = VncServer::create(config, "guest", &card_, input_).value();
    const std::string& address = server_->address();
    display_ = std::stoi(address.substr(address.rfind(':') + 1)) - 5900;
    card_.draw(picture_);
  }

  const fakes::TempDir folder_;
  FakeCard card_{640, 480};
  RecordingInput input_;
  std::unique_ptr<VncServer> server_;
  int display_ = 0;
  Picture picture_;  // what a client should see
};

// gvnccapture belongs to gtk-vnc, which asks for Tight without JPEG, ZRLE and others.
TEST_F(VncClient, GvnccaptureSeesEachPixel) {
  start(std::nullopt);
  ASSERT_TRUE(fakes::shell("timeout 60 gvnccapture -q 127.0.0.1:" + std::to_string(display_) +
                           " '" + (folder_ / "screen.png") + "'"));
  const fakes::PngImage seen = fakes::decode_png(folder_.read("screen.png"));
  EXPECT_EQ(seen.width, 640u);
  EXPECT_EQ(seen.height, 480u);
  EXPECT_TRUE(seen.pixels == picture_.pixels);
}

// Long only because Chromium is large.
TEST_F(VncClient, NoVncInChromiumSeesEachPixelClicksAndTypesLong) {
  start(0);
  ASSERT_TRUE(fakes::shell("timeout 300 " WICK_SOURCE_DIR "/tests/display/novnc.py " +
                           server_->web_address() + " '" + (folder_ / "screen.png") + "' aB"));
  const fakes::PngImage seen = fakes::decode_png(folder_.read("screen.png"));
  EXPECT_EQ(seen.width, 640u);
  EXPECT_EQ(seen.height, 480u);
  EXPECT_TRUE(seen.pixels == picture_.pixels);
  // Both buttons and keys; the names are those of <linux/input-event-codes.h>.
  const std::vector<std::string> expected = {
      fmt::format("{} down", BTN_LEFT),      fmt::format("{} up", BTN_LEFT),
      fmt::format("{} down", KEY_A),         fmt::format("{} up", KEY_A),
      fmt::format("{} down", KEY_LEFTSHIFT), fmt::format("{} down", KEY_B),
      fmt::format("{} up", KEY_B),           fmt::format("{} up", KEY_LEFTSHIFT)};
  std::vector<std::string> presses;
  fakes::wait_for([&] {
    presses = input_.calls();
    std::erase_if(presses, [](const std::string& call) { return call.starts_with("to "); });
    return presses.size() >= expected.size();
  });
  EXPECT_EQ(presses, expected);
}

}  // namespace
}  // namespace wick::display

// VNC clients that others wrote see the picture that the server has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "display/vnc.h"
#include "tests/display/fake_screen.h"
#include "tests/fakes/png_file.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::display {
namespace {

class VncClient : public testing::Test {
 protected:
  VncClient() {
    for (uint32_t i = 0; i < 100; ++i)
      card_.paint({i * 6, i * 4, 40, 30}, i * 0x02'0d'31 & 0xff'ff'ff);
    VncConfig config;
    config.address = StreamAddress::parse("tcp:127.0.0.1:0").value();
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
  ASSERT_TRUE(fakes::shell("timeout 60 gvnccapture -q 127.0.0.1:" + std::to_string(display_) +
                           " '" + (folder_ / "screen.png") + "'"));
  const fakes::PngImage seen = fakes::decode_png(folder_.read("screen.png"));
  EXPECT_EQ(seen.width, 640u);
  EXPECT_EQ(seen.height, 480u);
  EXPECT_TRUE(seen.pixels == picture_.pixels);
}

}  // namespace
}  // namespace wick::display

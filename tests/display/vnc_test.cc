// A VNC server, as its clients see it.
#include "display/vnc.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/input-event-codes.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <random>

#include "tests/display/fake_screen.h"
#include "tests/display/rfb_client.h"
#include "tests/fakes/temp_dir.h"
#include "tests/fakes/wait_for.h"

namespace wick::display {
namespace {

using fakes::TempDir;
using fakes::wait_for;
using testing::Contains;
using testing::ElementsAre;
using testing::Not;

constexpr uint32_t kRed = 0xff0000, kGreen = 0x00ff00;

class VncTest : public testing::Test {
 protected:
  static VncConfig any_port() {
    VncConfig config;
    config.address = StreamAddress::parse("tcp:127.0.0.1:0").value();
    return config;
  }
  void start(const VncConfig& config = any_port()) {
    auto server = VncServer::create(config, "guest one", &card_, input_);
    ASSERT_TRUE(server) << server.error().message();
    server_ = *std::move(server);
  }
  RfbClient connect() { return RfbClient(server_->address()); }
  RfbClient viewer() {
    RfbClient client = connect();
    EXPECT_TRUE(client.log_in());
    return client;
  }
  // The input's calls, once there are so many.
  std::vector<std::string> input(size_t count) {
    EXPECT_TRUE(wait_for([&] { return input_.calls().size() >= count; }));
    return input_.calls();
  }

  FakeCard card_{320, 200};
  RecordingInput input_;
  std::unique_ptr<VncServer> server_;
};

TEST_F(VncTest, TellsSizeNameAndFormat) {
  start();
  const RfbClient client = viewer();
  EXPECT_EQ(client.picture().width, 320u);
  EXPECT_EQ(client.picture().height, 200u);
  EXPECT_EQ(client.name(), "guest one");
  // 32 bits, depth 24, little-endian, true color (not 0); red, green and blue of 8 bits at 16, 8
  // and 0.
  EXPECT_EQ(client.format(), std::string("\x20\x18\0\xff\0\xff\0\xff\0\xff\x10\x08\0\0\0\0", 16));
}

TEST_F(VncTest, ShowsWhatTheGuestPaints) {
  start();
  RfbClient client = viewer();
  EXPECT_TRUE(client.wait_for_pixel(319, 199, 0x102030));
  card_.paint({10, 20, 3, 4}, kRed);
  EXPECT_TRUE(client.wait_for_pixel(12, 23, kRed));
  EXPECT_EQ(client.picture().pixels[size_t{23} * 320 + 13], 0x102030u);
}

TEST_F(VncTest, SendsOnlyWhatHasChanged) {
  start();
  RfbClient client = viewer();
  client.request(false);
  ASSERT_THAT(client.read_update(), ElementsAre(0));
  card_.paint({10, 20, 3, 4}, kRed);
  client.request(true);
  const std::string update = client.read(4 + 12 + 3 * 4 * 4);
  ASSERT_EQ(update.size(), 4u + 12 + 3 * 4 * 4);
  EXPECT_EQ(update.substr(2, 10), std::string("\0\x01\0\x0a\0\x14\0\x03\0\x04", 10));
}

TEST_F(VncTest, ShowsOnePictureToSeveralClients) {
  start();
  RfbClient first = viewer(), second = viewer(), third = viewer();
  EXPECT_TRUE(wait_for([&] { return server_->clients() == 3; }));
  card_.paint({0, 0, 1, 1}, kGreen);
  EXPECT_TRUE(first.wait_for_pixel(0, 0, kGreen));
  EXPECT_TRUE(second.wait_for_pixel(0, 0, kGreen));
  EXPECT_TRUE(third.wait_for_pixel(0, 0, kGreen));
}

TEST_F(VncTest, WatchesTheCardOnlyWhileSomeoneLooks) {
  start();
  EXPECT_FALSE(card_.watched());
  {
    RfbClient stranger = connect();
    EXPECT_EQ(stranger.read(12), "RFB 003.008\n");
    EXPECT_FALSE(card_.watched());
    EXPECT_EQ(card_.updates(), 0);
    RfbClient client = viewer();
    EXPECT_TRUE(wait_for([&] { return card_.watched(); }));
  }
  EXPECT_TRUE(wait_for([&] { return !card_.watched() && server_->clients() == 0; }));
  const int updates = card_.updates();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(card_.updates(), updates);
}

TEST_F(VncTest, LooksLessOftenWhileNothingHappens) {
  start();
  RfbClient client = viewer();
  std::this_thread::sleep_for(VncServer::kQuietTime + std::chrono::milliseconds(300));
  const int before = card_.updates();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  EXPECT_LE(card_.updates() - before, 20);  // 30 while something happens
}

TEST_F(VncTest, ResizesClientsThatUnderstandIt) {
  for (const int32_t encoding : {RfbClient::kDesktopSize, RfbClient::kExtendedDesktopSize}) {
    start();
    RfbClient client = viewer();
    client.set_encodings({0, encoding});
    client.request(false);
    (void)client.read_update();
    card_.resize(640, 400);
    EXPECT_TRUE(client.wait_for_pixel(639, 399, 0x102030)) << encoding;
    card_.resize(100, 50);
    card_.paint({99, 49, 1, 1}, kRed);
    EXPECT_TRUE(client.wait_for_pixel(99, 49, kRed)) << encoding;
    EXPECT_EQ(client.picture().width, 100u);
    server_.reset();
    card_.resize(320, 200);
  }
}

TEST_F(VncTest, ClientsThatDoNotUnderstandAResizeSurviveIt) {
  start();
  RfbClient client = viewer();
  client.request(false);
  EXPECT_THAT(client.read_update(), ElementsAre(0));
  for (const auto& [width, height] :
       {std::pair(640u, 400u), std::pair(64u, 48u), std::pair(1u, 1u)}) {
    card_.resize(width, height);
    card_.paint({0, 0, 1, 1}, width);
    EXPECT_TRUE(client.wait_for_pixel(0, 0, width)) << width;
  }
}

TEST_F(VncTest, ACardThatIsOffIsBlack) {
  start();
  RfbClient client = viewer();
  client.set_encodings({0, RfbClient::kDesktopSize});
  EXPECT_TRUE(client.wait_for_pixel(5, 5, 0x102030));
  card_.resize(0, 0);
  EXPECT_TRUE(client.wait_for_pixel(5, 5, 0));
  card_.resize(320, 200);
  EXPECT_TRUE(client.wait_for_pixel(5, 5, 0x102030));
}

TEST_F(VncTest, ShowsTheCardOfTheNextBoard) {
  start();
  RfbClient client = viewer();
  client.set_encodings({0, RfbClient::kDesktopSize});
  EXPECT_TRUE(client.wait_for_pixel(5, 5, 0x102030));
  server_->set_source(nullptr);
  EXPECT_FALSE(card_.watched());
  EXPECT_TRUE(client.wait_for_pixel(5, 5, 0));
  EXPECT_EQ(client.picture().width, 320u);
  {
    FakeCard next(64, 48);
    server_->set_source(&next);
    EXPECT_TRUE(next.watched());
    EXPECT_TRUE(client.wait_for_pixel(63, 47, 0x102030));
    server_->set_source(nullptr);
  }
  server_->set_source(&card_);
  EXPECT_TRUE(client.wait_for_pixel(319, 199, 0x102030));
}

TEST_F(VncTest, TakesKeysAndReleasesThemWithTheClient) {
  start();
  {
    RfbClient client = viewer();
    client.key(0xffe1, true);  // Shift_L
    client.key('A', true);
    client.key('A', false);
    client.key(0xffffff, true);  // no key of ours
    EXPECT_THAT(input(3), ElementsAre("42 down", "30 down", "30 up"));
  }
  EXPECT_THAT(input(4), ElementsAre("42 down", "30 down", "30 up", "42 up"));
}

TEST_F(VncTest, TakesThePointerAndTheWheel) {
  start();
  RfbClient client = viewer();
  client.pointer(0, 0, 0);
  client.pointer(1, 319, 199);
  client.pointer(8, 319, 199);
  client.pointer(0, 5000, 100);
  EXPECT_THAT(input(6), ElementsAre("to 0 0", "to 32767 32767", fmt::format("{} down", BTN_LEFT),
                                    fmt::format("{} up", BTN_LEFT), "scroll 1", "to 32767 16465"));
}

TEST_F(VncTest, TakesScanCodesFromClientsThatOfferThem) {
  start();
  RfbClient client = viewer();
  client.set_encodings({0, RfbClient::kExtendedKey});
  ASSERT_THAT(client.read_update(), ElementsAre(RfbClient::kExtendedKey));
  client.extended_key('y', 0x2c, true);  // the key of a US keyboard's Z, on a German one
  client.extended_key('y', 0x2c, false);
  client.extended_key(0xff52, 0xc8, true);  // Up
  client.extended_key('q', 0xffff, true);   // an unknown scan code
  EXPECT_THAT(input(4), ElementsAre("44 down", "44 up", "103 down", "16 down"));
}

class VncPasswordTest : public VncTest {
 protected:
  void start_with_password(std::string_view content) {
    VncConfig config = any_port();
    config.password_file = folder_.write("password", content);
    std::filesystem::permissions(config.password_file, std::filesystem::perms::owner_read);
    start(config);
  }
  TempDir folder_;
};

TEST_F(VncPasswordTest, LetsInWhoKnowsThePassword) {
  start_with_password("secret\nanother line\n");
  RfbClient client = connect();
  EXPECT_TRUE(client.log_in("secret"));
  EXPECT_TRUE(client.wait_for_pixel(0, 0, 0x102030));
}

TEST_F(VncPasswordTest, KeepsOutWhoDoesNot) {
  start_with_password("secret\n");
  for (const char* const wrong : {"", "Secret", "secret1", "another"}) {
    RfbClient client = connect();
    EXPECT_FALSE(client.log_in(wrong));
    EXPECT_TRUE(client.sees_the_end());
  }
  RfbClient none = connect();
  EXPECT_FALSE(none.log_in());
  EXPECT_EQ(none.security_types(), "\x02");
  RfbClient old = connect();
  EXPECT_EQ(old.read(12), "RFB 003.008\n");
  old.send("RFB 003.003\n");
  EXPECT_EQ(old.read(4), std::string("\0\0\0\x02", 4));
  EXPECT_EQ(card_.updates(), 0);
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(VncPasswordTest, OnlyEightBytesCount) {
  start_with_password("12345678abc");
  EXPECT_TRUE(connect().log_in("12345678xyz"));
  EXPECT_FALSE(connect().log_in("1234567"));
}

TEST_F(VncPasswordTest, APersonHasTimeToTypeItLong) {
  start_with_password("secret");
  RfbClient client = connect();
  ASSERT_TRUE(client.begin(2));
  std::string challenge = client.read(16);
  ASSERT_EQ(challenge.size(), 16u);
  std::this_thread::sleep_for(VncServer::kHandshakeTime + std::chrono::seconds(1));
  EXPECT_TRUE(client.send(challenge));  // not the right answer, but an answer
  EXPECT_EQ(client.read(4), std::string("\0\0\0\x01", 4));
}

TEST_F(VncPasswordTest, ChallengesDiffer) {
  start_with_password("secret");
  RfbClient first = connect(), second = connect();
  ASSERT_TRUE(first.begin(2));
  ASSERT_TRUE(second.begin(2));
  EXPECT_NE(first.read(16), second.read(16));
}

// The time until another client sees what is painted now.
std::chrono::milliseconds time_to_see(RfbClient& client, FakeCard& card) {
  static uint32_t color = 0;
  const auto start = std::chrono::steady_clock::now();
  card.paint({1, 1, 1, 1}, ++color);
  EXPECT_TRUE(client.wait_for_pixel(1, 1, color));
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                               start);
}

// libvncserver waits 5 s at least for a client that does not read. Sanitizers make the reader of
// large pictures slow.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::chrono::seconds kFreeze{4};
#else
constexpr std::chrono::seconds kFreeze{1};
#endif

TEST_F(VncTest, SilentAndHalfWayClientsDoNotHoldOthersUp) {
  start();
  RfbClient client = viewer();
  RfbClient silent = connect();
  RfbClient half_version = connect();
  half_version.send("RFB 00");
  RfbClient half_message = viewer();
  half_message.send(
      std::string_view("\x02\0\xff\xff\0\0", 6));  // SetEncodings of 65535, and one half
  RfbClient half_text = viewer();
  half_text.send(std::string_view("\x06\0\0\0\0\x0f\xff\xff text", 13));
  for (int i = 0; i < 10; ++i) EXPECT_LT(time_to_see(client, card_), kFreeze);
  EXPECT_TRUE(connect().log_in());
}

TEST_F(VncTest, ClientsThatStopReadingDoNotHoldOthersUp) {
  card_.resize(1920, 1200);
  start();
  RfbClient client = viewer();
  EXPECT_TRUE(client.wait_for_pixel(0, 0, 0x102030));
  RfbClient deaf = viewer();
  // Far more than the sockets' buffers hold.
  for (int i = 0; i < 20; ++i) deaf.request(false);
  RfbClient deaf_to_keys = viewer();
  deaf_to_keys.set_encodings({0, RfbClient::kExtendedKey, RfbClient::kDesktopSize});
  for (int i = 0; i < 20; ++i) deaf_to_keys.request(false);
  deaf_to_keys.set_encodings({0, RfbClient::kExtendedKey});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  for (int i = 0; i < 10; ++i) EXPECT_LT(time_to_see(client, card_), kFreeze);
  client.set_encodings({0, RfbClient::kDesktopSize});
  card_.resize(1280, 800);
  EXPECT_LT(time_to_see(client, card_), kFreeze);
  EXPECT_TRUE(connect().log_in());
  // The end does not wait for them, either.
  const auto before = std::chrono::steady_clock::now();
  server_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(1));
}

TEST_F(VncTest, SurvivesTwentyClientsThatSendGarbageAndLeave) {
  start();
  RfbClient client = viewer();
  std::minstd_rand random(1);
  for (int i = 0; i < 20; ++i) {
    std::string garbage(1 + random() % 4096, '\0');
    for (char& byte : garbage) byte = static_cast<char>(random());
    RfbClient hostile = connect();
    if (i % 2 == 0) {
      EXPECT_TRUE(hostile.log_in());
    }
    hostile.send(garbage);
    EXPECT_LT(time_to_see(client, card_), kFreeze);
  }
  EXPECT_TRUE(wait_for([&] { return server_->clients() == 1; }));
}

TEST_F(VncTest, SurvivesEachMessageWithAnyBytes) {
  start();
  RfbClient client = viewer();
  std::minstd_rand random(2);
  constexpr int kAtOnce = 16;  // libvncserver greets each client after 100 ms
  for (int type = 0; type < 256; type += kAtOnce) {
    std::vector<RfbClient> clients;
    for (int i = 0; i < kAtOnce; ++i) clients.push_back(connect());
    for (int i = 0; i < kAtOnce; ++i) {
      EXPECT_TRUE(clients[static_cast<size_t>(i)].log_in());
      std::string message(64, '\0');
      for (char& byte : message) byte = static_cast<char>(random());
      message[0] = static_cast<char>(type + i);
      clients[static_cast<size_t>(i)].request(false);
      clients[static_cast<size_t>(i)].send(message);
    }
  }
  EXPECT_LT(time_to_see(client, card_), kFreeze);
}

TEST_F(VncTest, ClientsThatScaleAreDisconnected) {
  start();
  for (const char type : {'\x08', '\x0f'}) {
    RfbClient client = viewer();
    client.send(std::string{type, 2, 0, 0});
    EXPECT_TRUE(client.sees_the_end());
  }
  RfbClient client = viewer();
  card_.resize(640, 400);
  EXPECT_TRUE(client.wait_for_pixel(0, 0, 0x102030));
}

TEST_F(VncTest, ImpossiblePixelFormatsEndTheConnection) {
  start();
  for (const std::string_view format : {
           // 32 bits with red at bit 255
           std::string_view("\x20\x18\0\x01\0\xff\0\xff\0\xff\xff\x08\0\0\0\0", 16),
           // 255 bits with red at bit 200
           std::string_view("\xff\x18\0\x01\0\xff\0\xff\0\xff\xc8\x08\0\0\0\0", 16),
           // 16 bits with 16 bits of red at bit 1
           std::string_view("\x10\x10\0\x01\xff\xff\0\x01\0\x01\x01\0\0\0\0\0", 16),
       }) {
    RfbClient client = viewer();
    client.send(std::string("\0\0\0\0", 4) + std::string(format));
    EXPECT_TRUE(client.sees_the_end());
  }
  EXPECT_TRUE(connect().log_in());
}

TEST_F(VncTest, HasAtMost32Clients) {
  start();
  std::vector<RfbClient> clients;
  for (size_t i = 0; i < VncServer::kMaxClients; ++i) clients.push_back(connect());
  for (RfbClient& client : clients) EXPECT_TRUE(client.log_in());
  EXPECT_TRUE(connect().sees_the_end());
  EXPECT_LT(time_to_see(clients.back(), card_), kFreeze);
  clients.pop_back();
  EXPECT_TRUE(wait_for([&] { return server_->clients() == VncServer::kMaxClients - 1; }));
  EXPECT_TRUE(wait_for([&] { return connect().log_in(); }));
}

TEST_F(VncTest, RefusesClientsWhenTooManyFilesAreOpen) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  if (before.rlim_max < 1200) GTEST_SKIP() << "needs a limit of 1200 open files";
  rlimit enough = before;
  enough.rlim_cur = 1200;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &enough), 0);
  start();
  std::vector<Fd> files;
  while (files.empty() || files.back().get() < FD_SETSIZE - 1)
    files.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(connect().sees_the_end());
  files.clear();
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_TRUE(connect().log_in());
}

TEST_F(VncTest, ClientsThatSayNothingAreDisconnectedLong) {
  start();
  RfbClient silent = connect();
  EXPECT_TRUE(silent.sees_the_end());
}

TEST_F(VncTest, WithoutWebABrowserIsRefused) {
  start();
  RfbClient browser = connect();
  browser.send(
      "GET / HTTP/1.1\r\nHost: 127.0.0.1:5900\r\nOrigin: http://127.0.0.1:5800\r\n"
      "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
      "Sec-WebSocket-Version: 13\r\n\r\n");
  EXPECT_TRUE(browser.sees_the_end());
  EXPECT_EQ(server_->clients(), 0u);
}

TEST_F(VncTest, ListensOnAUnixSocketOfItsOwner) {
  const TempDir folder;
  VncConfig config;
  config.address.path = folder / "screen";
  start(config);
  EXPECT_EQ(server_->address(), "unix:" + config.address.path);
  struct stat status {};
  ASSERT_EQ(::stat(config.address.path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  RfbClient client = viewer();
  EXPECT_TRUE(client.wait_for_pixel(0, 0, 0x102030));
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(config.address.path));
}

TEST_F(VncTest, IsOneOfItsKind) {
  start();
  const auto second = VncServer::create(any_port(), "", nullptr, input_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message(), "vnc: this process has a VNC server already");
  server_.reset();
  start();
}

TEST_F(VncTest, APortInUseIsAnError) {
  start();
  const std::string address = server_->address();
  server_.reset();
  const auto loop = LoopThread::start("test").value();
  auto other = loop->loop().call([&] {
    return Listener::create(loop->loop(), StreamAddress::parse(address).value(), [](Fd) {});
  });
  ASSERT_TRUE(other);
  VncConfig config;
  config.address = StreamAddress::parse(address).value();
  const auto server = VncServer::create(config, "", &card_, input_);
  loop->loop().call([&] { other->reset(); });
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message(), testing::HasSubstr("another process uses this port"));
}

TEST_F(VncTest, CardsChangeWhileClientsComeAndGo) {
  start();
  std::atomic<bool> done = false;
  std::thread board([&] {
    while (!done) {
      FakeCard next(64, 48);
      server_->set_source(&next);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      server_->set_source(nullptr);
    }
  });
  for (int i = 0; i < 10; ++i) {
    RfbClient client = connect();
    if (i % 3 != 0) {
      EXPECT_TRUE(client.log_in());
    }
    client.request(false);
  }
  done = true;
  board.join();
}

}  // namespace
}  // namespace wick::display

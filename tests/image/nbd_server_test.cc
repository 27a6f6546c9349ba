// The NBD server over a disk in memory, and clients that keep the rules or break them.
#include "image/nbd_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <map>
#include <random>
#include <thread>

#include "tests/fakes/memory_backend.h"
#include "tests/fakes/nbd_client.h"
#include "tests/fakes/temp_dir.h"
#include "tests/fakes/wait_for.h"

namespace wick::image {
namespace {

using fakes::MemoryBackend;
using fakes::NbdClient;
using testing::Each;

class NbdServerTest : public testing::Test {
 protected:
  static constexpr uint64_t kSize = 4 << 20;

  ~NbdServerTest() override { end(); }

  void start(NbdServer::Options options = {.persistent = true}) {
    loop().call([&] {
      server_.emplace(loop(), disk_, std::move(options));
      spawn([](NbdServer& server, std::atomic<bool>& done) -> Task<void> {
        co_await server.finished();
        done = true;
      }(*server_, finished_));
    });
  }
  // Stops the server and waits until it has finished.
  void end() {
    if (!server_) return;
    loop().call([this] {
      server_->stop();
      disk_.set_delay(MemoryBackend::Delay::kNone);
      disk_.release_all();
    });
    EXPECT_TRUE(fakes::wait_for([this] { return finished_.load(); }));
    loop().call([this] { server_.reset(); });
  }
  NbdClient connect(bool shakes_hands = true) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    loop().call([&] { server_->serve(Fd(ends[0]), shakes_hands); });
    return NbdClient(Fd(ends[1]));
  }
  NbdClient connected(bool structured) {
    NbdClient client = connect();
    EXPECT_TRUE(client.negotiate(structured));
    return client;
  }
  EventLoop& loop() { return thread_->loop(); }
  std::string content(uint64_t offset, size_t length) {
    return loop().call([&] {
      const auto bytes = disk_.bytes().subspan(offset, length);
      return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    });
  }
  void hold(bool on) {
    loop().call([&] {
      disk_.set_delay(on ? MemoryBackend::Delay::kHeld : MemoryBackend::Delay::kNone);
      if (!on) disk_.release_all();
    });
  }

  const std::unique_ptr<LoopThread> thread_ = LoopThread::start("nbd-test").value();
  MemoryBackend disk_{thread_->loop(), kSize};
  std::optional<NbdServer> server_;
  std::atomic<bool> finished_ = false;
};

TEST_F(NbdServerTest, ReadsAndWritesWithBothKindsOfReplies) {
  start();
  for (const bool structured : {false, true}) {
    NbdClient client = connected(structured);
    EXPECT_EQ(client.size_bytes(), kSize);
    const std::string data(1000, structured ? 'b' : 'a');
    const auto written = client.call(NBD_CMD_WRITE, 513, 1000, data);
    EXPECT_TRUE(written.arrived && written.error == NBD_SUCCESS);
    EXPECT_EQ(content(513, 1000), data);
    const auto got = client.call(NBD_CMD_READ, 512, 1002);
    EXPECT_TRUE(got.arrived);
    EXPECT_EQ(got.data, std::string(1, '\0') + data + std::string(1, '\0'));
    EXPECT_EQ(got.chunks.empty(), !structured);
    EXPECT_TRUE(client.call(NBD_CMD_READ, 0, 0).arrived);
    EXPECT_TRUE(client.call(NBD_CMD_WRITE, 0, 0).arrived);
  }
}

TEST_F(NbdServerTest, ZeroesTrimsAndFlushes) {
  start();
  NbdClient client = connected(true);
  client.call(NBD_CMD_WRITE, 0, 4096, std::string(4096, 'x'));
  EXPECT_EQ(client.call(NBD_CMD_WRITE_ZEROES, 0, 512).error, NBD_SUCCESS);
  EXPECT_TRUE(disk_.calls().last_zeroes_may_unmap);
  EXPECT_EQ(client.call(NBD_CMD_WRITE_ZEROES | NBD_CMD_FLAG_NO_HOLE, 512, 512).error, NBD_SUCCESS);
  EXPECT_FALSE(disk_.calls().last_zeroes_may_unmap);
  EXPECT_EQ(client.call(NBD_CMD_TRIM, 1024, 512).error, NBD_SUCCESS);
  EXPECT_EQ(disk_.calls().discards, 1);
  EXPECT_EQ(content(0, 1536), std::string(1536, '\0'));
  EXPECT_EQ(content(1536, 512), std::string(512, 'x'));
  EXPECT_EQ(client.call(NBD_CMD_FLUSH, 0, 0).error, NBD_SUCCESS);
  EXPECT_EQ(disk_.calls().flushes, 1);
  EXPECT_EQ(client.call(NBD_CMD_WRITE | NBD_CMD_FLAG_FUA, 0, 1, "y").error, NBD_SUCCESS);
  EXPECT_EQ(disk_.calls().flushes, 2);
}

TEST_F(NbdServerTest, FastZeroesAreFastOrRefused) {
  start({.max_clients = 2, .persistent = true});
  NbdClient client = connected(false);
  EXPECT_TRUE(client.flags() & NBD_FLAG_SEND_FAST_ZERO);
  loop().call([this] { disk_.set_zeroes_fast(false); });
  EXPECT_EQ(client.call(NBD_CMD_WRITE_ZEROES | NBD_CMD_FLAG_FAST_ZERO, 0, 512).error, NBD_ENOTSUP);
  EXPECT_EQ(disk_.calls().zeroes, 0);
  EXPECT_EQ(client.call(NBD_CMD_WRITE_ZEROES, 0, 512).error, NBD_SUCCESS);
  EXPECT_FALSE(connected(false).flags() & NBD_FLAG_SEND_FAST_ZERO);
}

TEST_F(NbdServerTest, OffersOnlyWhatIsTrue) {
  start({.persistent = true, .discards = false});
  NbdClient one = connected(false);
  EXPECT_FALSE(one.flags() & NBD_FLAG_SEND_TRIM);
  EXPECT_FALSE(one.flags() & NBD_FLAG_CAN_MULTI_CONN) << "only one client may come at a time";
  EXPECT_EQ(one.call(NBD_CMD_TRIM, 0, 512).error, NBD_EINVAL);
  EXPECT_FALSE(one.flags() & NBD_FLAG_SEND_DF);
}

TEST_F(NbdServerTest, ADiskThatCannotBeWrittenIsNot) {
  MemoryBackend disk(loop(), kSize, true);
  std::optional<NbdServer> server;
  int ends[2] = {-1, -1};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  loop().call([&] {
    server.emplace(loop(), disk, NbdServer::Options{});
    spawn([](NbdServer& of, std::atomic<bool>& done) -> Task<void> {
      co_await of.finished();
      done = true;
    }(*server, finished_));
    server->serve(Fd(ends[0]));
  });
  NbdClient client{Fd(ends[1])};
  ASSERT_TRUE(client.negotiate(true));
  EXPECT_TRUE(client.flags() & NBD_FLAG_READ_ONLY);
  EXPECT_EQ(client.call(NBD_CMD_WRITE, 0, 3, "abc").error, NBD_EPERM);
  EXPECT_EQ(client.call(NBD_CMD_READ, 0, 3).data, std::string(3, '\0'));
  client.close();
  EXPECT_TRUE(fakes::wait_for([this] { return finished_.load(); }));
  loop().call([&] { server.reset(); });
}

TEST_F(NbdServerTest, AnErrorOfTheDiskIsAnErrorOfTheRequest) {
  start();
  for (const bool structured : {false, true}) {
    NbdClient client = connected(structured);
    for (const uint32_t command : {uint32_t{NBD_CMD_READ}, uint32_t{NBD_CMD_WRITE},
                                   uint32_t{NBD_CMD_TRIM}, uint32_t{NBD_CMD_FLUSH}}) {
      loop().call([this] { disk_.fail_next(1, ENOSPC); });
      const std::string data = command == NBD_CMD_WRITE ? "data" : "";
      const auto reply = client.call(command, 0, 4, data);
      EXPECT_TRUE(reply.arrived);
      EXPECT_EQ(reply.error, NBD_ENOSPC);
      EXPECT_EQ(client.call(NBD_CMD_FLUSH, 0, 0).error, NBD_SUCCESS);
    }
  }
}

TEST_F(NbdServerTest, ManyRequestsAreInFlightAndEndInAnyOrder) {
  start();
  NbdClient client = connected(false);
  hold(true);
  for (uint64_t i = 0; i < 8; ++i)
    ASSERT_TRUE(client.send(NbdClient::request(NBD_CMD_WRITE, i, i * 512, 1, "x")));
  ASSERT_TRUE(fakes::wait_for([this] { return disk_.calls().held == 8; }));
  for (uint64_t i = 0; i < 8; ++i) {
    loop().call([this] { disk_.release_newest(); });
    EXPECT_EQ(client.reply().cookie, 7 - i);
  }
  hold(false);
}

TEST_F(NbdServerTest, RequestsInFlightAreBounded) {
  start();
  NbdClient client = connected(false);
  hold(true);
  std::string flood;
  for (uint64_t i = 0; i < 2 * NbdSession::kMaxRequests; ++i)
    flood += NbdClient::request(NBD_CMD_FLUSH, i, 0, 0);
  ASSERT_TRUE(client.send(flood));
  const int most = static_cast<int>(NbdSession::kMaxRequests);
  ASSERT_TRUE(fakes::wait_for([&] { return disk_.calls().held == most; }));
  EXPECT_FALSE(
      fakes::wait_for([&] { return disk_.calls().flushes > most; }, std::chrono::seconds(0)));
  hold(false);
  for (uint64_t i = 0; i < 2 * NbdSession::kMaxRequests; ++i) EXPECT_TRUE(client.reply().arrived);
}

TEST_F(NbdServerTest, BytesInFlightAreBounded) {
  loop().call([this] { disk_.set_size(kNbdMaxDataBytes); });
  start();
  NbdClient client = connected(false);
  hold(true);
  for (uint64_t i = 0; i < 10; ++i)
    ASSERT_TRUE(client.send(NbdClient::request(NBD_CMD_READ, i, 0, kNbdMaxDataBytes)));
  ASSERT_TRUE(fakes::wait_for([&] { return disk_.calls().held == 2; }));
  EXPECT_EQ(disk_.calls().reads, 2);
  hold(false);
  for (uint64_t i = 0; i < 10; ++i) EXPECT_TRUE(client.reply(kNbdMaxDataBytes).arrived);
}

TEST_F(NbdServerTest, AWriteOfMoreThan32MiBDisconnects) {
  start();
  NbdClient client = connected(true);
  client.send(NbdClient::request(NBD_CMD_WRITE, 1, 0, kNbdMaxDataBytes + 1, "x"));
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(connected(true).call(NBD_CMD_READ, 0, 1).error, NBD_SUCCESS) << "others go on";
}

TEST_F(NbdServerTest, AWriteThatIsRefusedIsReadToItsEnd) {
  start();
  NbdClient client = connected(false);
  EXPECT_EQ(client.call(NBD_CMD_WRITE, kSize - 1, 4096, std::string(4096, 'x')).error, NBD_ENOSPC);
  EXPECT_EQ(client.call(NBD_CMD_READ, 0, 4).data, std::string(4, '\0'));
  EXPECT_EQ(disk_.calls().writes, 0);
}

TEST_F(NbdServerTest, AWrongMagicDisconnects) {
  start();
  NbdClient client = connected(false);
  std::string request = NbdClient::request(NBD_CMD_READ, 1, 0, 1);
  request[0] ^= 1;
  client.send(request);
  EXPECT_TRUE(client.ended());
}

TEST_F(NbdServerTest, ADisconnectAtEachByteOfAWriteLosesNothingAcknowledged) {
  start();
  const std::string first = NbdClient::request(NBD_CMD_WRITE, 1, 0, 16, "acknowledged 123");
  const std::string second = NbdClient::request(NBD_CMD_WRITE, 2, 512, 16, std::string(16, 'x'));
  for (size_t cut = 0; cut <= second.size(); ++cut) {
    loop().call([this] { std::ranges::fill(disk_.bytes(), std::byte{0}); });
    NbdClient client = connected(false);
    ASSERT_TRUE(client.send(first));
    ASSERT_EQ(client.reply().error, NBD_SUCCESS);
    ASSERT_TRUE(client.send(second.substr(0, cut)));
    client.close();
    // The server serves one client at a time, so the next one comes after the end of the last.
    NbdClient next = connected(false);
    EXPECT_EQ(next.call(NBD_CMD_READ, 0, 16).data, "acknowledged 123");
    const std::string after = next.call(NBD_CMD_READ, 512, 16).data;
    EXPECT_EQ(after, std::string(16, cut == second.size() ? 'x' : '\0')) << "a part was written";
  }
}

TEST_F(NbdServerTest, ADisconnectAtEachByteOfTheHandshakeIsHarmless) {
  start();
  std::string handshake = {0, 0, 0, 3};
  handshake += NbdClient::option(NBD_OPT_STRUCTURED_REPLY) +
               NbdClient::option(NBD_OPT_SET_META_CONTEXT,
                                 NbdClient::context_data("", {kNbdAllocationContext})) +
               NbdClient::option(NBD_OPT_GO, NbdClient::info_data(""));
  for (size_t cut = 0; cut <= handshake.size(); ++cut) {
    const NbdClient client = connect();
    client.send(handshake.substr(0, cut));
  }
  EXPECT_EQ(connected(true).call(NBD_CMD_READ, 0, 1).error, NBD_SUCCESS);
}

TEST_F(NbdServerTest, AClientMayLeaveWhileItsRequestsAreInFlight) {
  start();
  NbdClient client = connected(false);
  hold(true);
  client.send(NbdClient::request(NBD_CMD_WRITE, 1, 0, 4, "data"));
  client.send(NbdClient::request(NBD_CMD_READ, 2, 0, 4096));
  ASSERT_TRUE(fakes::wait_for([this] { return disk_.calls().held == 2; }));
  client.close();
  hold(false);
  EXPECT_EQ(connected(false).call(NBD_CMD_READ, 0, 4).data, "data");
}

TEST_F(NbdServerTest, DisconnectsAfterTheRequestsBeforeIt) {
  start();
  NbdClient client = connected(false);
  hold(true);
  client.send(NbdClient::request(NBD_CMD_WRITE, 7, 0, 4, "data"));
  client.send(NbdClient::request(NBD_CMD_DISC, 8, 0, 0));
  ASSERT_TRUE(fakes::wait_for([this] { return disk_.calls().held == 1; }));
  hold(false);
  EXPECT_EQ(client.reply().cookie, 7u);
  EXPECT_TRUE(client.ended());
}

TEST_F(NbdServerTest, StopCompletesWhatIsInFlight) {
  start();
  NbdClient client = connected(false);
  hold(true);
  client.send(NbdClient::request(NBD_CMD_WRITE, 7, 0, 4, "data"));
  ASSERT_TRUE(fakes::wait_for([this] { return disk_.calls().held == 1; }));
  loop().call([this] { server_->stop(); });
  EXPECT_FALSE(finished_);
  hold(false);
  EXPECT_EQ(client.reply().error, NBD_SUCCESS);
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(content(0, 4), "data");
}

TEST_F(NbdServerTest, StopDoesNotWaitForAClientThatDoesNotRead) {
  start();
  NbdClient client = connected(false);
  for (uint64_t i = 0; i < 4; ++i) client.send(NbdClient::request(NBD_CMD_READ, i, 0, kSize));
  ASSERT_TRUE(fakes::wait_for([this] { return disk_.calls().reads == 4; }));
  end();
}

TEST_F(NbdServerTest, EndsWithItsLastClientUnlessPersistent) {
  start({.max_clients = 2});
  const NbdClient visitor = connect();  // does not count: it makes no handshake
  NbdClient client = connected(false);
  EXPECT_TRUE(client.flags() & NBD_FLAG_CAN_MULTI_CONN);
  client.send(NbdClient::request(NBD_CMD_DISC, 1, 0, 0));
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(finished_) << "the visitor is still there";
  visitor.end_output();
  NbdClient last = connected(false);
  last.close();
  EXPECT_TRUE(fakes::wait_for([this] { return finished_.load(); }));
}

TEST_F(NbdServerTest, FurtherClientsWaitForTheirTurn) {
  start();
  NbdClient first = connected(false);
  NbdClient second = connect();
  EXPECT_EQ(first.call(NBD_CMD_WRITE, 0, 1, "1").error, NBD_SUCCESS);
  first.close();
  ASSERT_TRUE(second.negotiate(false));
  EXPECT_EQ(second.call(NBD_CMD_READ, 0, 1).data, "1");
}

TEST_F(NbdServerTest, AFlushOfOneClientCoversTheWritesOfAnother) {
  start({.max_clients = 2, .persistent = true});
  NbdClient writer = connected(false);
  NbdClient other = connected(true);
  EXPECT_EQ(writer.call(NBD_CMD_WRITE, 0, 1, "1").error, NBD_SUCCESS);
  EXPECT_EQ(other.call(NBD_CMD_FLUSH, 0, 0).error, NBD_SUCCESS);
  EXPECT_EQ(disk_.calls().flushes, 1);
  EXPECT_EQ(other.call(NBD_CMD_READ, 0, 1).data, "1");
}

TEST_F(NbdServerTest, TellsTheNewSizeToThoseWhoComeLater) {
  start({.max_clients = 2, .persistent = true});
  NbdClient early = connected(false);
  loop().call([this] { disk_.set_size(2 * kSize); });
  EXPECT_EQ(connected(false).size_bytes(), 2 * kSize);
  EXPECT_EQ(early.call(NBD_CMD_WRITE, kSize, 1, "x").error, NBD_SUCCESS);
  loop().call([this] { disk_.set_size(kSize / 2); });
  EXPECT_EQ(early.call(NBD_CMD_WRITE, kSize / 2, 1, "x").error, NBD_ENOSPC);
}

TEST_F(NbdServerTest, AClientThatDoesNotShakeHandsIsDisconnected) {
  start({.persistent = true, .handshake_time = std::chrono::milliseconds(20)});
  NbdClient silent = connect();
  NbdClient slow = connect();
  EXPECT_EQ(silent.receive(100).size(), 18u) << "after the greeting, it is disconnected";
  slow.send(std::string(3, '\0'));
  EXPECT_EQ(slow.receive(100).size(), 18u);
}

TEST_F(NbdServerTest, AClientThatNegotiatesForEverIsDisconnected) {
  start({.persistent = true, .handshake_time = std::chrono::milliseconds(200)});
  NbdClient client = connect();
  ASSERT_TRUE(client.greet());
  constexpr uint32_t kNoOption = 99;
  std::string options;
  for (int i = 0; i < 1000; ++i) options += NbdClient::option(kNoOption);
  std::thread sender([&] {
    while (client.send(options)) continue;
  });
  constexpr size_t kPart = 64 << 10;
  while (client.receive(kPart).size() == kPart) continue;
  sender.join();
  EXPECT_EQ(connected(true).call(NBD_CMD_READ, 0, 1).error, NBD_SUCCESS);
}

TEST_F(NbdServerTest, LinuxBeginsWithRequests) {
  start();
  NbdClient kernel = connect(false);
  EXPECT_EQ(kernel.call(NBD_CMD_WRITE, 0, 1, "k").error, NBD_SUCCESS);
  EXPECT_EQ(kernel.call(NBD_CMD_READ, 0, 1).data, "k");
}

TEST_F(NbdServerTest, ListensOnAUnixSocketAndRemovesIt) {
  const fakes::TempDir folder;
  start();
  StreamAddress address;
  address.path = folder / "s";
  const auto listening = loop().call([&] { return server_->listen(address); });
  ASSERT_TRUE(listening) << listening.error().message();
  auto socket = connect_stream(address);
  ASSERT_TRUE(socket);
  NbdClient client(*std::move(socket));
  EXPECT_TRUE(client.negotiate(true));
  end();
  loop().call([] {});
  EXPECT_FALSE(std::filesystem::exists(address.path));
}

// Random requests of two clients, with several in flight, against a model. Requests of one batch
// do not overlap.
class NbdWorkload {
 public:
  NbdWorkload(NbdClient& client, uint64_t size, uint64_t seed)
      : client_(client), model_(size, '\0'), random_(seed) {}

  void run(int requests) {
    while (requests > 0) {
      const int count = std::min<int>(requests, 1 + static_cast<int>(random_() % 12));
      requests -= count;
      batch(count);
      if (testing::Test::HasFailure()) return;
    }
  }
  const std::string& model() const { return model_; }

 private:
  struct Sent {
    uint32_t command;
    uint64_t offset;
    uint32_t length;
    std::string expected;
  };

  void batch(int count) {
    std::map<uint64_t, Sent> sent;
    const uint64_t slice = model_.size() / static_cast<uint64_t>(count);
    for (int i = 0; i < count; ++i) {
      const uint64_t start = slice * static_cast<uint64_t>(i);
      const uint64_t offset = start + random_() % (slice - 1);
      const uint64_t most = std::min<uint64_t>(slice - (offset - start), 40000);
      const auto length = static_cast<uint32_t>(1 + random_() % most);
      constexpr uint32_t kCommands[] = {
          NBD_CMD_READ,         NBD_CMD_READ,  NBD_CMD_READ | NBD_CMD_FLAG_DF,
          NBD_CMD_WRITE,        NBD_CMD_WRITE, NBD_CMD_WRITE | NBD_CMD_FLAG_FUA,
          NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM,  NBD_CMD_FLUSH,
          NBD_CMD_BLOCK_STATUS};
      const uint32_t command = kCommands[random_() % std::size(kCommands)];
      std::string data;
      if ((command & 0xffff) == NBD_CMD_WRITE) {
        data.resize(length);
        for (char& byte : data) byte = static_cast<char>(random_());
        model_.replace(offset, length, data);
      }
      if (command == NBD_CMD_WRITE_ZEROES || command == NBD_CMD_TRIM)
        model_.replace(offset, length, std::string(length, '\0'));
      sent[++cookie_] = {command, offset, length, model_.substr(offset, length)};
      ASSERT_TRUE(client_.send(NbdClient::request(command, cookie_, offset, length, data)));
    }
    // Replies come in any order, so their cookie is looked at first.
    for (int i = 0; i < count; ++i) {
      std::string head(16, '\0');
      ASSERT_EQ(::recv(client_.socket().get(), head.data(), 16, MSG_PEEK | MSG_WAITALL), 16);
      const auto found = sent.find(NbdClient::number<uint64_t>(head, 8));
      ASSERT_NE(found, sent.end());
      const Sent& request = found->second;
      const bool reads = (request.command & 0xffff) == NBD_CMD_READ;
      const auto reply = client_.reply(reads ? request.length : 0, request.offset);
      ASSERT_TRUE(reply.arrived);
      ASSERT_EQ(reply.error, NBD_SUCCESS);
      if (reads) {
        ASSERT_EQ(reply.data == request.expected, true) << "at " << request.offset;
      }
      if (request.command == (NBD_CMD_READ | NBD_CMD_FLAG_DF)) {
        ASSERT_EQ(reply.chunks.size(), 1u);
      }
      sent.erase(found);
    }
  }

  NbdClient& client_;
  std::string model_;
  std::mt19937_64 random_;
  uint64_t cookie_ = 0;
};

class NbdRandom : public NbdServerTest {
 protected:
  void run(int requests, uint64_t seed) {
    start();
    loop().call([this] { disk_.set_delay(MemoryBackend::Delay::kNextRound); });
    NbdClient client = connected(true);
    NbdWorkload workload(client, kSize, seed);
    workload.run(requests);
    EXPECT_TRUE(content(0, kSize) == workload.model());
  }
};
using NbdRandomLong = NbdRandom;

TEST_F(NbdRandom, RequestsAreEqualToAModel) { run(10'000, 1); }
TEST_F(NbdRandomLong, RequestsAreEqualToAModel) { run(100'000, 2); }

TEST_F(NbdServerTest, SurvivesBytesAtRandom) {
  start({.max_clients = 4, .persistent = true});
  std::mt19937_64 random(3);
  for (int i = 0; i < 300; ++i) {
    NbdClient client = connect();
    std::string bytes(random() % 200, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    if (i % 2 == 0) {
      ASSERT_TRUE(client.negotiate(i % 4 == 0));
    }
    client.send(bytes);
  }
  EXPECT_EQ(connected(true).call(NBD_CMD_READ, 0, 1).error, NBD_SUCCESS);
}

}  // namespace
}  // namespace wick::image

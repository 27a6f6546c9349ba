// The virtio-9p device with a driver: what it does with its ring, and with requests that are
// about other requests. What a client can do on a share: p9_session_test.cc.
#include "virtio/p9.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "tests/fakes/p9_client.h"
#include "tests/fakes/temp_dir.h"
#include "tests/virtio/running_device_fixture.h"

namespace wick::virtio {
namespace {

using fakes::P9Client;
using p9::P9_RLERROR;

constexpr uint32_t kRoot = 0;

class P9Test : public RunningDevice {
 protected:
  P9Test() {
    tree_ = share::Tree::open({.path = folder_.path()}).value();
    device_ = P9::create(*tree_, loop(), "home").value();
    plug(*device_);
    start();
  }
  ~P9Test() override { unplug(); }

  // Sends one request and waits for its reply.
  std::string exchange(const std::string& message, size_t room) {
    const auto request = publish(message, room);
    regs().kick(0);
    const auto used = take_used(0);
    EXPECT_EQ(used.head, request.head);
    return reply(request, used.written_bytes);
  }
  // As Linux does it: the reply's header goes to another buffer than the data.
  FakeDriver::Request publish(const std::string& message, size_t room = 200) {
    constexpr size_t kHead = p9::kIoHeaderBytes;
    auto chain = queue(0).chain();
    chain.readable(message.substr(0, p9::kWriteHeaderBytes));
    if (message.size() > p9::kWriteHeaderBytes)
      chain.readable(message.substr(p9::kWriteHeaderBytes));
    chain.writable(static_cast<uint32_t>(std::min(room, kHead)));
    if (room > kHead) chain.writable(static_cast<uint32_t>(room - kHead));
    return chain.publish();
  }
  static std::string reply(const FakeDriver::Request& request, size_t size) {
    std::string bytes;
    for (const auto& buffer : request.writable)
      bytes.append(reinterpret_cast<const char*>(buffer.data()), buffer.size());
    return bytes.substr(0, size);
  }
  static std::string finished(P9Client::Message message, uint16_t tag) {
    const auto bytes = message.finish(tag);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  static uint8_t type_of(const std::string& message) {
    return message.size() < p9::kHeaderBytes ? uint8_t{0} : static_cast<uint8_t>(message[4]);
  }
  void attach() {
    ASSERT_EQ(client_.version(64 << 10), "9P2000.L");
    ASSERT_TRUE(client_.attach(kRoot));
  }

  const fakes::TempDir folder_;
  std::unique_ptr<share::Tree> tree_;
  std::unique_ptr<P9> device_;
  P9Client client_{
      [this](const std::string& message, size_t room) { return exchange(message, room); }};
};

TEST_F(P9Test, TellsItsTag) {
  EXPECT_NE(regs().device_features() & feature_bit(VIRTIO_9P_MOUNT_TAG), 0u);
  EXPECT_EQ(regs().config(0, 2), 4u);
  std::string tag;
  for (uint64_t at = 2; at < 8; ++at) tag += static_cast<char>(regs().config(at, 1));
  EXPECT_EQ(tag, std::string("home\0\0", 6));
}

TEST_F(P9Test, AClientWritesAndReads) {
  attach();
  ASSERT_TRUE(client_.walk(kRoot, 1));
  ASSERT_TRUE(client_.create(1, "file", O_RDWR, 0644));
  std::string data(40'000, ' ');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>('a' + i % 23);
  EXPECT_EQ(client_.write(1, 0, data), data.size());
  EXPECT_EQ(folder_.read("file"), data);
  EXPECT_EQ(client_.read(1, 0, 50'000), data);
  EXPECT_EQ(client_.read(1, 39'990, 100), data.substr(39'990));
  EXPECT_TRUE(client_.clunk(1));
}

TEST_F(P9Test, ExecutesManyRequestsAtATime) {
  for (int i = 0; i < 8; ++i)
    folder_.write(fmt::format("file{}", i), std::string(3000, char('0' + i)));
  attach();
  for (uint32_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(client_.walk(kRoot, i + 1, {fmt::format("file{}", i)}));
    ASSERT_TRUE(client_.open(i + 1, O_RDONLY));
  }
  for (int round = 0; round < 50; ++round) {
    std::map<uint32_t, std::pair<uint32_t, FakeDriver::Request>> pending;
    for (uint32_t i = 0; i < 4; ++i) {
      const auto message = P9Client::Message(p9::P9_TREAD).u32(i + 1).u64(0).u32(3000);
      const auto request = publish(finished(message, static_cast<uint16_t>(i)), 4000);
      pending.emplace(request.head, std::pair(i, request));
    }
    regs().kick(0);
    while (!pending.empty()) {
      const auto used = take_used(0);
      const auto found = pending.find(used.head);
      ASSERT_NE(found, pending.end());
      const auto& [index, request] = found->second;
      const std::string bytes = reply(request, used.written_bytes);
      EXPECT_EQ(static_cast<uint8_t>(bytes[5]), index);
      EXPECT_EQ(bytes.substr(p9::kIoHeaderBytes),
                std::string(3000, static_cast<char>('0' + index)));
      pending.erase(found);
    }
  }
}

// Linux reuses the tag and the memory of a request when its flush has been answered.
TEST_F(P9Test, AnswersAFlushAfterTheRequestThatItNames) {
  folder_.write("file", "text");
  attach();
  ASSERT_TRUE(client_.walk(kRoot, 1, {"file"}));
  ASSERT_TRUE(client_.open(1, O_RDONLY));
  int cancelled = 0;
  for (int round = 0; round < 300; ++round) {
    const auto read = P9Client::Message(p9::P9_TREAD).u32(1).u64(0).u32(4);
    const auto old = publish(finished(read, 7));
    const auto flush = publish(finished(P9Client::Message(p9::P9_TFLUSH).u16(7), 8), 7);
    const auto again = publish(finished(P9Client::Message(p9::P9_TFLUSH).u16(7), 9), 7);
    regs().kick(0);
    const auto first = take_used(0);
    EXPECT_EQ(first.head, old.head);
    if (first.written_bytes == 0)
      ++cancelled;  // no reply
    else
      EXPECT_EQ(type_of(reply(old, first.written_bytes)), p9::reply_type(p9::P9_TREAD));
    const auto second = take_used(0);
    EXPECT_EQ(second.head, flush.head);
    EXPECT_EQ(reply(flush, second.written_bytes), std::string("\x07\0\0\0\x6d\x08\0", 7));
    const auto third = take_used(0);
    EXPECT_EQ(third.head, again.head);
    EXPECT_EQ(third.written_bytes, 7u);
  }
  RecordProperty("cancelled", cancelled);
}

TEST_F(P9Test, AnswersAFlushOfNothingAtOnce) {
  attach();
  EXPECT_EQ(exchange(finished(P9Client::Message(p9::P9_TFLUSH).u16(1234), 8), 7),
            std::string("\x07\0\0\0\x6d\x08\0", 7));
  EXPECT_EQ(exchange(finished(P9Client::Message(p9::P9_TFLUSH).u16(8), 8), 7),  // of itself
            std::string("\x07\0\0\0\x6d\x08\0", 7));
}

TEST_F(P9Test, ExecutesAVersionWhenNothingElseIs) {
  folder_.write("file", std::string(3000, 'f'));
  for (int round = 0; round < 100; ++round) {
    attach();
    ASSERT_TRUE(client_.walk(kRoot, 1, {"file"}));
    ASSERT_TRUE(client_.open(1, O_RDONLY));
    const auto read = P9Client::Message(p9::P9_TREAD).u32(1).u64(0).u32(3000);
    (void)publish(finished(read, 1), 3100);
    (void)publish(finished(read, 2), 3100);
    const auto version = publish(
        finished(P9Client::Message(p9::P9_TVERSION).u32(8192).text("9P2000.L"), p9::P9_NOTAG));
    const auto late = publish(finished(read, 3), 3100);
    regs().kick(0);
    EXPECT_EQ(take_used(0).written_bytes, 3011u);
    EXPECT_EQ(take_used(0).written_bytes, 3011u);
    EXPECT_EQ(take_used(0).head, version.head);
    const auto last = take_used(0);
    EXPECT_EQ(last.head, late.head);
    EXPECT_EQ(type_of(reply(late, last.written_bytes)), P9_RLERROR);  // its fid is gone
    EXPECT_EQ(tree_->usage().open_files, 0u);
  }
}

TEST_F(P9Test, GivesBackRequestsThatCannotBeAnswered) {
  attach();
  for (const auto& request :
       {queue(0).chain().readable("short").writable(100).publish(),
        queue(0).chain().writable(100).publish(), queue(0).chain().readable("").publish(),
        publish(finished(P9Client::Message(p9::P9_TCLUNK).u32(kRoot), 1), 10)}) {
    regs().kick(0);
    EXPECT_EQ(take_used(0), (FakeDriver::Used{request.head, 0}));
  }
  EXPECT_TRUE(client_.getattr(kRoot)) << "what has no room for a reply is not executed";
}

TEST_F(P9Test, AResetClosesAllFiles) {
  folder_.write("file", "text");
  for (int round = 0; round < 20; ++round) {
    attach();
    for (uint32_t fid = 1; fid < 10; ++fid) {
      ASSERT_TRUE(client_.walk(kRoot, fid, {"file"}));
      ASSERT_TRUE(client_.open(fid, O_RDONLY));
    }
    for (uint16_t tag = 0; tag < 4; ++tag)
      (void)publish(finished(P9Client::Message(p9::P9_TREAD).u32(1).u64(0).u32(4), tag));
    (void)publish(
        finished(P9Client::Message(p9::P9_TVERSION).u32(8192).text("9P2000.L"), p9::P9_NOTAG));
    regs().kick(0);
    regs().reset();
    EXPECT_TRUE(leaves_memory_alone());
    EXPECT_EQ(tree_->usage().open_files, 0u);
    EXPECT_LE(tree_->usage().nodes, 1u);
    start();
  }
}

TEST_F(P9Test, ItsQueueStartsAgainAndTheClientGoesOn) {
  folder_.write("file", "text");
  attach();
  ASSERT_TRUE(client_.walk(kRoot, 1, {"file"}));
  ASSERT_TRUE(client_.open(1, O_RDONLY));
  replace_queue(0, 8);
  EXPECT_EQ(client_.read(1, 0, 10), "text");
}

TEST_F(P9Test, ReadsNothingWithoutTheBusMaster) {
  folder_.write("file", "text");
  attach();
  ASSERT_TRUE(client_.walk(kRoot, 1, {"file"}));
  ASSERT_TRUE(client_.open(1, O_RDONLY));
  regs().set_bus_master(false);
  const auto request = publish(finished(P9Client::Message(p9::P9_TREAD).u32(1).u64(0).u32(4), 1));
  regs().kick(0);
  EXPECT_TRUE(leaves_memory_alone());
  EXPECT_TRUE(untouched(request.writable[0]));
  expect_nothing_until_restarted();
  attach();
  EXPECT_TRUE(client_.getattr(kRoot));
}

TEST_F(P9Test, TouchesNoMemoryWhileItIsHeld) {
  attach();
  for (int round = 0; round < 20; ++round) {
    (void)publish(finished(P9Client::Message(p9::P9_TGETATTR).u32(kRoot).u64(1), 1));
    regs().kick(0);
    device_->pause();
    const auto waiting = publish(finished(P9Client::Message(p9::P9_TGETATTR).u32(kRoot).u64(1), 2));
    regs().kick(0);
    EXPECT_TRUE(leaves_memory_alone());
    EXPECT_TRUE(untouched(waiting.writable[0]));
    device_->resume();
    EXPECT_NE(take_used(0).written_bytes, 0u);
    EXPECT_EQ(take_used(0).head, waiting.head);
  }
  device_->pause();
  device_->pause();
  regs().reset();
  device_->resume();
}

TEST_F(P9Test, AsksForAResetWhenTheRingIsBroken) {
  attach();
  (void)publish(finished(P9Client::Message(p9::P9_TGETATTR).u32(kRoot).u64(1), 1));
  queue(0).set_available_index(1000);
  regs().kick(0);
  EXPECT_TRUE(wait_for([&] { return (regs().status() & PciDriver::kNeedsReset) != 0; }));
  device_->pause();  // returns
  device_->resume();
  regs().reset();
  start();
  attach();
}

}  // namespace
}  // namespace wick::virtio

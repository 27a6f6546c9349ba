// Parses 9P2000.L requests that a client would send, and those that it should not, and checks
// the bytes of replies.
#include "virtio/p9_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/bytes.h"

namespace wick::virtio::p9 {
namespace {

using testing::ElementsAre;

constexpr uint32_t kMsize = 64 << 10;

// Reply serializes requests as well: the headers are the same.
using Message = Reply;

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string finished(Message message, uint16_t tag = 1, size_t data_bytes = 0) {
  return text_of(message.finish(tag, data_bytes));
}

// The bytes of a message in buffers of `part` bytes each.
struct Buffers {
  explicit Buffers(std::string message, size_t part = SIZE_MAX) : bytes(std::move(message)) {
    for (size_t at = 0; at < bytes.size(); at += std::min(part, bytes.size() - at))
      views.push_back({bytes.data() + at, std::min(part, bytes.size() - at)});
  }
  std::string bytes;
  std::vector<iovec> views;
};

Request parse(const std::string& message, size_t part = SIZE_MAX, uint32_t msize = kMsize) {
  const Buffers buffers(message, part);
  auto request = Request::parse(buffers.views, msize);
  EXPECT_TRUE(request);
  return request ? *std::move(request) : Request();
}

int refusal(const std::string& message, uint32_t msize = kMsize) {
  const Request request = parse(message, SIZE_MAX, msize);
  const auto* refused = std::get_if<Refused>(&request.body);
  return refused != nullptr ? refused->error : 0;
}

template <typename T>
T parsed(const std::string& message) {
  const Request request = parse(message);
  EXPECT_TRUE(std::holds_alternative<T>(request.body));
  return std::get<T>(request.body);
}

TEST(P9Message, TakesAMessageFromBuffersOfAnySize) {
  const std::string message =
      finished(Message(P9_TWALK).u32(1).u32(2).u16(2).text("folder").text("file"), 77);
  for (size_t part = 1; part <= message.size(); ++part) {
    const Request request = parse(message, part);
    EXPECT_EQ(request.tag, 77);
    const auto& walk = std::get<Walk>(request.body);
    EXPECT_EQ(walk.fid, 1u);
    EXPECT_EQ(walk.new_fid, 2u);
    EXPECT_THAT(walk.names, ElementsAre("folder", "file"));
  }
}

TEST(P9Message, KeepsItsTextWhenItIsMoved) {
  Request first = parse(finished(Message(P9_TLINK).u32(1).u32(2).text("a")));
  const Request second = std::move(first);
  EXPECT_EQ(std::get<Link>(second.body).name, "a");
}

TEST(P9Message, HasTheFieldsInTheOrderOfTheProtocol) {
  const Request version = parse(finished(Message(P9_TVERSION).u32(8192).text("9P2000.L")));
  EXPECT_EQ(std::get<Version>(version.body).msize, 8192u);
  EXPECT_EQ(std::get<Version>(version.body).version, "9P2000.L");

  const Request attach =
      parse(finished(Message(P9_TATTACH).u32(3).u32(P9_NOFID).text("root").text("/x").u32(1000)));
  EXPECT_EQ(std::get<Attach>(attach.body).fid, 3u);
  EXPECT_EQ(std::get<Attach>(attach.body).afid, P9_NOFID);
  EXPECT_EQ(std::get<Attach>(attach.body).uname, "root");
  EXPECT_EQ(std::get<Attach>(attach.body).aname, "/x");
  EXPECT_EQ(std::get<Attach>(attach.body).n_uname, 1000u);

  const Request create =
      parse(finished(Message(P9_TLCREATE).u32(4).text("new").u32(0x8241).u32(0100644).u32(50)));
  EXPECT_EQ(std::get<Create>(create.body).name, "new");
  EXPECT_EQ(std::get<Create>(create.body).flags, 0x8241u);
  EXPECT_EQ(std::get<Create>(create.body).mode, 0100644u);
  EXPECT_EQ(std::get<Create>(create.body).gid, 50u);

  const Request symlink =
      parse(finished(Message(P9_TSYMLINK).u32(4).text("name").text("../target").u32(9)));
  EXPECT_EQ(std::get<Symlink>(symlink.body).name, "name");
  EXPECT_EQ(std::get<Symlink>(symlink.body).target, "../target");
  EXPECT_EQ(std::get<Symlink>(symlink.body).gid, 9u);

  const Request renameat =
      parse(finished(Message(P9_TRENAMEAT).u32(1).text("old").u32(2).text("new")));
  EXPECT_EQ(std::get<Renameat>(renameat.body).old_dirfid, 1u);
  EXPECT_EQ(std::get<Renameat>(renameat.body).old_name, "old");
  EXPECT_EQ(std::get<Renameat>(renameat.body).new_dirfid, 2u);
  EXPECT_EQ(std::get<Renameat>(renameat.body).new_name, "new");

  const Request lock = parse(finished(
      Message(P9_TLOCK).u32(5).u8(P9_LOCK_TYPE_WRLCK).u32(1).u64(10).u64(20).u32(7).text("host")));
  EXPECT_EQ(std::get<Lock>(lock.body).type, P9_LOCK_TYPE_WRLCK);
  EXPECT_EQ(std::get<Lock>(lock.body).flags, P9_LOCK_FLAGS_BLOCK);
  EXPECT_EQ(std::get<Lock>(lock.body).start, 10u);
  EXPECT_EQ(std::get<Lock>(lock.body).length, 20u);
  EXPECT_EQ(std::get<Lock>(lock.body).proc_id, 7u);
  EXPECT_EQ(std::get<Lock>(lock.body).client_id, "host");

  const auto setattr = parsed<Setattr>(finished(Message(P9_TSETATTR)
                                                    .u32(1)
                                                    .u32(P9_ATTR_SIZE)
                                                    .u32(2)
                                                    .u32(3)
                                                    .u32(4)
                                                    .u64(5)
                                                    .u64(6)
                                                    .u64(7)
                                                    .u64(8)
                                                    .u64(9)));
  EXPECT_EQ(setattr.valid, P9_ATTR_SIZE);
  EXPECT_EQ(setattr.gid, 4u);
  EXPECT_EQ(setattr.size, 5u);
  EXPECT_EQ(setattr.mtime_nsec, 9u);
}

TEST(P9Message, LeavesTheDataOfAWriteInTheBuffersOfTheGuest) {
  const std::string head = finished(Message(P9_TWRITE).u32(6).u64(1ull << 40).u32(10), 1, 10);
  for (const size_t part : {1, 5, 23, 24, 100}) {
    const Buffers buffers(head + "0123456789 and more", part);
    const auto request = Request::parse(buffers.views, kMsize);
    ASSERT_TRUE(request);
    const auto& write = std::get<Write>(request->body);
    EXPECT_EQ(write.offset, 1ull << 40);
    std::string data;
    for (const iovec& buffer : write.data) {
      EXPECT_GE(buffer.iov_base, buffers.bytes.data() + kWriteHeaderBytes);
      data.append(static_cast<const char*>(buffer.iov_base), buffer.iov_len);
    }
    EXPECT_EQ(data, "0123456789");
  }
}

TEST(P9Message, TakesWritesOfOldLinuxWithoutTheDataInTheSize) {
  const std::string message = finished(Message(P9_TWRITE).u32(6).u64(0).u32(4)) + "data";
  EXPECT_EQ(total_bytes(parsed<Write>(message).data), 4u);
}

TEST(P9Message, RefusesWritesOfMoreThanThereIs) {
  EXPECT_EQ(refusal(finished(Message(P9_TWRITE).u32(6).u64(0).u32(5), 1, 5) + "data"), EPROTO);
  EXPECT_EQ(refusal(finished(Message(P9_TWRITE).u32(6).u64(0).u32(UINT32_MAX))), EMSGSIZE);
  EXPECT_EQ(refusal(finished(Message(P9_TWRITE).u32(6).u64(0).u32(4096), 1, 4096) +
                        std::string(4096, 'x'),
                    4096),
            EMSGSIZE);
}

TEST(P9Message, HasNoReplyForLessThanAHeader) {
  for (size_t size = 0; size < kHeaderBytes; ++size) {
    const Buffers buffers(finished(Message(P9_TCLUNK).u32(1)).substr(0, size));
    EXPECT_FALSE(Request::parse(buffers.views, kMsize)) << size;
  }
}

// Cuts each request after each byte, with the right size in the header and with the old one.
TEST(P9Message, RefusesAMessageThatIsCutAnywhere) {
  const std::vector<Message> messages = {
      Message(P9_TVERSION).u32(8192).text("9P2000.L"),
      Message(P9_TATTACH).u32(3).u32(P9_NOFID).text("root").text("/x").u32(1000),
      Message(P9_TFLUSH).u16(1),
      Message(P9_TWALK).u32(1).u32(2).u16(2).text("folder").text("file"),
      Message(P9_TLOPEN).u32(1).u32(2),
      Message(P9_TLCREATE).u32(4).text("new").u32(0x8241).u32(0100644).u32(50),
      Message(P9_TREAD).u32(1).u64(2).u32(3),
      Message(P9_TREADDIR).u32(1).u64(2).u32(3),
      Message(P9_TWRITE).u32(1).u64(2).u32(0),
      Message(P9_TCLUNK).u32(1),
      Message(P9_TREMOVE).u32(1),
      Message(P9_TSTATFS).u32(1),
      Message(P9_TREADLINK).u32(1),
      Message(P9_TGETATTR).u32(1).u64(2),
      Message(P9_TSETATTR).u32(1).u32(2).u32(3).u32(4).u32(5).u64(6).u64(7).u64(8).u64(9).u64(1),
      Message(P9_TXATTRWALK).u32(1).u32(2).text("user.x"),
      Message(P9_TXATTRCREATE).u32(1).text("user.x").u64(2).u32(3),
      Message(P9_TFSYNC).u32(1).u32(0),
      Message(P9_TLOCK).u32(5).u8(1).u32(1).u64(10).u64(20).u32(7).text("host"),
      Message(P9_TGETLOCK).u32(5).u8(1).u64(10).u64(20).u32(7).text("host"),
      Message(P9_TLINK).u32(1).u32(2).text("name"),
      Message(P9_TMKDIR).u32(1).text("name").u32(2).u32(3),
      Message(P9_TMKNOD).u32(1).text("name").u32(2).u32(3).u32(4).u32(5),
      Message(P9_TSYMLINK).u32(4).text("name").text("../target").u32(9),
      Message(P9_TRENAME).u32(1).u32(2).text("name"),
      Message(P9_TRENAMEAT).u32(1).text("old").u32(2).text("new"),
      Message(P9_TUNLINKAT).u32(1).text("name").u32(0),
  };
  for (const Message& whole : messages) {
    const std::string bytes = finished(whole);
    const int type = static_cast<uint8_t>(bytes[4]);
    EXPECT_EQ(refusal(bytes), 0) << type;
    for (size_t size = kHeaderBytes; size < bytes.size(); ++size) {
      std::string cut = bytes.substr(0, size);
      EXPECT_EQ(refusal(cut), EPROTO) << type << " of " << size << " bytes";
      cut[0] = static_cast<char>(size);
      EXPECT_EQ(refusal(cut), EPROTO) << type << " of " << size << " bytes";
    }
  }
}

TEST(P9Message, RefusesTypesThat9P2000LDoesNotHave) {
  for (const int type : {0, 6, 7, 9, 98, 106, 112, 114, 124, 126, 255})
    EXPECT_EQ(refusal(finished(Message(static_cast<uint8_t>(type)))), EOPNOTSUPP) << type;
}

TEST(P9Message, BoundsTheSizeOfAMessage) {
  std::string message = finished(Message(P9_TCLUNK).u32(1));
  message[3] = 0x7f;  // 2 GiB
  EXPECT_EQ(refusal(message), EMSGSIZE);
  EXPECT_EQ(refusal(finished(Message(P9_TCLUNK).u32(1), 1, kMsize)), EMSGSIZE);
  EXPECT_EQ(refusal(finished(Message(P9_TCLUNK).u32(1), 1, kMaxRequestBytes)), EMSGSIZE);
  std::string empty = finished(Message(P9_TCLUNK).u32(1));
  empty[0] = 6;
  EXPECT_EQ(refusal(empty), EPROTO);
}

TEST(P9Message, BoundsNamesAndTheirNumber) {
  const std::string longest(255, 'n'), too_long(256, 'n');
  const auto mkdir = [](const std::string& name) {
    return finished(Message(P9_TMKDIR).u32(1).text(name).u32(0755).u32(0));
  };
  EXPECT_EQ(refusal(mkdir(longest)), 0);
  EXPECT_EQ(refusal(mkdir(too_long)), ENAMETOOLONG);
  const auto symlink = [](size_t size) {
    return finished(Message(P9_TSYMLINK).u32(1).text("l").text(std::string(size, 't')).u32(0));
  };
  EXPECT_EQ(refusal(symlink(4095)), 0);
  EXPECT_EQ(refusal(symlink(4096)), ENAMETOOLONG);
  EXPECT_EQ(refusal(finished(Message(P9_TXATTRWALK).u32(1).u32(2).text(too_long))), ERANGE);

  const auto walk = [&](uint16_t count) {
    Message message(P9_TWALK);
    message.u32(1).u32(2).u16(count);
    for (int i = 0; i < count; ++i) message.text(longest);
    return finished(std::move(message));
  };
  EXPECT_EQ(refusal(walk(16)), 0);
  EXPECT_EQ(refusal(walk(17)), EINVAL);
  EXPECT_EQ(refusal(finished(Message(P9_TWALK).u32(1).u32(2).u16(UINT16_MAX))), EINVAL);
}

TEST(P9Message, RefusesTextWithANul) {
  using std::string_view_literals::operator""sv;
  EXPECT_EQ(refusal(finished(Message(P9_TMKDIR).u32(1).text("a\0b"sv).u32(0).u32(0))), EINVAL);
  EXPECT_EQ(refusal(finished(Message(P9_TWALK).u32(1).u32(2).u16(1).text("\0"sv))), EINVAL);
}

TEST(P9Message, WritesAReplyWithItsSizeAndTag) {
  Reply reply(reply_type(P9_TLOPEN));
  reply.qid({P9_QTDIR, 0x01020304, 0x1122334455667788}).u32(4096);
  const std::string bytes = text_of(reply.finish(0xabcd));
  EXPECT_EQ(bytes,
            std::string("\x18\0\0\0\x0d\xcd\xab\x80\x04\x03\x02\x01\x88\x77\x66\x55\x44\x33\x22"
                        "\x11\0\x10\0\0",
                        24));
  Reply error = Reply::error(ENOENT);
  EXPECT_EQ(text_of(error.finish(1)), std::string("\x0b\0\0\0\x07\x01\0\x02\0\0\0", 11));
}

TEST(P9Message, CountsTheDataBehindAReply) {
  Reply reply(reply_type(P9_TREAD));
  reply.u32(1000);
  EXPECT_EQ(load_le<uint32_t>(reply.finish(1, 1000).first(4)), kIoHeaderBytes + 1000);
}

TEST(P9Message, StopsWhereADirectoryEntryDoesNotFit) {
  DirectoryEntries entries(60);
  EXPECT_TRUE(entries.add({}, 1, 4, "123456"));    // 30 bytes
  EXPECT_FALSE(entries.add({}, 2, 4, "1234567"));  // 31 bytes
  EXPECT_TRUE(entries.add({}, 2, 8, "abcdef"));    // 30 bytes
  EXPECT_FALSE(entries.add({}, 3, 8, ""));
  ASSERT_EQ(entries.bytes().size(), 60u);
  EXPECT_EQ(load_le<uint64_t>(entries.bytes().subspan(30 + 13, 8)), 2u);
  EXPECT_EQ(text_of(entries.bytes().subspan(54)), "abcdef");
}

}  // namespace
}  // namespace wick::virtio::p9

// FUSE requests as a kernel sends them, and as none does.
#include "virtio/fuse_session.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <thread>

#include "tests/fakes/files.h"
#include "tests/fakes/temp_dir.h"
#include "tests/virtio/fuse_client.h"

namespace wick::virtio {
namespace {

using testing::Contains;
using testing::SizeIs;

class FuseTest : public testing::Test {
 protected:
  void SetUp() override { start(FuseCache::kAuto); }

  void start(FuseCache cache, bool read_only = false) {
    share::TreeOptions options;
    options.read_only = read_only;
    start(cache, options);
  }
  void start(FuseCache cache, share::TreeOptions options) {
    options.path = dir_.path();
    session_.reset();
    tree_ = share::Tree::open(options).value();
    session_.emplace(*tree_, cache);
    EXPECT_EQ(call(fuse_message(FUSE_INIT, 0, fuse_init_request())).error(), 0);
  }

  // Sends a message in one buffer and takes the answer in another.
  uint32_t handle(const Bytes& message, Bytes& room) {
    const iovec in{const_cast<std::byte*>(message.data()), message.size()};
    const iovec out{room.data(), room.size()};
    return session_->handle(std::span(&in, 1), std::span(&out, 1));
  }
  FuseAnswer call(const Bytes& message, size_t room_bytes = 1 << 16) {
    Bytes room(room_bytes);
    room.resize(handle(message, room));
    return FuseAnswer::of(room);
  }
  template <typename... T>
  FuseAnswer call(uint32_t opcode, uint64_t node, const T&... arguments) {
    return call(fuse_message(opcode, node, arguments...));
  }

  uint64_t look_up(std::string_view name, uint64_t directory = FUSE_ROOT_ID) {
    const auto answer = call(FUSE_LOOKUP, directory, name);
    EXPECT_EQ(answer.error(), 0) << name;
    return answer.as<fuse_entry_out>().nodeid;
  }
  uint64_t open(uint64_t node, uint32_t flags) {
    fuse_open_in in{};
    in.flags = flags;
    const auto answer = call(FUSE_OPEN, node, in);
    EXPECT_EQ(answer.error(), 0);
    return answer.as<fuse_open_out>().fh;
  }
  static fuse_read_in read_in(uint64_t fh, uint64_t offset, uint32_t size) {
    fuse_read_in in{};
    in.fh = fh;
    in.offset = offset;
    in.size = size;
    return in;
  }
  FuseAnswer write(uint64_t node, uint64_t fh, std::string_view text, uint32_t flags = 0) {
    fuse_write_in in{};
    in.fh = fh;
    in.size = static_cast<uint32_t>(text.size());
    in.flags = flags;
    Bytes data;
    append(data, text);
    data.pop_back();
    return call(FUSE_WRITE, node, in, data);
  }

  const fakes::TempDir dir_;
  std::unique_ptr<share::Tree> tree_;
  std::optional<FuseSession> session_;
};

TEST_F(FuseTest, NegotiatesOnlyWhatItImplements) {
  const auto out = call(FUSE_INIT, 0, fuse_init_request()).as<fuse_init_out>();
  EXPECT_EQ(out.major, 7u);
  EXPECT_EQ(out.max_write, 1u << 20);
  EXPECT_EQ(out.max_pages, 256u);
  EXPECT_NE(out.flags & FUSE_DO_READDIRPLUS, 0u);
  EXPECT_EQ(
      out.flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_EXPORT_SUPPORT | FUSE_POSIX_ACL |
                   FUSE_WRITEBACK_CACHE | FUSE_MAP_ALIGNMENT | FUSE_SETXATTR_EXT),
      0u);
  auto in = fuse_init_request();
  in.flags = 0;
  EXPECT_EQ(call(FUSE_INIT, 0, in).as<fuse_init_out>().flags, 0u);
}

TEST_F(FuseTest, RefusesClientsOfOtherVersions) {
  auto in = fuse_init_request();
  in.minor = 12;
  EXPECT_EQ(call(FUSE_INIT, 0, in).error(), EPROTO);
  in.major = 8;
  EXPECT_EQ(call(FUSE_INIT, 0, in).as<fuse_init_out>().major, 7u) << "the client may try again";
}

TEST_F(FuseTest, ServesNothingBeforeInitAndAfterDestroy) {
  EXPECT_EQ(call(FUSE_DESTROY, 0).error(), 0);
  EXPECT_EQ(call(FUSE_LOOKUP, FUSE_ROOT_ID, "x").error(), EIO);
  EXPECT_EQ(call(FUSE_INIT, 0, fuse_init_request()).error(), 0);
  EXPECT_EQ(call(FUSE_LOOKUP, FUSE_ROOT_ID, "x").error(), ENOENT);
}

TEST_F(FuseTest, UnknownRequestsAreAnsweredWithENOSYS) {
  for (const uint32_t opcode :
       {uint32_t{FUSE_SETUPMAPPING}, uint32_t{FUSE_IOCTL}, 0u, 99u, 4096u, UINT32_MAX})
    EXPECT_EQ(call(opcode, FUSE_ROOT_ID).error(), ENOSYS) << opcode;
}

TEST_F(FuseTest, ReadsAFile) {
  dir_.write("file", "some text");
  const uint64_t node = look_up("file");
  const auto attr = call(FUSE_GETATTR, node, fuse_getattr_in{}).as<fuse_attr_out>();
  EXPECT_EQ(attr.attr.size, 9u);
  EXPECT_EQ(attr.attr_valid, 1u);
  const uint64_t fh = open(node, O_RDONLY);
  EXPECT_EQ(call(FUSE_READ, node, read_in(fh, 0, 4096)).text(), "some text");
  EXPECT_EQ(call(FUSE_READ, node, read_in(fh, 5, 2)).text(), "te");
  EXPECT_EQ(call(FUSE_READ, node, read_in(fh, 9, 2)).text(), "");
  fuse_release_in release{};
  release.fh = fh;
  EXPECT_EQ(call(FUSE_RELEASE, node, release).error(), 0);
  EXPECT_EQ(call(FUSE_READ, node, read_in(fh, 0, 1)).error(), EBADF);
}

TEST_F(FuseTest, CreatesAndWritesAFile) {
  fuse_create_in in{};
  in.flags = O_RDWR;
  in.mode = S_IFREG | 0640;
  const auto made = call(FUSE_CREATE, FUSE_ROOT_ID, in, "new");
  const auto entry = made.as<fuse_entry_out>();
  const uint64_t fh = made.as<fuse_open_out>(sizeof(entry)).fh;
  EXPECT_EQ(entry.attr.mode, S_IFREG | 0640u);
  EXPECT_EQ(write(entry.nodeid, fh, "written").as<fuse_write_out>().size, 7u);
  EXPECT_EQ(dir_.read("new"), "written");
  // By the end that the file has now, but for the data of mappings.
  dir_.write("new", "written by the host, ");
  EXPECT_EQ(write(entry.nodeid, fh, "and by the guest", O_APPEND).error(), 0);
  EXPECT_EQ(dir_.read("new"), "written by the host, and by the guest");
  fuse_setattr_in change{};
  change.valid = FATTR_SIZE | FATTR_MODE;
  change.size = 7;
  change.mode = 0600;
  EXPECT_EQ(call(FUSE_SETATTR, entry.nodeid, change).as<fuse_attr_out>().attr.mode,
            S_IFREG | 0600u);
  EXPECT_EQ(dir_.read("new"), "written");
}

TEST_F(FuseTest, AWriteThatClaimsMoreDataThanThereIsIsRefused) {
  dir_.write("file", "");
  const uint64_t node = look_up("file");
  fuse_write_in in{};
  in.fh = open(node, O_RDWR);
  in.size = 100;
  EXPECT_EQ(call(FUSE_WRITE, node, in, "short").error(), EINVAL);
  in.size = UINT32_MAX;
  EXPECT_EQ(call(FUSE_WRITE, node, in, "short").error(), EINVAL);
}

TEST_F(FuseTest, MakesAndRemovesNames) {
  fuse_mkdir_in mkdir{};
  mkdir.mode = 0755;
  const uint64_t directory =
      call(FUSE_MKDIR, FUSE_ROOT_ID, mkdir, "dir").as<fuse_entry_out>().nodeid;
  fuse_mknod_in mknod{};
  mknod.mode = S_IFREG | 0644;
  const auto file = call(FUSE_MKNOD, directory, mknod, "file").as<fuse_entry_out>();
  fuse_link_in link{};
  link.oldnodeid = file.nodeid;
  EXPECT_EQ(call(FUSE_LINK, directory, link, "link").as<fuse_entry_out>().attr.nlink, 2u);
  fuse_rename_in rename{};
  rename.newdir = FUSE_ROOT_ID;
  EXPECT_EQ(call(FUSE_RENAME, directory, rename, "link", "moved").error(), 0);
  fuse_rename2_in rename2{};
  rename2.newdir = directory;
  rename2.flags = RENAME_NOREPLACE;
  EXPECT_EQ(call(FUSE_RENAME2, FUSE_ROOT_ID, rename2, "moved", "file").error(), EEXIST);
  const auto target = call(FUSE_SYMLINK, directory, "symbolic", "/the/target");
  EXPECT_EQ(call(FUSE_READLINK, target.as<fuse_entry_out>().nodeid).text(), "/the/target");
  EXPECT_EQ(call(FUSE_RMDIR, FUSE_ROOT_ID, "dir").error(), ENOTEMPTY);
  for (const char* name : {"file", "symbolic"})
    EXPECT_EQ(call(FUSE_UNLINK, directory, name).error(), 0);
  EXPECT_EQ(call(FUSE_RMDIR, FUSE_ROOT_ID, "dir").error(), 0);
  EXPECT_EQ(call(FUSE_LOOKUP, FUSE_ROOT_ID, "dir").error(), ENOENT);
}

TEST_F(FuseTest, ReadsDirectoriesWithAndWithoutNodes) {
  for (int i = 0; i < 100; ++i) dir_.write("name-" + std::to_string(i), "");
  const uint64_t fh = call(FUSE_OPENDIR, FUSE_ROOT_ID, fuse_open_in{}).as<fuse_open_out>().fh;
  for (const bool plus : {false, true}) {
    size_t seen = 0;
    for (uint64_t offset = 0;;) {
      const auto answer =
          call(plus ? FUSE_READDIRPLUS : FUSE_READDIR, FUSE_ROOT_ID, read_in(fh, offset, 1000));
      ASSERT_EQ(answer.error(), 0);
      ASSERT_LE(answer.payload.size(), 1000u);
      const FuseNames found(answer, plus);
      if (found.names.empty()) break;
      for (size_t i = 0; i < found.nodes.size(); ++i)
        EXPECT_EQ(found.nodes[i] == 0, found.names[i] == "." || found.names[i] == "..");
      seen += found.names.size();
      offset = found.end;
    }
    EXPECT_EQ(seen, 102u);
  }
  EXPECT_EQ(tree_->usage().nodes, 101u) << "FUSE_READDIRPLUS gives references";
}

TEST_F(FuseTest, ForgetsHaveNoAnswer) {
  dir_.write("a", "");
  dir_.write("b", "");
  const fuse_forget_one a{look_up("a"), 1};
  const fuse_forget_one b{look_up("b"), 1};
  Bytes room(4096);
  fuse_forget_in one{};
  one.nlookup = 1;
  EXPECT_EQ(handle(fuse_message(FUSE_FORGET, a.nodeid, one), room), 0u);
  EXPECT_EQ(tree_->usage().nodes, 2u);
  fuse_batch_forget_in batch{};
  batch.count = 1000;  // more than there are
  EXPECT_EQ(handle(fuse_message(FUSE_BATCH_FORGET, 0, batch, a, b), room), 0u);
  EXPECT_EQ(tree_->usage().nodes, 1u);
  EXPECT_EQ(handle(fuse_message(FUSE_INTERRUPT, 0, fuse_interrupt_in{}), room), 0u);
}

TEST_F(FuseTest, ExtendedAttributesTellTheirSizeFirst) {
  dir_.write("file", "");
  const uint64_t node = look_up("file");
  Bytes set(FUSE_COMPAT_SETXATTR_IN_SIZE);
  set[0] = std::byte{5};
  Bytes value;
  append(value, "value");
  EXPECT_EQ(call(FUSE_SETXATTR, node, set, "user.one", value).error(), 0);
  fuse_getxattr_in get{};
  EXPECT_EQ(call(FUSE_GETXATTR, node, get, "user.one").as<fuse_getxattr_out>().size, 5u);
  EXPECT_EQ(call(FUSE_LISTXATTR, node, get).as<fuse_getxattr_out>().size, 9u);
  get.size = 4;
  EXPECT_EQ(call(FUSE_GETXATTR, node, get, "user.one").error(), ERANGE);
  get.size = 9;
  EXPECT_EQ(call(FUSE_GETXATTR, node, get, "user.one").text(), "value");
  EXPECT_EQ(call(FUSE_LISTXATTR, node, get).text(), std::string("user.one\0", 9));
  EXPECT_EQ(call(FUSE_REMOVEXATTR, node, "user.one").error(), 0);
  EXPECT_EQ(call(FUSE_GETXATTR, node, get, "user.one").error(), ENODATA);
  set[0] = std::byte{200};
  EXPECT_EQ(call(FUSE_SETXATTR, node, set, "user.one", value).error(), EINVAL);
}

TEST_F(FuseTest, CachesAsItWasTold) {
  dir_.write("file", "");
  for (const auto& [cache, valid, flags] : {std::tuple(FuseCache::kAuto, 1u, 0u),
                                            {FuseCache::kAlways, 86400u, FOPEN_KEEP_CACHE},
                                            {FuseCache::kNever, 0u, FOPEN_DIRECT_IO}}) {
    start(cache);
    const auto entry = call(FUSE_LOOKUP, FUSE_ROOT_ID, "file").as<fuse_entry_out>();
    EXPECT_EQ(entry.entry_valid, valid);
    EXPECT_EQ(entry.attr_valid, valid);
    EXPECT_EQ(call(FUSE_OPEN, entry.nodeid, fuse_open_in{}).as<fuse_open_out>().open_flags, flags);
    const auto missing = call(FUSE_LOOKUP, FUSE_ROOT_ID, "missing");
    EXPECT_EQ(missing.error(), cache == FuseCache::kAlways ? 0 : ENOENT);
  }
}

// --- POSIX ACLs, which a share with security=passthrough has ---

// As the value of an extended attribute.
Bytes acl(uint16_t owner, uint16_t group, uint16_t other) {
  Bytes bytes;
  append(bytes, uint32_t{POSIX_ACL_XATTR_VERSION});
  const auto entry = [&](uint16_t tag, uint16_t permissions) {
    append(bytes, tag);
    append(bytes, permissions);
    append(bytes, UINT32_MAX);
  };
  entry(ACL_USER_OBJ, owner);
  entry(ACL_GROUP_OBJ, group);
  entry(ACL_OTHER, other);
  return bytes;
}

class FuseAclTest : public FuseTest {
 protected:
  void SetUp() override {
    share::Tree::prepare_thread();
    start_with(fuse_init_request().flags);
  }
  void start_with(uint32_t flags, share::TreeOptions options = passthrough()) {
    start(FuseCache::kAuto, std::move(options));
    fuse_init_in in = fuse_init_request();
    in.flags = flags;
    agreed_ = call(fuse_message(FUSE_INIT, 0, in)).as<fuse_init_out>().flags;
  }
  static share::TreeOptions passthrough() {
    share::TreeOptions options;
    options.security = share::Security::kPassthrough;
    return options;
  }
  uint32_t mode_of_new_file(std::string_view name, uint32_t umask) {
    fuse_create_in in{};
    in.flags = O_RDWR;
    in.mode = S_IFREG | 0666;
    in.umask = umask;
    return call(FUSE_CREATE, FUSE_ROOT_ID, in, name).as<fuse_entry_out>().attr.mode & 07777;
  }
  FuseAnswer set_acl(uint64_t node, std::string_view name, const Bytes& value, uint32_t more = 0) {
    fuse_setxattr_in in{};
    in.size = static_cast<uint32_t>(value.size());
    in.setxattr_flags = more;
    return call(FUSE_SETXATTR, node, in, name, value);
  }

  uint32_t agreed_ = 0;
};

constexpr uint32_t kAcls = FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT;

TEST_F(FuseAclTest, AreOfferedOnlyWhereTheHostsUsersAreTheGuests) {
  EXPECT_EQ(agreed_ & kAcls, kAcls);
  start_with(UINT32_MAX & ~uint32_t{FUSE_DONT_MASK});  // all three or none
  EXPECT_EQ(agreed_ & kAcls, 0u);
  share::TreeOptions mapped = passthrough();
  mapped.uids = share::IdMap({{.guest = 0, .host = 1000}});
  start_with(UINT32_MAX, mapped);
  EXPECT_EQ(agreed_ & kAcls, 0u);
  start_with(UINT32_MAX, {});
  EXPECT_EQ(agreed_ & kAcls, 0u);
}

// unshare(2) may be refused. Then a worker cannot apply the umask of a request.
TEST_F(FuseAclTest, AreNotOfferedByAThreadWithoutAUmaskOfItsOwn) {
  std::thread([this] { start_with(UINT32_MAX); }).join();
  EXPECT_EQ(agreed_ & kAcls, 0u);
}

// With any other error the guest's kernel would refuse the file to all but its owner.
TEST_F(FuseAclTest, AreJustMissingWhereTheHostHasNone) {
  const std::string below = dir_ / "proc";
  ASSERT_EQ(::mkdir(below.c_str(), 0755), 0);
  if (::mount("/proc", below.c_str(), nullptr, MS_BIND, nullptr) != 0) GTEST_SKIP() << "needs root";
  const uint64_t node = look_up("proc");
  const auto get = [&](std::string_view name) {
    fuse_getxattr_in in{};
    in.size = 256;
    return call(FUSE_GETXATTR, node, in, name).error();
  };
  EXPECT_EQ(get("system.posix_acl_access"), ENODATA);
  EXPECT_EQ(get("system.posix_acl_default"), ENODATA);
  EXPECT_EQ(get("user.any"), EOPNOTSUPP);
  ASSERT_EQ(::umount2(below.c_str(), MNT_DETACH), 0);
}

TEST_F(FuseAclTest, TheHostAppliesTheUmaskWhereThereIsNoDefaultAcl) {
  EXPECT_EQ(mode_of_new_file("file", 027), 0640u);
  EXPECT_EQ(mode_of_new_file("other", 0), 0666u);  // the umask is of one request
  fuse_mkdir_in in{};
  in.mode = 0777;
  in.umask = 077;
  const auto made =
      call(FUSE_MKDIR, FUSE_ROOT_ID, in, std::string_view("dir")).as<fuse_entry_out>();
  EXPECT_EQ(made.attr.mode, S_IFDIR | 0700u);
  if (const auto set = set_acl(FUSE_ROOT_ID, "system.posix_acl_default", acl(6, 6, 4));
      set.error() == EOPNOTSUPP)
    GTEST_SKIP() << dir_.path() << " has no POSIX ACLs";
  else
    EXPECT_EQ(set.error(), 0);
  EXPECT_EQ(mode_of_new_file("inherits", 077), 0664u);
}

TEST_F(FuseAclTest, AClientThatMasksItselfIsNotMaskedTwice) {
  start_with(UINT32_MAX & ~kAcls);
  EXPECT_EQ(mode_of_new_file("file", 027), 0666u);
}

TEST_F(FuseAclTest, AnAclOfSomeoneOutsideTheGroupClearsItsBit) {
  fakes::write_file(dir_ / "file", "");
  // The group may be wick's own: it is not that of the guest's user.
  ASSERT_EQ(::chmod((dir_ / "file").c_str(), 02775), 0);
  const uint64_t node = look_up("file");
  const auto mode = [&] {
    fuse_getattr_in in{};
    return call(FUSE_GETATTR, node, in).as<fuse_attr_out>().attr.mode & 07777;
  };
  if (set_acl(node, "system.posix_acl_access", acl(7, 7, 5)).error() == EOPNOTSUPP)
    GTEST_SKIP() << dir_.path() << " has no POSIX ACLs";
  EXPECT_EQ(mode(), 02775u);
  EXPECT_EQ(
      set_acl(node, "system.posix_acl_access", acl(7, 5, 5), FUSE_SETXATTR_ACL_KILL_SGID).error(),
      0);
  EXPECT_EQ(mode(), 0755u);
}

TEST_F(FuseTest, AReadOnlyShareIsRefusedByTheHost) {
  dir_.write("file", "text");
  start(FuseCache::kAuto, true);
  fuse_open_in open{};
  open.flags = O_RDWR;
  EXPECT_EQ(call(FUSE_OPEN, look_up("file"), open).error(), EROFS);
  EXPECT_EQ(call(FUSE_UNLINK, FUSE_ROOT_ID, "file").error(), EROFS);
}

TEST_F(FuseTest, MessagesAreCutAnywhere) {
  dir_.write("file", "0123456789");
  const uint64_t node = look_up("file");
  const Bytes message = fuse_message(FUSE_READ, node, read_in(open(node, O_RDONLY), 0, 10));
  for (size_t cut = 0; cut <= message.size(); ++cut) {
    auto* const start = const_cast<std::byte*>(message.data());
    const std::array<iovec, 3> in = {
        {{start, cut}, {start, 0}, {start + cut, message.size() - cut}}};
    Bytes room(26);
    const size_t half = cut % room.size();
    const std::array<iovec, 2> out = {
        {{room.data(), half}, {room.data() + half, room.size() - half}}};
    ASSERT_EQ(session_->handle(in, out), 26u);
    EXPECT_EQ(FuseAnswer::of(room).text(), "0123456789");
  }
}

TEST_F(FuseTest, RequestsOfAnyLengthAreAnsweredOrDropped) {
  dir_.write("file", "text");
  const uint64_t node = look_up("file");
  for (uint32_t opcode = 0; opcode < 60; ++opcode) {
    if (opcode == FUSE_DESTROY) continue;
    for (size_t size = 0; size < 130; ++size) {
      Bytes room(512);
      for (const std::byte fill : {std::byte{0}, std::byte{1}, std::byte{0xff}}) {
        const uint32_t written = handle(
            fuse_message(opcode, size % 2 == 0 ? node : FUSE_ROOT_ID, Bytes(size, fill)), room);
        ASSERT_TRUE(written == 0 || written >= sizeof(fuse_out_header)) << opcode;
        ASSERT_LE(written, room.size());
      }
    }
  }
  EXPECT_EQ(dir_.read("file").size() <= 4, true);
}

TEST_F(FuseTest, AHeaderThatClaimsMoreThanThereIsGetsNoAnswer) {
  Bytes message = fuse_message(FUSE_LOOKUP, FUSE_ROOT_ID, "file");
  Bytes room(512);
  for (const uint32_t length : {0u, 39u, 46u, UINT32_MAX}) {
    std::memcpy(message.data(), &length, sizeof(length));
    EXPECT_EQ(handle(message, room), 0u) << length;
  }
  message.resize(39);
  EXPECT_EQ(handle(message, room), 0u);
  EXPECT_EQ(handle({}, room), 0u);
}

TEST_F(FuseTest, LongArgumentsAreRefusedBeforeTheyAreCopied) {
  EXPECT_EQ(call(fuse_message(FUSE_LOOKUP, FUSE_ROOT_ID, Bytes(1 << 20))).error(), E2BIG);
}

TEST_F(FuseTest, AnAnswerWithoutRoomLeavesNothingOpen) {
  fuse_create_in in{};
  in.flags = O_RDWR;
  in.mode = 0600;
  const Bytes create = fuse_message(FUSE_CREATE, FUSE_ROOT_ID, in, "new");
  for (const size_t room_bytes : {0u, 15u, 16u, 100u}) {
    Bytes room(room_bytes);
    const uint32_t written = handle(create, room);
    EXPECT_EQ(written, room_bytes < 16 ? 0u : 16u);
  }
  Bytes room(20);
  handle(fuse_message(FUSE_OPEN, look_up("new"), fuse_open_in{}), room);
  EXPECT_EQ(tree_->usage().open_files, 0u);
}

}  // namespace
}  // namespace wick::virtio

// A 9P client works on a share: what it sees, and what the host sees of its work.
#include "virtio/p9_session.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <set>

#include "base/fd.h"
#include "tests/virtio/p9_session_fixture.h"

namespace wick::virtio::p9 {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

TEST_F(P9SessionTest, WritesAFileThatTheHostReads) {
  ASSERT_EQ(find(1, {}), 0);
  ASSERT_TRUE(client_->create(1, "file", O_RDWR, 0640));
  EXPECT_EQ(client_->write(1, 0, "hello"), 5u);
  EXPECT_EQ(client_->write(1, 5, " host"), 5u);
  EXPECT_EQ(client_->read(1, 1, 100), "ello host");
  EXPECT_TRUE(client_->fsync(1));
  EXPECT_TRUE(client_->clunk(1));
  EXPECT_EQ(content("file"), "hello host");
  EXPECT_EQ(host_stat("file").st_mode, S_IFREG | 0640u);
  EXPECT_EQ(error_of(client_->clunk(1)), EBADF);
}

TEST_F(P9SessionTest, ReadsAFileThatTheHostWrote) {
  write_host("file", "hello guest");
  ASSERT_EQ(find(1, {"file"}), 0);
  EXPECT_EQ(error_of(client_->read(1, 0, 10)), EBADF);
  ASSERT_TRUE(client_->open(1, O_RDONLY));
  EXPECT_EQ(client_->read(1, 0, 5), "hello");
  EXPECT_EQ(client_->read(1, 6, 100), "guest");
  EXPECT_EQ(client_->read(1, 11, 100), "");
  EXPECT_EQ(client_->read(1, 1ull << 40, 100), "");
  EXPECT_EQ(error_of(client_->write(1, 0, "x")), EBADF);
}

TEST_F(P9SessionTest, BoundsAReadByTheMessageAndByTheBuffers) {
  write_host("file", std::string(20'000, 'f'));
  ASSERT_EQ(find(1, {"file"}), 0);
  ASSERT_TRUE(client_->open(1, O_RDONLY));
  EXPECT_EQ(client_->read(1, 0, UINT32_MAX)->size(), 8192 - kIoHeaderBytes);
  const auto reply =
      client_->call(P9Client::Message(P9_TREAD).u32(1).u64(0).u32(1000), "", kIoHeaderBytes + 9);
  ASSERT_TRUE(reply);
  EXPECT_EQ(P9Client::Fields(*reply).u32(), 9u);
}

TEST_F(P9SessionTest, RefusesRequestsBeforeTheVersionAndTheAttach) {
  session_->reset();
  EXPECT_EQ(error_of(client_->attach(kRoot)), EPROTO);
  EXPECT_EQ(error_of(client_->getattr(kRoot)), EBADF);
  EXPECT_EQ(client_->version(8192, "9P2000.u"), "unknown");
  EXPECT_EQ(error_of(client_->attach(kRoot)), EPROTO);
  EXPECT_EQ(error_of(client_->version(4095)), EMSGSIZE);
  EXPECT_EQ(client_->version(UINT32_MAX), "9P2000.L");
  EXPECT_EQ(client_->msize(), kMaxMessageBytes);
}

TEST_F(P9SessionTest, ANewVersionForgetsAllFids) {
  write_host("file", "text");
  for (uint32_t fid = 1; fid < 100; ++fid) {
    ASSERT_EQ(find(fid, {"file"}), 0);
    ASSERT_TRUE(client_->open(fid, O_RDONLY));
  }
  EXPECT_EQ(tree_->usage().open_files, 99u);
  ASSERT_TRUE(client_->version(8192));
  EXPECT_EQ(session_->fids(), 0u);
  EXPECT_EQ(tree_->usage().open_files, 0u);
  EXPECT_LE(tree_->usage().nodes, 1u);
  ASSERT_TRUE(client_->attach(kRoot));
  EXPECT_EQ(find(1, {"file"}), 0);
}

TEST_F(P9SessionTest, AttachesToAFolderOfTheShare) {
  std::filesystem::create_directories(host("a/b"));
  write_host("a/b/file", "text");
  ASSERT_TRUE(client_->attach(7, 0, "/a//b/"));
  EXPECT_EQ(client_->walk(7, 8, {"file"})->size(), 1u);
  EXPECT_EQ(error_of(client_->attach(9, 0, "/missing")), ENOENT);
  EXPECT_EQ(error_of(client_->attach(9, 0, "a/b/file")), ENOTDIR);
  EXPECT_EQ(error_of(client_->attach(7, 0, "")), EEXIST);
  EXPECT_EQ(client_->attach(9, 0, "../../.."), client_->getattr(kRoot)->qid);
}

TEST_F(P9SessionTest, WalksAsFarAsItCan) {
  std::filesystem::create_directories(host("a/b"));
  const auto all = client_->walk(kRoot, 1, {"a", "b"});
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[1].type, P9_QTDIR);
  EXPECT_EQ(client_->walk(kRoot, 2, {"a", "missing", "c"})->size(), 1u);
  EXPECT_EQ(error_of(client_->getattr(2)), EBADF);
  EXPECT_EQ(error_of(client_->walk(kRoot, 2, {"missing"})), ENOENT);
  // A walk in place, and back.
  EXPECT_EQ(client_->walk(1, 1, {"..", ".."})->size(), 2u);
  EXPECT_EQ(client_->getattr(1)->qid, client_->getattr(kRoot)->qid);
  EXPECT_EQ(error_of(client_->walk(kRoot, 1, {"a"})), EEXIST);
  EXPECT_EQ(error_of(client_->walk(99, 2, {"a"})), EBADF);
}

TEST_F(P9SessionTest, ClonesAFid) {
  write_host("file", "text");
  ASSERT_EQ(find(1, {"file"}), 0);
  ASSERT_TRUE(client_->open(1, O_RDONLY));
  ASSERT_TRUE(client_->walk(1, 2));  // of an open one, too
  EXPECT_EQ(error_of(client_->read(2, 0, 4)), EBADF);
  EXPECT_TRUE(client_->open(2, O_RDONLY));
  EXPECT_EQ(error_of(client_->open(2, O_RDONLY)), EBUSY);
  EXPECT_TRUE(client_->clunk(1));
  EXPECT_EQ(client_->read(2, 0, 4), "text");
}

TEST_F(P9SessionTest, KeepsAFileThatIsRemovedWhileItIsOpen) {
  write_host("file", "still here");
  ASSERT_EQ(find(1, {"file"}), 0);
  ASSERT_TRUE(client_->open(1, O_RDWR));
  ASSERT_TRUE(client_->unlinkat(kRoot, "file"));
  EXPECT_FALSE(std::filesystem::exists(host("file")));
  EXPECT_EQ(client_->read(1, 0, 100), "still here");
  EXPECT_EQ(client_->getattr(1)->size, 10u);
  EXPECT_TRUE(client_->setattr(1, {.valid = P9_ATTR_SIZE, .size = 5}));
  EXPECT_EQ(client_->read(1, 0, 100), "still");
  EXPECT_EQ(error_of(client_->remove(1)), ENOENT);
  EXPECT_EQ(error_of(client_->clunk(1)), EBADF);  // remove is a clunk
}

TEST_F(P9SessionTest, FollowsAFileThatIsRenamed) {
  std::filesystem::create_directories(host("a"));
  std::filesystem::create_directories(host("b"));
  write_host("a/file", "text");
  ASSERT_EQ(find(1, {"a"}), 0);
  ASSERT_EQ(find(2, {"b"}), 0);
  ASSERT_EQ(find(3, {"a", "file"}), 0);
  ASSERT_TRUE(client_->renameat(1, "file", 2, "renamed"));
  EXPECT_EQ(content("b/renamed"), "text");
  ASSERT_TRUE(client_->open(3, O_RDONLY));
  EXPECT_EQ(client_->read(3, 0, 10), "text");

  // The other message for it, which names the file by a fid.
  ASSERT_EQ(find(4, {"b", "renamed"}), 0);
  ASSERT_TRUE(client_->rename(4, 1, "back"));
  EXPECT_EQ(content("a/back"), "text");
  ASSERT_TRUE(client_->rename(4, 2, "again"));
  EXPECT_EQ(content("b/again"), "text");
  EXPECT_TRUE(client_->remove(4));
  EXPECT_FALSE(std::filesystem::exists(host("b/again")));
}

TEST_F(P9SessionTest, RemovesNothingElseThanWhatAFidIs) {
  write_host("file", "first");
  ASSERT_EQ(find(1, {"file"}), 0);
  std::filesystem::rename(host("file"), host("other"));
  write_host("file", "second");
  EXPECT_EQ(error_of(client_->rename(1, kRoot, "third")), ESTALE);
  EXPECT_EQ(error_of(client_->remove(1)), ESTALE);
  EXPECT_EQ(content("file"), "second");
  EXPECT_EQ(content("other"), "first");
  EXPECT_EQ(error_of(client_->remove(kRoot)), EBUSY);
}

TEST_F(P9SessionTest, MakesAndRemovesFolders) {
  const auto made = client_->mkdir(kRoot, "folder", 0750);
  ASSERT_TRUE(made);
  EXPECT_EQ(made->type, P9_QTDIR);
  EXPECT_EQ(host_stat("folder").st_mode, S_IFDIR | 0750u);
  EXPECT_EQ(error_of(client_->mkdir(kRoot, "folder")), EEXIST);
  EXPECT_EQ(error_of(client_->unlinkat(kRoot, "folder")), EISDIR);
  write_host("folder/file", "");
  EXPECT_EQ(error_of(client_->unlinkat(kRoot, "folder", P9_DOTL_AT_REMOVEDIR)), ENOTEMPTY);
  std::filesystem::remove(host("folder/file"));
  EXPECT_TRUE(client_->unlinkat(kRoot, "folder", P9_DOTL_AT_REMOVEDIR));
  EXPECT_FALSE(std::filesystem::exists(host("folder")));
  EXPECT_EQ(error_of(client_->unlinkat(kRoot, "folder", 0x1000)), EINVAL);
}

TEST_F(P9SessionTest, MakesLinks) {
  write_host("file", "text");
  const auto symbolic = client_->symlink(kRoot, "symbolic", "file");
  ASSERT_TRUE(symbolic);
  EXPECT_EQ(symbolic->type, P9_QTSYMLINK);
  ASSERT_EQ(find(1, {"symbolic"}), 0);
  EXPECT_EQ(client_->readlink(1), "file");
  EXPECT_EQ(std::filesystem::read_symlink(host("symbolic")), "file");
  EXPECT_EQ(error_of(client_->call(P9Client::Message(P9_TREADLINK).u32(1), "", 12)), EMSGSIZE);
  ASSERT_EQ(find(2, {"file"}), 0);
  ASSERT_TRUE(client_->link(kRoot, 2, "hard"));
  EXPECT_EQ(client_->getattr(2)->nlink, 2u);
  EXPECT_EQ(host_stat("hard").st_ino, host_stat("file").st_ino);
  EXPECT_EQ(error_of(client_->readlink(2)), EINVAL);
}

TEST_F(P9SessionTest, ListsAFolderThatIsLargerThanAMessage) {
  std::set<std::string> names = {".", ".."};
  std::filesystem::create_directory(host("many"));
  for (int i = 0; i < 2000; ++i) {
    const std::string name = fmt::format("file-with-a-rather-long-name-{}", i);
    write_host("many/" + name, "");
    names.insert(name);
  }
  ASSERT_EQ(find(1, {"many"}), 0);
  EXPECT_EQ(error_of(client_->readdir(1, 0, 1000)), EBADF);
  ASSERT_TRUE(client_->open(1, O_RDONLY | O_DIRECTORY));
  for (const uint32_t count : {300u, 8000u, UINT32_MAX}) {
    std::set<std::string> seen;
    for (const auto& [name, entry] : list(1, count))
      EXPECT_TRUE(seen.insert(name).second) << name << " comes twice";
    EXPECT_EQ(seen, names) << count;
  }
  EXPECT_EQ(error_of(client_->readdir(1, 0, 20)), EINVAL);  // no room for one entry
  EXPECT_NE(error_of(client_->read(1, 0, 100)), 0);
}

TEST_F(P9SessionTest, ListsTypesAndTheInodesOfGetattr) {
  std::filesystem::create_directory(host("folder"));
  write_host("file", "");
  std::filesystem::create_symlink("file", host("link"));
  ASSERT_EQ(find(1, {}), 0);
  ASSERT_TRUE(client_->open(1, O_RDONLY));
  const auto entries = list(1, 4000);
  for (const auto& [name, types] :
       std::map<std::string, std::pair<uint8_t, uint8_t>>{{"folder", {DT_DIR, P9_QTDIR}},
                                                          {"file", {DT_REG, P9_QTFILE}},
                                                          {"link", {DT_LNK, P9_QTSYMLINK}}}) {
    const auto found = entries.find(name);
    ASSERT_NE(found, entries.end()) << name;
    EXPECT_EQ(found->second.type, types.first);
    EXPECT_EQ(found->second.qid.type, types.second);
    ASSERT_EQ(find(2, {name}), 0);
    EXPECT_EQ(found->second.qid.path, client_->getattr(2)->qid.path);
    ASSERT_TRUE(client_->clunk(2));
  }
}

TEST_F(P9SessionTest, TellsAttributes) {
  write_host("file", "12345");
  ASSERT_EQ(find(1, {"file"}), 0);
  const auto attributes = client_->getattr(1);
  ASSERT_TRUE(attributes);
  EXPECT_EQ(attributes->valid & P9_STATS_BASIC, P9_STATS_BASIC);
  EXPECT_EQ(attributes->mode, host_stat("file").st_mode);
  EXPECT_EQ(attributes->size, 5u);
  EXPECT_EQ(attributes->nlink, 1u);
  EXPECT_EQ(attributes->mtime, static_cast<uint64_t>(host_stat("file").st_mtim.tv_sec));
  EXPECT_EQ(attributes->mtime_nsec, static_cast<uint64_t>(host_stat("file").st_mtim.tv_nsec));
  EXPECT_NE(attributes->qid.version, 0u);
  write_host("file", "123456");
  EXPECT_NE(client_->getattr(1)->qid.version, attributes->qid.version);
  EXPECT_EQ(client_->getattr(1)->qid.path, attributes->qid.path);
}

TEST_F(P9SessionTest, SetsAttributes) {
  write_host("file", "12345");
  ASSERT_EQ(find(1, {"file"}), 0);
  ASSERT_TRUE(client_->setattr(1, {.valid = P9_ATTR_MODE, .mode = S_IFREG | 0604}));
  EXPECT_EQ(host_stat("file").st_mode, S_IFREG | 0604u);
  ASSERT_TRUE(client_->setattr(1, {.valid = P9_ATTR_SIZE, .size = 1 << 20}));
  EXPECT_EQ(host_stat("file").st_size, 1 << 20);
  ASSERT_TRUE(client_->setattr(
      1, {.valid = P9_ATTR_MTIME | P9_ATTR_MTIME_SET, .mtime = 1000, .mtime_nsec = 5}));
  EXPECT_EQ(host_stat("file").st_mtim.tv_sec, 1000);
  EXPECT_EQ(host_stat("file").st_mtim.tv_nsec, 5);
  ASSERT_TRUE(client_->setattr(1, {.valid = P9_ATTR_MTIME, .mtime = 1}));
  EXPECT_GT(host_stat("file").st_mtim.tv_sec, 1'000'000);  // now, by the host's clock
  for (const uint64_t nanoseconds :
       {uint64_t{1'000'000'000}, uint64_t{UTIME_NOW}, uint64_t{UTIME_OMIT}})
    EXPECT_EQ(error_of(client_->setattr(1, {.valid = P9_ATTR_ATIME | P9_ATTR_ATIME_SET,
                                            .atime = 1,
                                            .atime_nsec = nanoseconds})),
              EINVAL);
}

TEST_F(P9SessionTest, HasTheNumbersOfTheFileSystem) {
  auto reply = client_->call(P9Client::Message(P9_TSTATFS).u32(kRoot));
  ASSERT_TRUE(reply);
  struct statfs status {};
  ASSERT_EQ(::statfs(share_path().c_str(), &status), 0);
  reply->u32();  // the type may be that of the protocol
  EXPECT_EQ(reply->u32(), static_cast<uint32_t>(status.f_bsize));
  EXPECT_EQ(reply->u64(), status.f_blocks);
}

TEST_F(P9SessionTest, ReadsAndWritesExtendedAttributes) {
  write_host("file", "");
  if (::setxattr(host("file").c_str(), "user.host", "from host", 9, 0) != 0)
    GTEST_SKIP() << "this file system has no extended attributes";
  ASSERT_EQ(find(1, {"file"}), 0);
  EXPECT_EQ(client_->xattrwalk(1, 2, "user.host"), 9u);
  EXPECT_EQ(client_->read(2, 5, 100), "host");
  EXPECT_EQ(client_->read(2, 100, 100), "");
  EXPECT_EQ(error_of(client_->write(2, 0, "x")), EBADF);
  EXPECT_EQ(error_of(client_->getattr(2)), EINVAL);
  EXPECT_TRUE(client_->clunk(2));
  EXPECT_EQ(error_of(client_->xattrwalk(1, 2, "user.missing")), ENODATA);

  const auto set = [&](const std::string& value, uint32_t flags) {
    EXPECT_TRUE(client_->walk(1, 3));
    EXPECT_TRUE(client_->xattrcreate(3, "user.guest", value.size(), flags));
    for (size_t at = 0; at < value.size(); at += 4)
      EXPECT_TRUE(client_->write(3, at, value.substr(at, 4)));
    return error_of(client_->clunk(3));
  };
  EXPECT_EQ(set("from guest", 0), 0);
  char value[100] = {};
  EXPECT_EQ(::getxattr(host("file").c_str(), "user.guest", value, sizeof(value)), 10);
  EXPECT_STREQ(value, "from guest");
  EXPECT_EQ(set("again", XATTR_CREATE), EEXIST);

  const auto list_size = client_->xattrwalk(1, 2, "");
  ASSERT_TRUE(list_size);
  const auto names = client_->read(2, 0, 8000);
  EXPECT_EQ(names->size(), *list_size);
  EXPECT_NE(names->find(std::string("user.guest\0", 11)), names->npos);
  EXPECT_NE(names->find(std::string("user.host\0", 10)), names->npos);
  EXPECT_TRUE(client_->clunk(2));

  EXPECT_EQ(set("", 0), 0);
  EXPECT_EQ(::getxattr(host("file").c_str(), "user.guest", nullptr, 0), 0);
  EXPECT_EQ(set("", XATTR_REPLACE), 0);  // Linux's removexattr
  EXPECT_EQ(::getxattr(host("file").c_str(), "user.guest", nullptr, 0), -1);
}

TEST_F(P9SessionTest, SetsNoExtendedAttributeThatIsNotWhole) {
  write_host("file", "");
  ASSERT_EQ(find(1, {"file"}), 0);
  EXPECT_EQ(error_of(client_->xattrcreate(1, "user.large", (64 << 10) + 1, 0)), E2BIG);
  EXPECT_EQ(error_of(client_->xattrcreate(1, "user.large", UINT64_MAX, 0)), E2BIG);
  ASSERT_TRUE(client_->xattrcreate(1, "user.part", 10, 0));
  EXPECT_EQ(error_of(client_->write(1, 1, "1")), EINVAL);
  EXPECT_TRUE(client_->write(1, 0, "12345"));
  EXPECT_EQ(error_of(client_->write(1, 5, "123456")), ENOSPC);
  EXPECT_EQ(error_of(client_->clunk(1)), EINVAL);
  EXPECT_EQ(::getxattr(host("file").c_str(), "user.part", nullptr, 0), -1);
}

TEST_F(P9SessionTest, BoundsTheMemoryForExtendedAttributes) {
  constexpr uint32_t kMax = Session::kMaxXattrBytes / (64 << 10);
  for (uint32_t fid = 1; fid <= kMax; ++fid) {
    ASSERT_EQ(find(fid, {}), 0);
    ASSERT_TRUE(client_->xattrcreate(fid, "user.x", 64 << 10, 0)) << fid;
  }
  ASSERT_EQ(find(5000, {}), 0);
  EXPECT_EQ(error_of(client_->xattrcreate(5000, "user.x", 1, 0)), ENOMEM);
  EXPECT_EQ(error_of(client_->clunk(1)), EINVAL);
  EXPECT_TRUE(client_->xattrcreate(5000, "user.x", 1, 0));
}

TEST_F(P9SessionTest, LocksAgainstTheHostAndAgainstOtherProcesses) {
  write_host("file", "0123456789");
  ASSERT_EQ(find(1, {"file"}), 0);
  ASSERT_TRUE(client_->open(1, O_RDWR));
  ASSERT_EQ(find(2, {"file"}), 0);
  ASSERT_TRUE(client_->open(2, O_RDWR));
  const P9Client::Lock first = {P9_LOCK_TYPE_WRLCK, 0, 5, 100};
  const P9Client::Lock second = {P9_LOCK_TYPE_WRLCK, 4, 0, 200};
  EXPECT_EQ(client_->lock(1, first), P9_LOCK_SUCCESS);
  EXPECT_EQ(client_->lock(2, second), P9_LOCK_BLOCKED);
  const auto holder = client_->getlock(2, second);
  ASSERT_TRUE(holder);
  EXPECT_EQ(holder->type, P9_LOCK_TYPE_WRLCK);
  EXPECT_EQ(holder->start, 0u);
  EXPECT_EQ(holder->length, 5u);

  const Fd file(::open(host("file").c_str(), O_RDWR | O_CLOEXEC));
  struct flock ours {};
  ours.l_type = F_WRLCK;
  ours.l_len = 2;
  EXPECT_EQ(::fcntl(file.get(), F_OFD_SETLK, &ours), -1);

  EXPECT_TRUE(client_->clunk(1));  // releases what was locked by it
  EXPECT_EQ(client_->getlock(2, second)->type, P9_LOCK_TYPE_UNLCK);
  EXPECT_EQ(client_->lock(2, second), P9_LOCK_SUCCESS);
  EXPECT_EQ(::fcntl(file.get(), F_OFD_SETLK, &ours), 0);
  EXPECT_EQ(client_->lock(2, {P9_LOCK_TYPE_WRLCK, 0, 2, 200}), P9_LOCK_BLOCKED);
  EXPECT_EQ(client_->lock(2, {P9_LOCK_TYPE_UNLCK, 0, 0, 200}), P9_LOCK_SUCCESS);
  EXPECT_EQ(error_of(client_->lock(2, {3, 0, 0, 200})), EINVAL);
  EXPECT_NE(error_of(client_->lock(2, {P9_LOCK_TYPE_WRLCK, UINT64_MAX, UINT64_MAX, 200})), 0);
}

TEST_F(P9SessionTest, AnyNumberOfProcessesMayLockOneAfterTheOther) {
  write_host("file", "text");
  ASSERT_EQ(find(1, {"file"}), 0);
  ASSERT_TRUE(client_->open(1, O_RDWR));
  for (uint32_t process = 1; process <= 200; ++process) {
    ASSERT_EQ(client_->lock(1, {P9_LOCK_TYPE_WRLCK, 0, 0, process}), P9_LOCK_SUCCESS) << process;
    ASSERT_EQ(client_->lock(1, {P9_LOCK_TYPE_UNLCK, 0, 0, process}), P9_LOCK_SUCCESS) << process;
  }
}

TEST_F(P9SessionTest, BoundsTheOwnersOfLocks) {
  write_host("file", "");
  ASSERT_EQ(find(1, {"file"}), 0);
  ASSERT_TRUE(client_->open(1, O_RDWR));
  for (uint32_t process = 1; process <= OpenFile::kMaxLockOwners; ++process)
    ASSERT_EQ(client_->lock(1, {P9_LOCK_TYPE_RDLCK, 0, 1, process}), P9_LOCK_SUCCESS);
  EXPECT_EQ(client_->lock(1, {P9_LOCK_TYPE_RDLCK, 0, 1, 99999}), P9_LOCK_ERROR);
}

TEST_F(P9SessionTest, OwnersThatGotNoLockDoNotCount) {
  write_host("file", "");
  ASSERT_EQ(find(1, {"file"}), 0);
  ASSERT_TRUE(client_->open(1, O_RDWR));
  ASSERT_EQ(client_->lock(1, {P9_LOCK_TYPE_WRLCK, 0, 1, 1}), P9_LOCK_SUCCESS);
  for (uint32_t process = 2; process <= 2 * OpenFile::kMaxLockOwners; ++process) {
    ASSERT_EQ(client_->lock(1, {P9_LOCK_TYPE_WRLCK, 0, 1, process}), P9_LOCK_BLOCKED);
    ASSERT_EQ(client_->lock(1, {P9_LOCK_TYPE_UNLCK, 5, 1, process}), P9_LOCK_SUCCESS);
  }
  EXPECT_EQ(client_->lock(1, {P9_LOCK_TYPE_WRLCK, 1, 1, 99999}), P9_LOCK_SUCCESS);
}

TEST_F(P9SessionTest, AppendsWhereTheFileEndsNow) {
  write_host("log", "one\n");
  ASSERT_EQ(find(1, {"log"}), 0);
  ASSERT_TRUE(client_->open(1, O_WRONLY | O_APPEND));
  write_host("log", "one\ntwo\n");
  EXPECT_EQ(client_->write(1, 4, "three\n"), 6u);
  EXPECT_EQ(content("log"), "one\ntwo\nthree\n");
}

TEST_F(P9SessionTest, TruncatesWhenItOpens) {
  write_host("file", "long text");
  ASSERT_EQ(find(1, {"file"}), 0);
  ASSERT_TRUE(client_->open(1, O_WRONLY | O_TRUNC));
  EXPECT_EQ(content("file"), "");
  ASSERT_EQ(find(2, {}), 0);
  EXPECT_EQ(error_of(client_->create(2, "file", O_WRONLY | O_CREAT | O_EXCL, 0644)), EEXIST);
}

}  // namespace
}  // namespace wick::virtio::p9

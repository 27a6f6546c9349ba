// What a hostile 9P client must not reach.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "tests/virtio/p9_session_fixture.h"

namespace wick::virtio::p9 {
namespace {

TEST_F(P9SessionTest, ChangesNothingOfAReadOnlyShare) {
  write_host("file", "text");
  std::filesystem::create_directory(host("folder"));
  open({.path = {}, .read_only = true});
  ASSERT_EQ(find(1, {"file"}), 0);
  EXPECT_EQ(error_of(client_->setattr(1, {.valid = P9_ATTR_SIZE})), EROFS);
  EXPECT_EQ(error_of(client_->setattr(1, {.valid = P9_ATTR_MODE, .mode = 0777})), EROFS);
  EXPECT_EQ(error_of(client_->open(1, O_RDWR)), EROFS);
  EXPECT_EQ(error_of(client_->open(1, O_RDONLY | O_TRUNC)), EROFS);
  ASSERT_EQ(find(2, {}), 0);
  EXPECT_EQ(error_of(client_->create(2, "new", O_RDWR, 0644)), EROFS);
  EXPECT_EQ(error_of(client_->mkdir(kRoot, "new")), EROFS);
  EXPECT_EQ(error_of(client_->symlink(kRoot, "new", "x")), EROFS);
  EXPECT_EQ(error_of(client_->mknod(kRoot, "new", S_IFIFO | 0644, 0, 0)), EROFS);
  EXPECT_EQ(error_of(client_->link(kRoot, 1, "new")), EROFS);
  EXPECT_EQ(error_of(client_->renameat(kRoot, "file", kRoot, "new")), EROFS);
  EXPECT_EQ(error_of(client_->rename(1, kRoot, "new")), EROFS);
  EXPECT_EQ(error_of(client_->unlinkat(kRoot, "file")), EROFS);
  EXPECT_EQ(error_of(client_->unlinkat(kRoot, "folder", P9_DOTL_AT_REMOVEDIR)), EROFS);
  ASSERT_TRUE(client_->walk(1, 3));
  if (client_->xattrcreate(3, "user.x", 0, 0)) {
    EXPECT_EQ(error_of(client_->clunk(3)), EROFS);
  }
  ASSERT_TRUE(client_->walk(1, 4));
  EXPECT_EQ(error_of(client_->remove(4)), EROFS);
  ASSERT_TRUE(client_->open(1, O_RDONLY));
  EXPECT_EQ(client_->read(1, 0, 10), "text");
  EXPECT_EQ(content("file"), "text");
  EXPECT_FALSE(std::filesystem::exists(host("new")));
}

TEST_F(P9SessionTest, NamesLeadNowhereElse) {
  folder_.write("secret", "secret");
  std::filesystem::create_symlink(folder_ / "secret", host("absolute"));
  std::filesystem::create_symlink("../secret", host("relative"));
  std::filesystem::create_symlink("..", host("up"));
  for (const std::vector<std::string>& path : {std::vector<std::string>{"..", "secret"},
                                               {"up", "secret"},
                                               {"../secret"},
                                               {folder_ / "secret"},
                                               {"up/secret"},
                                               {""},
                                               {"./"},
                                               {"..", "..", "secret"}})
    EXPECT_NE(find(1, path), 0) << path.back();
  for (const std::string name : {"absolute", "relative"}) {
    ASSERT_EQ(find(2, {name}), 0);  // the link itself
    EXPECT_EQ(client_->getattr(2)->mode & S_IFMT, unsigned{S_IFLNK});
    EXPECT_NE(error_of(client_->open(2, O_RDONLY)), 0);
    ASSERT_TRUE(client_->clunk(2));
  }
  for (const std::string name : {"..", ".", "", "a/b", "/", "../secret"}) {
    EXPECT_NE(error_of(client_->unlinkat(kRoot, name)), 0) << name;
    EXPECT_NE(error_of(client_->unlinkat(kRoot, name, P9_DOTL_AT_REMOVEDIR)), 0) << name;
    EXPECT_NE(error_of(client_->mkdir(kRoot, name)), 0) << name;
    EXPECT_NE(error_of(client_->symlink(kRoot, name, "x")), 0) << name;
    EXPECT_NE(error_of(client_->renameat(kRoot, "up", kRoot, name)), 0) << name;
    EXPECT_NE(error_of(client_->renameat(kRoot, name, kRoot, "stolen")), 0) << name;
  }
  // Creating through a link that leads out.
  ASSERT_EQ(find(3, {}), 0);
  EXPECT_NE(error_of(client_->create(3, "relative", O_RDWR | O_TRUNC, 0644)), 0);
  EXPECT_EQ(folder_.read("secret"), "secret");
}

// The host, or another guest, swaps a folder for a link again and again.
TEST_F(P9SessionTest, ARaceOfNamesLeadsNowhereElse) {
  std::filesystem::create_directory(folder_ / "outside");
  folder_.write("outside/file", "secret");
  std::filesystem::create_directory(host("folder"));
  write_host("folder/file", "public");
  std::filesystem::create_symlink(folder_ / "outside", host("link"));
  std::atomic<bool> stop = false;
  std::thread swapper([&] {
    while (!stop)
      ::renameat2(AT_FDCWD, host("folder").c_str(), AT_FDCWD, host("link").c_str(),
                  RENAME_EXCHANGE);
  });
  int found = 0;
  for (int i = 0; i < 3000; ++i) {
    if (find(1, {"folder", "file"}) != 0) continue;
    ++found;
    EXPECT_TRUE(client_->open(1, O_RDONLY));
    EXPECT_EQ(client_->read(1, 0, 100), "public");
    EXPECT_TRUE(client_->clunk(1));
  }
  stop = true;
  swapper.join();
  EXPECT_GT(found, 0);
}

TEST_F(P9SessionTest, NeverOpensAFifo) {
  ASSERT_EQ(::mkfifo(host("fifo").c_str(), 0600), 0);
  ASSERT_EQ(find(1, {"fifo"}), 0);
  EXPECT_NE(error_of(client_->open(1, O_RDONLY)), 0);  // and does not wait for a writer
  EXPECT_NE(error_of(client_->open(1, O_RDWR)), 0);
}

TEST_F(P9SessionTest, BoundsFids) {
  uint32_t fid = 1;
  while (client_->walk(kRoot, fid)) ++fid;
  EXPECT_EQ(error_of(client_->walk(kRoot, fid)), ENFILE);
  EXPECT_EQ(fid, FidTable::kMaxFids);
  EXPECT_LE(tree_->usage().descriptors, 10u);
  EXPECT_TRUE(client_->clunk(1));
  EXPECT_TRUE(client_->walk(kRoot, fid));
}

TEST_F(P9SessionTest, ExecutesNothingWhoseReplyHasNoRoom) {
  const auto mkdir = P9Client::Message(P9_TMKDIR).u32(kRoot).text("folder").u32(0755).u32(0);
  EXPECT_EQ(error_of(client_->call(mkdir, "", 19)), EMSGSIZE);
  EXPECT_FALSE(std::filesystem::exists(host("folder")));
  EXPECT_EQ(exchange(std::string("\x07\0\0\0\x68\0\0", 7), 10), "");
  EXPECT_TRUE(client_->call(mkdir, "", 20));
}

TEST_F(P9SessionTest, AnswersEverySingleTypeOfMessage) {
  for (int type = 0; type < 256; ++type) {
    std::string message = std::string("\x07\0\0\0?\x01\0", 7);
    message[4] = static_cast<char>(type);
    const std::string reply = exchange(message, 100);
    ASSERT_EQ(reply.size(), kErrorBytes) << type;
    EXPECT_EQ(reply[4], P9_RLERROR);
  }
}

}  // namespace
}  // namespace wick::virtio::p9

// What a guest can do with a share.
#include "share/tree.h"

#include <gmock/gmock.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <set>

#include "tests/share/tree_fixture.h"

namespace wick::share {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

std::vector<std::string> names_of(Tree& tree, NodeId node) {
  const auto file = tree.open(node, O_RDONLY | O_DIRECTORY);
  EXPECT_TRUE(file);
  std::vector<std::string> names;
  EXPECT_TRUE(tree.read_directory(*file, 0, [&](const DirectoryEntry& entry) {
    if (entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
    return true;
  }));
  tree.close(*file);
  return names;
}

TEST_F(TreeTest, FilesOfTheHostAreThereForTheGuest) {
  dir_.write("shared/file", "of the host");
  const NodeId node = walk("file");
  const auto attributes = tree_->attributes(node);
  ASSERT_TRUE(attributes);
  EXPECT_EQ(attributes->stx_size, 11u);
  EXPECT_EQ(attributes->stx_mode & S_IFMT, S_IFREG);
  const auto file = tree_->open(node, O_RDONLY);
  ASSERT_TRUE(file);
  EXPECT_EQ(read(*file), "of the host");
  EXPECT_EQ(read(*file, 4, 7), "host");
  EXPECT_EQ(error_of(write(*file, "x")), EBADF);
}

TEST_F(TreeTest, FilesOfTheGuestAreThereForTheHost) {
  const FileId file = create("file");
  EXPECT_EQ(*write(file, "of the guest"), 12u);
  EXPECT_TRUE(tree_->flush(file));
  EXPECT_TRUE(tree_->sync(file, false));
  tree_->close(file);
  EXPECT_EQ(dir_.read("shared/file"), "of the guest");
  EXPECT_EQ(host("file").st_mode & 07777, 0644u);
}

TEST_F(TreeTest, TwoLinksOfAFileAreOneNodeAsLongAsTheGuestKnowsIt) {
  dir_.write("shared/a", "");
  const NodeId a = walk("a");
  const auto b = tree_->link(a, kRootNode, "b");
  ASSERT_TRUE(b);
  EXPECT_EQ(b->node, a);
  EXPECT_EQ(b->attributes.stx_nlink, 2u);
  EXPECT_EQ(walk("b"), a);
  tree_->forget(a, 2);
  EXPECT_TRUE(tree_->attributes(a)) << "has one reference left";
  tree_->forget(a, 1);
  EXPECT_EQ(error_of(tree_->attributes(a)), ESTALE);
  EXPECT_NE(walk("b"), a) << "an id is not used again";
}

TEST_F(TreeTest, AnUnlinkedFileStaysUsableWhileItIsOpen) {
  const FileId file = create("file");
  ASSERT_TRUE(tree_->unlink(kRootNode, "file"));
  EXPECT_EQ(error_of(tree_->lookup(kRootNode, "file")), ENOENT);
  EXPECT_EQ(*write(file, "still here"), 10u);
  EXPECT_EQ(read(file), "still here");
  EXPECT_EQ(tree_->attributes(file)->stx_nlink, 0u);
}

TEST_F(TreeTest, CreateOpensAFileThatIsThereUnlessItIsToBeNew) {
  dir_.write("shared/file", "old");
  EXPECT_EQ(error_of(tree_->create(kRootUser, kRootNode, "file", O_RDWR | O_EXCL, 0644)), EEXIST);
  const auto opened = tree_->create(kRootUser, kRootNode, "file", O_RDWR, 0644);
  ASSERT_TRUE(opened);
  EXPECT_EQ(read(opened->file), "old");
  ASSERT_TRUE(tree_->create(kRootUser, kRootNode, "file", O_RDWR | O_TRUNC, 0644));
  EXPECT_EQ(dir_.read("shared/file"), "");
}

TEST_F(TreeTest, AFileWithoutANameCanGetOne) {
  const auto file = tree_->create_unnamed(kRootUser, kRootNode, O_RDWR, 0600);
  ASSERT_TRUE(file) << strerror(file.error());
  EXPECT_EQ(*write(file->file, "text"), 4u);
  EXPECT_THAT(names_of(*tree_, kRootNode), ElementsAre());
  ASSERT_TRUE(tree_->link(file->entry.node, kRootNode, "named"));
  EXPECT_EQ(dir_.read("shared/named"), "text");
}

TEST_F(TreeTest, MakesRemovesAndRenamesEntries) {
  const auto directory = tree_->make_directory(kRootUser, kRootNode, "dir", 0750);
  ASSERT_TRUE(directory);
  EXPECT_EQ(directory->attributes.stx_mode, S_IFDIR | 0750);
  create("file", directory->node);
  EXPECT_EQ(error_of(tree_->remove_directory(kRootNode, "dir")), ENOTEMPTY);
  EXPECT_EQ(error_of(tree_->unlink(kRootNode, "dir")), EISDIR);
  EXPECT_EQ(error_of(tree_->remove_directory(directory->node, "file")), ENOTDIR);
  EXPECT_EQ(error_of(tree_->make_directory(kRootUser, kRootNode, "dir", 0)), EEXIST);

  create("other");
  EXPECT_EQ(error_of(tree_->rename(kRootNode, "other", directory->node, "file", RENAME_NOREPLACE)),
            EEXIST);
  ASSERT_TRUE(tree_->rename(kRootNode, "other", directory->node, "file", RENAME_EXCHANGE));
  ASSERT_TRUE(tree_->rename(directory->node, "file", kRootNode, "moved", 0));
  EXPECT_EQ(error_of(tree_->rename(kRootNode, "moved", kRootNode, "x", 1u << 20)), EINVAL);
  EXPECT_THAT(names_of(*tree_, kRootNode), UnorderedElementsAre("dir", "moved", "other"));
  EXPECT_EQ(error_of(tree_->rename(kRootNode, "dir", directory->node, "self", 0)), EINVAL);
  ASSERT_TRUE(tree_->remove_directory(kRootNode, "dir"));
  EXPECT_EQ(error_of(tree_->lookup(directory->node, "file")), ENOENT);
}

TEST_F(TreeTest, ARenamedDirectoryKeepsItsNode) {
  ASSERT_EQ(::mkdir(shared("a").c_str(), 0755), 0);
  const NodeId a = walk("a");
  create("file", a);
  ASSERT_TRUE(tree_->rename(kRootNode, "a", kRootNode, "b", 0));
  EXPECT_EQ(walk("b"), a);
  EXPECT_TRUE(tree_->lookup(a, "file"));
}

TEST_F(TreeTest, SymbolicLinksAreTheGuestsToFollow) {
  const std::string target = "../outside/secret";
  ASSERT_TRUE(tree_->make_symbolic_link(kRootUser, kRootNode, "link", target));
  EXPECT_EQ(*tree_->read_link(walk("link")), target);
  EXPECT_EQ(error_of(tree_->read_link(kRootNode)), EINVAL);
  EXPECT_EQ(error_of(tree_->make_symbolic_link(kRootUser, kRootNode, "l2", "")), ENOENT);
  EXPECT_EQ(error_of(tree_->make_symbolic_link(kRootUser, kRootNode, "l2", std::string(5000, 'x'))),
            ENAMETOOLONG);
}

TEST_F(TreeTest, ReadsADirectoryFromAnyEntryOn) {
  std::set<std::string> names;
  for (int i = 0; i < 700; ++i) names.insert("a-name-that-has-some-length-" + std::to_string(i));
  for (const auto& name : names) dir_.write("shared/" + name, "");
  const auto file = tree_->open(kRootNode, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(file);
  std::set<std::string> seen;
  uint64_t offset = 0;
  for (bool more = true; more;) {  // 7 entries at a time
    int left = 7;
    more = false;
    ASSERT_TRUE(tree_->read_directory(*file, offset, [&](const DirectoryEntry& entry) {
      if (left-- == 0) return more = true, false;
      if (entry.name != "." && entry.name != "..") {
        EXPECT_TRUE(seen.emplace(entry.name).second) << "twice: " << entry.name;
      }
      offset = entry.next_offset;
      return true;
    }));
  }
  EXPECT_EQ(seen, names);
  EXPECT_EQ(error_of(tree_->read_directory(create("f"), 0, [](auto&) { return true; })), ENOTDIR);
}

// As rm -r does. The positions of tmpfs change then (before Linux 6.6), so this uses one.
TEST_F(TreeTest, ReadsADirectoryWhoseEntriesAreRemovedMeanwhile) {
  const fakes::TempDir folder("/dev/shm");
  for (int i = 0; i < 300; ++i) folder.write("name-" + std::to_string(i), "");
  const auto tree = Tree::open({.path = folder.path()}).value();
  const FileId directory = tree->open(kRootNode, O_RDONLY | O_DIRECTORY).value();
  uint64_t offset = 0;
  int removed = 0;
  for (std::vector<std::string> names(1); !names.empty();) {
    names.clear();
    ASSERT_TRUE(tree->read_directory(directory, offset, [&](const DirectoryEntry& entry) {
      if (names.size() == 7) return false;
      if (!entry.name.starts_with('.')) names.emplace_back(entry.name);
      offset = entry.next_offset;
      return true;
    }));
    for (const std::string& name : names) ASSERT_TRUE(tree->unlink(kRootNode, name));
    removed += static_cast<int>(names.size());
  }
  EXPECT_EQ(removed, 300);
}

TEST_F(TreeTest, ChangesAttributes) {
  const FileId file = create("file");
  EXPECT_TRUE(write(file, "0123456789"));
  const NodeId node = walk("file");
  AttributeChange change;
  change.size_bytes = 4;
  change.mode = 0600;
  change.modification_time = timespec{1'000'000'000, 5};
  const auto changed = tree_->set_attributes(node, file, change);
  ASSERT_TRUE(changed) << strerror(changed.error());
  EXPECT_EQ(changed->stx_size, 4u);
  EXPECT_EQ(changed->stx_mode, S_IFREG | 0600);
  EXPECT_EQ(changed->stx_mtime.tv_sec, 1'000'000'000);
  EXPECT_EQ(changed->stx_mtime.tv_nsec, 5u);
  change = {};
  change.size_bytes = 1 << 20;
  EXPECT_EQ(tree_->set_attributes(node, {}, change)->stx_size, 1u << 20);
  change.size_bytes = UINT64_MAX;
  EXPECT_EQ(error_of(tree_->set_attributes(node, {}, change)), EFBIG);
  change.size_bytes = 0;
  EXPECT_EQ(error_of(tree_->set_attributes(kRootNode, {}, change)), EISDIR);
}

TEST_F(TreeTest, ChangesTheTimesOfASymbolicLinkAndNotOfItsTarget) {
  ASSERT_EQ(::symlink(outside("secret").c_str(), shared("link").c_str()), 0);
  struct stat before {};
  ::stat(outside("secret").c_str(), &before);
  AttributeChange change;
  change.modification_time = timespec{7, 0};
  ASSERT_TRUE(tree_->set_attributes(walk("link"), {}, change));
  EXPECT_EQ(host("link").st_mtim.tv_sec, 7);
  struct stat after {};
  ::stat(outside("secret").c_str(), &after);
  EXPECT_EQ(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
  change = {};
  change.mode = 0777;
  EXPECT_EQ(error_of(tree_->set_attributes(walk("link"), {}, change)), EOPNOTSUPP);
}

TEST_F(TreeTest, KeepsHoles) {
  const FileId file = create("sparse");
  EXPECT_TRUE(write(file, "end", 64 << 20));
  EXPECT_LT(host("sparse").st_blocks, 100);
  EXPECT_EQ(*tree_->seek(file, 0, SEEK_HOLE), 0u);
  EXPECT_EQ(*tree_->seek(file, 0, SEEK_DATA), 64u << 20);
  EXPECT_EQ(error_of(tree_->seek(file, 65 << 20, SEEK_DATA)), ENXIO);
  EXPECT_EQ(error_of(tree_->seek(file, 0, SEEK_END)), EINVAL);
  EXPECT_TRUE(tree_->allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65 << 20));
  EXPECT_EQ(host("sparse").st_blocks, 0);
  EXPECT_TRUE(tree_->allocate(file, 0, 0, 1 << 20));
  EXPECT_EQ(host("sparse").st_blocks, 2048);
  EXPECT_EQ(error_of(tree_->allocate(file, 0, INT64_MAX, 2)), EINVAL);
}

TEST_F(TreeTest, CopiesBetweenFiles) {
  const FileId from = create("from");
  const FileId to = create("to");
  EXPECT_TRUE(write(from, "0123456789"));
  EXPECT_EQ(*tree_->copy_range(from, 2, to, 1, 5), 5u);
  EXPECT_EQ(read(to), std::string("\0"
                                  "23456",
                                  6));
}

TEST_F(TreeTest, AppendsAtTheEndThatTheFileHas) {
  const FileId file = create("log");
  EXPECT_TRUE(write(file, "one "));
  dir_.write("shared/log", "longer than the guest knows ");
  const std::string text = "two";
  const iovec buffer{const_cast<char*>(text.data()), text.size()};
  EXPECT_TRUE(tree_->write(file, std::span(&buffer, 1), 4, {.append = true}));
  EXPECT_EQ(dir_.read("shared/log"), "longer than the guest knows two");
}

TEST_F(TreeTest, HasExtendedAttributes) {
  const FileId file = create("file");
  const NodeId node = walk("file");
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text)); };
  ASSERT_TRUE(tree_->set_xattr(node, "user.one", bytes("value"), 0));
  EXPECT_EQ(error_of(tree_->set_xattr(node, "user.one", bytes("v"), XATTR_CREATE)), EEXIST);
  EXPECT_EQ(error_of(tree_->set_xattr(node, "user.two", bytes("v"), XATTR_REPLACE)), ENODATA);
  const auto value = tree_->get_xattr(node, "user.one");
  ASSERT_TRUE(value);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(value->data()), value->size()), "value");
  EXPECT_EQ(*tree_->list_xattrs(node), std::string("user.one\0", 9));
  EXPECT_TRUE(tree_->remove_xattr(node, "user.one"));
  EXPECT_EQ(error_of(tree_->get_xattr(node, "user.one")), ENODATA);
  EXPECT_EQ(error_of(tree_->get_xattr(node, "")), ERANGE);
  EXPECT_EQ(error_of(tree_->set_xattr(node, "user.big", std::vector<std::byte>(70000), 0)), E2BIG);
  tree_->close(file);
}

TEST_F(TreeTest, LocksOfTwoOwnersConflict) {
  const FileId file = create("file");
  const RecordLock first{.type = F_WRLCK, .start = 10, .length = 10, .owner = 1};
  RecordLock second{.type = F_RDLCK, .start = 15, .length = 1, .owner = 2};
  EXPECT_TRUE(tree_->set_lock(file, first));
  EXPECT_EQ(error_of(tree_->set_lock(file, second)), EAGAIN);
  const auto found = tree_->test_lock(file, second);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->type, F_WRLCK);
  EXPECT_EQ(found->start, 10u);
  EXPECT_EQ(found->length, 10u);
  second.start = 20;
  EXPECT_TRUE(tree_->set_lock(file, second));
  tree_->release_locks(walk("file"), 1);
  second.start = 15;
  EXPECT_TRUE(tree_->set_lock(file, second));
  EXPECT_EQ(error_of(tree_->set_lock(file, {.type = 77, .owner = 1})), EINVAL);
  EXPECT_EQ(error_of(tree_->set_lock(file, {.type = F_RDLCK, .start = 1, .length = UINT64_MAX})),
            EINVAL);
}

TEST_F(TreeTest, TestsTheLocksOfAFileThatItMayOnlyWrite) {
  const FileId file = create("file");
  ASSERT_EQ(::chmod(shared("file").c_str(), 0200), 0);
  // Root may read every file, so root acts as another user.
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(shared("file").c_str(), kUser.uid, kUser.gid), 0);
  }
  struct Finally {
    uid_t uid;
    ~Finally() { (void)::setfsuid(uid); }
  } const finally{::geteuid()};
  if (::geteuid() == 0) (void)::setfsuid(kUser.uid);
  const RecordLock lock{.type = F_WRLCK, .start = 0, .length = 1, .owner = 1};
  EXPECT_TRUE(tree_->set_lock(file, lock));
  const RecordLock other{.type = F_WRLCK, .start = 0, .length = 1, .owner = 2};
  EXPECT_EQ(tree_->test_lock(file, other).value().type, F_WRLCK);
}

TEST_F(TreeTest, BoundsTheLocksOfAGuest) {
  const FileId file = create("file");
  int code = 0;
  for (uint64_t i = 0; i < (1 << 20) && code == 0; ++i)
    code = error_of(tree_->set_lock(file, {.type = F_WRLCK, .start = 2 * i, .length = 1}));
  EXPECT_EQ(code, ENOLCK);
  EXPECT_TRUE(tree_->set_lock(file, {.type = F_UNLCK}));
  EXPECT_TRUE(tree_->set_lock(file, {.type = F_WRLCK}));
  for (uint64_t i = 1; i < (1 << 20) && code != 0; ++i)
    code = error_of(tree_->set_lock(file, {.type = F_UNLCK, .start = 2 * i, .length = 1})) == ENOLCK
               ? 0
               : ENOLCK;
  EXPECT_EQ(code, 0) << "a lock that is split without end";
  code = 0;
  tree_->reset();
  const FileId again = *tree_->open(walk("file"), O_RDWR);
  for (uint64_t owner = 0; owner < (1 << 20) && code == 0; ++owner)
    code = error_of(
        tree_->set_lock(again, {.type = F_RDLCK, .start = 0, .length = 1, .owner = owner}));
  EXPECT_EQ(code, ENOLCK);
}

TEST_F(TreeTest, AReadOnlyShareChangesNothing) {
  dir_.write("shared/file", "text");
  ASSERT_EQ(::mkdir(shared("dir").c_str(), 0755), 0);
  TreeOptions options;
  options.read_only = true;
  share(options);
  const NodeId file = walk("file");
  AttributeChange change;
  change.mode = 0777;
  EXPECT_EQ(error_of(tree_->set_attributes(file, {}, change)), EROFS);
  EXPECT_EQ(error_of(tree_->open(file, O_RDWR)), EROFS);
  EXPECT_EQ(error_of(tree_->open(file, O_RDONLY | O_TRUNC)), EROFS);
  EXPECT_EQ(error_of(tree_->create(kRootUser, kRootNode, "new", O_RDWR, 0644)), EROFS);
  EXPECT_EQ(error_of(tree_->create_unnamed(kRootUser, kRootNode, O_RDWR, 0644)), EROFS);
  EXPECT_EQ(error_of(tree_->make_directory(kRootUser, kRootNode, "new", 0755)), EROFS);
  EXPECT_EQ(error_of(tree_->make_node(kRootUser, kRootNode, "new", S_IFIFO, 0)), EROFS);
  EXPECT_EQ(error_of(tree_->make_symbolic_link(kRootUser, kRootNode, "new", "x")), EROFS);
  EXPECT_EQ(error_of(tree_->link(file, kRootNode, "new")), EROFS);
  EXPECT_EQ(error_of(tree_->unlink(kRootNode, "file")), EROFS);
  EXPECT_EQ(error_of(tree_->remove_directory(kRootNode, "dir")), EROFS);
  EXPECT_EQ(error_of(tree_->rename(kRootNode, "file", kRootNode, "new", 0)), EROFS);
  EXPECT_EQ(error_of(tree_->set_xattr(file, "user.x", {}, 0)), EROFS);
  EXPECT_EQ(error_of(tree_->remove_xattr(file, "user.x")), EROFS);
  const FileId opened = *tree_->open(file, O_RDONLY);
  EXPECT_EQ(error_of(write(opened, "x")), EBADF);
  EXPECT_EQ(error_of(tree_->allocate(opened, 0, 0, 1)), EBADF);
  EXPECT_EQ(error_of(tree_->copy_range(opened, 0, opened, 2, 1)), EBADF);
  EXPECT_EQ(read(opened), "text");
}

TEST_F(TreeTest, ResetForgetsAllThatTheGuestKnew) {
  const FileId file = create("file");
  const NodeId node = walk("file");
  tree_->reset();
  EXPECT_EQ(error_of(tree_->attributes(node)), ESTALE);
  EXPECT_EQ(error_of(tree_->attributes(file)), EBADF);
  EXPECT_EQ(tree_->usage().descriptors, 1u);
  EXPECT_NE(walk("file"), node);
}

TEST(TreeOpen, RefusesWhatCannotBeShared) {
  TreeOptions options;
  for (const char* path : {"/does/not/exist", "/etc/passwd", "/proc", "/proc/self", "/sys"}) {
    options.path = path;
    EXPECT_FALSE(Tree::open(options)) << path;
  }
}

}  // namespace
}  // namespace wick::share

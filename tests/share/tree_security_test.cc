// Who owns what the guest creates, on both sides.
#include <dirent.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <thread>

#include "share/mapped_stat.h"
#include "share/workers.h"
#include "tests/share/tree_fixture.h"

namespace wick::share {
namespace {

class PassthroughTest : public TreeTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    TreeTest::SetUp();
    share(Security::kPassthrough);
    ASSERT_EQ(::chmod(shared().c_str(), 01777), 0);
  }
};

TEST_F(PassthroughTest, FilesBelongToTheUserOfTheGuestWhoCreatesThem) {
  ASSERT_TRUE(tree_->create(kUser, kRootNode, "file", O_RDWR, 0640));
  ASSERT_TRUE(tree_->make_directory(kUser, kRootNode, "dir", 0750));
  ASSERT_TRUE(tree_->make_symbolic_link(kUser, kRootNode, "link", "x"));
  ASSERT_TRUE(tree_->make_node(kUser, kRootNode, "fifo", S_IFIFO | 0600, 0));
  ASSERT_TRUE(tree_->create_unnamed(kUser, kRootNode, O_RDWR, 0600));
  for (const char* name : {"file", "dir", "link", "fifo"}) {
    EXPECT_EQ(host(name).st_uid, kUser.uid) << name;
    EXPECT_EQ(host(name).st_gid, kUser.gid) << name;
  }
}

TEST_F(PassthroughTest, UsersOfTheGuestCanStandForOthersOfTheHost) {
  TreeOptions options;
  options.security = Security::kPassthrough;
  options.uids =
      IdMap({{.guest = 0, .host = 1000, .count = 1}, {.guest = 1, .host = 2000, .count = 10}});
  options.gids = IdMap({{.guest = 0, .host = 100, .count = 50}});
  share(options);
  const auto file = tree_->create(kRootUser, kRootNode, "file", O_RDWR, 0640);
  ASSERT_TRUE(file) << strerror(file.error());
  EXPECT_EQ(host("file").st_uid, 1000u);
  EXPECT_EQ(host("file").st_gid, 100u);
  EXPECT_EQ(file->entry.attributes.stx_uid, 0u);
  EXPECT_EQ(file->entry.attributes.stx_gid, 0u);
  AttributeChange change;
  change.uid = 10;
  change.gid = 49;
  ASSERT_TRUE(tree_->set_attributes(file->entry.node, {}, change));
  EXPECT_EQ(host("file").st_uid, 2009u);
  EXPECT_EQ(host("file").st_gid, 149u);
  change.uid = 11;
  EXPECT_EQ(error_of(tree_->set_attributes(file->entry.node, {}, change)), EOVERFLOW);
  EXPECT_EQ(error_of(tree_->make_directory({3, 50}, kRootNode, "dir", 0700)), EOVERFLOW);
  EXPECT_EQ(host("file").st_uid, 2009u);
  dir_.write("shared/of-root", "");
  const auto other = tree_->lookup(kRootNode, "of-root");
  ASSERT_TRUE(other);
  EXPECT_EQ(other->attributes.stx_uid, IdMap::kOverflowId);
  // An ACL would name users of the host.
  EXPECT_FALSE(tree_->get_xattr(other->node, "system.posix_acl_access"));
}

TEST_F(PassthroughTest, NothingOfAUserIsLeftForTheNextRequest) {
  ASSERT_TRUE(tree_->create(kUser, kRootNode, "user", O_RDWR, 0640));
  ASSERT_FALSE(tree_->create(kUser, kRootNode, "user", O_RDWR | O_EXCL, 0640));
  ASSERT_EQ(error_of(tree_->make_directory({UINT32_MAX, 5}, kRootNode, "x", 0)), EINVAL);
  ASSERT_TRUE(tree_->create(kRootUser, kRootNode, "root", O_RDWR, 0640));
  EXPECT_EQ(host("root").st_uid, 0u);
  EXPECT_EQ(host("root").st_gid, 0u);
  dir_.write("shared/private", "");
  ASSERT_EQ(::chmod(shared("private").c_str(), 0), 0);
  EXPECT_EQ(::access(shared("private").c_str(), R_OK), 0) << "CAP_DAC_OVERRIDE is back";
  EXPECT_EQ(::chown(shared("private").c_str(), 1, 1), 0) << "CAP_CHOWN is back";
}

TEST_F(PassthroughTest, UsersOnSeveralThreadsDoNotMix) {
  std::vector<std::thread> threads;
  for (uint32_t id = 1; id <= 4; ++id)
    threads.emplace_back([this, id] {
      for (int i = 0; i < 300; ++i) {
        const std::string name = std::to_string(id) + "-" + std::to_string(i);
        const auto made = tree_->make_directory({id, id + 100}, kRootNode, name, 0700);
        ASSERT_TRUE(made);
        ASSERT_EQ(made->attributes.stx_uid, id);
        ASSERT_EQ(made->attributes.stx_gid, id + 100);
      }
    });
  for (auto& thread : threads) thread.join();
}

// The guest's kernel has allowed it, for example because of a group of the user.
TEST_F(PassthroughTest, AUserMayCreateWhereTheGuestsKernelAllowsIt) {
  ASSERT_EQ(::mkdir(shared("dir").c_str(), 0770), 0);
  EXPECT_TRUE(tree_->create(kUser, walk("dir"), "file", O_RDWR, 0640));
  EXPECT_EQ(host("dir/file").st_uid, kUser.uid);
}

TEST_F(PassthroughTest, AnOwnerCanBeChangedAndDevicesBeMade) {
  dir_.write("shared/file", "");
  AttributeChange change;
  change.uid = 7;
  change.gid = 8;
  change.mode = 04755;
  const auto changed = tree_->set_attributes(walk("file"), {}, change);
  ASSERT_TRUE(changed);
  EXPECT_EQ(host("file").st_uid, 7u);
  EXPECT_EQ(host("file").st_mode & 07777, 04755u);
  ASSERT_TRUE(tree_->make_node(kRootUser, kRootNode, "null", S_IFCHR | 0666, makedev(1, 3)));
  EXPECT_EQ(host("null").st_rdev, makedev(1, 3));
}

TEST_F(PassthroughTest, AWriteByAUserEndsSetUserId) {
  dir_.write("shared/file", "text");
  ASSERT_EQ(::chmod(shared("file").c_str(), 06755), 0);
  const FileId file = *tree_->open(walk("file"), O_RDWR);
  EXPECT_TRUE(write(file, "x"));
  EXPECT_EQ(host("file").st_mode & 07777, 06755u) << "root may do that";
  const iovec buffer{const_cast<char*>("y"), 1};
  EXPECT_TRUE(tree_->write(file, std::span(&buffer, 1), 0, {.kill_privileges = true}));
  EXPECT_EQ(host("file").st_mode & 07777, 0755u);
  ASSERT_EQ(::chmod(shared("file").c_str(), 06755), 0);
  EXPECT_TRUE(tree_->open(walk("file"), O_WRONLY | O_TRUNC, true));
  EXPECT_EQ(host("file").st_mode & 07777, 0755u);
}

TEST_F(PassthroughTest, TheUmaskOfWickDoesNotMatter) {
  const mode_t before = ::umask(077);
  const auto workers = Workers::start("test", 1);
  ASSERT_TRUE(workers);
  (*workers)->submit([&] {
    EXPECT_TRUE(tree_->make_directory(kRootUser, kRootNode, "dir", 0777));
    EXPECT_TRUE(tree_->create(kUser, kRootNode, "file", O_RDWR, 0666));
  });
  (*workers)->wait_idle();
  EXPECT_EQ(::umask(before), 077u) << "is still the same for the other threads";
  EXPECT_EQ(host("dir").st_mode & 0777, 0777u);
  EXPECT_EQ(host("file").st_mode & 0777, 0666u);
}

class SquashTest : public TreeTest {
 protected:
  void SetUp() override {
    TreeTest::SetUp();
    TreeOptions options;
    options.security = Security::kSquash;
    options.squash_uid = 555;
    options.squash_gid = 666;
    share(options);
  }
};

TEST_F(SquashTest, TheGuestSeesItsUserAsTheOwner) {
  const auto file = tree_->create(kUser, kRootNode, "file", O_RDWR, 0644);
  ASSERT_TRUE(file);
  EXPECT_EQ(host("file").st_uid, ::geteuid());
  EXPECT_EQ(file->entry.attributes.stx_uid, 555u);
  EXPECT_EQ(file->entry.attributes.stx_gid, 666u);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(shared("file").c_str(), 3, 4), 0);
    EXPECT_EQ(tree_->attributes(file->file)->stx_uid, 3u);
  }
}

TEST_F(SquashTest, AChangeOfTheOwnerHasNoEffect) {
  dir_.write("shared/file", "");
  AttributeChange change;
  change.uid = 99;
  change.gid = 99;
  EXPECT_EQ(tree_->set_attributes(walk("file"), {}, change)->stx_uid, 555u);
  EXPECT_EQ(host("file").st_uid, ::geteuid());
}

TEST_F(SquashTest, NoGuestMakesProgramsThatRunAsWicksUser) {
  ASSERT_TRUE(tree_->create(kRootUser, kRootNode, "created", O_RDWR, 06755));
  ASSERT_TRUE(tree_->make_node(kRootUser, kRootNode, "made", S_IFREG | 06755, 0));
  dir_.write("shared/changed", "");
  AttributeChange change;
  change.mode = 06755;
  ASSERT_TRUE(tree_->set_attributes(walk("changed"), {}, change));
  for (const char* name : {"created", "made", "changed"})
    EXPECT_EQ(host(name).st_mode & 07000, 0u) << name;
  // Nor does it change one of the host.
  ASSERT_EQ(::chmod(shared("changed").c_str(), 04755), 0);
  EXPECT_TRUE(write(*tree_->open(walk("changed"), O_RDWR), "x"));
  EXPECT_EQ(host("changed").st_mode & 07000, 0u);
}

TEST_F(SquashTest, DevicesAndAttributesOfTheSystemAreRefused) {
  EXPECT_EQ(error_of(tree_->make_node(kRootUser, kRootNode, "null", S_IFCHR | 0666, 0x103)), EPERM);
  EXPECT_EQ(error_of(tree_->make_node(kRootUser, kRootNode, "disk", S_IFBLK | 0666, 0x800)), EPERM);
  EXPECT_TRUE(tree_->make_node(kRootUser, kRootNode, "fifo", S_IFIFO | 0666, 0));
  EXPECT_TRUE(tree_->make_node(kRootUser, kRootNode, "whiteout", S_IFCHR, 0));
  const NodeId fifo = walk("fifo");
  for (const char* name : {"security.capability", "trusted.x", "system.posix_acl_access"}) {
    EXPECT_EQ(error_of(tree_->set_xattr(fifo, name, {}, 0)), EOPNOTSUPP);
    EXPECT_EQ(error_of(tree_->get_xattr(fifo, name)), EOPNOTSUPP);
    EXPECT_EQ(error_of(tree_->remove_xattr(fifo, name)), EOPNOTSUPP);
  }
}

class MappedTest : public TreeTest {
 protected:
  void SetUp() override {
    TreeTest::SetUp();
    share(Security::kMapped);
  }
  static uint32_t type(const Attributes& attributes) { return attributes.stx_mode & S_IFMT; }
};

TEST_F(MappedTest, OwnersAndModesAreInAnAttribute) {
  const auto file = tree_->create(kUser, kRootNode, "file", O_RDWR, 04751);
  ASSERT_TRUE(file) << strerror(file.error());
  const auto dir = tree_->make_directory(kUser, kRootNode, "dir", 01777);
  ASSERT_TRUE(dir);
  EXPECT_EQ(file->entry.attributes.stx_mode, S_IFREG | 04751);
  EXPECT_EQ(file->entry.attributes.stx_uid, kUser.uid);
  EXPECT_EQ(dir->attributes.stx_mode, S_IFDIR | 01777);
  EXPECT_EQ(dir->attributes.stx_gid, kUser.gid);
  EXPECT_EQ(host("file").st_mode, S_IFREG | 0600u);
  EXPECT_EQ(host("dir").st_mode, S_IFDIR | 0700u);
  EXPECT_EQ(host("dir").st_uid, ::geteuid());

  AttributeChange change;
  change.uid = 7;
  change.mode = 0644;
  const auto changed = tree_->set_attributes(file->entry.node, {}, change);
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->stx_uid, 7u);
  EXPECT_EQ(changed->stx_gid, kUser.gid);
  EXPECT_EQ(changed->stx_mode, S_IFREG | 0644);
  EXPECT_EQ(host("file").st_mode, S_IFREG | 0600u);
}

TEST_F(MappedTest, ADirectoryWithTheSetGroupIdBitPassesItsGroupOn) {
  constexpr Caller kTeam{.uid = 1, .gid = 4321};
  const auto team = tree_->make_directory(kTeam, kRootNode, "team", 02775);
  ASSERT_TRUE(team);
  const auto file = tree_->create(kUser, team->node, "file", O_RDWR, 0644);
  const auto dir = tree_->make_directory(kUser, team->node, "dir", 0755);
  const auto fifo = tree_->make_node(kUser, team->node, "fifo", S_IFIFO | 0600, 0);
  const auto link = tree_->make_symbolic_link(kUser, team->node, "link", "target");
  ASSERT_TRUE(file && dir && fifo && link);
  EXPECT_EQ(file->entry.attributes.stx_mode, S_IFREG | 0644);
  EXPECT_EQ(dir->attributes.stx_mode, S_IFDIR | 02755) << "for what is made in it, too";
  for (const Attributes& made :
       {file->entry.attributes, dir->attributes, fifo->attributes, link->attributes}) {
    EXPECT_EQ(made.stx_uid, kUser.uid);
    EXPECT_EQ(made.stx_gid, kTeam.gid);
  }
  // The bit of a directory that the host has made counts, too.
  ASSERT_EQ(::mkdir(shared("hosts").c_str(), 0700), 0);
  ASSERT_EQ(::chmod(shared("hosts").c_str(), 02775), 0);
  const auto hosts = tree_->lookup(kRootNode, "hosts");
  ASSERT_TRUE(hosts);
  const auto inside = tree_->make_directory(kUser, hosts->node, "dir", 0755);
  ASSERT_TRUE(inside);
  EXPECT_EQ(inside->attributes.stx_mode, S_IFDIR | 02755);
  EXPECT_EQ(inside->attributes.stx_gid, hosts->attributes.stx_gid);
}

TEST_F(MappedTest, SpecialFilesAreRegularFilesOnTheHost) {
  const auto device = tree_->make_node(kRootUser, kRootNode, "sda", S_IFBLK | 0660, makedev(8, 1));
  ASSERT_TRUE(device);
  EXPECT_EQ(type(device->attributes), S_IFBLK);
  EXPECT_EQ(device->attributes.stx_rdev_major, 8u);
  EXPECT_EQ(device->attributes.stx_rdev_minor, 1u);
  const auto fifo = tree_->make_node(kUser, kRootNode, "fifo", S_IFIFO | 0600, 0);
  ASSERT_TRUE(fifo);
  EXPECT_EQ(type(fifo->attributes), S_IFIFO);
  const auto link = tree_->make_symbolic_link(kUser, kRootNode, "link", "../outside/secret");
  ASSERT_TRUE(link);
  EXPECT_EQ(type(link->attributes), S_IFLNK);
  EXPECT_EQ(link->attributes.stx_size, 17u);
  EXPECT_EQ(*tree_->read_link(link->node), "../outside/secret");
  for (const char* name : {"sda", "fifo", "link"})
    EXPECT_EQ(host(name).st_mode, S_IFREG | 0600u) << name;
}

// An overlay in the guest needs this of its upper layer.
TEST_F(MappedTest, ARenameMayLeaveAWhiteout) {
  ASSERT_TRUE(tree_->create(kUser, kRootNode, "old", O_RDWR, 0644));
  ASSERT_TRUE(tree_->rename(kRootNode, "old", kRootNode, "new", RENAME_WHITEOUT));
  const Attributes left = tree_->lookup(kRootNode, "old")->attributes;
  EXPECT_TRUE(S_ISCHR(left.stx_mode));
  EXPECT_EQ(left.stx_rdev_major + left.stx_rdev_minor, 0u);
  EXPECT_TRUE(S_ISREG(tree_->lookup(kRootNode, "new")->attributes.stx_mode));
}

TEST_F(MappedTest, ACreateThatTruncatesEndsSetUserIdIfTheGuestAsks) {
  for (const bool asks : {false, true}) {
    const auto made = tree_->create(kUser, kRootNode, "program", O_RDWR, 0755);
    ASSERT_TRUE(made);
    AttributeChange change;
    change.mode = 04755;
    ASSERT_TRUE(tree_->set_attributes(made->entry.node, {}, change));
    const auto again = tree_->create(kUser, kRootNode, "program", O_RDWR | O_TRUNC, 0755, asks);
    ASSERT_TRUE(again);
    const auto mode = tree_->attributes(again->entry.node)->stx_mode;
    EXPECT_EQ((mode & S_ISUID) == 0, asks);
  }
}

TEST_F(MappedTest, AWhiteoutIsOneInListsToo) {
  ASSERT_TRUE(tree_->make_node(kUser, kRootNode, "gone", S_IFCHR, 0));
  const FileId directory = tree_->open(kRootNode, O_RDONLY | O_DIRECTORY).value();
  uint8_t type = DT_UNKNOWN;
  ASSERT_TRUE(tree_->read_directory(directory, 0, [&](const DirectoryEntry& entry) {
    if (entry.name == "gone") type = entry.type;
    return true;
  }));
  EXPECT_EQ(type, DT_CHR);
}

TEST_F(MappedTest, TheGuestDoesNotSeeTheAttribute) {
  const auto file = tree_->create(kUser, kRootNode, "file", O_RDWR, 0600);
  ASSERT_TRUE(file);
  const NodeId node = file->entry.node;
  EXPECT_EQ(*tree_->list_xattrs(node), "");
  EXPECT_EQ(error_of(tree_->get_xattr(node, kMappedAttribute)), EOPNOTSUPP);
  EXPECT_EQ(error_of(tree_->set_xattr(node, kMappedAttribute, {}, 0)), EOPNOTSUPP);
  EXPECT_EQ(error_of(tree_->remove_xattr(node, kMappedAttribute)), EOPNOTSUPP);
  EXPECT_TRUE(tree_->set_xattr(node, "user.other", {}, 0));
}

TEST_F(MappedTest, AnAttributeThatWickDidNotWriteIsIgnored) {
  dir_.write("shared/file", "");
  const std::string path = shared("file");
  for (const std::string text :
       {"", "uid=0", "uid=0 gid=0 mode=0177777 rdev=0:0", "uid=0 gid=0 mode=0040755 rdev=0:0",
        "uid=0 gid=0 mode=0100644 rdev=0:0 ", "uid=-1 gid=0 mode=0100644 rdev=0:0",
        "uid=4294967296 gid=0 mode=0100644 rdev=0:0"}) {
    ASSERT_EQ(::setxattr(path.c_str(), kMappedAttribute.data(), text.data(), text.size(), 0), 0);
    const auto attributes = tree_->attributes(walk("file"));
    ASSERT_TRUE(attributes);
    EXPECT_EQ(attributes->stx_mode, host("file").st_mode) << text;
  }
  const std::string text(1000, 'x');
  ASSERT_EQ(::setxattr(path.c_str(), kMappedAttribute.data(), text.data(), text.size(), 0), 0);
  EXPECT_TRUE(tree_->attributes(walk("file")));
}

TEST_F(MappedTest, AWriteEndsSetUserIdIfTheGuestAsks) {
  const auto file = tree_->create(kUser, kRootNode, "file", O_RDWR, 06755);
  ASSERT_TRUE(file);
  const iovec buffer{const_cast<char*>("y"), 1};
  EXPECT_TRUE(tree_->write(file->file, std::span(&buffer, 1), 0, {.kill_privileges = true}));
  EXPECT_EQ(tree_->attributes(file->file)->stx_mode, S_IFREG | 0755);
}

TEST(MappedStatTest, ItsTextIsReadAgain) {
  const MappedStat stat{
      .uid = UINT32_MAX, .gid = 5, .mode = S_IFCHR | 07777, .rdev_major = 1, .rdev_minor = 255};
  EXPECT_EQ(stat.text(), "uid=4294967295 gid=5 mode=027777 rdev=1:255");
  const auto read = MappedStat::parse(stat.text());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->text(), stat.text());
}

}  // namespace
}  // namespace wick::share

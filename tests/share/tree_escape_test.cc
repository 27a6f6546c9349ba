// A guest tries to leave its share, to stop wick, and to use it up.
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <thread>

#include "tests/share/tree_fixture.h"

namespace wick::share {
namespace {

// Calls `attempt` while the host exchanges two names as fast as it can.
template <typename Attempt>
void while_exchanging(const std::string& a, const std::string& b, int attempts, Attempt attempt) {
  std::atomic<bool> stop = false;
  std::thread host([&] {
    while (!stop) ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
  });
  for (int i = 0; i < attempts; ++i) attempt();
  stop = true;
  host.join();
}

TEST_F(TreeTest, RefusesNamesThatAreNotOneComponent) {
  dir_.write("shared/file", "");
  ASSERT_EQ(::mkdir(shared("dir").c_str(), 0755), 0);
  const NodeId dir = walk("dir");
  const NodeId file = walk("file");
  using namespace std::string_view_literals;
  for (const auto name : {""sv, "/"sv, "/etc"sv, "a/b"sv, "../outside"sv, "a\0b"sv, "dir/"sv,
                          "\0"sv, "dir/../../outside/secret"sv, "./file"sv}) {
    EXPECT_EQ(error_of(tree_->lookup(kRootNode, name)), EINVAL) << name;
    EXPECT_EQ(error_of(tree_->create(kRootUser, kRootNode, name, O_RDWR, 0644)), EINVAL);
    EXPECT_EQ(error_of(tree_->make_directory(kRootUser, kRootNode, name, 0755)), EINVAL);
    EXPECT_EQ(error_of(tree_->make_node(kRootUser, kRootNode, name, S_IFREG, 0)), EINVAL);
    EXPECT_EQ(error_of(tree_->make_symbolic_link(kRootUser, kRootNode, name, "x")), EINVAL);
    EXPECT_EQ(error_of(tree_->link(file, kRootNode, name)), EINVAL);
    EXPECT_EQ(error_of(tree_->unlink(kRootNode, name)), EINVAL);
    EXPECT_EQ(error_of(tree_->remove_directory(kRootNode, name)), EINVAL);
    EXPECT_EQ(error_of(tree_->rename(kRootNode, name, kRootNode, "x", 0)), EINVAL);
    EXPECT_EQ(error_of(tree_->rename(kRootNode, "file", kRootNode, name, 0)), EINVAL);
  }
  for (const auto name : {"."sv, ".."sv}) {
    EXPECT_EQ(error_of(tree_->create(kRootUser, dir, name, O_RDWR, 0644)), EINVAL);
    EXPECT_EQ(error_of(tree_->make_directory(kRootUser, dir, name, 0755)), EINVAL);
    EXPECT_EQ(error_of(tree_->link(file, dir, name)), EINVAL);
    EXPECT_EQ(error_of(tree_->unlink(dir, name)), EINVAL);
    EXPECT_EQ(error_of(tree_->remove_directory(dir, name)), EINVAL);
    EXPECT_EQ(error_of(tree_->rename(dir, name, kRootNode, "x", 0)), EINVAL);
    EXPECT_EQ(error_of(tree_->rename(kRootNode, "file", dir, name, 0)), EINVAL);
  }
  EXPECT_EQ(error_of(tree_->lookup(kRootNode, std::string(256, 'x'))), ENAMETOOLONG);
  EXPECT_EQ(error_of(tree_->lookup(kRootNode, std::string(255, 'x'))), ENOENT);
  EXPECT_EQ(error_of(tree_->lookup(file, "x")), ENOTDIR);
  EXPECT_EQ(error_of(tree_->lookup(file, "..")), ENOTDIR);
}

TEST_F(TreeTest, DotDotEndsAtTheRoot) {
  ASSERT_EQ(::mkdir(shared("a").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(shared("a/b").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(shared("a/b/c").c_str(), 0755), 0);
  const NodeId c = walk("a/b/c");
  EXPECT_EQ(walk("a/b/c/.."), walk("a/b"));
  EXPECT_EQ(walk("a/b/c/../.."), walk("a"));
  EXPECT_EQ(walk("a/b/c/../../.."), kRootNode);
  EXPECT_EQ(walk("../../../.."), kRootNode);
  EXPECT_EQ(walk("a/../.."), kRootNode);
  EXPECT_EQ(walk("a/b/c/."), c);
  EXPECT_EQ(tree_->lookup(kRootNode, "..")->attributes.stx_ino, host(".").st_ino);
}

TEST_F(TreeTest, TheParentOfADirectoryThatTheHostMovedOutIsNotReached) {
  ASSERT_EQ(::mkdir(shared("a").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(shared("a/b").c_str(), 0755), 0);
  const NodeId b = walk("a/b");
  ASSERT_EQ(::rename(shared("a/b").c_str(), outside("b").c_str()), 0);
  EXPECT_EQ(error_of(tree_->parent(b)), ESTALE);
  ASSERT_EQ(::rename(outside("b").c_str(), shared("b").c_str()), 0);
  EXPECT_EQ(tree_->parent(b)->node, kRootNode);
}

TEST_F(TreeTest, DotDotNeverLeadsOutWhileTheHostMovesDirectories) {
  for (const auto& path :
       {shared("a"), shared("a/b"), shared("a/b/c"), outside("b"), outside("b/c")})
    ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
  const NodeId c = walk("a/b/c");
  const ino_t inside_a = host("a").st_ino;
  const ino_t inside_b = host("a/b").st_ino;
  int found = 0;
  while_exchanging(shared("a/b/c"), outside("b/c"), 20'000, [&] {
    const auto up = tree_->parent(c);
    if (!up) return;
    ++found;
    ASSERT_EQ(up->attributes.stx_ino, inside_b);
    const auto further = tree_->parent(up->node);
    if (further) {
      ASSERT_EQ(further->attributes.stx_ino, inside_a);
    }
    tree_->forget(up->node, 1);
  });
  EXPECT_GT(found, 0);
}

TEST_F(TreeTest, NeverFollowsASymbolicLink) {
  for (const auto& [name, target] : {std::pair("up", ".."), {"root", "/"}, {"dir", "../outside"}})
    ASSERT_EQ(::symlink(target, shared(name).c_str()), 0);
  ASSERT_EQ(::symlink(outside("secret").c_str(), shared("file").c_str()), 0);
  for (const char* name : {"up", "root", "dir", "file"}) {
    const NodeId link = walk(name);
    EXPECT_EQ(error_of(tree_->lookup(link, "secret")), ENOTDIR) << name;
    EXPECT_EQ(error_of(tree_->lookup(link, "..")), ENOTDIR) << name;
    EXPECT_EQ(error_of(tree_->open(link, O_RDONLY)), ELOOP) << name;
    EXPECT_EQ(error_of(tree_->create(kRootUser, link, "new", O_RDWR, 0644)), ENOTDIR) << name;
    EXPECT_EQ(error_of(tree_->create(kRootUser, kRootNode, name, O_RDWR | O_TRUNC, 0644)), ELOOP);
    AttributeChange change;
    change.size_bytes = 0;
    EXPECT_EQ(error_of(tree_->set_attributes(link, {}, change)), EINVAL) << name;
    EXPECT_NE(error_of(tree_->set_xattr(link, "user.x", {}, 0)), 0) << name;
    // A hard link of a symbolic link is one too.
    const auto linked = tree_->link(link, kRootNode, std::string(name) + "-2");
    if (linked) {
      EXPECT_EQ(linked->attributes.stx_mode & S_IFMT, S_IFLNK) << name;
    }
  }
  EXPECT_EQ(dir_.read("outside/secret"), "secret");
}

TEST_F(TreeTest, ADirectoryThatBecomesASymbolicLinkNeverLeadsOut) {
  ASSERT_EQ(::mkdir(shared("swap").c_str(), 0755), 0);
  dir_.write("shared/swap/inside", "");
  ASSERT_EQ(::symlink(outside().c_str(), shared("other").c_str()), 0);
  int inside = 0;
  int attempts = 0;
  while_exchanging(shared("swap"), shared("other"), 20'000, [&] {
    const auto node = tree_->lookup(kRootNode, "swap");
    ASSERT_TRUE(node);
    EXPECT_FALSE(tree_->lookup(node->node, "secret"));
    if (tree_->lookup(node->node, "inside")) ++inside;
    if (++attempts % 16 == 0)
      static_cast<void>(tree_->create(kRootUser, node->node, "new", O_RDWR, 0644));
    tree_->forget(node->node, 1);
  });
  EXPECT_GT(inside, 0);
  EXPECT_NE(::access(outside("new").c_str(), F_OK), 0);
}

TEST_F(TreeTest, AFileThatBecomesASymbolicLinkIsNotTruncated) {
  dir_.write("shared/file", "inside");
  ASSERT_EQ(::symlink(outside("secret").c_str(), shared("link").c_str()), 0);
  while_exchanging(shared("file"), shared("link"), 20'000, [&] {
    const auto file = tree_->create(kRootUser, kRootNode, "file", O_RDWR | O_TRUNC, 0644);
    if (!file) return;
    EXPECT_TRUE(write(file->file, "guest"));
    tree_->close(file->file);
    tree_->forget(file->entry.node, 1);
  });
  EXPECT_EQ(dir_.read("outside/secret"), "secret");
}

TEST_F(TreeTest, FileSystemsOfTheKernelAreEmpty) {
  // In a mount namespace of a thread, which ends with it.
  bool mounted = false;
  std::thread([&] {
    if (::unshare(CLONE_FS | CLONE_NEWNS) != 0) return;
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    ASSERT_EQ(::mkdir(shared("proc").c_str(), 0755), 0);
    ASSERT_EQ(::mkdir(shared("bound").c_str(), 0755), 0);
    dir_.write("shared/cmdline", "");
    if (::mount("proc", shared("proc").c_str(), "proc", 0, nullptr) != 0) return;
    mounted = true;
    ASSERT_EQ(::mount("/proc/self", shared("bound").c_str(), nullptr, MS_BIND, nullptr), 0);
    ASSERT_EQ(::mount("/proc/self/cmdline", shared("cmdline").c_str(), nullptr, MS_BIND, nullptr),
              0);
    share({});  // in this namespace
    for (const char* name : {"proc", "bound"}) {
      const NodeId node = walk(name);
      for (const char* entry : {"self", "1", "mem", "root", "cwd", "exe", "fd", "sysrq-trigger"})
        EXPECT_EQ(error_of(tree_->lookup(node, entry)), ENOENT) << name << " " << entry;
      int entries = 0;
      const auto directory = tree_->open(node, O_RDONLY);
      ASSERT_TRUE(directory);
      EXPECT_TRUE(tree_->read_directory(*directory, 0, [&](auto&) { return ++entries, true; }));
      EXPECT_EQ(entries, 2);
      EXPECT_EQ(error_of(tree_->create(kRootUser, node, "new", O_RDWR, 0644)), EACCES);
      EXPECT_EQ(tree_->parent(node)->node, kRootNode);
    }
    EXPECT_EQ(error_of(tree_->lookup(kRootNode, "cmdline")), ENOENT);
    // Another file system below the share is part of it.
    ASSERT_EQ(::mount("none", shared("bound").c_str(), "tmpfs", 0, nullptr), 0);
    create("file", walk("bound"));
    EXPECT_EQ(walk("bound/.."), kRootNode);
    EXPECT_NE(tree_->attributes(walk("bound"))->stx_ino, host("bound").st_ino)
        << "numbers of another device";
  }).join();
  if (!mounted) GTEST_SKIP() << "cannot mount";
}

TEST_F(TreeTest, NeverOpensDevicesFifosOrSockets) {
  ASSERT_EQ(::mkfifo(shared("fifo").c_str(), 0666), 0);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string path = shared("socket");
  if (path.size() < sizeof(address.sun_path)) {
    path.copy(address.sun_path, path.size());
    ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ::close(socket);
  static_cast<void>(::mknod(shared("null").c_str(), S_IFCHR | 0666, 0x103));
  for (const char* name : {"fifo", "socket", "null"}) {
    if (::access(shared(name).c_str(), F_OK) != 0) continue;
    const NodeId node = walk(name);
    for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC})
      EXPECT_EQ(error_of(tree_->open(node, flags)), ENXIO) << name;
    EXPECT_EQ(error_of(tree_->create(kRootUser, kRootNode, name, O_WRONLY, 0644)), ENXIO) << name;
    AttributeChange change;
    change.size_bytes = 0;
    EXPECT_EQ(error_of(tree_->set_attributes(node, {}, change)), EINVAL) << name;
    change = {};
    change.mode = 0600;
    EXPECT_TRUE(tree_->set_attributes(node, {}, change)) << name;
  }
}

TEST_F(TreeTest, BoundsTheNodesThatAGuestKnows) {
  TreeOptions options;
  options.max_nodes = 400;
  share(options);
  for (int i = 0; i < 1000; ++i) dir_.write("shared/" + std::to_string(i), "");
  std::vector<NodeId> known;
  int code = 0;
  for (int i = 0; i < 1000 && code == 0; ++i) {
    const auto entry = tree_->lookup(kRootNode, std::to_string(i));
    code = error_of(entry);
    if (entry) known.push_back(entry->node);
  }
  EXPECT_EQ(code, ENFILE);
  EXPECT_EQ(known.size(), 400u);
  tree_->forget(known.back(), 1);
  EXPECT_TRUE(tree_->lookup(kRootNode, "999"));
}

TEST_F(TreeTest, BoundsTheFilesThatAGuestHasOpen) {
  const FileId file = create("file");
  const NodeId node = walk("file");
  int code = 0;
  size_t opened = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    code = error_of(tree_->open(node, O_RDONLY));
    if (code == 0) ++opened;
  }
  EXPECT_TRUE(code == ENFILE || code == EMFILE) << strerror(code);
  EXPECT_LT(opened, Tree::kMaxOpenFiles);
  tree_->close(file);
  EXPECT_TRUE(tree_->open(node, O_RDONLY));
}

TEST_F(TreeTest, LeavesDescriptorsForLibrariesThatUseSelect) {
  for (int i = 0; i < 3000; ++i) {
    dir_.write("shared/" + std::to_string(i), "");
    if (!tree_->lookup(kRootNode, std::to_string(i))) break;  // a low limit
  }
  const int next = ::open("/dev/null", O_RDONLY);
  EXPECT_LT(next, 1024);
  ::close(next);
}

TEST_F(TreeTest, ForgetsAndClosesOfAnythingAreHarmless) {
  tree_->forget(kRootNode, UINT64_MAX);
  tree_->forget(NodeId{0}, 1);
  tree_->forget(NodeId{UINT64_MAX}, UINT64_MAX);
  tree_->close(FileId{0});
  tree_->close(FileId{UINT64_MAX});
  dir_.write("shared/file", "");
  tree_->forget(walk("file"), UINT64_MAX);
  EXPECT_TRUE(tree_->attributes(kRootNode));
  EXPECT_EQ(tree_->usage().nodes, 1u);
}

}  // namespace
}  // namespace wick::share

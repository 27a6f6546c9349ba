// Nodes whose descriptors are closed, because the guest knows more files than the process may have
// descriptors.
#include <pthread.h>
#include <stdio.h>

#include <filesystem>
#include <functional>
#include <vector>

#include "tests/share/tree_fixture.h"

namespace wick::share {
namespace {

namespace fs = std::filesystem;

class ClosedNodes : public TreeTest {
 protected:
  static constexpr size_t kMaxDescriptors = 64;

  void SetUp() override {
    TreeTest::SetUp();
    TreeOptions options;
    options.max_descriptors = kMaxDescriptors;
    share(options);
    fs::create_directories(shared("many"));
    for (int i = 0; i < 200; ++i) dir_.write("shared/many/" + std::to_string(i), "");
  }
  // Closes all other nodes that may be closed.
  void use_many() {
    const NodeId many = walk("many");
    for (int i = 0; i < 200; ++i) {
      const auto entry = tree_->lookup(many, std::to_string(i));
      ASSERT_TRUE(entry) << i << ": " << strerror(entry.error());
      nodes_.push_back(entry->node);
    }
    EXPECT_LE(tree_->usage().descriptors, kMaxDescriptors);
  }
  std::vector<NodeId> nodes_;
};

TEST_F(ClosedNodes, CanAllBeUsed) {
  use_many();
  for (const NodeId node : nodes_) ASSERT_TRUE(tree_->attributes(node));
  for (const NodeId node : nodes_) {
    const auto file = tree_->open(node, O_RDWR);
    ASSERT_TRUE(file) << strerror(file.error());
    ASSERT_TRUE(write(*file, "x"));
    tree_->close(*file);
  }
  EXPECT_LE(tree_->usage().descriptors, kMaxDescriptors);
  for (const NodeId node : nodes_) tree_->forget(node, 1);
  EXPECT_EQ(tree_->usage().nodes, 2u);
}

TEST_F(ClosedNodes, HaveTheSameIdWhenTheyAreFoundAgain) {
  dir_.write("shared/file", "");
  const NodeId file = walk("file");
  use_many();
  EXPECT_EQ(walk("file"), file);
}

TEST_F(ClosedNodes, AreFoundWhereTheGuestHasMovedThem) {
  fs::create_directories(shared("a/b"));
  dir_.write("shared/a/b/file", "text");
  const NodeId file = walk("a/b/file");
  use_many();
  ASSERT_TRUE(tree_->rename(walk("a"), "b", kRootNode, "c", 0));
  ASSERT_TRUE(tree_->rename(walk("c"), "file", kRootNode, "d", 0));
  nodes_.clear();
  use_many();
  const auto opened = tree_->open(file, O_RDONLY);
  ASSERT_TRUE(opened) << strerror(opened.error());
  EXPECT_EQ(read(*opened), "text");
}

TEST_F(ClosedNodes, AreFoundAfterAnExchange) {
  dir_.write("shared/a", "of a");
  dir_.write("shared/b", "of b");
  const NodeId a = walk("a");
  const NodeId b = walk("b");
  use_many();
  ASSERT_TRUE(tree_->rename(kRootNode, "a", kRootNode, "b", RENAME_EXCHANGE));
  use_many();
  EXPECT_EQ(read(tree_->open(a, O_RDONLY).value()), "of a");
  use_many();
  EXPECT_EQ(read(tree_->open(b, O_RDONLY).value()), "of b");
}

TEST_F(ClosedNodes, BelowAForgottenFolderAreFound) {
  fs::create_directories(shared("a/b"));
  dir_.write("shared/a/b/file", "");
  const NodeId file = walk("a/b/file");
  tree_->forget(walk("a"), 100);
  tree_->forget(walk("a/b"), 100);
  use_many();
  EXPECT_TRUE(tree_->attributes(file));
}

TEST_F(ClosedNodes, CanBeUsedWhenTheGuestHasRemovedThem) {
  dir_.write("shared/file", "text");
  dir_.write("shared/replaced", "old");
  dir_.write("shared/new", "new");
  fs::create_directory(shared("folder"));
  const NodeId file = walk("file");
  const NodeId replaced = walk("replaced");
  const NodeId folder = walk("folder");
  use_many();
  ASSERT_TRUE(tree_->unlink(kRootNode, "file"));
  ASSERT_TRUE(tree_->remove_directory(kRootNode, "folder"));
  ASSERT_TRUE(tree_->rename(kRootNode, "new", kRootNode, "replaced", 0));
  use_many();
  EXPECT_EQ(read(tree_->open(file, O_RDONLY).value()), "text");
  EXPECT_EQ(read(tree_->open(replaced, O_RDONLY).value()), "old");
  EXPECT_TRUE(tree_->attributes(folder));
}

TEST_F(ClosedNodes, OfAFileWithoutANameStayOpen) {
  const auto made = tree_->create_unnamed(kRootUser, kRootNode, O_RDWR, 0600);
  ASSERT_TRUE(made);
  tree_->close(made->file);
  use_many();
  EXPECT_TRUE(tree_->attributes(made->entry.node));
}

TEST_F(ClosedNodes, AreStaleWhenTheHostHasReplacedThem) {
  dir_.write("shared/file", "");
  dir_.write("shared/gone", "");
  const NodeId file = walk("file");
  const NodeId gone = walk("gone");
  use_many();
  dir_.write("shared/other", "");
  fs::rename(shared("other"), shared("file"));
  fs::remove(shared("gone"));
  EXPECT_EQ(error_of(tree_->attributes(file)), ESTALE);
  EXPECT_EQ(error_of(tree_->attributes(gone)), ENOENT);
  EXPECT_NE(walk("file"), file);
}

// An inode number that the host has given to another file is another node.
TEST_F(ClosedNodes, AreNotTakenForAFileThatHasTheirInodeNumber) {
  for (int attempt = 0; attempt < 50; ++attempt) {
    dir_.write("shared/file", "");
    const uint64_t inode = host("file").st_ino;
    const NodeId file = walk("file");
    use_many();
    fs::remove(shared("file"));
    fs::create_directory(shared("file"));
    const bool same = host("file").st_ino == inode;
    EXPECT_NE(walk("file"), file);
    EXPECT_NE(error_of(tree_->attributes(file)), 0);
    fs::remove(shared("file"));
    if (same) return;
  }
}

TEST_F(ClosedNodes, LeadNowhereElseWhenTheHostPutsALinkInTheirWay) {
  fs::create_directories(shared("a/b"));
  dir_.write("shared/a/b/secret", "of the share");
  const NodeId file = walk("a/b/secret");
  use_many();
  fs::rename(shared("a/b"), outside("b"));
  fs::create_directory_symlink(outside("b"), shared("a/b"));
  EXPECT_NE(error_of(tree_->attributes(file)), 0);
}

TEST_F(ClosedNodes, MayLieDeep) {
  NodeId node = kRootNode;
  for (int depth = 0; depth < 60; ++depth) {
    const auto made = tree_->make_directory(kRootUser, node, std::string(200, 'x'), 0700);
    ASSERT_TRUE(made) << strerror(made.error());
    node = made->node;
  }
  use_many();
  EXPECT_TRUE(tree_->attributes(node)) << "its path has 12,000 bytes";
}

// Each place keeps the one above. That of the deepest is given up in a loop, which needs no stack.
TEST_F(ClosedNodes, OfThousandsOfLevelsAreForgottenOnASmallStack) {
  NodeId node = kRootNode;
  std::vector<NodeId> chain;
  for (int depth = 0; depth < 5000; ++depth) {
    const auto made = tree_->make_directory(kRootUser, node, "x", 0700);
    ASSERT_TRUE(made) << strerror(made.error());
    node = made->node;
    chain.push_back(node);
  }
  const std::function<void()> forget = [&] {
    for (const NodeId known : chain) tree_->forget(known, 1);
  };
  pthread_attr_t attributes;
  ASSERT_EQ(::pthread_attr_init(&attributes), 0);
  ASSERT_EQ(::pthread_attr_setstacksize(&attributes, 64 << 10), 0);
  pthread_t thread{};
  const auto run = [](void* function) -> void* {
    (*static_cast<const std::function<void()>*>(function))();
    return nullptr;
  };
  ASSERT_EQ(
      ::pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&forget)), 0);
  ASSERT_EQ(::pthread_join(thread, nullptr), 0);
  ::pthread_attr_destroy(&attributes);
  EXPECT_EQ(tree_->usage().nodes, 1u);
}

}  // namespace
}  // namespace wick::share

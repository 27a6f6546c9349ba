// A share of a folder of the test.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>

#include "share/tree.h"
#include "tests/fakes/temp_dir.h"

namespace wick::share {

class TreeTest : public ::testing::Test {
 protected:
  static constexpr Caller kRootUser{0, 0};
  static constexpr Caller kUser{1234, 2345};

  void SetUp() override {
    ASSERT_EQ(::mkdir(shared().c_str(), 0755), 0);
    ASSERT_EQ(::mkdir(outside().c_str(), 0755), 0);
    dir_.write("outside/secret", "secret");
    share({});
  }

  // The folder of the share, and one that the guest must never reach.
  std::string shared(std::string_view name = {}) const { return dir_ / "shared" + in(name); }
  std::string outside(std::string_view name = {}) const { return dir_ / "outside" + in(name); }

  void share(TreeOptions options) {
    options.path = shared();
    auto tree = Tree::open(options);
    ASSERT_TRUE(tree) << tree.error().message();
    tree_ = *std::move(tree);
  }
  void share(Security security) {
    TreeOptions options;
    options.security = security;
    share(options);
  }

  // Walks from the root. The references stay until the tree is gone.
  NodeId walk(std::string_view path) {
    NodeId node = kRootNode;
    while (!path.empty()) {
      const auto name = path.substr(0, path.find('/'));
      const auto entry = tree_->lookup(node, name);
      EXPECT_TRUE(entry) << path << ": " << strerror(entry.error());
      if (!entry) return {};
      node = entry->node;
      path.remove_prefix(std::min(path.size(), name.size() + 1));
    }
    return node;
  }

  FileId create(std::string_view name, NodeId directory = kRootNode) {
    const auto file = tree_->create(kRootUser, directory, name, O_RDWR | O_EXCL, 0644);
    EXPECT_TRUE(file) << strerror(file.error());
    return file ? file->file : FileId{};
  }
  Outcome<size_t> write(FileId file, std::string_view text, uint64_t offset = 0) {
    const iovec buffer{const_cast<char*>(text.data()), text.size()};
    return tree_->write(file, std::span(&buffer, 1), offset);
  }
  std::string read(FileId file, size_t size = 1 << 16, uint64_t offset = 0) {
    std::string text(size, '\0');
    const iovec buffer{text.data(), text.size()};
    const auto got = tree_->read(file, std::span(&buffer, 1), offset);
    EXPECT_TRUE(got) << strerror(got.error());
    text.resize(got.value_or(0));
    return text;
  }
  struct stat host(std::string_view name) const {
    struct stat status {};
    EXPECT_EQ(::lstat(shared(name).c_str(), &status), 0) << name;
    return status;
  }

  const fakes::TempDir dir_;
  std::unique_ptr<Tree> tree_;

 private:
  static std::string in(std::string_view name) {
    return name.empty() ? "" : "/" + std::string(name);
  }
};

template <typename T>
int error_of(const Outcome<T>& outcome) {
  return outcome ? 0 : outcome.error();
}

}  // namespace wick::share

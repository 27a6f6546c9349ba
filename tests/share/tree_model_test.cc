// Random operations on a share and, by the C library, on a folder beside it. Both must end with the
// same errors and the same files.
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/xattr.h>

#include <filesystem>
#include <map>
#include <random>

#include "base/fd.h"
#include "tests/share/tree_fixture.h"

namespace wick::share {
namespace {

// With the number of descriptors that the share may have.
class TreeModel : public TreeTest, public testing::WithParamInterface<size_t> {
 protected:
  void SetUp() override {
    TreeTest::SetUp();
    ASSERT_EQ(::mkdir(model().c_str(), 0755), 0);
    TreeOptions options;
    options.security = ::geteuid() == 0 ? Security::kPassthrough : Security::kSquash;
    options.max_descriptors = GetParam();
    share(options);
  }

  std::string model(const std::string& path = {}) const {
    return dir_ / "model" + (path.empty() ? "" : "/" + path);
  }
  uint32_t pick(uint32_t below) { return static_cast<uint32_t>(random_()) % below; }

  // A path of at most three names, of few.
  std::string any_path() {
    std::string path(1, static_cast<char>('a' + pick(4)));
    for (uint32_t depth = pick(3); depth > 0; --depth)
      path += std::string("/") + static_cast<char>('a' + pick(4));
    return path;
  }
  static std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

  // The nodes of a path and of its folder, or the error of the walk.
  Outcome<NodeId> find(std::string_view path) {
    NodeId node = kRootNode;
    while (!path.empty()) {
      const auto name = path.substr(0, path.find('/'));
      node = TRY(tree_->lookup(node, name)).node;
      path.remove_prefix(std::min(path.size(), name.size() + 1));
    }
    return node;
  }
  Outcome<NodeId> folder_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    return find(slash == path.npos ? "" : path.substr(0, slash));
  }

  // Calls an operation of the tree with the folder of `path`, and compares its error with that of
  // the C library. A walk fails as a path does, except that it does not follow links.
  template <typename Operation>
  void both(const std::string& what, int host_result, const std::string& path,
            Operation operation) {
    const int host_error = host_result < 0 ? errno : 0;
    const auto folder = folder_of(path);
    const int error = folder ? error_of(operation(*folder, name_of(path))) : folder.error();
    ASSERT_EQ(strerror(error), std::string(strerror(host_error))) << what << " " << path;
  }

  // The C library follows symbolic links on the way; a guest's kernel does that by itself.
  bool crosses_link(const std::string& path) const {
    for (size_t slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1))
      if (std::filesystem::is_symlink(model(path.substr(0, slash)))) return true;
    return false;
  }

  void step() {
    const std::string path = any_path();
    const std::string other = any_path();
    if (crosses_link(path) || crosses_link(other)) return;
    const mode_t mode = 0400 | (pick(512) & 0377);
    switch (pick(14)) {
      case 0:
      case 1:
        return both("mkdir", ::mkdir(model(path).c_str(), mode | 0300), path,
                    [&](NodeId folder, const std::string& name) {
                      return tree_->make_directory(kRootUser, folder, name, mode | 0300);
                    });
      case 2:
      case 3:
      case 4:
        return create(path, mode | 0200);
      case 5:
        return both(
            "unlink", ::unlink(model(path).c_str()), path,
            [&](NodeId folder, const std::string& name) { return tree_->unlink(folder, name); });
      case 6:
        return both("rmdir", ::rmdir(model(path).c_str()), path,
                    [&](NodeId folder, const std::string& name) {
                      return tree_->remove_directory(folder, name);
                    });
      case 7:
      case 8: {
        const unsigned flags = pick(4) == 0 ? RENAME_NOREPLACE : pick(4) == 0 ? RENAME_EXCHANGE : 0;
        const int done =
            ::renameat2(AT_FDCWD, model(path).c_str(), AT_FDCWD, model(other).c_str(), flags);
        return both("rename to " + other, done, path,
                    [&](NodeId folder, const std::string& name) -> Outcome<> {
                      // The C library looks at the first folder before it walks to the second.
                      if (!S_ISDIR(TRY(tree_->attributes(folder)).stx_mode)) return refuse(ENOTDIR);
                      const NodeId to = TRY(folder_of(other));
                      return tree_->rename(folder, name, to, name_of(other), flags);
                    });
      }
      case 9: {
        const int done = ::link(model(path).c_str(), model(other).c_str());
        const int host_error = done < 0 ? errno : 0;
        const auto node = find(path);
        const auto folder = folder_of(other);
        const int error = !node     ? node.error()
                          : !folder ? folder.error()
                                    : error_of(tree_->link(*node, *folder, name_of(other)));
        // The kernel looks at the new name first.
        ASSERT_EQ(error == 0, host_error == 0) << "link " << path << " " << other;
        return;
      }
      case 10:
        return both("symlink", ::symlink(other.c_str(), model(path).c_str()), path,
                    [&](NodeId folder, const std::string& name) {
                      return tree_->make_symbolic_link(kRootUser, folder, name, other);
                    });
      case 11: {
        const auto node = find(path);
        if (!node || S_ISLNK(tree_->attributes(*node)->stx_mode)) return;
        AttributeChange change;
        change.mode = mode | 0300;
        ASSERT_EQ(::chmod(model(path).c_str(), *change.mode), 0);
        ASSERT_TRUE(tree_->set_attributes(*node, {}, change));
        return;
      }
      case 12: {
        const auto node = find(path);
        if (!node || S_ISLNK(tree_->attributes(*node)->stx_mode)) return;
        const std::string value(pick(300), 'v');
        const std::string name = "user." + other.substr(0, 1);
        ASSERT_EQ(::setxattr(model(path).c_str(), name.c_str(), value.data(), value.size(), 0), 0);
        ASSERT_TRUE(tree_->set_xattr(*node, name, std::as_bytes(std::span(value)), 0));
        return;
      }
      default:
        change_content(path);
    }
  }

  void create(const std::string& path, mode_t mode) {
    const int fd = ::open(model(path).c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode);
    both("create", fd, path, [&](NodeId folder, const std::string& name) {
      const auto made = tree_->create(kRootUser, folder, name, O_EXCL | O_RDWR, mode);
      if (made) tree_->close(made->file);
      return made;
    });
    if (fd >= 0) ::close(fd);
  }

  void change_content(const std::string& path) {
    const auto node = find(path);
    if (!node || !S_ISREG(tree_->attributes(*node)->stx_mode)) return;
    const FileId file = tree_->open(*node, O_RDWR).value();
    const Fd fd(::open(model(path).c_str(), O_RDWR | O_CLOEXEC));
    const off_t offset = pick(200'000);
    const off_t length = 1 + pick(20'000);
    const std::string text(static_cast<size_t>(length), static_cast<char>('A' + pick(26)));
    AttributeChange change;
    switch (pick(6)) {
      case 0:
        ASSERT_EQ(::ftruncate(fd.get(), offset), 0);
        change.size_bytes = static_cast<uint64_t>(offset);
        ASSERT_TRUE(tree_->set_attributes(*node, file, change));
        break;
      case 1: {
        const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        ASSERT_EQ(::fallocate(fd.get(), mode, offset, length), 0);
        ASSERT_TRUE(tree_->allocate(file, mode, static_cast<uint64_t>(offset),
                                    static_cast<uint64_t>(length)));
        break;
      }
      case 2: {
        off_t from = offset;
        off_t to = offset + 300'000;
        const ssize_t copied =
            ::copy_file_range(fd.get(), &from, fd.get(), &to, static_cast<size_t>(length), 0);
        const auto result = tree_->copy_range(file, static_cast<uint64_t>(offset), file,
                                              static_cast<uint64_t>(offset) + 300'000,
                                              static_cast<uint64_t>(length));
        ASSERT_EQ(result.value_or(UINT64_MAX), static_cast<uint64_t>(copied));
        break;
      }
      default:
        ASSERT_EQ(::pwrite(fd.get(), text.data(), text.size(), offset), length);
        ASSERT_EQ(write(file, text, static_cast<uint64_t>(offset)).value(), text.size());
    }
    tree_->close(file);
  }

  // All that can be seen of the files below a folder.
  static std::map<std::string, std::string> picture(const std::string& top) {
    std::map<std::string, std::string> seen;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(top)) {
      const std::string path = entry.path();
      struct stat status {};
      ::lstat(path.c_str(), &status);
      std::string& text = seen[path.substr(top.size())];
      text = fmt::format("{:o} links={} uid={}", status.st_mode, status.st_nlink, status.st_uid);
      if (S_ISLNK(status.st_mode)) text += " -> " + std::filesystem::read_symlink(path).string();
      if (S_ISREG(status.st_mode))
        text += fmt::format(" size={} {}", status.st_size,
                            std::hash<std::string>()(fakes::read_file(path)));
      for (const char* name : {"user.a", "user.b", "user.c", "user.d"}) {
        const ssize_t size = ::lgetxattr(path.c_str(), name, nullptr, 0);
        if (size >= 0) text += fmt::format(" {}={}", name, size);
      }
    }
    return seen;
  }

  std::mt19937 random_{20261130};
};

TEST_P(TreeModel, EqualsTheHostsFilesAfterRandomOperations) {
  const mode_t before = ::umask(0);
  for (int i = 0; i < 6000 && !HasFatalFailure(); ++i) {
    step();
    // A guest forgets what it has removed.
    if (i % 4 == 3) tree_->reset();
    if (i % 500 == 499) {
      EXPECT_EQ(picture(shared()), picture(model())) << "after " << i;
    }
  }
  ::umask(before);
}

INSTANTIATE_TEST_SUITE_P(Descriptors, TreeModel, testing::Values(24, 10'000));

}  // namespace
}  // namespace wick::share

#include "cli/location.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "boot/sha256.h"
#include "tests/fakes/http_server.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kFolder = "netboot/debian-installer/amd64/";

std::string sums(const std::string& kernel, const std::string& initrd) {
  return boot::sha256_of(kernel) + "  ./" + kFolder + "linux\n" + boot::sha256_of(initrd) + "  ./" +
         kFolder + "initrd.gz\n";
}

std::string treeinfo(const std::string& kernel, const std::string& initrd) {
  return "[images-x86_64]\nkernel = " + kernel + "\ninitrd = " + initrd +
         "\n[release]\nname = Fedora\nversion = 39\n";
}

class LocationTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ::setenv("no_proxy", "127.0.0.1", 1); }

  Result<LocationFiles> fetch(const std::string& location) {
    return fetch_location(location, cache());
  }
  std::string error_of(const std::string& location) {
    const auto files = fetch(location);
    return files ? "no error" : files.error().message();
  }
  std::string cache() const { return folder_ / "cache"; }
  std::string tree() const { return folder_ / "tree"; }
  void write(const std::string& path, const std::string& content) const {
    fs::create_directories(fs::path(tree() + "/" + path).parent_path());
    fakes::write_file(tree() + "/" + path, content);
  }
  void write_debian() const {
    write(kFolder + "linux", "kernel");
    write(kFolder + "initrd.gz", "initrd");
    write("SHA256SUMS", sums("kernel", "initrd"));
  }
  void serve_debian() {
    server_.put("/images/" + kFolder + "linux", "kernel");
    server_.put("/images/" + kFolder + "initrd.gz", "initrd");
    server_.put("/images/SHA256SUMS", sums("kernel", "initrd"));
  }

  const fakes::TempDir folder_;
  fakes::HttpServer server_;
};

TEST_F(LocationTest, UsesAFoldersFilesInPlace) {
  write_debian();
  const auto files = fetch(tree() + "//");
  ASSERT_TRUE(files) << files.error().message();
  EXPECT_EQ(files->kernel_path, tree() + "/" + kFolder + "linux");
  EXPECT_EQ(files->initrd_path, tree() + "/" + kFolder + "initrd.gz");
  EXPECT_EQ(files->distribution, "Debian");
  EXPECT_TRUE(files->checked);
  EXPECT_EQ(files->append, "");
  EXPECT_FALSE(fs::exists(cache()));
}

TEST_F(LocationTest, ChecksAFoldersFiles) {
  write_debian();
  write(kFolder + "initrd.gz", "initr?");
  EXPECT_THAT(error_of(tree()),
              AllOf(HasSubstr(tree() + "/" + kFolder + "initrd.gz: wrong SHA-256 checksum"),
                    HasSubstr(boot::sha256_of("initrd")), HasSubstr(boot::sha256_of("initr?"))));
}

TEST_F(LocationTest, WithoutChecksumsIsNotChecked) {
  write(kFolder + "linux", "kernel");
  write(kFolder + "initrd.gz", "initrd");
  const auto files = fetch(tree());
  ASSERT_TRUE(files);
  EXPECT_FALSE(files->checked);
}

TEST_F(LocationTest, FollowsLinksInsideOfATreeAlone) {
  write("by-hash/1", "kernel");
  write("images/initrd.img", "initrd");
  fs::create_symlink("../by-hash/1", tree() + "/images/vmlinuz");
  write(".treeinfo", treeinfo("images/vmlinuz", "images/initrd.img"));
  const auto files = fetch(tree());
  ASSERT_TRUE(files) << files.error().message();
  EXPECT_EQ(fakes::read_file(files->kernel_path), "kernel");

  folder_.write("secret", "of the host");
  for (const std::string& to : {std::string("../../secret"), folder_ / "secret",
                                std::string("/proc/self/environ"), std::string("vmlinuz")}) {
    fs::remove(tree() + "/images/vmlinuz");
    fs::create_symlink(to, tree() + "/images/vmlinuz");
    EXPECT_THAT(error_of(tree()), HasSubstr("leads out of the tree")) << to;
  }
  fs::remove(tree() + "/.treeinfo");
  fs::create_symlink(folder_ / "secret", tree() + "/.treeinfo");
  EXPECT_THAT(error_of(tree()), HasSubstr("leads out of the tree"));
}

TEST_F(LocationTest, NeverWaitsForAFifo) {
  fs::create_directories(tree());
  ASSERT_EQ(::mkfifo((tree() + "/.treeinfo").c_str(), 0600), 0);
  EXPECT_THAT(error_of(tree()), HasSubstr("no kernel of an installer"));
}

TEST_F(LocationTest, ThatIsNoTreeSaysWhatToDo) {
  EXPECT_THAT(error_of(folder_ / "missing"), HasSubstr("missing: cannot open: No such file"));
  EXPECT_THAT(error_of(folder_.write("cd.iso", "x")), HasSubstr("mount the image"));
  EXPECT_THAT(error_of("/dev/null"), HasSubstr("not a folder"));
  EXPECT_THAT(error_of("file://" + tree()), HasSubstr("give the path of a folder"));
  fs::create_directories(tree() + "/linux");  // a source tree
  EXPECT_THAT(error_of(tree()), HasSubstr("looked for"));
  write(".treeinfo", treeinfo("vmlinuz", "initrd"));
  EXPECT_THAT(error_of(tree()), HasSubstr("vmlinuz: there is no such file"));
}

TEST_F(LocationTest, DownloadsOnceAndChecks) {
  serve_debian();
  const auto files = fetch(server_.url("/images/"));
  ASSERT_TRUE(files) << files.error().message();
  EXPECT_EQ(fakes::read_file(files->kernel_path), "kernel");
  EXPECT_EQ(fakes::read_file(files->initrd_path), "initrd");
  EXPECT_TRUE(files->checked);
  EXPECT_EQ(files->append, "");
  EXPECT_THAT(server_.take_requests(), Contains("GET /images/" + kFolder + "linux"));
  const auto again = fetch(server_.url("/images/"));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->initrd_path, files->initrd_path);
  EXPECT_THAT(server_.take_requests(), Not(Contains("GET /images/" + kFolder + "linux")));
}

TEST_F(LocationTest, KeepsNothingThatIsWrong) {
  serve_debian();
  const std::string kernel = "/images/" + kFolder + "linux";
  server_.put(kernel, "kerne?");
  EXPECT_THAT(error_of(server_.url("/images")),
              AllOf(HasSubstr(server_.url(kernel) + ": wrong SHA-256 checksum"),
                    HasSubstr("SHA256SUMS has " + boot::sha256_of("kernel")),
                    HasSubstr("the file " + boot::sha256_of("kerne?"))));
  EXPECT_TRUE(fs::is_empty(cache()));
  server_.put_raw(kernel, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n", "kernel");
  EXPECT_THAT(error_of(server_.url("/images")), HasSubstr(server_.url(kernel) + ": "));
  EXPECT_TRUE(fs::is_empty(cache()));
}

TEST_F(LocationTest, TellsTheInstallerTheTreesUrl) {
  server_.put("/os/.treeinfo", treeinfo("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"));
  server_.put("/os/images/pxeboot/vmlinuz", "kernel");
  server_.put("/os/images/pxeboot/initrd.img", "initrd");
  const auto files = fetch(server_.url("/os"));
  ASSERT_TRUE(files) << files.error().message();
  EXPECT_EQ(files->distribution, "Fedora 39");
  EXPECT_EQ(files->append, "inst.repo=" + server_.url("/os"));
  EXPECT_FALSE(files->checked);
  const auto with_password = fetch("http://user:secret@" + server_.host() + "/os");
  ASSERT_TRUE(with_password) << with_password.error().message();
  EXPECT_EQ(with_password->append, "");
}

TEST_F(LocationTest, AsksAServerForNothingOutsideOfTheTree) {
  server_.put("/secret", "x");
  server_.put("/os/.treeinfo", treeinfo("../secret", "initrd"));
  EXPECT_THAT(error_of(server_.url("/os")), HasSubstr("outside of the tree"));
  EXPECT_THAT(server_.take_requests(), ElementsAre("GET /os/.treeinfo"));
}

TEST_F(LocationTest, OfAnEmptyServerSaysWhatWasLookedFor) {
  EXPECT_THAT(error_of("http://user:secret@" + server_.host()),
              AllOf(HasSubstr(server_.url() + ": no kernel of an installer"),
                    HasSubstr("install.amd/vmlinuz"), Not(HasSubstr("secret"))));
}

TEST(LocationCacheFolder, IsTheUsers) {
  EXPECT_EQ(location_cache_folder("/cache", "/home/a"), "/cache/wick/location");
  EXPECT_EQ(location_cache_folder("cache", "/home/a"), "/home/a/.cache/wick/location");
  EXPECT_EQ(location_cache_folder(nullptr, "/home/a"), "/home/a/.cache/wick/location");
  EXPECT_EQ(location_cache_folder(nullptr, nullptr), "");
}

}  // namespace
}  // namespace wick::cli

#include "boot/install_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/fakes/memory_tree.h"

namespace wick::boot {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Files = std::map<std::string, std::string>;

const std::string kA(64, 'a');
const std::string kB(64, 'b');

Result<InstallFiles> find(const Files& files) {
  fakes::MemoryTree tree(files);
  return find_install_files(tree);
}

std::string error_of(const Files& files) {
  const auto found = find(files);
  return found ? "found " + found->kernel.path : found.error().message();
}

const std::string kTreeinfo =
    "# a comment\n[checksums]\nimages/pxeboot/vmlinuz = sha256:" + kA +
    "\nimages/pxeboot/initrd.img = sha256:" + kB +
    "\n\n[header]\ntype = productmd.treeinfo\nversion = 1.2\n"
    "[images-x86_64]\nboot.iso = images/boot.iso\n"
    "kernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n"
    "[release]\nname = Fedora\nshort = Fedora\nversion = 39\n"
    "[tree]\narch = x86_64\n";

std::string treeinfo(const std::string& kernel, const std::string& initrd) {
  return "[images-x86_64]\nkernel = " + kernel + "\ninitrd = " + initrd + "\n";
}

TEST(InstallTree, IsFoundInAllLayoutsOfDistributions) {
  struct Case {
    std::string kernel, initrd, distribution;
  };
  const std::string netboot = "netboot/debian-installer/amd64/";
  for (const auto& [kernel, initrd, distribution] : std::initializer_list<Case>{
           {"dists/stable/main/installer-amd64/current/images/" + netboot + "linux",
            "dists/stable/main/installer-amd64/current/images/" + netboot + "initrd.gz", "Debian"},
           {"main/installer-amd64/current/images/" + netboot + "linux",
            "main/installer-amd64/current/images/" + netboot + "initrd.gz", "Debian"},
           {"current/images/" + netboot + "linux", "current/images/" + netboot + "initrd.gz",
            "Debian"},
           {"daily/" + netboot + "linux", "daily/" + netboot + "initrd.gz", "Debian"},
           {netboot + "linux", netboot + "initrd.gz", "Debian"},
           {"text/debian-installer/amd64/linux", "text/debian-installer/amd64/initrd.gz", "Debian"},
           {"install.amd/vmlinuz", "install.amd/initrd.gz", "Debian"},
           {"main/installer-amd64/current/legacy-images/netboot/ubuntu-installer/amd64/linux",
            "main/installer-amd64/current/legacy-images/netboot/ubuntu-installer/amd64/initrd.gz",
            "Ubuntu"},
           {"main/installer-amd64/current/images/netboot/ubuntu-installer/amd64/linux",
            "main/installer-amd64/current/images/netboot/ubuntu-installer/amd64/initrd.gz",
            "Ubuntu"},
           {"netboot/amd64/linux", "netboot/amd64/initrd", "Ubuntu"},
           {"casper/vmlinuz", "casper/initrd", "Ubuntu"},
           {"casper/vmlinuz", "casper/initrd.lz", "Ubuntu"},
           {"images/pxeboot/vmlinuz", "images/pxeboot/initrd.img", "Fedora or a relative"},
           {"boot/x86_64/loader/linux", "boot/x86_64/loader/initrd", "SUSE"},
           {"arch/boot/x86_64/vmlinuz-linux", "arch/boot/x86_64/initramfs-linux.img", "Arch Linux"},
           {"boot/vmlinuz-lts", "boot/initramfs-lts", "Alpine Linux"},
           {"amd64/linux", "amd64/initrd", "a distribution"},
           {"linux", "initrd.gz", "a distribution"},
           {"vmlinuz", "initrd.img", "a distribution"},
       }) {
    const auto found = find({{kernel, "kernel"}, {initrd, "initrd"}});
    ASSERT_TRUE(found) << kernel << ": " << found.error().message();
    EXPECT_EQ(found->kernel.path, kernel);
    EXPECT_EQ(found->initrd.path, initrd);
    EXPECT_EQ(found->distribution, distribution);
    EXPECT_EQ(found->kernel.sha256, "");
  }
}

TEST(InstallTree, WithoutAnInstallerSaysWhatWasLookedFor) {
  EXPECT_THAT(error_of({{"index.html", ""}}),
              AllOf(HasSubstr("tree: no kernel"), HasSubstr(".treeinfo, treeinfo, "),
                    HasSubstr("install.amd/vmlinuz"), HasSubstr("casper/vmlinuz"),
                    HasSubstr("boot/x86_64/loader/linux"), HasSubstr("dists/SUITE")));
}

TEST(InstallTree, WithAKernelAloneSaysWhatIsMissing) {
  EXPECT_THAT(error_of({{"install.amd/vmlinuz", ""}}),
              HasSubstr("install.amd/vmlinuz has no initrd.gz beside it"));
}

TEST(InstallTree, TakesTheNameOfACdFromItsInfo) {
  const auto found = find({{"install.amd/vmlinuz", ""},
                           {"install.amd/initrd.gz", ""},
                           {".disk/info", "Debian GNU/Linux 12.5.0 \"Bookworm\"\x1b[2J\nmore"}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->distribution, "Debian GNU/Linux 12.5.0 \"Bookworm\"\\x1b[2J");
}

TEST(InstallTree, HasDebiansChecksums) {
  const auto found =
      find({{"current/images/netboot/debian-installer/amd64/linux", ""},
            {"current/images/netboot/debian-installer/amd64/initrd.gz", ""},
            {"current/images/SHA256SUMS",
             std::string(64, 'c') + "  ./netboot/gtk/debian-installer/amd64/linux\n" + kA +
                 "  ./netboot/debian-installer/amd64/linux\nnonsense\n" + kB +
                 " *netboot/debian-installer/amd64/initrd.gz\n"}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kernel.sha256, kA);
  EXPECT_EQ(found->kernel.checksums, "current/images/SHA256SUMS");
  EXPECT_EQ(found->initrd.sha256, kB);
}

TEST(InstallTree, HasChecksumsOfSuse) {
  const Files files = {{"boot/x86_64/loader/linux", ""}, {"boot/x86_64/loader/initrd", ""}};
  for (const auto& [name, text] :
       {std::pair<std::string, std::string>("CHECKSUMS", kA + "  boot/x86_64/loader/linux\n" + kB +
                                                             "  boot/x86_64/loader/initrd\n"),
        std::pair<std::string, std::string>("content", "LABEL openSUSE\nHASH SHA256 " + kA +
                                                           "  boot/x86_64/loader/linux\n"
                                                           "HASH SHA1 " +
                                                           std::string(40, 'c') +
                                                           "  boot/x86_64/loader/initrd\n"
                                                           "HASH SHA256 " +
                                                           kB + "  boot/x86_64/loader/initrd\n")}) {
    Files with = files;
    with[name] = text;
    const auto found = find(with);
    ASSERT_TRUE(found) << name;
    EXPECT_EQ(found->kernel.sha256, kA) << name;
    EXPECT_EQ(found->initrd.sha256, kB) << name;
    EXPECT_EQ(found->initrd.checksums, name);
    EXPECT_EQ(found->repository_argument, "install=");
  }
}

TEST(InstallTree, IgnoresDigestsOfAnotherKind) {
  const auto found =
      find({{"netboot/debian-installer/amd64/linux", ""},
            {"netboot/debian-installer/amd64/initrd.gz", ""},
            {"SHA256SUMS", std::string(32, 'a') + "  ./netboot/debian-installer/amd64/linux\n"}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kernel.sha256, "");
}

TEST(Treeinfo, NamesTheFilesAndTheirChecksums) {
  for (const std::string name : {".treeinfo", "treeinfo"}) {
    const auto found = find({{name, kTreeinfo}});
    ASSERT_TRUE(found);
    EXPECT_EQ(found->distribution, "Fedora 39");
    EXPECT_EQ(found->kernel.path, "images/pxeboot/vmlinuz");
    EXPECT_EQ(found->kernel.sha256, kA);
    EXPECT_EQ(found->kernel.checksums, name);
    EXPECT_EQ(found->initrd.path, "images/pxeboot/initrd.img");
    EXPECT_EQ(found->initrd.sha256, kB);
    EXPECT_EQ(found->repository_argument, "inst.repo=");
  }
}

TEST(Treeinfo, OfOlderReleasesHasItsNamesElsewhere) {
  const auto found = find({{".treeinfo",
                            "[general]\r\nfamily = openSUSE Leap\r\nversion = 15.5\r\n"
                            "[images-x86_64]\r\nkernel = boot/x86_64/loader/linux\r\n"
                            "initrd = boot/x86_64/loader/initrd\r\n"}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->distribution, "openSUSE Leap 15.5");
  EXPECT_EQ(found->kernel.path, "boot/x86_64/loader/linux");
  EXPECT_EQ(found->kernel.sha256, "");
  EXPECT_EQ(found->repository_argument, "install=");
}

TEST(Treeinfo, OfAnotherArchitectureSaysSo) {
  EXPECT_THAT(
      error_of({{".treeinfo", "[tree]\narch = aarch64\n[images-aarch64]\nkernel = a\n"}}),
      HasSubstr("(.treeinfo has no kernel and initrd in [images-x86_64], it is of aarch64)"));
}

TEST(Treeinfo, WithoutImagesLeavesTheLayouts) {
  const auto found = find({{".treeinfo", "[tree]\narch = x86_64\n"},
                           {"images/pxeboot/vmlinuz", ""},
                           {"images/pxeboot/initrd.img", ""}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kernel.path, "images/pxeboot/vmlinuz");
}

TEST(Treeinfo, NamesNoFileOutsideOfTheTree) {
  for (const std::string path :
       {"../vmlinuz", "images/../../vmlinuz", "/etc/shadow", "..", "a/..", "http://other/vmlinuz",
        "a//b", "./a", "a b", "a\\b", "images/\x1b[2J", "images/vmlinuz\x80"}) {
    EXPECT_THAT(error_of({{".treeinfo", treeinfo(path, "initrd")}}),
                HasSubstr(".treeinfo names a file outside of the tree"))
        << path;
    EXPECT_THAT(error_of({{".treeinfo", treeinfo("vmlinuz", path)}}),
                HasSubstr(".treeinfo names a file outside of the tree"))
        << path;
  }
}

TEST(Treeinfo, OfAnySizeIsBounded) {
  const std::string error = error_of({{".treeinfo", treeinfo(std::string(100'000, 'a'), "b")}});
  EXPECT_THAT(error, HasSubstr("outside of the tree"));
  EXPECT_LT(error.size(), 1000u);
  EXPECT_THAT(error_of({{".treeinfo", std::string(2 << 20, '\n')}}), HasSubstr("too large"));
  const auto found =
      find({{".treeinfo",
             treeinfo("a", "b") + "[release]\nname = " + std::string(100'000, 'x') + "\n"}});
  ASSERT_TRUE(found);
  EXPECT_LT(found->distribution.size(), 200u);
}

TEST(Treeinfo, WithADamagedChecksumIsAnError) {
  EXPECT_THAT(error_of({{".treeinfo", treeinfo("a", "b") + "[checksums]\na = sha256:12\n"}}),
              HasSubstr("tree: .treeinfo has a damaged checksum of a"));
}

TEST(Treeinfo, WithOldChecksumsHasNone) {
  const auto found = find(
      {{".treeinfo", treeinfo("a", "b") + "[checksums]\na = md5:" + std::string(32, 'a') + "\n"}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kernel.sha256, "");
}

TEST(Treeinfo, ThatIsDamagedIsNoInstaller) {
  for (const std::string text : {"", "[", "[images-x86_64", "=", "[images-x86_64]\n=\nkernel\n",
                                 "[images-x86_64]\nkernel =\ninitrd = \n"})
    EXPECT_THAT(error_of({{".treeinfo", text}}), HasSubstr("has no kernel and initrd")) << text;
}

TEST(InstallTreePath, StaysInTheTree) {
  EXPECT_TRUE(is_inside_tree("a"));
  EXPECT_TRUE(is_inside_tree("images/pxeboot/..vmlinuz..-1.2+3~4"));
  EXPECT_FALSE(is_inside_tree(""));
  EXPECT_FALSE(is_inside_tree("/"));
  EXPECT_FALSE(is_inside_tree("a/"));
  EXPECT_FALSE(is_inside_tree(std::string_view("a\0b", 3)));
}

TEST(Checksum, ThatIsWrongNamesTheFileAndBoth) {
  const TreeFile file{.path = "linux", .sha256 = kA, .checksums = "SHA256SUMS"};
  EXPECT_TRUE(check_sha256(file, "http://host/linux", kA));
  const auto wrong = check_sha256(file, "http://host/linux", kB);
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message(),
              AllOf(HasSubstr("http://host/linux: wrong SHA-256 checksum"),
                    HasSubstr("SHA256SUMS has " + kA), HasSubstr("the file " + kB)));
  EXPECT_TRUE(check_sha256({.path = "linux", .sha256 = {}, .checksums = {}}, "linux", kB));
}

}  // namespace
}  // namespace wick::boot

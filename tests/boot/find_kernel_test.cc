#include "boot/find_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/boot/kernel_files.h"
#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FindKernel : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_ / name; }
  std::string add(const std::string& name, const std::string& content = "x") const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    return folder_.write(name, content);
  }
  // The newest of kernels with these names; their order does not matter.
  std::string newest(const std::vector<std::string>& names) const {
    for (const std::string& name : names) add(name);
    const auto found = newest_kernel(folder_.path());
    for (const std::string& name : names) std::filesystem::remove(path(name));
    return found ? std::filesystem::path(*found).filename().string() : message(found);
  }

  const fakes::TempDir folder_;
};

TEST_F(FindKernel, VersionsAreComparedPieceByPiece) {
  // Each is newer than all before it.
  const std::vector<std::string> ordered = {
      "vmlinuz",
      "vmlinuz-linux",
      "vmlinuz-linux-lts",
      "vmlinuz-5.10.0-28-amd64",
      "vmlinuz-6.1.0-9-amd64",
      "vmlinuz-6.1.0-18-amd64",
      "vmlinuz-6.1.0-18-cloud-amd64",
      "vmlinuz-6.2.0-rc1",
      "vmlinuz-6.2.0-rc10+",
      "vmlinuz-6.2.0",
      "vmlinuz-6.2.0+",
      "vmlinuz-6.2.0-1-default",
      "vmlinuz-6.2.9-300.fc40.x86_64",
      "vmlinuz-6.10",
      "vmlinuz-6.12.117+deb12-amd64",
      "vmlinuz-10.0",
  };
  for (size_t i = 1; i < ordered.size(); ++i) {
    EXPECT_EQ(newest({ordered[i - 1], ordered[i]}), ordered[i]);
    EXPECT_EQ(newest({ordered.begin(), ordered.begin() + static_cast<ptrdiff_t>(i) + 1}),
              ordered[i]);
  }
}

TEST_F(FindKernel, SparesOthersAndCopies) {
  EXPECT_EQ(newest({"vmlinuz-6.1", "vmlinuz-6.2.old", "vmlinuz-0-rescue-0123456789abcdef",
                    "initrd.img-6.3", "System.map-6.4", ".vmlinuz-6.5.hmac", "vmlinux-6.6"}),
            "vmlinuz-6.1");
}

TEST_F(FindKernel, SaysWhereItLookedInVain) {
  EXPECT_EQ(message(newest_kernel(folder_.path())),
            folder_.path() + ": no kernel (vmlinuz-VERSION) in this folder; give one with -k FILE");
  EXPECT_EQ(message(newest_kernel("/no/boot")),
            "/no/boot: cannot look for a kernel: No such file or directory; give one with -k FILE");
}

TEST_F(FindKernel, KnowsTheNamesThatDistributionsGiveAnInitramfs) {
  const auto beside = [&](const std::string& kernel, const std::string& initrd) {
    add("initrd.img-of-another");
    const std::string expected = add(initrd);
    const auto found = initrd_beside(path(kernel));
    std::filesystem::remove(expected);
    EXPECT_EQ(found ? *found : message(found), expected);
  };
  beside("vmlinuz-6.1.0-18-amd64", "initrd.img-6.1.0-18-amd64");                   // Debian
  beside("vmlinuz-6.8.5-301.fc40.x86_64", "initramfs-6.8.5-301.fc40.x86_64.img");  // Fedora
  beside("vmlinuz-6.4.0-21-default", "initrd-6.4.0-21-default");                   // openSUSE
  beside("vmlinuz-linux", "initramfs-linux.img");                                  // Arch
  beside("vmlinuz-lts", "initramfs-lts");                                          // Alpine
  beside("vmlinuz", "initrd.img");
  beside("bzImage", "initrd");
}

TEST_F(FindKernel, NamesTheInitramfsThatItMisses) {
  add("initrd.img-6.2");
  std::filesystem::create_directory(path("initrd.img-6.1"));
  EXPECT_EQ(message(initrd_beside(path("vmlinuz-6.1"))),
            path("vmlinuz-6.1") +
                ": no initramfs beside it (looked for initrd.img-6.1, initramfs-6.1.img, "
                "initrd-6.1, initramfs-6.1); give one with -i FILE");
}

class KernelConfig : public FindKernel {
 protected:
  std::vector<std::string> missing(const std::string& kernel, bool has_initrd) const {
    constexpr NeededOption kNeeded[] = {{"VIRTIO", "there are disks"}, {"ACPI", "it rules"}};
    return missing_options(path(kernel), has_initrd, kNeeded);
  }
};

TEST_F(KernelConfig, WithAllThatIsNeededIsNothingToTalkAbout) {
  add("config-6.1", "#\nCONFIG_VIRTIO=y\nCONFIG_ACPI=y\n");
  EXPECT_THAT(missing("vmlinuz-6.1", false), IsEmpty());
  EXPECT_THAT(missing("vmlinuz-6.2", false), IsEmpty()) << "none is there";
}

TEST_F(KernelConfig, WithoutADriverIsPointedOut) {
  const std::string config =
      add("config-6.1", "#\nCONFIG_VIRTIO_BLK=y\n# CONFIG_VIRTIO is not set\nCONFIG_ACPI=y");
  EXPECT_THAT(missing("vmlinuz-6.1", true),
              ElementsAre(config + ": CONFIG_VIRTIO is not set, but there are disks; build the "
                                   "kernel with it"));
}

TEST_F(KernelConfig, WithAModuleNeedsAnInitramfs) {
  add("config-6.1", "#\nCONFIG_VIRTIO=m\nCONFIG_ACPI=y\n");
  EXPECT_THAT(missing("vmlinuz-6.1", true), IsEmpty());
  EXPECT_THAT(missing("vmlinuz-6.1", false),
              ElementsAre(HasSubstr("CONFIG_VIRTIO=m cannot be loaded without an initramfs, but "
                                    "there are disks; build it in (=y), or")));
}

TEST_F(KernelConfig, IsAlsoFoundWhereTheKernelWasBuilt) {
  add(".config", "#\nCONFIG_VIRTIO=y\n");
  add("arch/x86/boot/bzImage");
  EXPECT_THAT(missing("vmlinux", true), ElementsAre(HasSubstr("CONFIG_ACPI is not set")));
  EXPECT_THAT(missing("arch/x86/boot/bzImage", true), ElementsAre(HasSubstr("CONFIG_ACPI")));
}

TEST_F(KernelConfig, ThatEndsInTheMiddleOrIsNoneIsTaken) {
  for (const char* const text : {"\nCONFIG_VIRTIO", "\nCONFIG_VIRTIO=", "x"}) {
    add("config-6.1", text);
    EXPECT_EQ(missing("vmlinuz-6.1", true).size(), 2u);
  }
  std::filesystem::resize_file(path("config-6.1"), 1 << 30);
  EXPECT_THAT(missing("vmlinuz-6.1", true), IsEmpty());
}

}  // namespace
}  // namespace wick::boot

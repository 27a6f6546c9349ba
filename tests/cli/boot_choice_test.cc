#include "cli/boot_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/cli/command_line.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

using ::testing::HasSubstr;

class ChooseKernel : public ::testing::Test {
 protected:
  std::string add(const std::string& name) const { return boot_.write(name, "x"); }

  const fakes::TempDir boot_;
  vmm::MachineConfig config_;
};

TEST_F(ChooseKernel, TakesTheNewestWithItsInitramfs) {
  add("vmlinuz-6.1.0-9-amd64"), add("initrd.img-6.1.0-9-amd64");
  const std::string kernel = add("vmlinuz-6.1.0-18-amd64");
  const std::string initrd = add("initrd.img-6.1.0-18-amd64");
  ASSERT_TRUE(choose_kernel(config_, false, boot_.path()));
  EXPECT_EQ(config_.kernel_path, kernel);
  EXPECT_EQ(config_.initrd_path, initrd);
}

TEST_F(ChooseKernel, KeepsTheGivenInitramfs) {
  add("vmlinuz-6.1"), add("initrd.img-6.1");
  config_.initrd_path = "mine";
  ASSERT_TRUE(choose_kernel(config_, false, boot_.path()));
  EXPECT_EQ(config_.initrd_path, "mine");
}

TEST_F(ChooseKernel, DefaultKernelMayHaveNoInitramfsUnlessOneIsAskedFor) {
  const std::string kernel = add("vmlinuz-6.1");
  ASSERT_TRUE(choose_kernel(config_, false, boot_.path()));
  EXPECT_EQ(config_.kernel_path, kernel);
  EXPECT_EQ(config_.initrd_path, "");
  EXPECT_FALSE(choose_kernel(config_, true, boot_.path()));
}

TEST_F(ChooseKernel, LooksNextToTheGivenKernel) {
  add("vmlinuz-6.1");
  config_.kernel_path = add("bzImage");
  ASSERT_TRUE(choose_kernel(config_, false, "/no/boot"));
  EXPECT_EQ(config_.initrd_path, "");
  const std::string initrd = add("initrd.img");
  ASSERT_TRUE(choose_kernel(config_, true, "/no/boot"));
  EXPECT_EQ(config_.initrd_path, initrd);
}

class ChooseBoot : public ::testing::Test {
 protected:
  using Boot = vmm::MachineConfig::Boot;
  using What = BootOptions::What;

  ChooseBoot() { options_.boot.firmware = folder_.write("bios.bin", std::string(64 << 10, 'b')); }

  // A raw disk whose first sector has this code and the signature.
  std::string disk(const std::string& code, bool signature = true) {
    std::string sector = code;
    sector.resize(510);
    sector += signature ? "\x55\xaa" : std::string(2, '\0');
    return folder_.write("disk.raw", sector + std::string(64 << 10, '\0'));
  }
  void add_disk(const std::string& path) { config_.disks.emplace_back().path = path; }
  void add_cdrom(const std::string& path) {
    vmm::DiskConfig& cdrom = config_.disks.emplace_back();
    cdrom.path = path;
    cdrom.device = vmm::DiskConfig::Device::kIde;
    cdrom.media = vmm::DiskConfig::Media::kCdrom;
    cdrom.read_only = true;
  }
  bool by_firmware() {
    folder_.write("vmlinuz-6.1", "x");
    const auto chosen = choose_boot(config_, options_, folder_.path());
    EXPECT_TRUE(chosen) << chosen.error().message();
    return !config_.firmware_path.empty();
  }

  const fakes::TempDir folder_;
  vmm::MachineConfig config_;
  RunOptions options_;
};

TEST_F(ChooseBoot, AKernelThatIsGivenBootsWhateverTheDiskHas) {
  add_disk(disk("\xeb\x63\x90"));
  config_.kernel_path = folder_.write("bzImage", "x");
  options_.boot.firmware.clear();
  EXPECT_FALSE(by_firmware());
  EXPECT_FALSE(config_.reset_on_reboot);
}

TEST_F(ChooseBoot, TheNewestKernelBootsWithADiskWithoutABootSector) {
  options_.boot.firmware.clear();
  add_disk(disk("", true));  // a partition table alone
  EXPECT_FALSE(by_firmware());
  EXPECT_EQ(config_.kernel_path, folder_ / "vmlinuz-6.1");
  disk("code", false);
  EXPECT_FALSE(by_firmware());
}

TEST_F(ChooseBoot, OptionsForAKernelMeanAKernel) {
  options_.boot.firmware.clear();
  add_disk(disk("\xeb\x63\x90"));
  add_cdrom(folder_.write("x.iso", std::string(4096, 'x')));
  options_.machine.append = "root=/dev/vda1";
  EXPECT_FALSE(by_firmware());
  options_.machine.append.clear();
  options_.machine.cmdline = "quiet";
  EXPECT_FALSE(by_firmware());
  options_.machine.cmdline.reset();
  options_.machine.initrd_path = "initrd";
  EXPECT_FALSE(by_firmware());
}

TEST_F(ChooseBoot, AFirstDiskWithABootSectorBootsByFirmware) {
  add_disk(disk("\xeb\x63\x90"));
  EXPECT_TRUE(by_firmware());
  EXPECT_EQ(config_.boot, Boot::kDisk);
  EXPECT_TRUE(config_.reset_on_reboot);
}

TEST_F(ChooseBoot, ACdromBootsByFirmwareAlsoBesideADisk) {
  add_disk(disk(""));
  add_cdrom(folder_.write("x.iso", std::string(4096, 'x')));
  EXPECT_TRUE(by_firmware());
  EXPECT_EQ(config_.boot, Boot::kCdrom);
}

TEST_F(ChooseBoot, TheOptionDecides) {
  add_disk(disk("\xeb\x63\x90"));
  add_cdrom(folder_.write("x.iso", std::string(4096, 'x')));
  options_.boot.what = What::kDisk;
  EXPECT_TRUE(by_firmware());
  EXPECT_EQ(config_.boot, Boot::kDisk);
  config_.firmware_path.clear();
  options_.boot.what = What::kKernel;
  options_.boot.firmware.clear();
  EXPECT_FALSE(by_firmware());
}

TEST_F(ChooseBoot, ARebootEndsTheRunIfTheUserSaysSo) {
  add_disk(disk("\xeb\x63\x90"));
  options_.reset_on_reboot = false;
  EXPECT_TRUE(by_firmware());
  EXPECT_FALSE(config_.reset_on_reboot);
}

TEST(BootOptions, AreReadFromTheCommandLine) {
  EXPECT_EQ(run_options({"run", "-b", "menu"}).boot.what, BootOptions::What::kMenu);
  EXPECT_EQ(run_options({"run", "-k", "latest"}).boot.what, BootOptions::What::kKernel);
  EXPECT_EQ(run_options({"run", "--firmware", "bios"}).boot.firmware, "bios");
  const BootOptions uefi = run_options({"run", "--firmware", "uefi,vars=a,,b"}).boot;
  EXPECT_EQ(uefi.firmware, "uefi");
  EXPECT_EQ(uefi.variables, "a,b");
  const auto files =
      run_options({"run", "--fw-cfg", "opt/a,string=x,,y", "-fw_cfg", "name=opt/b,file=/tmp/b"})
          .machine.fw_cfg;
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].name, "opt/a");
  EXPECT_EQ(files[0].text, "x,y");
  EXPECT_EQ(files[1].name, "opt/b");
  EXPECT_EQ(files[1].path, "/tmp/b");
}

TEST(BootOptions, RefusesWhatExcludesEachOther) {
  EXPECT_THAT(usage_error({"run", "-k", "bzImage", "-b", "disk", "-d", "x"}),
              HasSubstr("--kernel excludes"));
  EXPECT_THAT(usage_error({"run", "-k", "bzImage", "--firmware", "bios"}),
              HasSubstr("--kernel excludes"));
  EXPECT_THAT(usage_error({"run", "--firmware", "bios,vars=x"}), HasSubstr("variables of UEFI"));
  EXPECT_THAT(usage_error({"run", "-b", "cdrom"}), HasSubstr("no CD-ROM"));
  EXPECT_THAT(usage_error({"run", "-b", "disk"}), HasSubstr("no disk"));
  EXPECT_THAT(usage_error({"run", "-b", "floppy"}), HasSubstr("disk, cdrom, kernel or menu"));
  EXPECT_THAT(usage_error({"run", "--fw-cfg", "opt/a"}), HasSubstr("file= and string="));
}

}  // namespace
}  // namespace wick::cli

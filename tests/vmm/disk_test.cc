#include "vmm/disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/bytes.h"
#include "tests/fakes/temp_dir.h"

namespace wick::vmm {
namespace {

using testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

class DiskOfAMachine : public testing::Test {
 protected:
  DiskConfig raw(uint64_t size_bytes = kMiB) const {
    DiskConfig config;
    config.path = folder_.write("disk.raw", "");
    config.format = DiskConfig::Format::kRaw;
    std::filesystem::resize_file(config.path, size_bytes);
    return config;
  }
  static uint64_t capacity_bytes(virtio::VirtioDevice& device) {
    std::array<std::byte, 8> capacity{};
    device.read_config(0, capacity);  // virtio 1.2, 5.2.4: in units of 512 bytes
    return load_le<uint64_t>(capacity) * 512;
  }
  static bool offers(const virtio::VirtioDevice& device, unsigned feature) {
    return (device.features() >> feature & 1) != 0;
  }
  static std::string error_of(const DiskConfig& config) {
    const auto disk = Disk::create(config, "vda");
    return disk ? "none" : disk.error().message();
  }

  const fakes::TempDir folder_;
};

TEST_F(DiskOfAMachine, IsAVirtioBlockDeviceByDefault) {
  DiskConfig config = raw(3 * kMiB);
  config.queues = 4;
  const auto disk = Disk::create(config, "vda").value();
  ASSERT_NE(disk->virtio(), nullptr);
  EXPECT_EQ(disk->drive(), nullptr);
  EXPECT_EQ(disk->virtio()->id(), uint32_t{VIRTIO_ID_BLOCK});
  EXPECT_EQ(disk->virtio()->queue_max_sizes().size(), 4u);
  EXPECT_EQ(capacity_bytes(*disk->virtio()), 3 * kMiB);
  EXPECT_FALSE(offers(*disk->virtio(), VIRTIO_BLK_F_RO));
  EXPECT_TRUE(disk->finish());
}

TEST_F(DiskOfAMachine, ThatIsReadOnlySaysSo) {
  DiskConfig config = raw();
  config.read_only = true;
  const auto disk = Disk::create(config, "vda").value();
  EXPECT_TRUE(offers(*disk->virtio(), VIRTIO_BLK_F_RO));
}

TEST_F(DiskOfAMachine, OnIdeIsADriveOrACdrom) {
  DiskConfig config = raw();
  config.device = DiskConfig::Device::kIde;
  {
    const auto disk = Disk::create(config, "sda").value();
    ASSERT_NE(disk->drive(), nullptr);
    EXPECT_EQ(disk->virtio(), nullptr);
    EXPECT_EQ(disk->drive()->kind(), devices::IdeDrive::Kind::kDisk);
    EXPECT_EQ(disk->drive()->name(), "sda");
    EXPECT_TRUE(disk->update_size());  // IDE has no event for it
    EXPECT_TRUE(disk->finish());
  }
  config.media = DiskConfig::Media::kCdrom;
  config.read_only = true;
  const auto cdrom = Disk::create(config, "sr0").value();
  EXPECT_EQ(cdrom->drive()->kind(), devices::IdeDrive::Kind::kCdrom);
}

TEST_F(DiskOfAMachine, ThatGrowsAnnouncesItsNewSize) {
  const DiskConfig config = raw();
  const auto disk = Disk::create(config, "vda").value();
  std::filesystem::resize_file(config.path, 2 * kMiB);
  EXPECT_EQ(capacity_bytes(*disk->virtio()), kMiB);
  ASSERT_TRUE(disk->update_size());
  EXPECT_EQ(capacity_bytes(*disk->virtio()), 2 * kMiB);
}

TEST_F(DiskOfAMachine, ThatCannotBeOpenedIsAnErrorWithItsPath) {
  DiskConfig config = raw();
  config.cache_bytes = kMiB;
  EXPECT_THAT(error_of(config), HasSubstr("a raw disk has no tables to cache"));
  config = raw();
  config.path = folder_ / "missing";
  EXPECT_THAT(error_of(config), HasSubstr(config.path));
  config.path = folder_.write("not.qcow2", std::string(4096, 'x'));
  config.format = DiskConfig::Format::kQcow2;
  EXPECT_THAT(error_of(config), HasSubstr(config.path));
}

// Two machines that write to one image would destroy it.
TEST_F(DiskOfAMachine, BelongsToOneMachineAtATime) {
  const DiskConfig config = raw();
  auto disk = Disk::create(config, "vda").value();
  EXPECT_THAT(error_of(config), HasSubstr("another program"));
  disk.reset();
  EXPECT_EQ(error_of(config), "none");
}

TEST_F(DiskOfAMachine, OnACdromDriveCanBeTakenOutAndReplaced) {
  DiskConfig config = raw();
  config.device = DiskConfig::Device::kIde;
  config.media = DiskConfig::Media::kCdrom;
  config.read_only = true;
  const auto disk = Disk::create(config, "sr0", {}).value();
  EXPECT_FALSE(disk->open_medium(folder_ / "missing"));
  EXPECT_TRUE(disk->has_medium()) << "what cannot be opened changes nothing";
  EXPECT_EQ(disk->replace_medium(nullptr, ""), 0u);
  EXPECT_FALSE(disk->has_medium());
  EXPECT_EQ(disk->info().size_bytes, 0u);
  const std::string other = folder_.write("other.iso", "");
  std::filesystem::resize_file(other, 2 * kMiB);
  EXPECT_EQ(disk->replace_medium(disk->open_medium(other).value(), other), 2 * kMiB);
  EXPECT_EQ(disk->info().path, other);
  EXPECT_EQ(disk->info().size_bytes, 2 * kMiB);
  EXPECT_TRUE(disk->finish());
}

}  // namespace
}  // namespace wick::vmm

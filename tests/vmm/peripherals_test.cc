#include "vmm/peripherals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/fakes/temp_dir.h"
#include "vmm/layout.h"

namespace wick::vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PeripheralsOfAMachine : public testing::Test {
 protected:
  void add_disk(DiskConfig::Device device, DiskConfig::Media media = DiskConfig::Media::kDisk) {
    DiskConfig disk;
    disk.path = folder_.write("disk" + std::to_string(config_.disks.size()), "");
    std::filesystem::resize_file(disk.path, 1 << 20);
    disk.format = DiskConfig::Format::kRaw;
    disk.device = device;
    disk.media = media;
    disk.read_only = media == DiskConfig::Media::kCdrom;
    config_.disks.push_back(disk);
  }
  void add_card(NetConfig::Device device) {
    NetConfig net;
    net.kind = NetConfig::Kind::kUser;
    net.device = device;
    net.mac = net::MacAddress{0x52, 0x54, 0, 0, 0, static_cast<uint8_t>(config_.nets.size())};
    config_.nets.push_back(net);
  }
  Peripherals create() { return Peripherals::create(config_, *loop_, {}).value(); }

  // "vda in 8" for each virtio device.
  static std::vector<std::string> slots(const Peripherals& peripherals) {
    std::vector<std::string> text;
    for (const auto& slot : peripherals.slots())
      text.push_back(fmt::format("{} in {}", slot.name, slot.pci_slot));
    return text;
  }
  static std::vector<std::string> drives(const Peripherals& peripherals) {
    std::vector<std::string> text;
    for (const auto* drive : peripherals.ide_drives()) text.push_back(drive->name());
    return text;
  }

  const fakes::TempDir folder_;
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  MachineConfig config_;
};

TEST_F(PeripheralsOfAMachine, SharesTakeTheLastSlotsDownwards) {
  config_.rng.reset();
  config_.shares = {{.path = folder_.path(), .tag = "one"}, {.path = folder_.path(), .tag = "two"}};
  add_card(NetConfig::Device::kVirtio);
  Peripherals made = create();
  EXPECT_THAT(slots(made), ElementsAre("net0 in 24", "share-one in 31", "share-two in 30"));
  made.pause();
  made.pause();
  made.resume();
  config_.shares[0].path = "/does/not/exist";
  const auto refused = Peripherals::create(config_, *loop_, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("/does/not/exist: cannot share this folder"));
}

TEST_F(PeripheralsOfAMachine, OfTheDefaultsAreTheEntropyDeviceAlone) {
  const Peripherals made = create();
  EXPECT_THAT(slots(made), ElementsAre("rng in 1"));
  EXPECT_THAT(made.consoles(), testing::IsEmpty());
  config_.rng.reset();
  EXPECT_THAT(slots(create()), testing::IsEmpty());
}

TEST_F(PeripheralsOfAMachine, OfEachKindHaveSlotsOfTheirOwn) {
  config_.consoles = {SerialConfig{}};
  add_disk(DiskConfig::Device::kVirtio);
  add_disk(DiskConfig::Device::kIde);
  add_disk(DiskConfig::Device::kVirtio);
  add_disk(DiskConfig::Device::kIde, DiskConfig::Media::kCdrom);
  add_card(NetConfig::Device::kVirtio);
  add_card(NetConfig::Device::kE1000);
  add_card(NetConfig::Device::kVirtio);
  const Peripherals made = create();
  EXPECT_THAT(slots(made), ElementsAre("vda in 8", "vdb in 9", "net0 in 24", "net2 in 26",
                                       "rng in 1", "hvc0 in 2"));
  EXPECT_THAT(drives(made), ElementsAre("sda", "sr0"));
  ASSERT_EQ(made.emulated_cards().size(), 1u);
  EXPECT_EQ(made.emulated_cards()[0].name, "net1");
  EXPECT_EQ(made.emulated_cards()[0].pci_slot, 25);
}

// A guest's configuration names devices by their slots (enp0s24) and its disks by letters.
TEST_F(PeripheralsOfAMachine, OfOneKindDoNotMoveWhenAnotherKindComes) {
  add_disk(DiskConfig::Device::kVirtio);
  add_card(NetConfig::Device::kVirtio);
  const auto before = slots(create());
  config_.disks.clear();
  add_disk(DiskConfig::Device::kIde);
  add_disk(DiskConfig::Device::kVirtio);
  EXPECT_EQ(slots(create()), before);
}

TEST_F(PeripheralsOfAMachine, CanBeAddedAndRemovedLater) {
  add_disk(DiskConfig::Device::kVirtio);
  add_disk(DiskConfig::Device::kVirtio);
  add_card(NetConfig::Device::kE1000);
  const DiskConfig later = config_.disks.back();
  config_.disks.pop_back();
  const NetConfig card = config_.nets.back();
  config_.nets.clear();
  Peripherals made = create();
  ASSERT_TRUE(made.add_disk(later, "more", 9));
  ASSERT_TRUE(made.add_card(card, "wire", "machine", 24));
  EXPECT_THAT(slots(made), ElementsAre("vda in 8", "rng in 1", "more in 9"));
  EXPECT_EQ(made.slot_of("wire"), 24);
  EXPECT_EQ(made.id_in(9), "more");
  EXPECT_EQ(made.id_in(10), std::nullopt);
  made.remove("vda");
  made.remove("wire");
  EXPECT_THAT(slots(made), ElementsAre("rng in 1", "more in 9"));
  EXPECT_EQ(made.disks().size(), 1u);
  EXPECT_TRUE(made.cards().empty());
  EXPECT_TRUE(made.emulated_cards().empty());
  EXPECT_EQ(made.slot_of("vda"), std::nullopt);
}

TEST_F(PeripheralsOfAMachine, AreAsBeforeIfOneMoreCannotBeOpened) {
  Peripherals made = create();
  DiskConfig missing;
  missing.path = folder_ / "missing";
  EXPECT_FALSE(made.add_disk(missing, "more", 9));
  EXPECT_TRUE(made.disks().empty());
  EXPECT_EQ(made.id_in(9), std::nullopt);
}

TEST_F(PeripheralsOfAMachine, HaveTheSerialPortsFirstAndThenTheConsole) {
  config_.serials = {
      {.kind = SerialConfig::Kind::kFile, .path = folder_ / "serial", .log_path = {}},
      {.kind = SerialConfig::Kind::kNull, .path = {}, .log_path = folder_ / "log"}};
  config_.consoles = {{.kind = SerialConfig::Kind::kFile, .path = folder_ / "hvc", .log_path = {}}};
  Peripherals made = create();
  ASSERT_EQ(made.consoles().size(), 3u);
  EXPECT_EQ(made.serial_count(), 2u);
  const std::string text = "abc";
  for (size_t i = 0; i < 3; ++i)
    made.consoles()[i]->write(std::as_bytes(std::span(text.data() + i, 1)));
  ASSERT_TRUE(made.finish());
  EXPECT_EQ(folder_.read("serial"), "a");
  EXPECT_EQ(folder_.read("log"), "b");
  EXPECT_EQ(folder_.read("hvc"), "c");
}

TEST_F(PeripheralsOfAMachine, FailAsAWholeIfOneCannotBeOpened) {
  add_disk(DiskConfig::Device::kVirtio);
  config_.serials = {
      {.kind = SerialConfig::Kind::kFile, .path = folder_ / "missing/serial", .log_path = {}}};
  const auto made = Peripherals::create(config_, *loop_, {});
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message(), HasSubstr("missing/serial"));
}

}  // namespace
}  // namespace wick::vmm

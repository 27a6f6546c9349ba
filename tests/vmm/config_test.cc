#include "vmm/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/layout.h"

namespace wick::vmm {
namespace {

using testing::HasSubstr;

template <typename Config>
std::string error_of(const Config& config) {
  const auto checked = check(config);
  return checked ? "none" : checked.error().message();
}

DiskConfig disk(DiskConfig::Device device = DiskConfig::Device::kVirtio) {
  DiskConfig disk;
  disk.path = "disk.img";
  disk.device = device;
  return disk;
}

TEST(Config, OfTheDefaultsIsRight) {
  EXPECT_EQ(error_of(DiskConfig{}), "none");
  EXPECT_EQ(error_of(NetConfig{}), "none");
  EXPECT_EQ(error_of(MachineConfig{}), "none");
}

TEST(Config, OfADiskKeepsKeysTogetherThatGoTogether) {
  DiskConfig cdrom = disk();
  cdrom.media = DiskConfig::Media::kCdrom;
  EXPECT_THAT(error_of(cdrom), HasSubstr("only on IDE"));
  cdrom.device = DiskConfig::Device::kIde;
  EXPECT_THAT(error_of(cdrom), HasSubstr("cannot be written"));
  cdrom.read_only = true;
  EXPECT_EQ(error_of(cdrom), "none");

  DiskConfig queues = disk();
  queues.queues = 2;
  EXPECT_EQ(error_of(queues), "none");
  queues.device = DiskConfig::Device::kIde;
  EXPECT_THAT(error_of(queues), HasSubstr("one request at a time"));
  for (const uint16_t count : {uint16_t{0}, uint16_t{DiskConfig::kMaxQueues + 1}}) {
    queues = disk();
    queues.queues = count;
    EXPECT_THAT(error_of(queues), HasSubstr("must be 1 to 16"));
  }

  DiskConfig raw = disk();
  raw.format = DiskConfig::Format::kRaw;
  raw.cache_bytes = 1 << 20;
  EXPECT_THAT(error_of(raw), HasSubstr("no tables"));
  raw.ephemeral = true;
  EXPECT_EQ(error_of(raw), "none");
  raw.any_backing = true;
  EXPECT_THAT(error_of(raw), HasSubstr("neither a data file nor backing files"));

  DiskConfig ephemeral = disk();
  ephemeral.ephemeral = ephemeral.read_only = true;
  EXPECT_THAT(error_of(ephemeral), HasSubstr("read-only"));

  DiskConfig serial = disk();
  serial.serial = std::string(20, 's');
  EXPECT_EQ(error_of(serial), "none");
  serial.serial += 's';
  EXPECT_THAT(error_of(serial), HasSubstr("longer than 20 bytes"));
}

TEST(Config, OfACardKeepsKeysTogetherThatGoTogether) {
  NetConfig e1000;
  e1000.device = NetConfig::Device::kE1000;
  EXPECT_EQ(error_of(e1000), "none");
  e1000.vhost = true;
  EXPECT_THAT(error_of(e1000), HasSubstr("only virtio"));
  e1000.vhost = false;
  e1000.queues = 2;
  EXPECT_THAT(error_of(e1000), HasSubstr("one queue"));

  NetConfig user;
  user.kind = NetConfig::Kind::kUser;
  user.forwards.emplace_back();
  EXPECT_EQ(error_of(user), "none");
  user.vhost = true;
  EXPECT_THAT(error_of(user), HasSubstr("only for a TAP"));
  user.vhost = false;
  user.kind = NetConfig::Kind::kTap;
  EXPECT_THAT(error_of(user), HasSubstr("only for a user network"));

  NetConfig mtu;
  mtu.mtu = 67;
  EXPECT_THAT(error_of(mtu), HasSubstr("must be 68 to 65535"));
}

TEST(Config, HasRoomForSoManyDevices) {
  MachineConfig machine;
  machine.disks.assign(layout::kFirstNetSlot - layout::kFirstDiskSlot, disk());
  machine.nets.resize(32 - layout::kFirstNetSlot);
  machine.serials.resize(4);
  for (int i = 0; i < 4; ++i) machine.disks.push_back(disk(DiskConfig::Device::kIde));
  EXPECT_EQ(error_of(machine), "none");

  MachineConfig more = machine;
  more.disks.push_back(disk());
  EXPECT_THAT(error_of(more), HasSubstr("at most 16 virtio disks"));
  more = machine;
  more.disks.push_back(disk(DiskConfig::Device::kIde));
  EXPECT_THAT(error_of(more), HasSubstr("at most 4 IDE drives"));
  more = machine;
  more.nets.emplace_back();
  EXPECT_THAT(error_of(more), HasSubstr("at most 8 network cards"));
  more = machine;
  more.serials.emplace_back();
  EXPECT_THAT(error_of(more), HasSubstr("a machine has four"));
}

TEST(Config, AVsockTakesTheLastSlotOfTheDisks) {
  MachineConfig machine;
  machine.disks.assign(16, disk());
  EXPECT_EQ(error_of(machine), "none");
  machine.vsock_cid = 3;
  EXPECT_THAT(error_of(machine), HasSubstr("at most 15 virtio disks beside --vsock"));
  machine.disks.pop_back();
  EXPECT_EQ(error_of(machine), "none");
  const uint32_t slot = 1u << layout::kVsockSlot;
  machine.hotplug = MachineConfig::Hotplug::kAll;
  EXPECT_EQ(machine.hotplug_slots() & slot, 0u);
  machine.hotplug = MachineConfig::Hotplug::kSpare;
  EXPECT_EQ(machine.hotplug_slots() & slot, 0u);
  machine.vsock_cid.reset();
  EXPECT_EQ(machine.hotplug_slots() & slot, slot);
}

TEST(Config, AGuestsCidIsNoneOfTheReservedOnes) {
  MachineConfig machine;
  for (const uint32_t reserved : {0u, 1u, 2u, 0xffff'ffffu}) {
    machine.vsock_cid = reserved;
    EXPECT_THAT(error_of(machine), HasSubstr("a guest's CID is 3 to 4294967294")) << reserved;
  }
  for (const uint32_t good : {3u, 0xffff'fffeu}) {
    machine.vsock_cid = good;
    EXPECT_EQ(error_of(machine), "none") << good;
  }
}

TEST(Config, DebugExitHasFourPorts) {
  MachineConfig machine;
  machine.debug_exit_port = 0xfffc;
  EXPECT_EQ(error_of(machine), "none");
  machine.debug_exit_port = 0xfffd;
  EXPECT_THAT(error_of(machine), HasSubstr("the last is 0xfffc"));
}

TEST(Config, OfSharesHasATagEachAndRoomBesideTheCards) {
  MachineConfig machine;
  machine.shares = {{.path = "/a", .tag = "one"}, {.path = "/a", .tag = "two"}};
  machine.nets.resize(6);
  EXPECT_EQ(error_of(machine), "none");
  machine.shares.push_back({.path = "/a", .tag = "three"});
  EXPECT_THAT(error_of(machine), HasSubstr("at most 8 network cards and shares"));
  machine.shares.back().tag = "one";
  EXPECT_THAT(error_of(machine), HasSubstr("two shares with tag=one"));
  machine.shares = {{.path = "/a", .tag = {}}};
  EXPECT_THAT(error_of(machine), HasSubstr("tag=TAG is missing"));
  machine.shares[0].tag = std::string(37, 'x');
  EXPECT_THAT(error_of(machine), HasSubstr("longer than 36 bytes"));
}

// A disk or card that is wrong by itself is so in a machine, too.
TEST(Config, LooksAtEachDeviceOfAMachine) {
  MachineConfig machine;
  machine.disks = {disk()};
  machine.disks[0].queues = 17;
  EXPECT_THAT(error_of(machine), HasSubstr("queues=17"));
  machine.disks.clear();
  machine.nets.emplace_back().mtu = 1;
  EXPECT_THAT(error_of(machine), HasSubstr("mtu=1"));
}

TEST(Config, WithoutPciOrAcpiHasFewerDevices) {
  MachineConfig machine;
  machine.transport = MachineConfig::Transport::kMmio;
  machine.disks = {disk(DiskConfig::Device::kIde)};
  EXPECT_THAT(error_of(machine), HasSubstr("IDE drives need PCI"));
  machine.disks.clear();
  machine.nets.emplace_back().device = NetConfig::Device::kE1000;
  EXPECT_THAT(error_of(machine), HasSubstr("an e1000 needs PCI"));
  machine.nets.clear();
  machine.acpi = false;
  EXPECT_EQ(error_of(machine), "none");
  machine.cpus = 2;
  EXPECT_THAT(error_of(machine), HasSubstr("a kernel finds its CPUs by ACPI"));
  machine.cpus = 1;
  machine.transport = MachineConfig::Transport::kPci;
  EXPECT_THAT(error_of(machine), HasSubstr("ACPI describes the interrupts"));
}

TEST(Config, RefusesWhatExcludesEachOther) {
  MachineConfig machine;
  machine.cmdline.emplace("console=ttyS0");
  machine.append = "quiet";
  EXPECT_THAT(error_of(machine), HasSubstr("--append and --cmdline"));
  machine.append.clear();
  machine.serials.resize(2);
  machine.serials[0].kind = SerialConfig::Kind::kStdio;
  EXPECT_EQ(error_of(machine), "none");
  machine.consoles.emplace_back().kind = SerialConfig::Kind::kStdio;
  EXPECT_THAT(error_of(machine), HasSubstr("only one port"));
  machine.consoles.clear();
  machine.nets.resize(2);
  machine.nets[0].mac = machine.nets[1].mac = net::MacAddress{2, 0, 0, 0, 0, 1};
  EXPECT_THAT(error_of(machine), HasSubstr("two cards with mac=02:00:00:00:00:01"));
}

TEST(HotplugSlots, AreAFewBehindTheDevicesOfTheStart) {
  MachineConfig config;
  EXPECT_EQ(config.hotplug_slots(), 0x0300'0f00u);
  config.disks.resize(14);
  config.disks[0].device = DiskConfig::Device::kIde;
  config.nets.resize(7);
  EXPECT_EQ(config.hotplug_slots(), 0x80e0'0000u) << "no further than the slots go";
  config.disks.resize(17);
  config.nets.resize(8);
  EXPECT_EQ(config.hotplug_slots(), 0u);
}

TEST(HotplugSlots, AreNotThoseOfShares) {
  MachineConfig config;
  config.nets.resize(5);
  config.shares.resize(2);
  EXPECT_EQ(config.hotplug_slots(), 0x2000'0f00u);
  config.hotplug = MachineConfig::Hotplug::kAll;
  EXPECT_EQ(config.hotplug_slots(), 0x3fff'ff00u);
}

TEST(HotplugSlots, AreAllOrNoneIfAskedFor) {
  MachineConfig config;
  config.hotplug = MachineConfig::Hotplug::kAll;
  EXPECT_EQ(config.hotplug_slots(), 0xffff'ff00u);
  config.transport = MachineConfig::Transport::kMmio;
  EXPECT_EQ(config.hotplug_slots(), 0u);
  config = {};
  config.hotplug = MachineConfig::Hotplug::kOff;
  EXPECT_EQ(config.hotplug_slots(), 0u);
}

}  // namespace
}  // namespace wick::vmm

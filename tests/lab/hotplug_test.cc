// Disks and network cards that come and go while a stock kernel runs, and the disc of a CD-ROM
// drive. The machine is driven directly, as control/ drives it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/lab/vm.h"
#include "vmm/machine.h"

namespace wick::lab {
namespace {

using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using vmm::DiskConfig;
using vmm::MachineEvent;
using vmm::NetConfig;

constexpr uint64_t kMiB = 1 << 20;

// A machine of this process: its main loop on a thread, its console at a socket.
class RunningMachine {
 public:
  explicit RunningMachine(vmm::MachineConfig config, const TempDir& dir) {
    config.serials = {
        {.kind = vmm::SerialConfig::Kind::kUnix, .path = dir / "serial", .log_path = {}}};
    config.name = "hotplug";
    auto machine = vmm::Machine::create(config, *loop_);
    if (!machine) give_up(machine.error().message());
    machine_ = *std::move(machine);
    subscription_ = machine_->subscribe([this](const MachineEvent& event) {
      const std::lock_guard lock(mutex_);
      events_.push_back(event);
      changed_.notify_all();
    });
    shell = Dialogue::connect(dir / "serial");
    thread_ = std::thread([this] { report_ = machine_->run(); });
  }
  ~RunningMachine() {
    if (!thread_.joinable()) return;
    if (testing::Test::HasFailure()) fmt::print("{}\n", shell.transcript());
    machine_->end(vmm::Ending::kQuit);
    thread_.join();
  }

  // Calls `function` on the main loop with the machine's Hardware.
  template <typename Function>
  auto with_hardware(Function function) {
    return loop_->call([&] { return function(machine_->hardware()); });
  }
  std::string change(const std::function<Result<void>(vmm::Hardware&)>& function) {
    const auto changed = with_hardware(function);
    return changed ? "" : changed.error().message();
  }
  // Waits until there have been `count` such events of `device`, and returns the last.
  MachineEvent await(MachineEvent::Kind kind, const std::string& device, size_t count = 1) {
    std::unique_lock lock(mutex_);
    MachineEvent last;
    const bool came = changed_.wait_for(lock, kPatience, [&] {
      size_t found = 0;
      for (const MachineEvent& event : events_)
        if (event.kind == kind && event.device == device) {
          last = event;
          ++found;
        }
      return found >= count;
    });
    if (!came) {
      lock.unlock();
      give_up("no event of " + device);
    }
    return last;
  }
  size_t count(MachineEvent::Kind kind) {
    const std::lock_guard lock(mutex_);
    return static_cast<size_t>(std::ranges::count(events_, kind, &MachineEvent::kind));
  }
  vmm::DiskInfo disk(const std::string& id) {
    for (const vmm::DiskInfo& info :
         with_hardware([](vmm::Hardware& hardware) { return hardware.disks(); }))
      if (info.id == id) return info;
    return {};
  }
  vmm::Machine& machine() { return *machine_; }
  EventLoop& loop() { return *loop_; }
  vmm::Ending power_off() {
    shell.send("poweroff\n");
    thread_.join();
    return report_.ending;
  }

  Dialogue shell;

 private:
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<MachineEvent> events_;
  std::unique_ptr<vmm::Machine> machine_;
  vmm::Machine::Subscription subscription_;
  vmm::RunReport report_;
  std::thread thread_;
};

DiskConfig raw_disk(const std::string& path) {
  DiskConfig disk;
  disk.path = path;
  disk.format = DiskConfig::Format::kRaw;
  return disk;
}

DiskConfig cdrom(const std::string& path) {
  DiskConfig disk = raw_disk(path);
  disk.device = DiskConfig::Device::kIde;
  disk.media = DiskConfig::Media::kCdrom;
  disk.read_only = true;
  return disk;
}

NetConfig user_card(NetConfig::Device device, uint8_t number) {
  NetConfig card;
  card.kind = NetConfig::Kind::kUser;
  card.device = device;
  card.mac = net::MacAddress{0x52, 0x54, 0, 0, 0, number};
  return card;
}

vmm::MachineConfig stock_machine(const TempDir& dir, const std::string& flavour) {
  vmm::MachineConfig config;
  config.kernel_path = image(flavour + "/vmlinuz");
  config.initrd_path = image(flavour + "/initrd.img");
  config.append = "root=/dev/vda rw loglevel=4";
  config.disks = {raw_disk(alpine_disk(dir))};
  config.cpus = 2;
  return config;
}

// Waits in the guest until `test` is true.
void await_in_guest(Dialogue& shell, const std::string& test) {
  (void)run_in_guest(shell, "until " + test + "; do sleep 0.1; done");
}

std::string slots_with_devices(Dialogue& shell) {
  return run_in_guest(shell, "ls /sys/bus/pci/devices | cut -d: -f3 | tr '\\n' ' '");
}

std::string head_of(const std::string& path, uint64_t size_bytes) {
  return read_file(path).substr(0, size_bytes);
}

void expect_disk_and_card_come_and_go(uint8_t times) {
  const TempDir dir;
  RunningMachine vm(stock_machine(dir, "debian-generic"), dir);
  Dialogue& shell = vm.shell;
  log_in(shell);
  const std::string before = slots_with_devices(shell);
  const std::string data = blank_disk(dir, "data", 8 * kMiB);
  for (uint8_t round = 1; round <= times; ++round) {
    SCOPED_TRACE(round);
    const auto card =
        user_card(round % 2 == 0 ? NetConfig::Device::kE1000 : NetConfig::Device::kVirtio, round);
    ASSERT_EQ(vm.change([&](auto& hardware) { return hardware.add_disk(raw_disk(data), "more"); }),
              "");
    ASSERT_EQ(vm.change([&](auto& hardware) { return hardware.add_card(card, "wire"); }), "");
    await_in_guest(shell, "[ -b /dev/vdb ]");
    await_in_guest(shell,
                   fmt::format("grep -qi {} /sys/class/net/*/address", net::to_text(*card.mac)));
    (void)run_in_guest(shell,
                       fmt::format("yes round-{} | dd of=/dev/vdb bs=4k count=64 iflag=fullblock "
                                   "conv=fsync 2>/dev/null",
                                   round));
    (void)run_in_guest(shell,
                       "n=$(basename $(dirname $(grep -li 52:54 /sys/class/net/*/address"
                       " | tail -n 1))); ip link set $n up && udhcpc -i $n -n -q");
    ASSERT_EQ(vm.change([](auto& hardware) { return hardware.remove_device("wire"); }), "");
    ASSERT_EQ(vm.change([](auto& hardware) { return hardware.remove_device("more"); }), "");
    (void)vm.await(MachineEvent::Kind::kDeviceDeleted, "more", round);
    (void)vm.await(MachineEvent::Kind::kDeviceDeleted, "wire", round);
    EXPECT_EQ(vm.disk("more").id, "") << "it is gone from the list";
    const std::string line = fmt::format("round-{}\n", round);
    EXPECT_TRUE(head_of(data, 64 * 4096).starts_with(line + line));
    EXPECT_EQ(run_in_guest(shell, "ls /dev/vdb 2>/dev/null || true"), "");
    EXPECT_EQ(slots_with_devices(shell), before);
  }
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  EXPECT_EQ(vm.count(MachineEvent::Kind::kStop), 0u) << "nobody sees the vCPUs stop";
  EXPECT_EQ(vm.power_off(), vmm::Ending::kPoweredOff);
}

TEST(Hotplug, ADiskAndACardComeAndGo) { expect_disk_and_card_come_and_go(2); }
TEST(Hotplug, ADiskAndACardComeAndGoTenTimesLong) { expect_disk_and_card_come_and_go(10); }

TEST(Hotplug, ADeviceOfTheStartCanBeRemovedAndAnotherTakesItsPlace) {
  const TempDir dir;
  auto config = stock_machine(dir, "debian-cloud");
  config.hotplug = vmm::MachineConfig::Hotplug::kAll;
  config.disks.push_back(raw_disk(blank_disk(dir, "second", 4 * kMiB)));
  RunningMachine vm(config, dir);
  Dialogue& shell = vm.shell;
  log_in(shell);
  await_in_guest(shell, "[ -b /dev/vdb ]");
  ASSERT_EQ(vm.change([](auto& hardware) { return hardware.remove_device("vdb"); }), "");
  (void)vm.await(MachineEvent::Kind::kDeviceDeleted, "vdb");
  const std::string data = blank_disk(dir, "third", 6 * kMiB);
  ASSERT_EQ(vm.change([&](auto& hardware) { return hardware.add_disk(raw_disk(data), "vdb"); }),
            "");
  await_in_guest(shell, "[ \"$(cat /sys/block/vdb/size)\" = 12288 ]");
  EXPECT_EQ(vm.power_off(), vmm::Ending::kPoweredOff);
}

// The guest's own way: /sys/bus/pci/slots.
TEST(Hotplug, AGuestMayEjectByItself) {
  const TempDir dir;
  auto config = stock_machine(dir, "debian-cloud");
  config.hotplug = vmm::MachineConfig::Hotplug::kAll;
  config.disks.push_back(raw_disk(blank_disk(dir, "second", 4 * kMiB)));
  RunningMachine vm(config, dir);
  log_in(vm.shell);
  (void)run_in_guest(vm.shell, "echo 0 >/sys/bus/pci/slots/9/power");
  (void)vm.await(MachineEvent::Kind::kDeviceDeleted, "vdb");
  EXPECT_EQ(vm.power_off(), vmm::Ending::kPoweredOff);
}

// A guest without the driver for hot-plug ignores the request; a reset completes it. What was
// added and never taken notice of is there afterwards.
TEST(Hotplug, AGuestThatRefusesKeepsItsDeviceUntilAReset) {
  const TempDir dir;
  auto config = stock_machine(dir, "debian-cloud");
  config.hotplug = vmm::MachineConfig::Hotplug::kAll;
  config.append += " acpiphp.disable=1";
  config.disks.push_back(raw_disk(blank_disk(dir, "second", 4 * kMiB)));
  RunningMachine vm(config, dir);
  Dialogue& shell = vm.shell;
  log_in(shell);
  const std::string data = blank_disk(dir, "third", 6 * kMiB);
  ASSERT_EQ(vm.change([](auto& hardware) { return hardware.remove_device("vdb"); }), "");
  ASSERT_EQ(vm.change([&](auto& hardware) { return hardware.add_disk(raw_disk(data), "more"); }),
            "");
  (void)run_in_guest(shell, "sleep 2; dd if=/dev/vdb of=/dev/null bs=1M");
  EXPECT_EQ(vm.count(MachineEvent::Kind::kDeviceDeleted), 0u);
  EXPECT_EQ(vm.disk("vdb").id, "vdb");
  vm.loop().call([&] { vm.machine().reset(); });
  (void)vm.await(MachineEvent::Kind::kDeviceDeleted, "vdb");
  log_in(shell);
  EXPECT_EQ(run_in_guest(shell, "cat /sys/block/vdb/size"), "12288");
  EXPECT_EQ(vm.power_off(), vmm::Ending::kPoweredOff);
}

TEST(Hotplug, RefusesWhatCannotBe) {
  const TempDir dir;
  auto config = stock_machine(dir, "debian-cloud");
  config.disks.push_back(cdrom(blank_disk(dir, "disc", kMiB)));
  const std::string data = blank_disk(dir, "data", 4 * kMiB);
  {
    RunningMachine vm(config, dir);
    const auto add = [&](const DiskConfig& disk, const std::string& id) {
      return vm.change([&](auto& hardware) { return hardware.add_disk(disk, id); });
    };
    EXPECT_THAT(add(raw_disk(data), "vda"), HasSubstr("already a device"));
    EXPECT_THAT(add(raw_disk(data), "a,b"), HasSubstr("not a valid id"));
    EXPECT_THAT(add(raw_disk(dir / "missing"), "more"), HasSubstr("missing"));
    EXPECT_THAT(add(cdrom(data), "more"), HasSubstr("device=virtio"));
    const auto remove = [&](const std::string& id) {
      return vm.change([&](auto& hardware) { return hardware.remove_device(id); });
    };
    EXPECT_THAT(remove("nobody"), HasSubstr("nobody"));
    EXPECT_THAT(remove("sr0"), HasSubstr("IDE"));
    EXPECT_THAT(remove("rng"), HasSubstr("cannot be removed"));
    EXPECT_THAT(remove("vda"), HasSubstr("--hotplug all"));
    for (int i = 1; i <= 4; ++i)
      EXPECT_EQ(add(raw_disk(blank_disk(dir, fmt::format("d{}", i), kMiB)), fmt::format("d{}", i)),
                "");
    EXPECT_THAT(add(raw_disk(data), "more"), HasSubstr("no free slot"));
  }
  config.disks.pop_back();
  config.transport = vmm::MachineConfig::Transport::kMmio;
  RunningMachine vm(config, dir);
  EXPECT_THAT(vm.change([&](auto& hardware) { return hardware.add_disk(raw_disk(data), "more"); }),
              HasSubstr("no PCI bus"));
}

TEST(Hotplug, TheDiscOfACdromIsChangedWhileTheGuestRuns) {
  const TempDir dir;
  const auto iso = [&](const std::string& name) {
    write_file(dir / name, "content of " + name + "\n");
    const Finished made = finish(
        {"genisoimage", "-quiet", "-r", "-V", name, "-o", dir / (name + ".iso"), dir / name});
    if (made.status != 0) give_up("genisoimage: " + made.err);
    return dir / (name + ".iso");
  };
  auto config = stock_machine(dir, "debian-generic");
  config.disks.push_back(cdrom(iso("first")));
  const std::string second = iso("second");
  RunningMachine vm(config, dir);
  Dialogue& shell = vm.shell;
  log_in(shell);
  const std::string mount = "mkdir -p /tmp/cd; mount -t iso9660 -o ro /dev/sr0 /tmp/cd";
  (void)run_in_guest(shell, mount);
  EXPECT_EQ(run_in_guest(shell, "cat /tmp/cd/first"), "content of first");
  EXPECT_TRUE(vm.disk("sr0").locked);
  const auto change = [&](bool force) {
    return vm.change([&](auto& hardware) { return hardware.change_medium("sr0", second, force); });
  };
  EXPECT_THAT(change(false), HasSubstr("locked"));
  (void)run_in_guest(shell, "umount /tmp/cd");
  EXPECT_EQ(change(false), "");
  (void)run_in_guest(shell, mount);
  EXPECT_EQ(run_in_guest(shell, "cat /tmp/cd/second"), "content of second");
  // Forced, with the disc mounted.
  EXPECT_EQ(vm.change([](auto& hardware) { return hardware.eject("sr0", true); }), "");
  EXPECT_FALSE(vm.disk("sr0").inserted);
  EXPECT_TRUE(vm.disk("sr0").tray_open);
  EXPECT_NE(ask(shell, "dd if=/dev/sr0 of=/dev/null bs=2048 count=1 iflag=direct").status, 0);
  (void)run_in_guest(shell, "umount /tmp/cd; true");
  EXPECT_NE(ask(shell, mount).status, 0) << "there is no disc";
  EXPECT_EQ(change(false), "");
  (void)run_in_guest(shell, mount);
  EXPECT_EQ(run_in_guest(shell, "cat /tmp/cd/second"), "content of second");
  // The guest's own eject.
  const size_t moves = vm.count(MachineEvent::Kind::kTrayMoved);
  (void)run_in_guest(shell, "umount /tmp/cd; eject /dev/sr0");
  EXPECT_EQ(vm.await(MachineEvent::Kind::kTrayMoved, "sr0", moves + 1).value, 1u);
  EXPECT_TRUE(vm.disk("sr0").tray_open);
  EXPECT_EQ(vm.power_off(), vmm::Ending::kPoweredOff);
}

}  // namespace
}  // namespace wick::lab

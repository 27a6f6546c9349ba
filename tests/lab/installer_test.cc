// Debian's installer: from CD with text and with graphics, and from an install tree over the serial
// port, once to the end of an installation. Screens are compared with QEMU's of the same CD.
// memtest86+ is here because it, too, is a CD with a screen of its own.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "tests/lab/screens.h"

namespace wick::lab {
namespace {

using testing::HasSubstr;
using Vmm = ScreenMachine::Vmm;

constexpr Seconds kSlowly{600};

// Waits until `seen` is true of the screen.
template <typename Condition>
Picture await_picture(ScreenMachine& machine, Condition seen, Seconds patience = kSlowly) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    Picture picture = machine.picture();
    if (seen(picture)) return picture;
    if (std::chrono::steady_clock::now() > deadline) {
      if (const char* const out = std::getenv("WICK_LAB_OUT"))
        std::filesystem::copy_file(machine.picture_path(), std::string(out) + "/last.ppm",
                                   std::filesystem::copy_options::overwrite_existing);
      give_up(fmt::format("the screen has {} x {} pixels and not what was expected", picture.width,
                          picture.height));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
}

// The part of the screen that has this color. VGA's text modes have six bits per primary color.
double share_of(const Picture& picture, uint32_t color) {
  constexpr uint32_t kSixBits = 0xfcfcfc;
  if (picture.pixels.empty()) return 0;
  const auto same = [&](uint32_t pixel) { return (pixel & kSixBits) == (color & kSixBits); };
  return static_cast<double>(std::ranges::count_if(picture.pixels, same)) /
         static_cast<double>(picture.pixels.size());
}

void keep(ScreenMachine& machine, const std::string& name) {
  if (const char* const out = std::getenv("WICK_LAB_OUT")) {
    (void)machine.picture("png");
    std::filesystem::copy_file(machine.picture_path("png"), fmt::format("{}/{}.png", out, name),
                               std::filesystem::copy_options::overwrite_existing);
  }
}

// Dialogs of the text installer are grey on blue, as those of all newt programs.
constexpr uint32_t kNewtBlue = 0x0000aa;
constexpr uint32_t kNewtGrey = 0xaaaaaa;
bool shows_a_dialog(const Picture& picture) {
  // The choice of a language leaves little of the background.
  return share_of(picture, kNewtBlue) > 0.05 && share_of(picture, kNewtGrey) > 0.5;
}

bool is_menu(const Picture& picture) {
  return picture.width == 640 && picture.height == 480 && !is_blank(picture);
}

// The menu of the CD and the first question of the installer, of both VMMs.
TEST(Installer, StartsFromCdWithTextLong) {
  const TempDir dir(folder_on_disk());
  // With 512 MiB the first dialog would be a small warning about low memory.
  const ScreenGuest guest{.cdrom = image("installer.iso"), .memory_mib = 1024};
  ScreenMachine wick(Vmm::kWick, dir, guest);
  await_picture(wick, is_menu);
  keep(wick, "installer-menu");
  {
    ScreenMachine qemu(Vmm::kQemu, dir, guest);
    // Once both screens are the same, both menus take keys.
    expect_same_screens(wick, qemu, "installer-menu", 0, kSlowly);
    for (ScreenMachine* const each : {&wick, &qemu}) each->qmp().press({"down"});
    expect_same_screens(wick, qemu, "installer-submenu");
  }
  wick.qmp().press({"up"});
  wick.qmp().press({"ret"});
  await_picture(wick, shows_a_dialog);
  keep(wick, "installer-text");
}

// The graphical installer asks in black on white.
TEST(Installer, StartsFromCdWithGraphicsLong) {
  const TempDir dir(folder_on_disk());
  ScreenMachine wick(Vmm::kWick, dir, {.cdrom = image("installer-gtk.iso"), .memory_mib = 1024});
  await_picture(wick, is_menu);
  wick.qmp().press({"ret"});
  await_picture(
      wick,
      [](const Picture& picture) {
        return picture.width >= 800 && share_of(picture, 0xffffff) > 0.3;
      },
      Seconds(900));
  keep(wick, "installer-graphics");
}

TEST(Installer, StartsByLocationOverTheSerialPortLong) {
  const TempDir dir(folder_on_disk());
  const std::string tree = dir / "tree";
  const Finished extracted = finish({"xorriso", "-osirrox", "on", "-indev", image("installer.iso"),
                                     "-extract", "/debian-installer", tree + "/debian-installer"});
  ASSERT_EQ(extracted.status, 0) << extracted.err;
  const std::string disk = blank_disk(dir, "disk", 1 << 30);
  Process vm(wick_run({"--location", tree, "-m", "1G", "-d", disk + ",format=raw", "-n", "user",
                       "--log-level", "info"}));
  vm.await_error("Debian");
  vm.console().expect("Select a language", kSlowly);
  vm.console().send("\r");
  vm.console().expect("Select your location", kSlowly);
  vm.signal(SIGTERM);
  expect_ending(vm, 143, "wick: ended by signal 15 (SIGTERM)");
}

// A folder on a port of the loopback interface, which guests reach at 10.0.2.2.
class FolderServer {
 public:
  explicit FolderServer(const std::string& folder)
      : server_({"python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder,
                 "0"}) {
    server_.console().expect(" port ");
    port_ = server_.console().expect(" ");
  }

  std::string host_for_guests() const { return "10.0.2.2:" + port_; }
  std::string url() const { return "http://127.0.0.1:" + port_; }

 private:
  Process server_;
  std::string port_;
};

void expect_sound(const std::string& disk) {
  for (const std::vector<std::string>& command :
       {wick({"image", "check", disk}), std::vector<std::string>{"qemu-img", "check", disk}}) {
    const Finished check = finish(command);
    EXPECT_EQ(check.status, 0) << command.front() << ": " << check.out << check.err;
  }
}

// Waits for the last message of guest-images/installer/finish. A question or an error, which
// nobody answers, ends the test at once.
void await_installation(Dialogue& console, Seconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  const auto shows = [&](const char* text) {
    return console.transcript().find(text) != std::string::npos;
  };
  while (!shows("wick-finish: the installation is complete")) {
    for (const char* const question : {"!! ERROR", "Prompt: '?' for help", "to continue]"}) {
      if (shows(question)) give_up("the installer asks something");
    }
    if (std::chrono::steady_clock::now() > deadline) give_up("the installation takes too long");
    if (!console.listen(1000)) give_up("the installer has ended too early");
  }
}

// What a user does who has a mirror, a preseed file and an empty disk.
TEST(Installation, OfAMirrorAsksNothingAndLeavesADiskThatBootsLong) {
  constexpr Seconds kInstallation{8400};
  const TempDir dir(folder_on_disk());
  const FolderServer mirror(image("installer-mirror"));
  const std::string disk = dir / "disk.qcow2";
  ASSERT_EQ(finish(wick({"image", "create", "-f", "qcow2", disk, "2G"})).status, 0);
  const std::string append = fmt::format(
      "console=ttyS0 auto=true priority=critical hostname=installed url=http://{0}/preseed.cfg "
      "mirror/http/hostname={0} mirror/http/directory=/debian DEBIAN_FRONTEND=text TERM=dumb",
      mirror.host_for_guests());
  const char* const out = std::getenv("WICK_LAB_OUT");
  const std::string log = std::string(out ? out : dir.path()) + "/installation.log";
  {
    // The kernel and the initramfs would otherwise be kept in the user's own cache.
    std::vector<std::string> command = {"env", "XDG_CACHE_HOME=" + dir.path()};
    std::ranges::copy(
        wick_run({"--location", mirror.url() + "/debian/dists/bookworm", "-a", append, "-m", "1G",
                  "-n", "user", "-d", disk + ",cache=unsafe", "-s", "stdio,log=" + log}),
        std::back_inserter(command));
    Process installer(command);
    await_installation(installer.console(), kInstallation);
    expect_ending(installer, 0, "wick: the guest powered off");
  }
  expect_sound(disk);

  Process vm(wick_run({"--boot", "disk", "-m", "512M", "-n", "user", "-d", disk}));
  Dialogue& shell = vm.console();
  shell.expect("GNU GRUB");
  // GRUB reads the kernel through the BIOS, which takes minutes on a busy machine.
  shell.expect("Debian GNU/Linux 12", Seconds(1200));
  log_in(shell);
  EXPECT_THAT(run_in_guest(shell, "uname -r"), HasSubstr("cloud-amd64"));
  EXPECT_EQ(run_in_guest(shell, "hostname"), "installed");
  EXPECT_EQ(run_in_guest(shell, "findmnt -no SOURCE,FSTYPE /"), "/dev/vda1 ext4");
  EXPECT_GT(std::stoi(run_in_guest(shell, "dpkg-query -W | wc -l")), 100);
  EXPECT_EQ(run_in_guest(shell, "dpkg --audit"), "");
  EXPECT_EQ(run_in_guest(shell, "systemctl --failed --no-legend"), "");
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  power_off(vm);
  expect_sound(disk);
}

// Its screen has a blue background, and a red or grey title.
TEST(Memtest, ShowsItsScreenLong) {
  const TempDir dir;
  ScreenMachine wick(Vmm::kWick, dir, {.cdrom = image("memtest.iso"), .memory_mib = 64});
  await_picture(wick, [](const Picture& picture) { return share_of(picture, kNewtBlue) > 0.5; });
  std::this_thread::sleep_for(std::chrono::seconds(20));  // its tables have figures then
  EXPECT_GT(share_of(wick.picture(), kNewtBlue), 0.5);
  keep(wick, "memtest");
}

}  // namespace
}  // namespace wick::lab

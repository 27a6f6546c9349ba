// Debian's installer: from CD with text and with graphics, and from an install tree over the serial
// port. Screens are compared with QEMU's of the same CD. memtest86+ is here because it, too, is a
// CD with a screen of its own.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

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

// The screen, the keyboard and the pointer of whole machines: what the screen shows is compared
// with QEMU's of the same guest, and with what VNC clients see.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "tests/display/rfb_client.h"
#include "tests/lab/initramfs.h"
#include "tests/lab/screens.h"

namespace wick::lab {
namespace {

using display::RfbClient;
using testing::HasSubstr;
using Vmm = ScreenMachine::Vmm;

// X11's symbols for the keys without a character.
constexpr uint32_t kReturn = 0xff0d, kShiftLeft = 0xffe1, kDown = 0xff54;

void await_text_menu(ScreenMachine& machine) {
  machine.console().expect("isolinux, text menu");
  machine.console().expect("eport and power off");  // colours stand around the first letter
  machine.console().expect("First");
}

// Waits until the screen has this size and shows something.
Picture await_size(ScreenMachine& machine, uint32_t width, uint32_t height) {
  const auto deadline = std::chrono::steady_clock::now() + Seconds(60);
  for (;;) {
    Picture picture = machine.picture();
    if (picture.width == width && picture.height == height && !is_blank(picture)) return picture;
    if (std::chrono::steady_clock::now() > deadline)
      give_up(fmt::format("the screen has {} x {} pixels", picture.width, picture.height));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

// Waits until the kernel that a CD starts has a terminal on the screen, which keeps what is typed
// before the shell reads it.
void await_screen_shell(ScreenMachine& machine) {
  machine.console().expect("Run /init as init process");
}

// --- compared with QEMU -----------------------------------------------------

class ScreenCompare : public testing::Test {
 protected:
  void start(const ScreenGuest& guest) {
    wick_.emplace(Vmm::kWick, dir_, guest);
    qemu_.emplace(Vmm::kQemu, dir_, guest);
  }
  template <typename Step>
  void in_both(Step step) {
    step(*wick_);
    step(*qemu_);
  }
  void expect_same(const std::string& name) { expect_same_screens(*wick_, *qemu_, name); }

  const TempDir dir_;
  std::optional<ScreenMachine> wick_, qemu_;
};

TEST_F(ScreenCompare, TextMenuAndTextConsoleLong) {
  start({.cdrom = image("isolinux.iso")});
  in_both([](ScreenMachine& machine) {
    await_text_menu(machine);
    machine.qmp().press({"down"});  // ends the count-down
  });
  expect_same("text-menu");
  // Linux's text console, with what was on the screen cleared.
  in_both([](ScreenMachine& machine) { machine.qmp().type("c"); });
  in_both([](ScreenMachine& machine) {
    await_screen_shell(machine);
    machine.qmp().type("echo up-$((1+1)) >/dev/ttyS0\n");
    machine.console().expect("up-2");
    machine.qmp().type("dmesg -n 1; clear; ls /; printf '\\033[1;33;44m%s\\033[m\\n' Colours\n");
  });
  expect_same("text-console");
}

TEST_F(ScreenCompare, GraphicalMenuOfIsolinux) {
  start({.cdrom = image("isolinux-vesa.iso")});
  in_both([](ScreenMachine& machine) { await_size(machine, 640, 480); });
  std::this_thread::sleep_for(std::chrono::seconds(2));
  in_both([](ScreenMachine& machine) { machine.qmp().press({"down"}); });
  expect_same("vesa-menu");
}

TEST_F(ScreenCompare, GraphicalMenuOfGrubLong) {
  start({.cdrom = image("grub.iso")});
  in_both([](ScreenMachine& machine) {
    machine.console().expect("GNU GRUB");
    machine.console().expect("First disk");  // the last entry
    machine.qmp().type("g");
    machine.console().expect("GNU GRUB");
    machine.console().expect("First disk");
    machine.qmp().press({"down"});
  });
  EXPECT_EQ(wick_->picture().width, 800u);
  expect_same("grub-gfxterm");
}

// Linux's console on the driver for the Bochs card, bochs-drm. A kernel that wick starts itself
// has no screen before.
TEST_F(ScreenCompare, LinuxsFrameBufferLong) {
  std::map<std::string, std::string> files;
  std::string load = "for m in";
  for (const Module& module : generic_modules({"bochs"})) {
    files["extra/" + module.name] = module.content;
    load += " " + module.name;
  }
  load += "; do insmod /extra/$m; done 2>/dev/null; ls /dev/fb0";
  write_file(dir_ / "initrd",
             extend_initramfs(read_file(image("debian-generic/initrd.img")), files));
  start({.kernel = image("debian-generic/vmlinuz"),
         .initrd = dir_ / "initrd",
         .append = "quiet wick.sh"});
  in_both([&](ScreenMachine& machine) {
    machine.console().expect("# ");
    EXPECT_EQ(run_in_guest(machine.console(), load), "/dev/fb0");
    (void)run_in_guest(machine.console(),
                       "dmesg -n 1; (clear; ls /; printf '\\033[1;33;44m%s\\033[m\\n' "
                       "Colours) >/dev/tty1");
  });
  expect_same("frame-buffer");
}

// --- clients ----------------------------------------------------------------

class ScreenClient : public testing::Test {
 protected:
  void start(const ScreenGuest& guest, const std::vector<std::string>& options = {}) {
    machine_.emplace(Vmm::kWick, dir_, guest, options);
  }
  RfbClient connect() {
    RfbClient client(machine_->vnc_address());
    EXPECT_TRUE(client.log_in());
    client.set_encodings({0, RfbClient::kDesktopSize});
    client.request(false);
    EXPECT_FALSE(client.read_update().empty());
    return client;
  }
  // Reads updates until `condition` is true.
  template <typename Condition>
  bool follow(RfbClient& client, Condition condition, Seconds patience = kPatience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      client.request(false);
      if (client.read_update().empty()) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return true;
  }
  // Waits until the client sees what `wick screenshot` writes.
  void expect_sees_the_screen(RfbClient& client) {
    size_t difference = 0;
    EXPECT_TRUE(follow(
        client,
        [&] {
          difference = differing(client.picture(), machine_->picture());
          return difference == 0 && !is_blank(client.picture());
        },
        Seconds(30)))
        << difference << " pixels differ";
  }
  static void press(RfbClient& client, uint32_t symbol) {
    client.key(symbol, true);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    client.key(symbol, false);
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
  }
  // As a client does for a user with a US keyboard.
  static void type(RfbClient& client, std::string_view text) {
    static constexpr std::string_view kWithShift = "~!@#$%^&*()_+{}|:\"<>?";
    for (const char character : text) {
      const bool shift = std::isupper(static_cast<unsigned char>(character)) ||
                         kWithShift.find(character) != std::string_view::npos;
      if (shift) client.key(kShiftLeft, true);
      press(client, character == '\n' ? kReturn : static_cast<uint8_t>(character));
      if (shift) client.key(kShiftLeft, false);
    }
  }

  const std::chrono::steady_clock::time_point start_time_ = std::chrono::steady_clock::now();
  const TempDir dir_;
  std::optional<ScreenMachine> machine_;
};

TEST_F(ScreenClient, SeesTheScreenChoosesAnEntryAndUsesAShell) {
  start({.cdrom = image("isolinux.iso")});
  await_text_menu(*machine_);
  RfbClient client = connect();
  press(client, kDown);
  expect_sees_the_screen(client);
  type(client, "c");
  await_screen_shell(*machine_);
  type(client, "echo up-$((1+1)) \"A|b\" >/dev/ttyS0\n");
  machine_->console().expect("up-2 A|b");
  type(client, "dmesg -n 1; clear; ls -l /\n");
  expect_sees_the_screen(client);
  // Both kinds of files have the same picture.
  size_t difference = 1;
  for (int i = 0; i < 20 && difference != 0; ++i)
    difference = differing(machine_->picture("png"), machine_->picture("ppm"));
  EXPECT_EQ(difference, 0u);
  // The monitor has keys, too.
  for (const char* const keys : {"o", "k", "shift-1"})
    EXPECT_EQ(machine_->command({"monitor", std::string("sendkey ") + keys}).status, 0);
  type(client, "\n");
  type(client, "poweroff -f\n");
  expect_ending(machine_->process(), 0, "wick: the guest powered off");
}

// Keys that nobody reads while the kernel starts. Linux takes a controller for none if it has more
// than 16 bytes waiting (drivers/input/serio/i8042.c, i8042_flush()).
TEST_F(ScreenClient, KeysTypedDuringTheBootDoNotHideTheKeyboardLong) {
  start({.cdrom = image("isolinux.iso")});
  await_text_menu(*machine_);
  machine_->console().send("s");
  machine_->console().expect("Linux version");
  for (int i = 0; i < 20; ++i) machine_->qmp().press({"a"});
  machine_->console().expect("# ");
  EXPECT_THAT(run_in_guest(machine_->console(), "cat /proc/bus/input/devices"),
              HasSubstr("AT Translated Set 2 keyboard"));
}

TEST_F(ScreenClient, KeysOfTheMonitorChooseAnEntryLong) {
  start({.cdrom = image("isolinux.iso")});
  await_text_menu(*machine_);
  EXPECT_EQ(machine_->command({"monitor", "sendkey r"}).status, 0);
  machine_->console().expect("wick-initrd: Linux ");
  expect_ending(machine_->process(), 0, "wick: the guest powered off");
}

TEST_F(ScreenClient, SeesTheScreenOfAResetMachineLong) {
  start({.cdrom = image("isolinux-vesa.iso")});
  await_size(*machine_, 640, 480);
  RfbClient client = connect();
  RfbClient hand = connect();  // has nothing left to read: a server that sends takes no keys
  EXPECT_EQ(client.picture().width, 640u);
  press(hand, kDown);
  EXPECT_EQ(machine_->command({"reset"}).status, 0);
  EXPECT_TRUE(follow(client, [&] { return client.picture().width == 720; }));
  EXPECT_TRUE(follow(client, [&] { return client.picture().width == 640; }));
  std::this_thread::sleep_for(std::chrono::seconds(2));
  press(hand, kDown);
  expect_sees_the_screen(client);
  type(hand, "r");
  machine_->console().expect("wick-initrd: Linux ");
  expect_ending(machine_->process(), 0, "wick: the guest powered off");
}

TEST_F(ScreenClient, ThatGarblesDoesNotHoldTheGuestUpLong) {
  start({.cdrom = image("isolinux.iso")});
  await_text_menu(*machine_);
  machine_->console().send("s");
  machine_->console().expect("# ");
  (void)run_in_guest(machine_->console(),
                     "(while :; do echo $((i += 1)) >/count; usleep 50000; done) &");
  std::minstd_rand random(1);
  for (int i = 0; i < 20; ++i) {
    SCOPED_TRACE(fmt::format(
        "client {}, {} s after the start", i,
        std::chrono::duration_cast<Seconds>(std::chrono::steady_clock::now() - start_time_)
            .count()));
    RfbClient client(machine_->vnc_address());
    // Some garble the handshake, the others what follows; some lose interest in an answer.
    if (i % 4 != 0) {
      EXPECT_TRUE(client.log_in());
    }
    if (i % 4 == 2) client.request(false);
    std::string garbage;
    for (int j = 0; j < 50 * i; ++j) garbage += static_cast<char>(random() >> 8);
    (void)client.send(garbage);
    if (i % 4 == 3) {
      const std::string paste("\x06\0\0\0\xff\xff\xff\xff", 8);  // 4 GiB of a clipboard
      (void)client.send(paste);
    }
  }
  const int before = std::stoi(run_in_guest(machine_->console(), "cat /count"));
  RfbClient client = connect();
  expect_sees_the_screen(client);
  EXPECT_GT(std::stoi(run_in_guest(machine_->console(), "cat /count")), before);
  machine_->console().send("poweroff -f\n");
  expect_ending(machine_->process(), 0, "wick: the guest powered off");
}

// A kernel without firmware finds the card, and the keyboards and pointers of both kinds.
TEST_F(ScreenClient, OfAKernelThatIsBootedDirectlyHasAllDevicesLong) {
  std::map<std::string, std::string> files;
  std::string load = "for m in";
  for (const Module& module : generic_modules({"bochs", "psmouse", "evdev", "virtio_input"})) {
    files["extra/" + module.name] = module.content;
    load += " " + module.name;
  }
  load += "; do insmod /extra/$m; done 2>/dev/null";
  write_file(dir_ / "initrd",
             extend_initramfs(read_file(image("debian-generic/initrd.img")), files));
  start({.kernel = image("debian-generic/vmlinuz"),
         .initrd = dir_ / "initrd",
         .append = "quiet wick.sh"});
  Dialogue& shell = machine_->console();
  shell.expect("# ");
  // The PS/2 keyboard, before another one has a driver.
  shell.send("(read line </dev/tty1; echo \"got-$line\" >/dev/ttyS0) &\n");
  (void)run_in_guest(shell, "sleep 1");
  RfbClient client = connect();
  RfbClient hand = connect();
  type(hand, "by PS/2\n");
  shell.expect("got-by PS/2");
  (void)run_in_guest(shell, load);
  const std::string dmesg = run_in_guest(shell, "sleep 2; dmesg");
  EXPECT_THAT(dmesg, HasSubstr("bochs-drm"));
  EXPECT_EQ(complaints(dmesg), "");
  const std::string inputs = run_in_guest(shell, "cat /proc/bus/input/devices");
  EXPECT_THAT(inputs, HasSubstr("AT Translated Set 2 keyboard"));
  EXPECT_THAT(inputs, HasSubstr("Mouse"));  // PS/2
  EXPECT_THAT(inputs, HasSubstr("wick virtio keyboard"));
  EXPECT_THAT(inputs, HasSubstr("wick virtio tablet"));
  EXPECT_TRUE(follow(client, [&] { return client.picture().width >= 640; }));
  expect_sees_the_screen(client);
  // Now the virtio devices.
  shell.send("(read line </dev/tty1; echo \"got-$line\" >/dev/ttyS0) &\n");
  (void)run_in_guest(shell,
                     "for e in /sys/class/input/event*; do "
                     "case $(cat $e/device/name) in *tablet*) t=/dev/input/${e##*/};; esac; done; "
                     "cat $t >/tablet & sleep 1");
  type(hand, "by virtio\n");
  shell.expect("got-by virtio");
  hand.pointer(0, 100, 100);
  hand.pointer(1, 200, 100);
  hand.pointer(0, 200, 100);
  EXPECT_GE(std::stoi(run_in_guest(shell, "sleep 1; wc -c </tablet")), 5 * 24);
  shell.send("poweroff -f\n");
  expect_ending(machine_->process(), 0, "wick: the guest powered off");
}

}  // namespace
}  // namespace wick::lab

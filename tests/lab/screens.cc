#include "tests/lab/screens.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "tests/fakes/png_file.h"

namespace wick::lab {

namespace {

Picture from_rgb(uint32_t width, uint32_t height, const std::string& rgb) {
  Picture picture{width, height, {}};
  const auto byte = [&](size_t at) { return uint32_t{static_cast<uint8_t>(rgb[at])}; };
  for (size_t i = 0; i + 2 < rgb.size(); i += 3)
    picture.pixels.push_back(byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2));
  return picture;
}

void write_ppm(const Picture& picture, const std::string& path) {
  std::string content = fmt::format("P6\n{} {}\n255\n", picture.width, picture.height);
  for (const uint32_t pixel : picture.pixels)
    for (const int shift : {16, 8, 0}) content += static_cast<char>(pixel >> shift);
  write_file(path, content);
}

std::vector<std::string> start_of_wick(const TempDir& dir, const ScreenGuest& guest,
                                       const std::vector<std::string>& options) {
  std::vector<std::string> argv = {"env", "WICK_RUNTIME_DIR=" + dir / "run"};
  std::vector<std::string> run = {"--name",    "screen",
                                  "-m",        std::to_string(guest.memory_mib),
                                  "--display", "vnc=unix:" + dir / "vnc",
                                  "--qmp",     "unix:" + dir / "wick.qmp"};
  if (guest.cdrom.empty())
    run.insert(run.end(), {"-k", guest.kernel, "-i", guest.initrd, "-a", guest.append});
  else
    run.insert(run.end(), {"--boot", "cdrom", "--cdrom", guest.cdrom});
  run.insert(run.end(), options.begin(), options.end());
  const auto words = wick_run(run);
  argv.insert(argv.end(), words.begin(), words.end());
  return argv;
}

std::vector<std::string> start_of_qemu(const TempDir& dir, const ScreenGuest& guest) {
  std::vector<std::string> argv = {"qemu-system-x86_64",
                                   "-accel",
                                   "kvm",
                                   "-M",
                                   "pc",
                                   "-cpu",
                                   "host",
                                   "-m",
                                   std::to_string(guest.memory_mib),
                                   "-nodefaults",
                                   "-display",
                                   "none",
                                   "-vga",
                                   "std",
                                   "-serial",
                                   "stdio",
                                   "-qmp",
                                   "unix:" + dir / "qemu.qmp,server=on,wait=off"};
  if (guest.cdrom.empty())
    argv.insert(argv.end(), {"-kernel", guest.kernel, "-initrd", guest.initrd, "-append",
                             "console=tty0 console=ttyS0 " + guest.append});
  else
    argv.insert(argv.end(), {"-boot", "d", "-cdrom", guest.cdrom});
  return argv;
}

}  // namespace

Picture read_ppm(const std::string& path) {
  const std::string content = read_file(path);
  std::istringstream stream(content);
  std::string magic;
  uint32_t width = 0;
  uint32_t height = 0;
  uint32_t largest = 0;
  stream >> magic >> width >> height >> largest;
  const size_t size = size_t{width} * height * 3;
  if (!stream || magic != "P6" || largest != 255 || size == 0 || content.size() < size)
    give_up(path + " is no PPM file");
  return from_rgb(width, height, content.substr(content.size() - size));
}

Picture read_png(const std::string& path) {
  fakes::PngImage image = fakes::decode_png(read_file(path));
  if (image.pixels.empty())
    give_up(path + " is no sound PNG file, or libpng16-16 is not installed");
  return {image.width, image.height, std::move(image.pixels)};
}

size_t differing(const Picture& a, const Picture& b) {
  if (a.width != b.width || a.height != b.height) return std::max(a.pixels.size(), b.pixels.size());
  size_t count = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) count += a.pixels[i] != b.pixels[i];
  return count;
}

bool is_blank(const Picture& picture) {
  return std::ranges::all_of(picture.pixels,
                             [&](uint32_t pixel) { return pixel == picture.pixels[0]; });
}

ScreenMachine::ScreenMachine(Vmm vmm, const TempDir& dir, const ScreenGuest& guest,
                             const std::vector<std::string>& options)
    : dir_(dir),
      vmm_(vmm),
      process_(vmm == Vmm::kWick ? start_of_wick(dir, guest, options) : start_of_qemu(dir, guest)),
      qmp_(dir / (vmm == Vmm::kWick ? "wick.qmp" : "qemu.qmp")) {}

Picture ScreenMachine::picture(const std::string& ending) {
  if (vmm_ == Vmm::kWick) {
    const std::string path = dir_ / ("wick." + ending);
    const Finished taken = command({"screenshot", path});
    if (taken.status != 0) give_up("wick screenshot: " + taken.err);
    return ending == "png" ? read_png(path) : read_ppm(path);
  }
  (void)qmp_.execute("screendump", {{"filename", dir_ / "qemu.ppm"}});
  return read_ppm(dir_ / "qemu.ppm");
}

Finished ScreenMachine::command(const std::vector<std::string>& arguments) const {
  std::vector<std::string> argv = {"env", "WICK_RUNTIME_DIR=" + dir_ / "run"};
  std::vector<std::string> words = arguments;
  words.insert(words.begin() + 1, "screen");
  words = wick(words);
  argv.insert(argv.end(), words.begin(), words.end());
  return finish(argv);
}

void expect_same_screens(ScreenMachine& wick, ScreenMachine& qemu, const std::string& name,
                         size_t tolerance, Seconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const Picture ours = wick.picture();
    const Picture theirs = qemu.picture();
    const size_t difference = differing(ours, theirs);
    if (difference <= tolerance && !is_blank(ours)) return;
    if (std::chrono::steady_clock::now() > deadline) {
      const char* const out = std::getenv("WICK_LAB_OUT");
      for (const auto& [picture, vmm] : {std::pair(&ours, "wick"), std::pair(&theirs, "qemu")})
        if (out != nullptr) write_ppm(*picture, fmt::format("{}/{}-{}.ppm", out, name, vmm));
      ADD_FAILURE() << fmt::format("{}: {} x {} and {} x {} pixels, {} differ", name, ours.width,
                                   ours.height, theirs.width, theirs.height, difference);
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
}

}  // namespace wick::lab

// Machines of wick and of QEMU with a screen, and what their screens show.
//
// Thread rule: one thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "display/picture.h"
#include "tests/lab/qmp.h"
#include "tests/lab/vm.h"

namespace wick::lab {

using display::Picture;

// The pixels of a file. The test ends if it is none.
Picture read_ppm(const std::string& path);
Picture read_png(const std::string& path);

// The number of pixels that differ; all of them if the sizes differ.
size_t differing(const Picture& a, const Picture& b);
// True if all pixels have the same color.
bool is_blank(const Picture& picture);

// What a machine boots: a CD by its firmware, or a kernel.
struct ScreenGuest {
  std::string cdrom = {};
  std::string kernel = {}, initrd = {}, append = {};
  unsigned memory_mib = 256;
};

class ScreenMachine {
 public:
  enum class Vmm { kWick, kQemu };
  // Its files lie in `dir`. `options` are for wick.
  ScreenMachine(Vmm vmm, const TempDir& dir, const ScreenGuest& guest,
                const std::vector<std::string>& options = {});

  Process& process() { return process_; }
  Dialogue& console() { return process_.console(); }  // ttyS0
  Qmp& qmp() { return qmp_; }
  // What the screen shows: by `wick screenshot` to a file of the type `ending`, or by QEMU's
  // screendump.
  Picture picture(const std::string& ending = "ppm");
  // The file of the last picture().
  std::string picture_path(const std::string& ending = "ppm") const {
    return dir_ / ((vmm_ == Vmm::kWick ? "wick." : "qemu.") + ending);
  }
  // A command of wick's for this machine: arguments[0], the machine's name, then the rest.
  Finished command(const std::vector<std::string>& arguments) const;
  std::string vnc_address() const { return "unix:" + dir_ / "vnc"; }

 private:
  const TempDir& dir_;
  const Vmm vmm_;
  Process process_;
  Qmp qmp_;
};

// Waits until the two screens differ in at most `tolerance` pixels, and are not blank: cursors
// blink, and one machine may be later than the other. If they do not, the test fails, and the
// pictures are in $WICK_LAB_OUT as NAME-wick.ppm and NAME-qemu.ppm.
void expect_same_screens(ScreenMachine& wick, ScreenMachine& qemu, const std::string& name,
                         size_t tolerance = 0, Seconds patience = Seconds(60));

}  // namespace wick::lab

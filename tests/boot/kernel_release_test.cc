// Which release of Linux a kernel's file is.
#include "boot/kernel_release.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

// A bzImage as far as its release: the setup header points behind the boot sector.
std::string bzimage(char setup_sects) {
  std::string image(1024, '\0');
  image[0x1f1] = setup_sects;
  image.replace(0x202, 4, "HdrS");
  image.replace(0x20e, 2, std::string("\x10\x00", 2));
  image.replace(0x210, 14, "6.1.0-test (x)");
  return image;
}

class KernelRelease : public testing::Test {
 protected:
  Result<std::string> release_of(const std::string& image) const {
    return kernel_release(dir_.write("kernel", image));
  }
  const fakes::TempDir dir_;
};

TEST_F(KernelRelease, OfABzImageIsTheFirstWordOfItsVersion) {
  for (const char setup_sects : {'\0', '\1', '\36'})
    EXPECT_EQ(release_of(bzimage(setup_sects)).value_or("none"), "6.1.0-test") << int{setup_sects};
}

TEST_F(KernelRelease, OfAnotherFileIsThatOfItsBanner) {
  EXPECT_EQ(release_of("xx Linux version %s Linux version 6.6.1 (me)").value_or("none"), "6.6.1");
}

TEST_F(KernelRelease, OfAFileCutShortAnywhereIsNone) {
  const std::string image = bzimage(4);
  for (size_t size = 0; size <= 0x210; ++size) EXPECT_FALSE(release_of(image.substr(0, size)));
}

}  // namespace
}  // namespace wick::boot

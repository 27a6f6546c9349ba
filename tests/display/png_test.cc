// Files of a screen, read back by libpng.
#include "display/png.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>

#include "tests/fakes/png_file.h"
#include "tests/fakes/temp_dir.h"

namespace wick::display {
namespace {

using fakes::TempDir;
using testing::HasSubstr;

Picture gradient(uint32_t width, uint32_t height) {
  Picture picture{width, height, {}};
  for (uint32_t y = 0; y < height; ++y) {
    // The highest byte is no color.
    for (uint32_t x = 0; x < width; ++x)
      picture.pixels.push_back(0xff000000 | (x & 0xff) << 16 | (y & 0xff) << 8 | ((x + y) & 0xff));
  }
  return picture;
}

TEST(Png, HasEveryPixel) {
  const TempDir folder;
  for (const auto& [width, height] :
       {std::pair(1u, 1u), std::pair(3u, 2u), std::pair(320u, 200u)}) {
    Picture picture = gradient(width, height);
    ASSERT_TRUE(write_png(picture, folder / "screen.png"));
    const fakes::PngImage read = fakes::decode_png(folder.read("screen.png"));
    EXPECT_EQ(read.format, uint32_t{PNG_FORMAT_RGB});
    EXPECT_EQ(read.width, width);
    EXPECT_EQ(read.height, height);
    for (uint32_t& pixel : picture.pixels) pixel &= 0xffffff;
    EXPECT_TRUE(read.pixels == picture.pixels);
  }
}

TEST(Png, TheLargestScreenFits) {
  const auto file = encode_png(gradient(Picture::kMaxWidth, Picture::kMaxHeight));
  ASSERT_TRUE(file);
  EXPECT_GT(file->size(), 1000u);
}

TEST(Ppm, HasAHeaderAndBytes) {
  const TempDir folder;
  ASSERT_TRUE(write_ppm(gradient(2, 1), folder / "screen.ppm"));
  EXPECT_EQ(folder.read("screen.ppm"), std::string("P6\n2 1\n255\n\0\0\0\x01\0\x01", 17));
}

TEST(Png, AScreenThatIsOffIsAnError) {
  for (const Picture& picture : {Picture{}, Picture{2, 2, {0, 0, 0}}}) {
    const auto file = encode_png(picture);
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().message(), "the screen is off, so there is no picture");
    EXPECT_FALSE(encode_ppm(picture));
  }
}

TEST(Png, AFileIsItsOwnersAlone) {
  const TempDir folder;
  ASSERT_TRUE(write_png(gradient(2, 2), folder / "screen.png"));
  struct stat status {};
  ASSERT_EQ(::stat((folder / "screen.png").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST(Png, ErrorsNameTheFileAndWhy) {
  const TempDir folder;
  const std::string path = folder / "none/screen.png";
  const auto written = write_png(gradient(2, 2), path);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().message(),
            path + ": cannot open for a picture: No such file or directory");
}

TEST(Png, AFileThatCannotBeCompletedIsRemoved) {
  const TempDir folder;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 10;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto written = write_ppm(gradient(100, 100), folder / "screen.ppm");
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message(),
              HasSubstr("screen.ppm: cannot write the picture: File too"));
  EXPECT_FALSE(std::filesystem::exists(folder / "screen.ppm"));
}

TEST(Png, AFifoIsNotWaitedForAndNotRemoved) {
  const TempDir folder;
  const std::string path = folder / "fifo";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const auto written = write_ppm(gradient(2, 2), path);
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message(), HasSubstr("start the reader of the FIFO first"));
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(Png, GoesToADevice) { EXPECT_TRUE(write_png(gradient(2, 2), "/dev/null")); }

}  // namespace
}  // namespace wick::display

#include "block/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <string>

#include "tests/block/disk_fixture.h"

namespace wick::block {
namespace {

using testing::HasSubstr;
using namespace std::string_view_literals;

class OpenImage : public DiskFixture {
 protected:
  // The error message.
  std::string complaint(const std::string& path, const ImageOptions& options = {}) {
    const auto opened = open(path, options);
    if (opened) return "nothing";
    EXPECT_THAT(opened.error().message(), HasSubstr(path));
    return opened.error().message();
  }
  std::string make_with(std::string_view content, size_t offset = 0) {
    std::vector<std::byte> bytes(4096);
    std::ranges::copy(std::as_bytes(std::span(content)),
                      bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    make_file(path_, bytes);
    return path_;
  }
};

TEST_P(OpenImage, OpensARawDisk) {
  make_file(4096);
  ASSERT_TRUE(open({}));
  EXPECT_EQ(disk_->size_bytes(), 4096u);
  EXPECT_FALSE(disk_->read_only());
}

TEST_P(OpenImage, SaysThatAFileIsMissing) {
  EXPECT_THAT(complaint(directory_ / "missing"), HasSubstr("No such file"));
  EXPECT_THAT(complaint(path_ + "/below-a-file"), HasSubstr("No such file"));
}

TEST_P(OpenImage, SaysThatAFileMayNotBeOpened) {
  make_file(4096);
  ASSERT_EQ(::chmod(path_.c_str(), 0444), 0);
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
  const bool root = ::geteuid() == 0;
  // From within its folder, because only root may have access to the folders above.
  const Fd before(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::chdir(directory_.path().c_str()), 0);
  path_ = "disk.img";
  if (root) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const std::string writable = complaint(path_);
  const auto read_only = open({.format = {}, .read_only = true});
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  ASSERT_EQ(::fchdir(before.get()), 0);
  EXPECT_THAT(writable, HasSubstr("Permission denied"));
  EXPECT_THAT(writable, HasSubstr("readonly=on"));
  EXPECT_TRUE(read_only) << read_only.error().message();
}

TEST_P(OpenImage, RefusesOtherKindsOfFilesByName) {
  EXPECT_THAT(complaint(directory_.path()), HasSubstr("a directory"));
  EXPECT_THAT(complaint(directory_.path(), {.format = {}, .read_only = true}),
              HasSubstr("a directory"));
  EXPECT_THAT(complaint("/dev/null"), HasSubstr("a character device"));

  const std::string fifo = directory_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(complaint(fifo), HasSubstr("a FIFO"));  // and does not wait for it
  EXPECT_THAT(complaint(fifo, {.format = {}, .read_only = true}), HasSubstr("a FIFO"));

  const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const std::string at = directory_ / "socket";
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (at.size() >= sizeof(address.sun_path)) GTEST_SKIP() << "the build folder's path is too long";
  std::ranges::copy(at, address.sun_path);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_THAT(complaint(at), HasSubstr("a socket"));
}

TEST_P(OpenImage, FollowsLinksToTheirFile) {
  make_file(4096);
  const std::string link = directory_ / "link";
  ASSERT_EQ(::symlink(path_.c_str(), link.c_str()), 0);
  EXPECT_TRUE(open(link, {}));
  ASSERT_EQ(::symlink("loop", (directory_ / "loop").c_str()), 0);
  EXPECT_THAT(complaint(directory_ / "loop"), HasSubstr("symbolic links"));
}

TEST_P(OpenImage, RefusesAnEmptyFile) {
  make_file(0);
  EXPECT_THAT(complaint(path_), HasSubstr("empty"));
  EXPECT_THAT(complaint(path_, {.format = Format::kRaw}), HasSubstr("truncate"));
}

TEST_P(OpenImage, OpensTheSmallestFiles) {
  for (const uint64_t size : {1u, 3u, 511u, 512u, 513u}) {
    make_file(size);
    ASSERT_TRUE(open({})) << size;
    EXPECT_EQ(disk_->size_bytes(), (size + 511) / 512 * 512);
  }
}

TEST_P(OpenImage, RefusesFormatsThatItCannotRead) {
  struct Image {
    std::string_view format;
    std::string_view magic;
    size_t offset = 0;
  };
  for (const Image& image :
       {Image{"qcow", "QFI\xfb\0\0\0\1"sv}, Image{"qed", "QED\0"sv}, Image{"vmdk", "KDMV"sv},
        Image{"vmdk", "COWD"sv}, Image{"vmdk", "# Disk DescriptorFile"sv},
        Image{"vhd", "conectix"sv}, Image{"vhdx", "vhdxfile"sv}, Image{"luks", "LUKS\xba\xbe"sv},
        Image{"parallels", "WithoutFreeSpace"sv}, Image{"parallels", "WithouFreSpacExt"sv},
        Image{"vdi", "\x7f\x10\xda\xbe"sv, 64}}) {
    make_with(image.magic, image.offset);
    for (const bool read_only : {false, true}) {
      const std::string told = complaint(path_, {.format = {}, .read_only = read_only});
      EXPECT_THAT(told, HasSubstr(std::string(image.format) + " image"));
      const bool ours = image.format == "vdi" || image.format == "vmdk";
      EXPECT_THAT(told, HasSubstr(ours ? "wick image convert" : "qemu-img convert"));
    }
    EXPECT_TRUE(open({.format = Format::kRaw})) << image.format;
  }
}

TEST_P(OpenImage, RefusesARawFileWithTheNameOfAnotherFormat) {
  for (const char* suffix : {".qcow2", ".qcow", ".qed", ".vmdk", ".vdi", ".vhd", ".vhdx"}) {
    const std::string path = directory_ / "disk" + suffix;
    make_file(path, 4096);
    EXPECT_THAT(complaint(path), HasSubstr("format=raw"));
    EXPECT_TRUE(open(path, {.format = Format::kRaw}));
  }
}

TEST_P(OpenImage, SaysThatTheFileSystemHasNoDirectIo) {
  make_file(4096);
  const auto opened = open({.format = {}, .cache = Cache::kNone});
  if (!opened) {
    EXPECT_THAT(opened.error().message(), HasSubstr("cache=writeback"));
  }
}

INSTANTIATE_TEST_SUITE_P(, OpenImage, testing::Values(Engine::kUring), engine_name);

TEST(FormatOfMagic, LooksOnlyAtWhatItWasGiven) {
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text)); };
  EXPECT_EQ(format_of_magic({}), nullptr);
  EXPECT_EQ(format_of_magic(bytes("QFI")), nullptr);
  EXPECT_STREQ(format_of_magic(bytes("QFI\xfb")), "qcow");
  std::vector<std::byte> vdi(68);
  std::ranges::copy(bytes("\x7f\x10\xda\xbe"), vdi.begin() + 64);
  EXPECT_STREQ(format_of_magic(vdi), "vdi");
  EXPECT_EQ(format_of_magic(std::span(vdi).first(67)), nullptr);
}

}  // namespace
}  // namespace wick::block

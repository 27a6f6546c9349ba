#include "boot/boot.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/boot/kernel_files.h"
#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

using ::testing::HasSubstr;

class BootFromPath : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_ / name; }
  std::string write(const std::string& name, const Bytes& bytes) const {
    return folder_.write(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  Result<BootImage> open_and_load(const std::string& kernel, const std::string& initrd = {}) const {
    return load(memory_, TRY(open_files(kernel, initrd, KernelCache())));
  }
  std::string message_for(const std::string& kernel, const std::string& initrd = {}) const {
    return message(open_and_load(kernel, initrd));
  }
  std::string message_for_bytes(const Bytes& bytes) const {
    return message_for(write("kernel", bytes));
  }

  const fakes::TempDir folder_;
  GuestMemory memory_ = memory_of(64 * kMiB);
};

TEST_F(BootFromPath, TakesABzImageOrAnElfKernel) {
  const auto bz = open_and_load(write("bz", BzImage().bytes()));
  ASSERT_TRUE(bz) << message(bz);
  EXPECT_THAT(bz->kernel, HasSubstr("bzImage"));
  const auto elf = open_and_load(write("elf", ElfImage().bytes()));
  ASSERT_TRUE(elf) << message(elf);
  EXPECT_THAT(elf->kernel, HasSubstr("ELF"));
}

TEST_F(BootFromPath, RefusesFilesOfEverySmallSize) {
  EXPECT_THAT(message_for_bytes({}), HasSubstr("kernel: the file is empty; check --kernel"));
  for (const size_t size : std::initializer_list<size_t>{1, 511, 512, 513, 4096})
    EXPECT_THAT(
        message_for_bytes(Bytes(size)),
        HasSubstr(fmt::format("not a kernel, but data of an unknown kind of {} bytes", size)));
}

TEST_F(BootFromPath, RefusesEveryShortenedKernel) {
  for (const Bytes& whole : {BzImage().bytes(), ElfImage().bytes()})
    for (const size_t size : std::initializer_list<size_t>{1, 4, 512, 0x206, 1024, 4096}) {
      const auto said =
          message_for_bytes({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)});
      EXPECT_FALSE(said.empty());
      EXPECT_EQ(said.find('\n'), std::string::npos);
    }
}

TEST_F(BootFromPath, SaysWhatTheFileIsInstead) {
  const auto with = [](size_t offset, std::string_view magic) {
    Bytes bytes(4096);
    std::ranges::copy(to_bytes(magic), bytes.begin() + static_cast<ptrdiff_t>(offset));
    return bytes;
  };
  EXPECT_THAT(message_for_bytes(to_bytes("hello\n")), HasSubstr("but a text file of 6 bytes"));
  EXPECT_THAT(message_for_bytes(to_bytes("#!/bin/sh\n")), HasSubstr("but a script"));
  EXPECT_THAT(message_for_bytes(with(0, "070701")), HasSubstr("but a cpio archive"));
  EXPECT_THAT(message_for_bytes(with(0, "QFI\xfb")), HasSubstr("but a qcow2 disk image"));
  EXPECT_THAT(message_for_bytes(with(0x38, "ARM\x64")), HasSubstr("but an arm64 kernel"));
  EXPECT_THAT(message_for_bytes(with(0x438, "\x53\xef")), HasSubstr("ext4 file system"));
  EXPECT_THAT(message_for_bytes(with(0x1fe, "\x55\xaa")), HasSubstr("but a boot sector"));
}

TEST_F(BootFromPath, RefusesWhatIsNoRegularFileAtOnce) {
  EXPECT_THAT(message_for(folder_.path()), HasSubstr("a directory, not a regular file"));
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_THAT(message_for(path("fifo")), HasSubstr("a FIFO, not a regular file"));
  EXPECT_THAT(message_for("/dev/null"), HasSubstr("a device, not a regular file"));
}

TEST_F(BootFromPath, NamesTheFileAndTheOptionWhenItCannotBeOpened) {
  EXPECT_EQ(message_for("/no/kernel"),
            "/no/kernel: cannot open: No such file or directory; check --kernel");
  EXPECT_EQ(message_for(write("bz", BzImage().bytes()), "/no/initrd"),
            "/no/initrd: cannot open: No such file or directory; check --initrd");
  EXPECT_THAT(message_for(write("bz", BzImage().bytes()), write("empty", {})),
              HasSubstr("empty: the file is empty; check --initrd"));
  if (::geteuid() != 0) {
    ASSERT_EQ(::chmod(write("secret", BzImage().bytes()).c_str(), 0), 0);
    EXPECT_THAT(message_for(path("secret")), HasSubstr("Permission denied"));
  }
}

TEST_F(BootFromPath, NoticesAFileThatShrinksWhileItIsRead) {
  const std::string kernel = write("bz", BzImage().bytes());
  const auto file = InputFile::open(kernel);
  ASSERT_TRUE(file) << message(file);
  ASSERT_EQ(::truncate(kernel.c_str(), 100), 0);
  Bytes bytes(512);
  EXPECT_THAT(message(file->read(0, bytes)), HasSubstr("the file ends at byte 100, 412 short"));
}

}  // namespace
}  // namespace wick::boot

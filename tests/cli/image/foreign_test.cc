// wick image on vdi and vmdk images of qemu-img's making, and on hostile ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/image/fixture.h"

namespace wick::cli {
namespace {

using testing::HasSubstr;

class ForeignImages : public ImageCommands {
 protected:
  // Data of three kinds at both ends, within and between the blocks of all formats.
  static void make_raw(const std::string& size) {
    ASSERT_EQ(shell("qemu-img create -f raw a.raw " + size +
                    " && qemu-io -f raw -c 'write -P 1 0 100k' -c 'write -P 2 1000k 100k'"
                    " a.raw && head -c 300k /dev/urandom > b && yes some text | head -c 200k >> b"
                    " && dd if=b of=a.raw bs=4k seek=300 conv=notrunc")
                  .status,
              0);
  }
  static void expect_read_as_qemu_reads(const std::string& image, const std::string& format) {
    SCOPED_TRACE(image);
    expect_same({"info", image});
    expect_same({"info", "--output=json", image});
    expect_same({"info", "-f", format, image});
    expect_same({"map", image});
    expect_same({"map", "--output=json", image});
    expect_same({"check", image});
    expect_same({"compare", image, "a.raw"});
    expect_same({"compare", "-f", format, "-F", "raw", image, "a.raw"});
    EXPECT_EQ(wick({"convert", image, "copy.raw"}).error, "");
    EXPECT_EQ(shell("qemu-img compare -f raw -F raw copy.raw a.raw").status, 0);
    EXPECT_EQ(wick({"convert", "-f", format, "-O", "qcow2", image, "copy.qcow2"}).error, "");
    EXPECT_EQ(shell("qemu-img compare copy.qcow2 a.raw").status, 0);
  }
  static void overwrite(const std::string& file, long offset, const std::string& octal) {
    ASSERT_EQ(shell("printf '" + octal + "' | dd of=" + file +
                    " bs=1 conv=notrunc seek=" + std::to_string(offset))
                  .status,
              0);
  }
};

TEST_F(ForeignImages, OfAllKindsAreReadAsQemuImgReadsThem) {
  for (const char* size : {"3M", "2000k"}) {
    make_raw(size);
    for (const std::string kind : {"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
                                   "twoGbMaxExtentFlat", "streamOptimized"}) {
      ASSERT_EQ(shell("qemu-img convert -O vmdk -o subformat=" + kind + " a.raw " + kind + ".vmdk")
                    .status,
                0);
      expect_read_as_qemu_reads(kind + ".vmdk", "vmdk");
    }
    ASSERT_EQ(shell("qemu-img convert -O vdi a.raw a.vdi").status, 0);
    expect_read_as_qemu_reads("a.vdi", "vdi");
    ASSERT_EQ(shell("qemu-img convert -O vdi -o static=on a.raw static.vdi").status, 0);
    expect_read_as_qemu_reads("static.vdi", "vdi");
    for (const std::string format : {"vdi", "vmdk"}) {
      ASSERT_EQ(wick({"convert", "-O", format, "a.raw", "ours." + format}).error, "");
      expect_read_as_qemu_reads("ours." + format, format);
    }
  }
}

TEST_F(ForeignImages, OfSeveralFilesAreOneDisk) {
  ASSERT_EQ(shell("qemu-img create -f raw a.raw 5G && qemu-io -f raw -c 'write -P 1 2097140k 1M'"
                  " -c 'write -P 2 4G 64k' -c 'write -P 3 5242368k 512k' a.raw; mkdir d")
                .status,
            0);
  for (const std::string kind : {"twoGbMaxExtentSparse", "twoGbMaxExtentFlat"}) {
    ASSERT_EQ(shell("qemu-img convert -O vmdk -o subformat=" + kind + " a.raw d/" + kind + ".vmdk")
                  .status,
              0);
    expect_read_as_qemu_reads("d/" + kind + ".vmdk", "vmdk");
  }
}

TEST_F(ForeignImages, KnowGrainsOfZeroes) {
  ASSERT_EQ(shell("qemu-img create -f vmdk -o zeroed_grain=on a.vmdk 1M && qemu-io -c"
                  " 'write -P 5 0 256k' -c 'write -z 64k 128k' a.vmdk && qemu-img convert a.vmdk"
                  " a.raw")
                .status,
            0);
  expect_read_as_qemu_reads("a.vmdk", "vmdk");
}

// The description of a monolithic image begins at sector 1.
TEST_F(ForeignImages, OfVmdkHaveADescriptionForOtherPrograms) {
  ASSERT_EQ(shell("truncate -s 1M a.raw").status, 0);
  ASSERT_EQ(wick({"convert", "-O", "vmdk", "a.raw", "a.vmdk"}).error, "");
  const std::string description = shell("dd if=a.vmdk bs=512 skip=1 count=2 status=none").out;
  EXPECT_THAT(description, AllOf(HasSubstr("# Disk DescriptorFile\n"),
                                 HasSubstr("\n# Extent description\nRW 2048 SPARSE \"a.vmdk\"\n"),
                                 HasSubstr("\n# The Disk Data Base\n")));
}

TEST_F(ForeignImages, OfMoreThanTwoTerabytesAreWritten) {
  ASSERT_EQ(shell("truncate -s 3T a.raw && qemu-io -f raw -c 'write -P 1 2999G 1M' a.raw").status,
            0);
  ASSERT_EQ(wick({"convert", "-O", "vmdk", "a.raw", "a.vmdk"}).error, "");
  const Outcome read =
      shell("qemu-io -r -f vmdk -c 'read -P 1 2999G 1M' -c 'read -P 0 2998G 1M' a.vmdk");
  EXPECT_EQ(read.status, 0);
  EXPECT_EQ(read.out.find("failed"), std::string::npos) << read.out;
  EXPECT_THAT(wick({"map", "--start-offset", "2998G", "--max-length", "2G", "a.vmdk"}).out,
              HasSubstr("0x2edc0000000   0x100000 "));
}

// The author of the image chose the names (PITFALLS 21).
TEST_F(ForeignImages, NameOnlyFilesInTheirFolder) {
  const auto descriptor = [](const std::string& extent) {
    std::ofstream("d/a.vmdk") << "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
                                 "createType=\"monolithicFlat\"\n"
                              << extent << "\n";
    return wick({"convert", "d/a.vmdk", "out.raw"}).error;
  };
  ASSERT_EQ(shell("mkdir -p d/sub; truncate -s 1M secret d/part d/sub/part; ln -s ../secret d/up;"
                  " ln -s part d/link; ln -s $PWD d/out; mkfifo d/fifo")
                .status,
            0);
  const std::string secret = (std::filesystem::current_path() / "secret").string();
  for (const std::string& name : {secret, std::string("../secret"), std::string("sub/../../secret"),
                                  std::string("up"), std::string("out/secret"), std::string("")})
    EXPECT_THAT(descriptor("RW 2048 FLAT \"" + name + "\" 0"), HasSubstr("folder")) << name;
  EXPECT_THAT(descriptor("RW 2048 FLAT \"fifo\" 0"), HasSubstr("not a regular file"));
  EXPECT_THAT(descriptor("RW 2048 FLAT \"nothing\" 0"), HasSubstr("No such file"));
  EXPECT_FALSE(std::filesystem::exists("out.raw"));
  for (const char* name : {"part", "sub/part", "link"})
    EXPECT_EQ(descriptor(std::string("RW 2048 FLAT \"") + name + "\" 0"), "") << name;

  EXPECT_THAT(descriptor("RW 2049 FLAT \"part\" 0"), HasSubstr("fewer than its descriptor says"));
  EXPECT_THAT(descriptor("RW 2048 FLAT \"part\" 1"), HasSubstr("fewer than its descriptor says"));
  EXPECT_THAT(descriptor("RW 18446744073709551615 FLAT \"part\" 1"), HasSubstr("sectors"));
  EXPECT_THAT(descriptor("RW 2048 SPARSE \"a.vmdk\""), HasSubstr("not a sparse vmdk"));
  EXPECT_THAT(descriptor("RW 2048 VMFSRDM \"part\""), HasSubstr("cannot read"));
  EXPECT_THAT(descriptor(""), HasSubstr("without extents"));
  EXPECT_THAT(descriptor("parentCID=12345678\nRW 2048 FLAT \"part\" 0"), HasSubstr("parent"));
  EXPECT_EQ(descriptor("RW 2048 FLAT \"part\" 0\nRW 2048 ZERO"), "");
  EXPECT_EQ(std::filesystem::file_size("out.raw"), 2u << 20);
}

TEST_F(ForeignImages, WithWrongOffsetsOrSizesAreRefused) {
  make_raw("3M");
  struct Lie {
    const char* what;
    long offset;
    const char* octal;
  };
  // Little-endian sector numbers beyond the end of the file.
  const std::vector<Lie> sparse = {
      {"version", 4, "\\011"},
      {"no sectors", 12, "\\000\\000\\000\\000\\000\\000\\000\\000"},
      {"2^63 sectors", 19, "\\200"},
      {"grains of 3 sectors", 20, "\\003"},
      {"grains of 2^40 sectors", 20, "\\000\\000\\000\\000\\000\\001"},
      {"descriptor behind the end", 29, "\\377"},
      {"descriptor of 2^40 sectors", 41, "\\001"},
      {"no entries in a table", 44, "\\000\\000"},
      {"2^31 entries in a table", 47, "\\200"},
      {"directory behind the end", 58, "\\001"},
      {"directory in a footer that is not there", 56, "\\377\\377\\377\\377\\377\\377\\377\\377"},
  };
  for (const Lie& lie : sparse) {
    SCOPED_TRACE(lie.what);
    ASSERT_EQ(shell("qemu-img convert -O vmdk a.raw a.vmdk").status, 0);
    overwrite("a.vmdk", lie.offset, lie.octal);
    for (const char* command : {"info", "check", "map"}) {
      const Outcome refused = wick({command, "-f", "vmdk", "a.vmdk"});
      EXPECT_EQ(refused.status, 1) << refused.out;
      EXPECT_THAT(refused.error, HasSubstr("a.vmdk"));
    }
  }
  const std::vector<Lie> vdi = {
      {"version", 0x44, "\\002"},           {"type", 0x4c, "\\004"},
      {"parent", 0x1b8, "\\001"},           {"block size", 0x178, "\\001"},
      {"map behind the end", 0x157, "\\1"}, {"2^62 bytes", 0x177, "\\100"},
      {"2^31 blocks", 0x183, "\\200"},      {"sector size", 0x168, "\\001"},
  };
  for (const Lie& lie : vdi) {
    SCOPED_TRACE(lie.what);
    ASSERT_EQ(shell("qemu-img convert -O vdi a.raw a.vdi").status, 0);
    overwrite("a.vdi", lie.offset, lie.octal);
    const Outcome refused = wick({"info", "-f", "vdi", "a.vdi"});
    EXPECT_EQ(refused.status, 1) << refused.out;
    EXPECT_THAT(refused.error, HasSubstr("a.vdi"));
  }
}

TEST_F(ForeignImages, WhoseBlocksAreNotInTheFileAreCorrupt) {
  make_raw("3M");
  ASSERT_EQ(shell("qemu-img convert -O vmdk a.raw a.vmdk;"
                  " qemu-img convert -O vmdk -o subformat=streamOptimized a.raw s.vmdk;"
                  " qemu-img convert -O vdi a.raw a.vdi; truncate -s 150k a.vmdk;"
                  " truncate -s 1200k a.vdi")
                .status,
            0);
  for (const char* image : {"a.vmdk", "a.vdi"}) {
    const Outcome check = wick({"check", image});
    EXPECT_EQ(check.status, 2) << image << check.error;
    EXPECT_THAT(check.out, HasSubstr("1 errors were found on the image."));
    const Outcome convert = wick({"convert", image, "copy.raw"});
    EXPECT_EQ(convert.status, 1);
    EXPECT_THAT(convert.error, HasSubstr("not inside the file"));
    EXPECT_FALSE(std::filesystem::exists("copy.raw"));
    EXPECT_EQ(wick({"check", "-r", "all", image}).status, 63);
  }
  // Data that does not unpack.
  ASSERT_EQ(shell("head -c 20k /dev/zero | dd of=s.vmdk bs=1k seek=66 conv=notrunc").status, 0);
  EXPECT_THAT(wick({"convert", "s.vmdk", "copy.raw"}).error, HasSubstr("compressed grain"));
  EXPECT_EQ(wick({"convert", "--salvage", "-q", "s.vmdk", "copy.raw"}).status, 0);
}

}  // namespace
}  // namespace wick::cli

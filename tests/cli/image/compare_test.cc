// wick image compare and wick image map on disks of many pieces, beside qemu-img.
#include "tests/cli/image/fixture.h"

namespace wick::cli {
namespace {

// Two equal disks with islands of data and holes at odd places.
class ImagesOfManyPieces : public ImageCommands {
 protected:
  ImagesOfManyPieces() {
    make("truncate -s 8M a.raw");
    for (int at = 1; at < 60; at += 3)
      make("dd if=/dev/urandom of=a.raw bs=1 conv=notrunc count=100000 seek=" +
           std::to_string(at * 131'071) + " iflag=fullblock");
    make("cp --sparse=always a.raw b.raw && qemu-img convert -f raw -O qcow2 a.raw a.qcow2");
  }
  static void make(const std::string& command) { ASSERT_EQ(shell(command).status, 0) << command; }
  static void put(const std::string& file, uint64_t at) {
    make("printf X | dd of=" + file + " bs=1 conv=notrunc seek=" + std::to_string(at));
  }
  static void compare(const Arguments& more = {}) {
    Arguments arguments = {"compare", "-f", "raw", "-F", "raw", "a.raw", "b.raw"};
    arguments.insert(arguments.begin() + 1, more.begin(), more.end());
    expect_same(arguments);
    std::swap(arguments[arguments.size() - 1], arguments[arguments.size() - 2]);
    expect_same(arguments);
  }
};

TEST_F(ImagesOfManyPieces, AreEqualInAnyFormat) {
  compare();
  expect_same({"compare", "-f", "raw", "-F", "qcow2", "a.raw", "a.qcow2"});
}

TEST_F(ImagesOfManyPieces, DifferAtTheFirstOfSeveralBytes) {
  for (const uint64_t at : {8'388'607u, 6'000'001u, 3'000'000u, 262'144u, 262'143u, 0u}) {
    put("b.raw", at);
    compare();
  }
}

TEST_F(ImagesOfManyPieces, OfDifferentLengthsAreComparedToTheEndOfTheLonger) {
  make("truncate -s 12M b.raw");
  compare();
  compare({"-s"});
  put("b.raw", 11'000'001);
  compare();
  put("b.raw", 9'000'000);
  compare();
  put("b.raw", 5'000'000);
  compare();
}

TEST_F(ImagesOfManyPieces, AreReportedWhereOnlyOneIsAllocatedUnlessTheyDifferBefore) {
  make("qemu-img create -f qcow2 c.qcow2 8M && qemu-io -c 'write -z 5M 64k' c.qcow2");
  make("qemu-img create -f qcow2 d.qcow2 8M");
  expect_same({"compare", "c.qcow2", "d.qcow2"});
  const Arguments strict = {"compare", "-s", "c.qcow2", "d.qcow2"};
  EXPECT_EQ(wick(strict).out, "Strict mode: Offset 5242880 block status mismatch!\n");
  make("qemu-io -c 'write -P 1 1M 2M' c.qcow2 && qemu-io -c 'write -P 1 1M 2M' d.qcow2");
  EXPECT_EQ(wick(strict).out, "Strict mode: Offset 5242880 block status mismatch!\n");
  make("qemu-io -c 'write -P 2 2900k 1k' d.qcow2");
  expect_same({"compare", "c.qcow2", "d.qcow2"});
  EXPECT_EQ(wick(strict).out, "Content mismatch at offset 2969600!\n");
}

// A part that cannot be read is an error only if no difference comes before it.
TEST_F(ImagesOfManyPieces, AreUnreadableOnlyIfTheyAreEqualBefore) {
  // The entry of the disk's last cluster points to an impossible place.
  make("qemu-img create -f qcow2 e.qcow2 8M && qemu-io -c 'write -P 1 0 8M' e.qcow2");
  make("cp e.qcow2 f.qcow2");
  make("printf '\\200\\0\\0\\0\\0\\0\\002\\0' | dd of=f.qcow2 bs=1 conv=notrunc seek=" +
       std::to_string(4 * 65536 + 127 * 8));
  EXPECT_EQ(wick({"compare", "-q", "e.qcow2", "f.qcow2"}).status, 4);
  make("qemu-io -c 'write -P 2 0 64k' e.qcow2");
  EXPECT_EQ(wick({"compare", "-q", "e.qcow2", "f.qcow2"}).status, 1);
  EXPECT_EQ(wick({"compare", "-q", "f.qcow2", "e.qcow2"}).status, 1);
}

TEST_F(ImagesOfManyPieces, AreMappedAndMeasuredAsByQemu) {
  make("qemu-img create -f qcow2 many.qcow2 64M");
  std::string writes;
  for (int i = 0; i < 400; ++i) writes += " -c 'write -q " + std::to_string(i * 128) + "k 64k'";
  make("qemu-io" + writes + " many.qcow2");  // more extents than one step has
  expect_same({"map", "--output=json", "many.qcow2"});
  expect_same({"measure", "-O", "qcow2", "many.qcow2"});
  expect_same({"map", "-f", "raw", "a.raw"});
  expect_same({"measure", "-f", "raw", "-O", "qcow2", "a.raw"});
}

}  // namespace
}  // namespace wick::cli

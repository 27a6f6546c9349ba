// wick image nbd as the disk of a kernel: the lab machine's, with its own NBD client.
#include <gtest/gtest.h>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

// Runs a script in `dir`, with `wick` in its PATH.
Finished run_script(const TempDir& dir, const std::string& script) {
  const std::string start =
      "set -e; cd " + dir.path() +
      "; PATH=" + std::filesystem::path(wick({}).front()).parent_path().string() +
      ":$PATH:/usr/sbin:/sbin\n" +
      R"(gone() { for i in $(seq 300); do [ -e "$1" ] || return 0; sleep 0.1; done; return 1; }
)";
  return finish({"bash", "-c", start + script});
}

void expect_done(const TempDir& dir, const std::string& script) {
  const Finished run = run_script(dir, script);
  EXPECT_EQ(run.status, 0) << script << run.out << run.err;
}

class NbdDisk : public testing::Test {
 protected:
  NbdDisk() {
    // The lab's own kernel has no modules at the usual place.
    expect_done(dir_, R"([ -e /sys/module/nbd ] || modprobe nbd 2>/dev/null ||
insmod )" + std::string(WICK_SOURCE_DIR) +
                          "/guest-images/out/lab/modules/$(uname -r)/kernel/drivers/block/nbd.ko");
  }
  const TempDir dir_{folder_on_disk()};
};

TEST_F(NbdDisk, IsPartitionedFormattedFilledAndTrimmed) {
  expect_done(dir_, R"sh(
wick image create -q -f qcow2 disk.qcow2 64M
wick image nbd -c /dev/nbd0 --pid-file pid disk.qcow2
[ "$(blockdev --getsize64 /dev/nbd0)" = 67108864 ]
echo 2048,16M | sfdisk -q /dev/nbd0
mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 /dev/nbd0p1
mkdir m; mount /dev/nbd0p1 m
head -c 2000000 /dev/urandom >content; cp content m/a; cp content m/b; sync
before=$(stat -c %b disk.qcow2); rm m/b; sync; fstrim m
echo 3 >/proc/sys/vm/drop_caches; cmp content m/a
umount m
dd if=/dev/nbd0 of=direct bs=1M iflag=direct 2>/dev/null
wick image nbd -d /dev/nbd0; gone pid
qemu-img check disk.qcow2
after=$(stat -c %b disk.qcow2); echo "$before blocks of 512 bytes, then $after"
[ $after -lt $((before - 1000)) ]  # b has no space any more
qemu-img convert -O raw disk.qcow2 disk.raw; cmp direct disk.raw
wick image nbd -r -c /dev/nbd1 --pid-file pid disk.qcow2
[ "$(blockdev --getro /dev/nbd1)" = 1 ]
mount -o ro,noload /dev/nbd1p1 m; cmp content m/a; umount m
kill -TERM $(cat pid); gone pid
[ "$(blockdev --getsize64 /dev/nbd1)" = 0 ]
)sh");
}

TEST_F(NbdDisk, IsNotTakenFromAnother) {
  expect_done(dir_, R"sh(
truncate -s 4M one.raw two.raw
wick image nbd -f raw -c /dev/nbd2 --pid-file pid one.raw
! wick image nbd -f raw -c /dev/nbd2 two.raw 2>errors
grep -q 'in use' errors
echo still there | dd of=/dev/nbd2 conv=fsync 2>/dev/null
wick image nbd -d /dev/nbd2; gone pid
grep -q 'still there' one.raw
)sh");
}

TEST_F(NbdDisk, GrowsWithItsFile) {
  expect_done(dir_, R"sh(
truncate -s 4M disk.raw
wick image nbd -f raw -c /dev/nbd3 --pid-file pid disk.raw
truncate -s 8M disk.raw; kill -USR1 $(cat pid)
for i in $(seq 300); do
  [ "$(blockdev --getsize64 /dev/nbd3)" = 8388608 ] && break; sleep 0.1
done
echo end | dd of=/dev/nbd3 bs=1M seek=7 conv=fsync 2>/dev/null
wick image nbd -d /dev/nbd3; gone pid
[ "$(dd if=disk.raw bs=1M skip=7 2>/dev/null | head -c 3)" = end ]
)sh");
}

}  // namespace
}  // namespace wick::lab

// QMP on a real machine: side by side with QEMU's, and while the guest is busy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/unix_socket.h"
#include "tests/fakes/shell.h"
#include "tests/lab/tiny.h"

namespace wick::lab {
namespace {

using guests::Code;
using testing::HasSubstr;
using Json = nlohmann::json;

// A QMP client that reads one answer, or event, per line.
class Qmp {
 public:
  explicit Qmp(const std::string& path) : dialogue_(Dialogue::connect(path)) {
    dialogue_.expect("\n");
    (void)execute("qmp_capabilities");
  }
  // The value of "return"; the test ends for an error.
  Json execute(const std::string& command, const Json& arguments = Json::object()) {
    dialogue_.send(Json{{"execute", command}, {"arguments", arguments}}.dump() + "\n");
    for (;;) {
      const Json answer = Json::parse(dialogue_.expect("\n"));
      if (answer.contains("return")) return answer["return"];
      if (answer.contains("error")) give_up(command + ": " + answer.dump());
      events_.push_back(answer["event"]);
    }
  }
  void await_event(const std::string& name) {
    while (events_.empty() || events_.back() != name)
      events_.push_back(Json::parse(dialogue_.expect("\n"))["event"]);
  }
  const std::vector<std::string>& events() const { return events_; }

 private:
  Dialogue dialogue_;
  std::vector<std::string> events_;
};

// A file system of 4 MiB with a sparse disk of 64 MiB.
class SmallFileSystem {
 public:
  explicit SmallFileSystem(const TempDir& dir) : path_(dir / "small") {
    EXPECT_EQ(::mkdir(path_.c_str(), 0755), 0);
    EXPECT_EQ(finish({"mount", "-t", "tmpfs", "-o", "size=4m", "small", path_}).status, 0);
    blank_disk(dir, "small/disk", 64 << 20);
  }
  ~SmallFileSystem() { (void)finish({"umount", "-l", path_}); }
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;

  const std::string& path() const { return path_; }
  std::string disk() const { return path_ + "/disk"; }

 private:
  const std::string path_;
};

void make_disks(const TempDir& dir) {
  for (const char* const name : {"a", "b"})
    EXPECT_EQ(finish({"qemu-img", "create", "-q", "-f", "qcow2",
                      dir / (std::string(name) + ".qcow2"), "64M"})
                  .status,
              0);
  blank_disk(dir, "cd.iso", 1 << 20);
}

// One driver sends the same session to both, with guests that do nothing.
TEST(QmpCompare, AnswersHaveTheKeysAndTypesOfQemus) {
  const TempDir dir;
  make_disks(dir);
  write_file(dir / "tiny", guests::pvh_elf(Code().spin()));
  Process qemu({"qemu-system-x86_64",
                "-accel",
                "kvm",
                "-M",
                "q35",
                "-m",
                "64",
                "-nodefaults",
                "-display",
                "none",
                "-S",
                "-name",
                "both",
                "-kernel",
                dir / "tiny",
                "-qmp",
                "unix:" + dir / "q,server=on,wait=off",
                "-chardev",
                "null,id=ttyS0",
                "-serial",
                "chardev:ttyS0",
                "-device",
                "virtio-balloon-pci",
                "-drive",
                "file=" + dir / "a.qcow2,if=none,id=vda",
                "-device",
                "virtio-blk-pci,drive=vda,id=vda",
                "-drive",
                "file=" + dir / "cd.iso,if=none,id=sr0,media=cdrom,format=raw",
                "-device",
                "ide-cd,drive=sr0,id=sr0",
                "-netdev",
                "user,id=net0",
                "-device",
                "virtio-net-pci,netdev=net0,id=net0"});
  Process ours(wick_run({"-k", dir / "tiny", "-m", "64M", "--name", "both", "-s", "null", "-d",
                         dir / "b.qcow2", "--cdrom", dir / "cd.iso", "-n", "user", "--qmp",
                         "unix:" + dir / "w"}));
  for (const char* const name : {"q", "w"})
    for (int i = 0; i < 600 && !exists(dir / name); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
  Qmp(dir / "w").execute("stop");  // as -S
  const Finished compared =
      finish({"python3", std::string(WICK_SOURCE_DIR) + "/tests/control/qmp_compare.py",
              "unix:" + dir / "q", "unix:" + dir / "w", "--full"});
  EXPECT_EQ(compared.status, 0) << compared.out << compared.err;
}

// What an orderly guest does to its disk and its network, while the machine is stopped and
// continued fifty times.
TEST(Qmp, StopAndContUnderLoadLoseNothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, for a network namespace";
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  ASSERT_EQ(finish({"ip", "link", "set", "lo", "up"}).status, 0);
  const TempDir dir;
  write_file(dir / "initrd", read_file(image("initrd.gz")) + read_file(image("net.gz")));
  blank_disk(dir, "disk", 256 << 20);
  ASSERT_EQ(finish({"sh", "-c", "head -c 33554432 /dev/urandom >" + dir / "data"}).status, 0);
  const std::string sum = finish({"md5sum", dir / "data"}).out.substr(0, 32);
  Process server({"socat", "-U", "TCP-LISTEN:5001,bind=127.0.0.1,reuseaddr,fork",
                  "OPEN:" + dir / "data,rdonly"});
  Process vm(
      wick_run({"-k", image("bzImage"), "-i", dir / "initrd", "-a", "quiet wick.sh", "-m", "256M",
                "-d", dir / "disk,format=raw", "-n", "user", "--qmp", "unix:" + dir / "qmp"}));
  Dialogue& shell = vm.console();
  shell.expect("/ # ");
  (void)run_in_guest(shell, "ifconfig eth0 10.0.2.15 up");
  shell.send(
      "(for i in 1 2 3 4; do nc 10.0.2.2 5001 </dev/null | md5sum; done >/sums.net; "
      "echo net-done) & (for i in 0 1 2 3; do "
      "dd if=/dev/urandom of=/r bs=1M count=8 2>/dev/null; "
      "dd if=/r of=/dev/vda bs=64k seek=$((i * 128)) conv=fsync 2>/dev/null; "
      "md5sum </r; dd if=/dev/vda bs=64k skip=$((i * 128)) count=128 2>/dev/null | md5sum; done "
      ">/sums.disk; echo disk-done) &\n");
  Qmp qmp(dir / "qmp");
  for (int i = 0; i < 50; ++i) {
    (void)qmp.execute("stop");
    EXPECT_EQ(qmp.execute("query-status")["status"], "paused");
    std::this_thread::sleep_for(std::chrono::milliseconds(i % 10 == 0 ? 1000 : 20));
    (void)qmp.execute("cont");
    std::this_thread::sleep_for(std::chrono::milliseconds(80));
  }
  EXPECT_EQ(qmp.events().size(), 100u);  // STOP, RESUME
  shell.send("wait; echo all-$((1 + 1))\n");
  shell.expect("all-2");
  const auto net = lines(run_in_guest(shell, "cut -c1-32 /sums.net"));
  EXPECT_EQ(net, std::vector<std::string>(4, sum));
  const auto disk = lines(run_in_guest(shell, "cut -c1-32 /sums.disk"));
  ASSERT_EQ(disk.size(), 8u);
  for (size_t i = 0; i < disk.size(); i += 2) EXPECT_EQ(disk[i], disk[i + 1]);
  EXPECT_EQ(run_in_guest(shell, "dmesg | grep -iE 'lockup|rcu.*stall|hung task|I/O error' || true"),
            "");
  shell.send("poweroff -f\n");
  qmp.await_event("SHUTDOWN");
  expect_ending(vm, 0, "wick: the guest powered off");
}

TEST(Qmp, ResizesADiskOfARunningGuest) {
  const TempDir dir;
  blank_disk(dir, "raw", 64 << 20);
  make_disks(dir);
  Process vm(
      wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh", "-d",
                dir / "raw,format=raw", "-d", dir / "a.qcow2", "--qmp", "unix:" + dir / "qmp"}));
  Dialogue& shell = vm.console();
  shell.expect("/ # ");
  Qmp qmp(dir / "qmp");
  for (const char* const disk : {"vda", "vdb"}) {
    EXPECT_EQ(run_in_guest(shell, std::string("cat /sys/block/") + disk + "/size"), "131072");
    (void)qmp.execute("block_resize", {{"device", disk}, {"size", 128 << 20}});
    EXPECT_EQ(run_in_guest(shell, std::string("sleep 1; cat /sys/block/") + disk + "/size"),
              "262144");
    (void)run_in_guest(shell, std::string("dd if=/dev/zero of=/dev/") + disk +
                                  " bs=1M seek=127 count=1 conv=fsync 2>/dev/null");
  }
  shell.send("poweroff -f\n");
  expect_ending(vm, 0, "wick: the guest powered off");
  EXPECT_EQ(finish({"qemu-img", "check", "-q", dir / "a.qcow2"}).status, 0);
}

TEST(Qmp, ASnapshotKeepsTheOldContentInTheBackingFile) {
  const TempDir dir;
  make_disks(dir);
  Process vm(wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh",
                       "-d", dir / "a.qcow2", "--qmp", "unix:" + dir / "qmp"}));
  Dialogue& shell = vm.console();
  shell.expect("/ # ");
  (void)run_in_guest(shell, "yes before | dd of=/dev/vda bs=1M count=4 iflag=fullblock conv=fsync");
  Qmp qmp(dir / "qmp");
  (void)qmp.execute("blockdev-snapshot-sync",
                    {{"device", "vda"}, {"snapshot-file", dir / "top.qcow2"}, {"format", "qcow2"}});
  EXPECT_EQ(qmp.execute("query-block")[0]["inserted"]["file"], dir / "top.qcow2");
  (void)run_in_guest(shell, "yes after | dd of=/dev/vda bs=1M count=1 iflag=fullblock conv=fsync");
  EXPECT_EQ(run_in_guest(shell,
                         "dd if=/dev/vda bs=1M skip=2 count=1 2>/dev/null | head -n 3 | tail -n 2"),
            "before\nbefore");
  shell.send("poweroff -f\n");
  expect_ending(vm, 0, "wick: the guest powered off");
  EXPECT_EQ(finish({"qemu-img", "check", "-q", dir / "top.qcow2"}).status, 0);
  EXPECT_THAT(finish({"qemu-img", "info", dir / "top.qcow2"}).out, HasSubstr("a.qcow2"));
  EXPECT_THAT(finish({"sh", "-c",
                      "qemu-img convert -O raw " + dir / "top.qcow2" + " " + dir / "o" +
                          " && head -c 6 " + dir / "o"})
                  .out,
              HasSubstr("after"));
  EXPECT_THAT(finish({"sh", "-c",
                      "qemu-img convert -O raw " + dir / "a.qcow2" + " " + dir / "o" +
                          " && head -c 7 " + dir / "o"})
                  .out,
              HasSubstr("before"));
}

// A disk on a file system without space, which is made larger while the machine waits.
TEST(Qmp, StopsForWantOfSpaceAndTriesAgain) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, for a small file system";
  const TempDir dir;
  const SmallFileSystem small(dir);
  Process vm(
      wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh", "-d",
                small.disk() + ",format=raw,werror=enospc", "--qmp", "unix:" + dir / "qmp"}));
  Dialogue& shell = vm.console();
  shell.expect("/ # ");
  Qmp qmp(dir / "qmp");
  shell.send(
      "dd if=/dev/zero bs=1M count=16 2>/dev/null | tr '\\0' x | "
      "dd of=/dev/vda bs=1M iflag=fullblock conv=fsync && echo writ\\ten\n");
  qmp.await_event("STOP");
  EXPECT_THAT(qmp.events(), testing::Contains("BLOCK_IO_ERROR"));
  EXPECT_EQ(qmp.execute("query-status")["status"], "io-error");
  EXPECT_EQ(qmp.execute("query-block")[0]["io-status"], "nospace");
  ASSERT_EQ(finish({"mount", "-o", "remount,size=64m", small.path()}).status, 0);
  (void)qmp.execute("cont");
  shell.expect("written");
  EXPECT_EQ(run_in_guest(shell, "dd if=/dev/vda bs=1M count=16 2>/dev/null | tr -d x | wc -c"),
            "0");
  shell.send("poweroff -f\n");
  expect_ending(vm, 0, "wick: the guest powered off");
}

// The device of the request that waits is reset with the machine.
TEST(Qmp, ResetsAMachineThatWaitsForSpace) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, for a small file system";
  const TempDir dir;
  const SmallFileSystem small(dir);
  Process vm(
      wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh", "-d",
                small.disk() + ",format=raw,werror=stop", "--qmp", "unix:" + dir / "qmp"}));
  Dialogue& shell = vm.console();
  shell.expect("/ # ");
  Qmp qmp(dir / "qmp");
  shell.send("tr '\\0' x </dev/zero | dd of=/dev/vda bs=1M count=16 iflag=fullblock\n");
  qmp.await_event("STOP");
  (void)qmp.execute("system_reset");
  (void)qmp.execute("cont");
  shell.expect("/ # ");
  (void)qmp.execute("quit");
  EXPECT_EQ(vm.wait(), 0) << vm.errors();
}

TEST(Qmp, InjectsAnNmi) {
  const TempDir dir;
  Process vm(wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh",
                       "--qmp", "unix:" + dir / "qmp"}));
  Dialogue& shell = vm.console();
  shell.expect("/ # ");
  Qmp qmp(dir / "qmp");
  const char* const count = "awk '/NMI:/ {print $2}' /proc/interrupts";
  EXPECT_EQ(run_in_guest(shell, count), "0");
  (void)qmp.execute("inject-nmi");
  EXPECT_EQ(run_in_guest(shell, std::string("sleep 1; ") + count), "1");
  shell.send("poweroff -f\n");
  expect_ending(vm, 0, "wick: the guest powered off");
}

TEST(Qmp, TellsOfAPanicAndTheCoreOfItHasTheKernelsNotes) {
  const TempDir dir;
  Process vm(wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh",
                       "--qmp", "unix:" + dir / "qmp", "--on-panic", "core:" + dir / "core"}));
  Dialogue& shell = vm.console();
  shell.expect("/ # ");
  Qmp qmp(dir / "qmp");
  shell.send("echo c >/proc/sysrq-trigger\n");
  qmp.await_event("SHUTDOWN");
  EXPECT_EQ(vm.wait(), 3) << vm.errors();
  EXPECT_THAT(finish({"readelf", "-n", dir / "core"}).out, HasSubstr("NT_PRSTATUS"));
  EXPECT_THAT(finish({"gdb", "-batch", "-nx", "-ex", "info threads", "-ex", "info registers rip",
                      "-c", dir / "core"})
                  .out,
              HasSubstr("rip            0xffffffff"));
}

TEST(Consoles, HaveMorePortsThanOneAndNames) {
  const TempDir dir;
  Process vm(wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh",
                       "--console", "null", "--console", "unix:" + dir / "hvc1", "--console",
                       "unix:" + dir / "agent,name=org.example.agent"}));
  Dialogue& shell = vm.console();
  shell.expect("/ # ");
  EXPECT_EQ(run_in_guest(shell, "cat /sys/class/virtio-ports/*/name"), "org.example.agent");
  shell.send(
      "P=/dev/$(basename $(dirname $(grep -l agent /sys/class/virtio-ports/*/name))); "
      // Opened once: Linux drops what arrives while a port is closed.
      "exec 3<>$P; echo from-guest >&3; head -n 1 <&3 >/got; exec 3>&-; cat /got\n");
  Dialogue agent = Dialogue::connect(dir / "agent");
  agent.expect("from-guest");
  agent.send("from-host\n");
  shell.expect("from-host");
  Dialogue second = Dialogue::connect(dir / "hvc1");
  shell.send("echo to-hvc1 >/dev/hvc1\n");
  second.expect("to-hvc1");
  shell.send("poweroff -f\n");
  expect_ending(vm, 0, "wick: the guest powered off");
}

}  // namespace
}  // namespace wick::lab

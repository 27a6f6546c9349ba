// Sockets between a host and its guest (--vsock), with Debian's kernel and the host's socat on both
// sides. Needs vhost_vsock.ko on the host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <sstream>

#include "tests/lab/initramfs.h"
#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::HasSubstr;

constexpr const char* kCid = "4242";

// Adds the host's program and the libraries that it needs, at their paths.
void add_program(std::map<std::string, std::string>& files, const std::string& path) {
  files[path.substr(1)] = read_file(path);
  const Finished needs = finish({"ldd", path});
  std::istringstream words(needs.out);
  for (std::string word; words >> word;)
    if (word.starts_with('/')) files[word.substr(1)] = read_file(word);
}

class Vsock : public testing::Test {
 protected:
  Vsock() {
    if (finish({"modprobe", "vhost_vsock"}).status != 0 ||
        !std::filesystem::exists("/dev/vhost-vsock"))
      give_up("this host has no vhost_vsock");
    std::map<std::string, std::string> files;
    std::string order;
    for (const Module& module :
         generic_modules({"virtio_pci", "virtio_mmio", "vmw_vsock_virtio_transport"})) {
      files["modules/" + module.name] = module.content;
      order += module.name + '\n';
    }
    files["modules/order"] = order;
    add_program(files, "/usr/bin/socat");
    write_file(dir_ / "initrd", extend_initramfs(read_file(image("initrd.gz")), files));
  }
  std::vector<std::string> machine(const std::string& cid,
                                   std::vector<std::string> more = {}) const {
    std::vector<std::string> options = {"-k",      image("debian-generic/vmlinuz"),
                                        "-i",      dir_ / "initrd",
                                        "-a",      "quiet wick.sh",
                                        "--vsock", cid};
    options.insert(options.end(), more.begin(), more.end());
    return wick_run(options);
  }
  // Sends `text` to the guest's port and returns the answer.
  static std::string exchange(const std::string& cid, const std::string& text) {
    return finish({"sh", "-c",
                   "printf %s '" + text + "' | socat -t 20 - VSOCK-CONNECT:" + cid + ":1000"})
        .out;
  }
  static void serve(Dialogue& shell) {
    (void)run_in_guest(shell,
                       "(socat VSOCK-LISTEN:1000,fork EXEC:'tr a-z A-Z' "
                       "</dev/null >/dev/null 2>&1 &); sleep 1");
  }

  const TempDir dir_;
};

TEST_F(Vsock, CarriesBytesBothWays) {
  Process vm(machine(kCid));
  Dialogue& shell = vm.console();
  shell.expect("# ");
  serve(shell);
  EXPECT_EQ(exchange(kCid, "from the host"), "FROM THE HOST");

  // 2 is the host.
  Process listener({"sh", "-c", "socat -u VSOCK-LISTEN:1001 - | md5sum"});
  const std::string sent = run_in_guest(
      shell, "sleep 1; seq 1 300000 >/n; socat -u /n VSOCK-CONNECT:2:1001; md5sum </n");
  listener.console().expect(sent.substr(0, 32));
  (void)listener.wait();

  // Machines do not share a CID.
  const Finished second = finish(machine(kCid));
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(last_line(second.err), HasSubstr("--vsock 4242: another machine"));
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  shell.send("exit\n");
  expect_ending(vm, 0, "wick: the guest powered off");
}

TEST_F(Vsock, WorksAgainAfterAResetAndAPause) {
  Process vm(machine(kCid, {"--on-reboot", "reset", "--monitor", "unix:" + dir_ / "monitor"}));
  Dialogue& shell = vm.console();
  shell.expect("# ");
  serve(shell);
  EXPECT_EQ(exchange(kCid, "one"), "ONE");
  shell.send("reboot -f\n");
  shell.expect("wick-initrd: Linux ");
  shell.expect("# ");
  serve(shell);
  EXPECT_EQ(exchange(kCid, "two"), "TWO");
  const auto monitor = [this](const std::string& command) {
    return finish(
               {"sh", "-c", "echo " + command + " | socat -t 2 - UNIX-CONNECT:" + dir_ / "monitor"})
        .out;
  };
  (void)monitor("stop");
  // What is sent during a pause arrives after it.
  Process waiting(
      {"sh", "-c", "printf three | socat -t 30 - VSOCK-CONNECT:" + std::string(kCid) + ":1000"});
  (void)monitor("info status");
  (void)monitor("cont");
  waiting.console().expect("THREE");
  (void)waiting.wait();
  EXPECT_EQ(exchange(kCid, "four"), "FOUR");
  shell.send("exit\n");
  expect_ending(vm, 0, "wick: the guest powered off");
}

TEST_F(Vsock, OverMmioLong) {
  Process vm(machine(kCid, {"--transport", "mmio"}));
  Dialogue& shell = vm.console();
  shell.expect("# ");
  (void)run_in_guest(shell, "ls /sys/bus/virtio/devices");
  serve(shell);
  EXPECT_EQ(exchange(kCid, "by mmio"), "BY MMIO");
  shell.send("exit\n");
  expect_ending(vm, 0, "wick: the guest powered off");
}

}  // namespace
}  // namespace wick::lab

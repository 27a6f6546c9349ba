// Files and hosts that wick cannot use: a one-line error, and exit status 1.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/lab/tiny.h"

namespace wick::lab {
namespace {

using guests::Code;
using testing::HasSubstr;
using testing::StartsWith;

void expect_refusal(const std::vector<std::string>& argv, const std::vector<std::string>& words,
                    int status = 1) {
  const Finished run = finish(argv);
  EXPECT_EQ(run.status, status) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(lines(run.err).size(), 1u) << run.err;
  EXPECT_THAT(run.err, StartsWith("wick: "));
  for (const std::string& word : words) EXPECT_THAT(run.err, HasSubstr(word));
}

std::vector<std::string> with_kernel(const std::string& path) {
  return wick_run({"-k", path, "--timeout", "30"});
}

// Runs the command without root's capability to ignore file permissions.
std::vector<std::string> without_override(const std::vector<std::string>& argv) {
  if (::geteuid() != 0) return argv;
  std::vector<std::string> command = {"setpriv", "--bounding-set", "-dac_override,-dac_read_search",
                                      "--inh-caps", "-dac_override,-dac_read_search"};
  command.insert(command.end(), argv.begin(), argv.end());
  return command;
}

void make_fifo(const std::string& path) { ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0); }

void forbid(const std::string& path) {
  std::filesystem::permissions(path, std::filesystem::perms::none);
}

// --- kernels ----------------------------------------------------------------

TEST(Refusal, OfKernelsThatAreTooShort) {
  const TempDir dir;
  const std::string bzimage = read_file(image("bzImage")).substr(0, 4096);
  const std::string vmlinux = read_file(image("vmlinux")).substr(0, 4096);
  for (const size_t size : {0, 1, 512, 4096}) {
    write_file(dir / "kernel", std::string(size, '\0'));
    SCOPED_TRACE(fmt::format("{} bytes of zeroes", size));
    expect_refusal(with_kernel(dir / "kernel"), {dir / "kernel"});
    // The first bytes of a real kernel, of the same length.
    write_file(dir / "kernel", bzimage.substr(0, size));
    SCOPED_TRACE(fmt::format("{} bytes of a bzImage", size));
    expect_refusal(with_kernel(dir / "kernel"), {dir / "kernel"});
    write_file(dir / "kernel", vmlinux.substr(0, size));
    SCOPED_TRACE(fmt::format("{} bytes of a vmlinux", size));
    expect_refusal(with_kernel(dir / "kernel"), {dir / "kernel"});
  }
}

TEST(Refusal, OfTextFiles) {
  const TempDir dir;
  write_file(dir / "kernel", "#!/bin/sh\necho I am no kernel\n");
  expect_refusal(with_kernel(dir / "kernel"), {dir / "kernel", "script"});
  write_file(dir / "kernel", std::string(10'000, 'x'));
  expect_refusal(with_kernel(dir / "kernel"), {dir / "kernel", "text"});
}

TEST(Refusal, OfTruncatedKernels) {
  const TempDir dir;
  for (const char* name : {"bzImage", "vmlinux", "debian-cloud/vmlinuz"}) {
    const std::string whole = read_file(image(name));
    for (const size_t size : {whole.size() / 4, whole.size() / 2}) {
      SCOPED_TRACE(fmt::format("{}: {} of {} bytes", name, size, whole.size()));
      write_file(dir / "kernel", std::string_view(whole).substr(0, size));
      expect_refusal(with_kernel(dir / "kernel"), {dir / "kernel"});
    }
  }
}

TEST(Refusal, OfKernelsWithADamagedHeader) {
  struct Damage {
    const char* field;
    size_t offset;
    std::string bytes;
  };
  const std::vector<Damage> damages = {
      {"boot_flag", 0x1fe, {"\x55\xab", 2}},
      {"header", 0x202, "HdrX"},
      {"version", 0x206, {"\x02\x02", 2}},
      {"setup_sects", 0x1f1, "\xff"},
      {"syssize", 0x1f4, {"\xff\xff\xff\x7f", 4}},
      {"loadflags", 0x211, {"\0", 1}},
      {"init_size", 0x260, {"\xff\xff\xff\x7f", 4}},
      {"kernel_alignment", 0x230, {"\x03\0\0\0", 4}},
      {"pref_address", 0x258, {"\0\0\0\0\x01\0\0\0", 8}},
      {"cmdline_size", 0x238, {"\x03\0\0\0", 4}},
  };
  const TempDir dir;
  const std::string whole = guests::bzimage(Code().print("booted\n").reset());
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.field);
    std::string damaged = whole;
    damaged.replace(damage.offset, damage.bytes.size(), damage.bytes);
    write_file(dir / "kernel", damaged);
    expect_refusal(with_kernel(dir / "kernel"), {"wick: "});
  }
}

TEST(Refusal, OfKernelsThatCannotBeRead) {
  const TempDir dir;
  expect_refusal(with_kernel(dir / "missing"), {dir / "missing", "No such file"});
  expect_refusal(with_kernel(dir.path()), {dir.path(), "directory"});
  make_fifo(dir / "fifo");
  expect_refusal(with_kernel(dir / "fifo"), {dir / "fifo"});
  write_file(dir / "secret", guests::bzimage(Code().reset()));
  forbid(dir / "secret");
  expect_refusal(without_override(with_kernel(dir / "secret")),
                 {dir / "secret", "Permission denied"});
}

TEST(Refusal, OfTooLittleMemory) {
  expect_refusal(wick_run({"-k", image("bzImage"), "-m", "4M"}), {"4 MiB", "--memory"});
  expect_refusal(wick_run({"-k", image("vmlinux"), "-m", "4M"}), {"4 MiB"});
  expect_refusal(wick_run({"-k", image("debian-cloud/vmlinuz"), "-i",
                           image("debian-cloud/initrd.img"), "-m", "24M"}),
                 {"24 MiB", "--memory"});
}

TEST(Refusal, OfACommandLineThatDoesNotFit) {
  expect_refusal(wick_run({"-k", image("bzImage"), "-a", std::string(3000, 'x')}), {"2047"});
}

TEST(Refusal, OfInitrdsThatCannotBeRead) {
  const TempDir dir;
  const auto with_initrd = [](const std::string& path) {
    return wick_run({"-k", image("bzImage"), "-i", path});
  };
  expect_refusal(with_initrd(dir / "missing"), {dir / "missing", "No such file"});
  expect_refusal(with_initrd(dir.path()), {dir.path(), "directory"});
  make_fifo(dir / "fifo");
  expect_refusal(with_initrd(dir / "fifo"), {dir / "fifo"});
}

// --- disks ------------------------------------------------------------------

TEST(Refusal, OfDisksThatCannotBeRead) {
  const TempDir dir;
  const auto with_disk = [&](const std::string& spec) {
    return run_tiny(dir, Code().print("up\n").reset(), {"-d", spec});
  };
  expect_refusal(with_disk(dir / "missing"), {dir / "missing", "No such file", "check the path"});
  expect_refusal(with_disk(dir.path()), {dir.path(), "directory"});
  make_fifo(dir / "fifo");
  expect_refusal(with_disk(dir / "fifo"), {dir / "fifo", "FIFO"});
  write_file(dir / "empty", "");
  expect_refusal(with_disk(dir / "empty"), {dir / "empty", "empty"});
  expect_refusal(with_disk("/dev/null"), {"/dev/null", "character device"});
  write_file(dir / "qcow2", std::string("QFI\xfb\0\0\0\1", 8) + std::string(4096, '\0'));
  expect_refusal(with_disk(dir / "qcow2"), {dir / "qcow2", "qcow"});

  const std::string secret = blank_disk(dir, "secret", 1 << 20);
  forbid(secret);
  expect_refusal(without_override(with_disk(secret)), {secret, "Permission denied"});
  std::filesystem::permissions(secret, std::filesystem::perms::owner_read);
  expect_refusal(without_override(with_disk(secret)), {secret, "readonly=on"});
  const Finished read_only = finish(without_override(with_disk(secret + ",readonly=on")));
  EXPECT_EQ(read_only.status, 0) << read_only.err;
}

TEST(Refusal, OfMoreDisksThanThereAreSlots) {
  const TempDir dir;
  std::vector<std::string> options;
  for (int i = 0; i < 17; ++i) {
    options.emplace_back("-d");
    options.push_back(blank_disk(dir, fmt::format("disk{}", i), 4096));
  }
  expect_refusal(run_tiny(dir, Code().reset(), options),
                 {"disk16: a machine has at most 16 virtio disks"}, 2);
}

TEST(Refusal, OfMoreCpusThanThereCanBe) {
  const TempDir dir;
  expect_refusal(run_tiny(dir, Code().reset(), {"-c", "100000"}), {"100000 vCPUs", "--cpus"});
}

TEST(Refusal, OfMoreDisksThanThereAreInterrupts) {
  const TempDir dir;
  std::vector<std::string> options;
  for (int i = 0; i < 14; ++i) {
    options.emplace_back("-d");
    options.push_back(blank_disk(dir, fmt::format("disk{}", i), 4096));
  }
  options.insert(options.end(), {"--transport", "mmio"});
  expect_refusal(run_tiny(dir, Code().reset(), options), {"13"});
}

// --- the host ---------------------------------------------------------------

TEST(Refusal, OfAHostWhoseKvmIsMissing) {
  const TempDir dir;
  expect_refusal(in_own_mounts("mount -t tmpfs none /dev", run_tiny(dir, Code().reset())),
                 {"/dev/kvm", "No such file or directory", "kvm_amd"});
}

TEST(Refusal, OfAHostWhoseKvmIsForbidden) {
  const TempDir dir;
  write_file(dir / "kvm", "");
  forbid(dir / "kvm");
  const std::vector<std::string> argv = {"setpriv", "--bounding-set",
                                         "-dac_override,-dac_read_search", "--inh-caps",
                                         "-dac_override,-dac_read_search"};
  std::vector<std::string> command = argv;
  const std::vector<std::string> tiny = run_tiny(dir, Code().reset());
  command.insert(command.end(), tiny.begin(), tiny.end());
  expect_refusal(in_own_mounts("mount --bind " + (dir / "kvm") + " /dev/kvm", command),
                 {"/dev/kvm", "Permission denied", "kvm group"});
}

TEST(Refusal, OfADeviceThatIsNotKvm) {
  const TempDir dir;
  expect_refusal(in_own_mounts("mount --bind /dev/null /dev/kvm", run_tiny(dir, Code().reset())),
                 {"/dev/kvm", "not KVM"});
}

TEST(Refusal, OfInvalidPlacesForTheSerialPort) {
  const TempDir dir;
  const auto with_serial = [&](const std::string& spec) {
    return run_tiny(dir, Code().reset(), {"-s", spec});
  };
  expect_refusal(with_serial("unix:" + (dir / "no/folder")), {dir / "no/folder"});
  expect_refusal(with_serial("unix:/" + std::string(200, 'x')), {"107"});
  expect_refusal(with_serial("file:" + (dir / "no/folder")), {dir / "no/folder"});
  expect_refusal(with_serial("null,log=" + dir.path()), {dir.path()});
}

}  // namespace
}  // namespace wick::lab

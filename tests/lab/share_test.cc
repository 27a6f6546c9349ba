// Folders of the host in a guest, by virtio-fs and by 9P.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <filesystem>

#include "tests/lab/initramfs.h"
#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::HasSubstr;

class Share : public testing::Test {
 protected:
  explicit Share(const std::string& folder = std::filesystem::temp_directory_path())
      : dir_(folder) {
    std::filesystem::create_directory(dir_ / "shared");
    write_file(dir_ / "outside", "secret");
  }

  // Our own kernel with Alpine; it has virtio-fs built in.
  Dialogue& start(const std::string& keys) {
    vm_.emplace(wick_run({"-k", image("bzImage"), "-d", alpine_disk(dir_), "-a", "loglevel=4",
                          "--share", fmt::format("{},tag=host{}", dir_ / "shared", keys)}));
    log_in(vm_->console());
    return vm_->console();
  }
  void expect_read_only(const std::string& keys, const std::string& mount) {
    write("file", "text");
    Dialogue& shell = start(keys);
    (void)run_in_guest(shell, mount);
    EXPECT_EQ(run_in_guest(shell, "cat /mnt/file"), "text");
    for (const char* command : {"echo x >/mnt/file", "rm /mnt/file", "mkdir /mnt/dir",
                                "mv /mnt/file /mnt/other", "chmod 777 /mnt/file"}) {
      const Answer answer = ask(shell, command);
      EXPECT_NE(answer.status, 0) << command;
      EXPECT_THAT(answer.output, HasSubstr("Read-only file system")) << command;
    }
    EXPECT_EQ(read("file"), "text");
    power_off(*vm_);
  }
  std::string read(const std::string& name) const { return read_file(dir_ / "shared/" + name); }
  void write(const std::string& name, const std::string& text) const {
    write_file(dir_ / "shared/" + name, text);
  }
  static std::string digest_on_host(const std::string& path) {
    return finish({"md5sum", path}).out.substr(0, 32);
  }

  const TempDir dir_;
  std::optional<Process> vm_;
};

// What people do with a share: files in both directions, a tree of `files` files, and programs that
// map files.
void use(Dialogue& shell, const std::string& shared, int files) {
  write_file(shared + "/from-host", "of the host\n");
  EXPECT_EQ(run_in_guest(shell, "cat /mnt/from-host"), "of the host");
  (void)run_in_guest(shell, "echo of the guest >/mnt/from-guest; sync; ls -l /mnt");
  EXPECT_EQ(read_file(shared + "/from-guest"), "of the guest\n");

  // 8 MiB there and back, by a digest of each side.
  const std::string sum =
      run_in_guest(shell,
                   "dd if=/dev/urandom of=/mnt/big bs=64k count=128 conv=fsync 2>/dev/null; "
                   "md5sum </mnt/big | cut -c1-32");
  EXPECT_EQ(finish({"md5sum", shared + "/big"}).out.substr(0, 32), sum);
  EXPECT_EQ(run_in_guest(shell, "echo 3 >/proc/sys/vm/drop_caches; md5sum </mnt/big | cut -c1-32"),
            sum);

  // A tree of files and links, copied, moved, compared and removed.
  EXPECT_EQ(
      run_in_guest(shell,
                   "mkdir -p /mnt/tree/a/b && cp /bin/busybox /mnt/tree/a/ && "
                   "ln -s a/busybox /mnt/tree/link && ln /mnt/tree/a/busybox /mnt/tree/hard && "
                   "for i in $(seq " +
                       std::to_string(files) +
                       "); do echo $i >/mnt/tree/a/b/$i; done && "
                       "cp -a /mnt/tree /mnt/copy && mv /mnt/copy /mnt/moved && "
                       "diff -r /mnt/tree /mnt/moved && ls /mnt/moved/a/b | wc -l"),
      std::to_string(files));
  EXPECT_EQ(run_in_guest(shell, "/mnt/moved/a/busybox echo runs"), "runs");
  EXPECT_EQ(run_in_guest(shell, "cmp /mnt/moved/link /mnt/moved/hard && echo same"), "same");
  EXPECT_TRUE(std::filesystem::equivalent(shared + "/tree/a/busybox", shared + "/tree/hard"));
  (void)run_in_guest(shell, "rm -rf /mnt/moved /mnt/tree");
  EXPECT_FALSE(std::filesystem::exists(shared + "/tree"));

  // An open file that is removed, renames, truncation, append, holes.
  EXPECT_EQ(run_in_guest(shell,
                         "cd /mnt; exec 3<>gone; rm gone; echo still >&3; echo there >&3; "
                         "cat /proc/self/fd/3; exec 3>&-; echo a >x; echo b >>x; mv x y; "
                         "cat y; truncate -s 1G sparse; du -k sparse | cut -f1; cd /"),
            "still\nthere\na\nb\n0");
  EXPECT_EQ(std::filesystem::file_size(shared + "/sparse"), 1u << 30);
  (void)run_in_guest(shell, "rm /mnt/sparse /mnt/y /mnt/big");
}

TEST_F(Share, IsAFolderOfTheHost) {
  Dialogue& shell = start("");
  (void)run_in_guest(shell, "mount -t virtiofs host /mnt");
  use(shell, dir_ / "shared", 200);
  // The guest resolves the link itself.
  (void)run_in_guest(shell, "ln -s ../outside /mnt/out; ln -s /etc/hostname /mnt/etc");
  EXPECT_NE(ask(shell, "cat /mnt/out").status, 0);
  EXPECT_EQ(run_in_guest(shell, "cat /mnt/etc"), run_in_guest(shell, "cat /etc/hostname"));
  // It sees wick's user as itself, and another mount begins anew.
  EXPECT_EQ(run_in_guest(shell, "stat -c %u:%g /mnt/from-host"), "0:0");
  (void)run_in_guest(shell, "umount /mnt; mount -t virtiofs host /mnt");
  EXPECT_EQ(run_in_guest(shell, "cat /mnt/from-guest"), "of the guest");
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  power_off(*vm_);
}

// The kernel has 9P built in, too.
std::string mount_9p(const std::string& options = "") {
  return "mount -t 9p -o trans=virtio,version=9p2000.L" + options + " host /mnt";
}

TEST_F(Share, IsAFolderOfTheHostOver9pLong) {
  Dialogue& shell = start(",device=9p");
  (void)run_in_guest(shell, mount_9p());
  use(shell, dir_ / "shared", 40);  // each request waits, because there is no cache
  write("from-host", "changed\n");
  EXPECT_EQ(run_in_guest(shell, "cat /mnt/from-host"), "changed") << "there is no cache";
  EXPECT_EQ(run_in_guest(shell, "stat -c %u:%g /mnt/from-host"), "0:0");

  // A folder that is larger than a message, and the largest messages with a cache.
  (void)run_in_guest(shell, "umount /mnt; " + mount_9p(",msize=4096"));
  EXPECT_EQ(run_in_guest(shell,
                         "mkdir /mnt/many && cd /mnt/many && "
                         "for i in $(seq 500); do : >a-name-of-some-length-$i; done; "
                         "ls | sort -u | wc -l; ls | wc -l; cd /; rm -r /mnt/many"),
            "500\n500");
  (void)run_in_guest(shell, "umount /mnt; " + mount_9p(",msize=512000,cache=loose"));
  use(shell, dir_ / "shared", 200);
  (void)run_in_guest(shell, "umount /mnt");
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  power_off(*vm_);
}

// The guest's program compares the file with a model after each of its steps; the host sees the
// same content in the end.
void exercise_a_file(Dialogue& shell, const std::string& shared, int steps) {
  std::filesystem::copy_file(WICK_PROGRAMS "/file_exerciser", shared + "/exerciser");
  for (const char* seed : {"1", "2"}) {
    const std::string said = run_in_guest(
        shell, fmt::format("cp /mnt/exerciser /tmp/; /tmp/exerciser /mnt/file {} {}", steps, seed));
    uint64_t hash = 0xcbf29ce484222325;
    for (const char byte : read_file(shared + "/file"))
      hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
    EXPECT_EQ(said, fmt::format("equal {:x}", hash));
  }
}

TEST_F(Share, AFileEqualsAModelAfterRandomSteps) {
  Dialogue& shell = start("");
  (void)run_in_guest(shell, "mount -t virtiofs host /mnt");
  exercise_a_file(shell, dir_ / "shared", 1000);
  power_off(*vm_);
}

TEST_F(Share, AFileEqualsAModelAfterRandomStepsOver9p) {
  Dialogue& shell = start(",device=9p");
  (void)run_in_guest(shell, mount_9p(",msize=512000,cache=mmap"));
  exercise_a_file(shell, dir_ / "shared", 500);
  power_off(*vm_);
}

TEST_F(Share, ReadOnlyIsEnforcedByTheHost) {
  expect_read_only(",readonly=on", "mount -t virtiofs host /mnt");
}

TEST_F(Share, ReadOnlyIsEnforcedByTheHostOver9p) {
  expect_read_only(",device=9p,readonly=on", mount_9p());
}

// The lab's /tmp is in memory, without attributes.
class ShareOnDisk : public Share {
 protected:
  ShareOnDisk() : Share(folder_on_disk()) {}
};

TEST_F(ShareOnDisk, KeepsOwnersAndDevicesOfAGuestInAttributes) {
  Dialogue& shell = start(",security=mapped,cache=always");
  (void)run_in_guest(shell, "mount -t virtiofs host /mnt");
  EXPECT_EQ(
      run_in_guest(shell,
                   "cd /mnt; echo x >f; chown 12:34 f; chmod 4711 f; mknod n c 1 3; mkfifo p; "
                   "ln -s target l; echo gone >n; stat -c '%u %g %a %F' f n p l; readlink l"),
      "12 34 4711 regular file\n0 0 644 character special file\n0 0 644 fifo\n"
      "0 0 777 symbolic link\ntarget");
  struct stat status {};
  ASSERT_EQ(::lstat((dir_ / "shared/n").c_str(), &status), 0);
  EXPECT_TRUE(S_ISREG(status.st_mode));
  power_off(*vm_);
}

// user::rw-,user:1000:---,group::r--,mask::r--,other::r--: the ACL denies user 1000 what the mode,
// rw-r--r--, seems to allow.
TEST_F(ShareOnDisk, AnAccessControlListCountsInTheGuest) {
  write("file", "secret");
  struct [[gnu::packed]] {
    uint32_t version = POSIX_ACL_XATTR_VERSION;
    struct {
      uint16_t tag, permissions;
      uint32_t id;
    } entries[5] = {{ACL_USER_OBJ, 6, UINT32_MAX},
                    {ACL_USER, 0, 1000},
                    {ACL_GROUP_OBJ, 4, UINT32_MAX},
                    {ACL_MASK, 4, UINT32_MAX},
                    {ACL_OTHER, 4, UINT32_MAX}};
  } acl;
  ASSERT_EQ(
      ::setxattr((dir_ / "shared/file").c_str(), "system.posix_acl_access", &acl, sizeof(acl), 0),
      0);
  ASSERT_EQ(::chmod((dir_ / "shared").c_str(), 0755), 0);
  Dialogue& shell = start(",security=passthrough");
  (void)run_in_guest(shell, "mount -t virtiofs host /mnt");
  ASSERT_EQ(run_in_guest(shell, "id -u student"), "1000");
  EXPECT_EQ(run_in_guest(shell, "cat /mnt/file; stat -c %a /mnt/file"), "secret644");
  const Answer answer = ask(shell, "su student -c 'cat /mnt/file'");
  EXPECT_NE(answer.status, 0);
  EXPECT_THAT(answer.output, HasSubstr("Permission denied"));
  power_off(*vm_);
}

// Permissions, owners, modes and errors, as users of the guest meet them: the share gives the same
// results as the guest's own ext4.
class PosixCases : public ShareOnDisk {
 protected:
  // Cases whose lines begin with one of `different` are not compared.
  void expect_those_of_ext4(const std::string& keys, const std::string& mount,
                            const std::vector<std::string>& different) {
    std::filesystem::copy_file(WICK_PROGRAMS "/posix_cases", dir_ / "shared/posix_cases");
    Dialogue& shell = start(keys);
    (void)run_in_guest(shell, mount);
    (void)run_in_guest(shell,
                       "cp /mnt/posix_cases /tmp/ && mkdir /var/own /mnt/shared && "
                       "chmod 755 /mnt /mnt/shared && /tmp/posix_cases /var/own >/var/own.lines && "
                       "/tmp/posix_cases /mnt/shared >/var/shared.lines && "
                       "cp /var/own.lines /var/shared.lines /mnt/",
                       Seconds(1200));
    power_off(*vm_);
    const std::vector<std::string> own = lines(read("own.lines"));
    const std::vector<std::string> shared = lines(read("shared.lines"));
    EXPECT_GT(own.size(), 1800u);
    ASSERT_EQ(own.size(), shared.size());
    std::string differences;
    for (size_t i = 0; i < own.size(); ++i)
      if (own[i] != shared[i] && std::ranges::none_of(different, [&](const std::string& begin) {
            return own[i].starts_with(begin);
          }))
        differences += fmt::format("-{}\n+{}\n", own[i], shared[i]);
    EXPECT_EQ(differences, "");
  }

  // Linux's requests for a chown that changes neither owner nor group say nothing, so the bits for
  // set-user-ID and set-group-ID stay.
  const std::vector<std::string> of_fuse_ = {"chown_nothing", "chown(\"f\", (uid_t)-1, (gid_t)-1)"};
  // 9P has no request with the flags of renameat2(), and Linux's client no times before 1970.
  const std::vector<std::string> of_9p_ = {"exchange", "rename2(", "time: -5",
                                           "chown(\"f\", (uid_t)-1, (gid_t)-1)"};
};

TEST_F(PosixCases, AreThoseOfExt4Long) {
  expect_those_of_ext4(",security=passthrough", "mount -t virtiofs host /mnt", of_fuse_);
}

TEST_F(PosixCases, AreThoseOfExt4WithMappedOwnersLong) {
  expect_those_of_ext4(",security=mapped", "mount -t virtiofs host /mnt", of_fuse_);
}

TEST_F(PosixCases, AreThoseOfExt4Over9pLong) {
  expect_those_of_ext4(",device=9p,security=passthrough", mount_9p(), of_9p_);
}

TEST_F(PosixCases, AreThoseOfExt4Over9pWithMappedOwnersLong) {
  expect_those_of_ext4(",device=9p,security=mapped", mount_9p(), of_9p_);
}

TEST_F(Share, CanBeTheRoot) {
  // Alpine's files, copied out of its disk.
  const std::string root = dir_ / "shared";
  ASSERT_EQ(finish({"debugfs", "-R", "rdump / " + root, alpine_disk(dir_)}).status, 0);
  vm_.emplace(wick_run({"-k", image("bzImage"), "--share", root + ",tag=myroot", "-a",
                        "loglevel=4 root=myroot rootfstype=virtiofs rw init=/bin/sh"}));
  Dialogue& shell = vm_->console();
  shell.expect("# ");
  EXPECT_EQ(run_in_guest(shell, "echo of the guest >/written; head -n 1 /etc/os-release"),
            "NAME=\"Alpine Linux\"");
  EXPECT_EQ(read("written"), "of the guest\n");
}

TEST_F(Share, StockKernelUsesItLong) {
  std::map<std::string, std::string> files;
  std::string load = "for m in";
  for (const Module& module : generic_modules({"virtiofs"})) {
    files["extra/" + module.name] = module.content;
    load += " " + module.name;
  }
  load += "; do insmod /extra/$m; done 2>/dev/null; mkdir -p /mnt; mount -t virtiofs host /mnt";
  write_file(dir_ / "initrd",
             extend_initramfs(read_file(image("debian-generic/initrd.img")), files));
  vm_.emplace(wick_run({"-k", image("debian-generic/vmlinuz"), "-i", dir_ / "initrd", "-a",
                        "quiet wick.sh", "--share", dir_ / "shared" + ",tag=host"}));
  Dialogue& shell = vm_->console();
  shell.expect("# ");
  (void)run_in_guest(shell, load);
  write("file", "text");
  EXPECT_EQ(run_in_guest(shell, "cat /mnt/file"), "text");
  (void)run_in_guest(shell, "mkdir /mnt/dir; for i in 1 2 3; do echo $i >/mnt/dir/$i; done");
  EXPECT_EQ(read("dir/3"), "3\n");
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
}

}  // namespace
}  // namespace wick::lab

#include "image/from_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "base/bytes.h"
#include "base/process.h"
#include "block/image_lock.h"
#include "image/scratch_file.h"

namespace wick::image {

namespace {

constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kInodeBytes = 256;
// mke2fs makes one inode for this many bytes of a disk (mke2fs.conf, inode_ratio).
constexpr uint64_t kInodeRatio = 16384;
constexpr uint64_t kMiB = 1 << 20;
// For free space, the journal, and other metadata of a small disk.
constexpr uint64_t kRoomBytes = 32 * kMiB;
// More than one try may be needed: the estimate does not count extended attributes, and it is too
// low for files that the host compresses.
constexpr int kMaxTries = 8;
// A symbolic link with a shorter target is stored in its inode.
constexpr off_t kInlineLinkBytes = 60;

uint64_t inodes_for(const FolderUse& use, uint64_t disk_bytes) {
  return std::max(use.inodes + use.inodes / 8 + 1024, disk_bytes / kInodeRatio);
}

// Returns true if mke2fs had too little room.
bool is_full(const std::string& errors) {
  for (const char* const message :
       {"Could not allocate", "No free space", "too small", "too big for", "Not enough space"})
    if (errors.find(message) != errors.npos) return true;
  return false;
}

// Makes the file system in a disk of `size_bytes`. Returns false if the folder does not fit.
Result<bool> make_file_system(const ScratchFile& disk, const ImageCreate& create,
                              const FolderUse& use, uint64_t size_bytes) {
  if (::ftruncate(disk.fd().get(), 0) != 0 ||
      ::ftruncate(disk.fd().get(), static_cast<off_t>(size_bytes)) != 0)
    return fail_errno(errno, "{}: cannot make a disk of {} bytes", create.path, size_bytes);
  std::vector<std::string> words = {"mke2fs", "-q", "-F", "-t", "ext4", "-b"};
  words.push_back(fmt::to_string(kBlockBytes));
  words.insert(words.end(), {"-N", fmt::to_string(inodes_for(use, size_bytes))});
  words.insert(words.end(), {"-d", create.folder});
  if (!create.label.empty()) words.insert(words.end(), {"-L", create.label});
  words.push_back(disk.path());
  const ProcessOutcome made = TRY(run_process(words));
  if (made.status == 0) return true;
  const std::string errors = one_line(made.errors);
  if (is_full(made.errors)) return false;
  return fail("{}: mke2fs cannot make a file system of {}: {}", create.path, create.folder, errors);
}

// Returns the image's path, with symbolic links followed. If the image exists, also returns it open
// and locked, so that no other program uses the image that will be replaced.
Result<std::pair<std::string, Fd>> claim_target(const std::string& path) {
  std::error_code error;
  std::string target = path;
  if (std::filesystem::is_symlink(path, error))
    target = std::filesystem::weakly_canonical(path, error).string();
  Fd old(::open(target.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!old.valid() && errno == ENOENT) return std::pair(target, Fd());
  struct stat status {};
  if (!old.valid() || ::fstat(old.get(), &status) != 0)
    return fail_errno(errno, "{}: cannot replace it", path);
  if (!S_ISREG(status.st_mode)) return fail("{}: is not a regular file", path);
  TRY(block::lock_image(old, false, path));
  return std::pair(target, std::move(old));
}

}  // namespace

Result<FolderUse> measure_folder(const std::string& folder) {
  FolderUse use{.data_bytes = kBlockBytes, .inodes = 1};
  std::set<std::pair<dev_t, ino_t>> linked;
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error))
    return with_hint(fail("{}: is not a folder", folder), "check the path after --from");
  std::filesystem::recursive_directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::recursive_directory_iterator();
       entry.increment(error)) {
    struct stat status {};
    if (::lstat(entry->path().c_str(), &status) != 0)
      return fail_errno(errno, "{}: cannot stat", entry->path().string());
    // The file's entry in its folder takes at most 8 bytes more than the name, padded.
    use.data_bytes += align_up(entry->path().filename().native().size() + 8, 4);
    if (status.st_nlink > 1 && !S_ISDIR(status.st_mode) &&
        !linked.emplace(status.st_dev, status.st_ino).second)
      continue;
    ++use.inodes;
    if (S_ISDIR(status.st_mode) || (S_ISLNK(status.st_mode) && status.st_size >= kInlineLinkBytes))
      use.data_bytes += kBlockBytes;
    else if (S_ISREG(status.st_mode))  // holes of the file take no space
      use.data_bytes += align_up(static_cast<uint64_t>(status.st_blocks) * 512, kBlockBytes);
  }
  if (error) return fail_errno(error.value(), "{}: cannot read the folder", folder);
  return use;
}

uint64_t disk_size_for(const FolderUse& use) {
  const uint64_t content = use.data_bytes + use.data_bytes / 10;
  const uint64_t inodes = inodes_for(use, content) * kInodeBytes;
  return align_up(content + inodes + kRoomBytes, kMiB);
}

Result<uint64_t> create_from_folder(const ImageCreate& create) {
  const FolderUse use = TRY(measure_folder(create.folder));
  const auto [target, lock] = TRY(claim_target(create.path));
  ScratchFile disk = TRY(ScratchFile::create(target));
  uint64_t size_bytes = create.size_bytes ? align_up(*create.size_bytes, 512) : disk_size_for(use);
  for (int tries = 1;; ++tries) {
    if (TRY(make_file_system(disk, create, use, size_bytes))) break;
    if (create.size_bytes || tries == kMaxTries)
      return with_hint(
          fail("{}: {} does not fit into {} bytes", create.path, create.folder, size_bytes),
          create.size_bytes ? "leave SIZE out to have it computed" : "give a SIZE");
    size_bytes = align_up(size_bytes + size_bytes / 4, kMiB);
  }
  const auto* const raw = std::get_if<RawCreateOptions>(&create.options);
  if (raw != nullptr && raw->preallocation == block::Preallocation::kOff) {
    TRY(disk.publish(target));
    return size_bytes;
  }
  ScratchFile image = TRY(ScratchFile::create(target));
  ImageConvert convert;
  convert.sources = {disk.path()};
  convert.format = ImageFormat::kRaw;
  convert.target = image.path();
  convert.output = raw != nullptr ? ImageFormat::kRaw : ImageFormat::kQcow2;
  convert.options = create.options;
  convert.quiet = true;
  if (auto copied = execute(convert); !copied) {
    copied.error().context = fmt::format("{}: {}", create.path, copied.error().context);
    return failure(copied);
  }
  TRY(image.publish(target));
  return size_bytes;
}

}  // namespace wick::image

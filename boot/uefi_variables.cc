#include "boot/uefi_variables.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "boot/input_file.h"

namespace wick::boot {

namespace {

constexpr uint64_t kUnitBytes = 4096;
constexpr uint64_t kMaxBytes = 4 << 20;

Result<std::vector<std::byte>> read_template(const std::string& path) {
  const InputFile file = TRY(InputFile::open(path));
  if (file.size_bytes() == 0 || file.size_bytes() % kUnitBytes != 0 ||
      file.size_bytes() > kMaxBytes)
    return with_hint(fail("{}: {} bytes are no variables of UEFI", path, file.size_bytes()),
                     "install the package ovmf again");
  std::vector<std::byte> bytes(file.size_bytes());
  TRY(file.read(0, bytes));
  return bytes;
}

// Opens and locks the file, and reads it into `content`. An empty file is filled with `content`: it
// is new, and the lock ensures that no other machine is about to fill it.
Result<Fd> open_locked(const std::string& path, std::span<std::byte> content) {
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600));
  if (!file.valid())
    return with_hint(fail_errno(errno, "{}: cannot open the variables of UEFI", path),
                     "check the path and its permissions, or give another by vars=");
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return with_hint(fail_errno(errno, "{}: cannot lock the variables of UEFI", path),
                       "give a file on another file system by vars=");
    return with_hint(fail_errno(errno, "{}: another machine uses these variables of UEFI", path),
                     "give each machine a file of its own");
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "{}: cannot stat", path);
  const bool is_new = S_ISREG(status.st_mode) && status.st_size == 0;
  if (!S_ISREG(status.st_mode) ||
      (!is_new && static_cast<uint64_t>(status.st_size) != content.size()))
    return with_hint(
        fail("{}: does not have the {} bytes of this firmware's variables", path, content.size()),
        "give the file that was made with this firmware, or a new name");
  const ssize_t done = is_new ? ::pwrite(file.get(), content.data(), content.size(), 0)
                              : ::pread(file.get(), content.data(), content.size(), 0);
  if (done == static_cast<ssize_t>(content.size())) return file;
  const int why = done < 0 ? errno : ENOSPC;
  // If ftruncate() fails, too, the next run refuses the file because of its size.
  [[maybe_unused]] const int emptied = is_new ? ::ftruncate(file.get(), 0) : 0;
  return fail_errno(why, "{}: cannot {} the variables of UEFI", path, is_new ? "write" : "read");
}

}  // namespace

Result<std::unique_ptr<UefiVariables>> UefiVariables::open(const std::string& path,
                                                           const std::string& template_path,
                                                           GuestAddress end) {
  std::vector<std::byte> content = TRY(read_template(template_path));
  Fd file;
  if (!path.empty()) {
    file = TRY(open_locked(path, content));
  }
  const GuestAddress start{end.value - content.size()};
  GuestMemory memory =
      TRY(GuestMemory::create(std::array{GuestMemory::Range{start, content.size()}}));
  TRY(memory.write_bytes(start, content));
  return std::unique_ptr<UefiVariables>(
      new UefiVariables(std::move(memory), path, std::move(file)));
}

// Does not sync: a guest may write often, and must not wait for the disk.
void UefiVariables::store(size_t offset, size_t size) {
  if (!file_.valid()) return;
  const auto from = bytes().subspan(offset, size);
  const ssize_t written =
      ::pwrite(file_.get(), from.data(), from.size(), static_cast<off_t>(offset));
  if (written == static_cast<ssize_t>(size)) return;
  warnings_.warn("{}: cannot store the variables of UEFI: {}", path_,
                 written < 0 ? std::strerror(errno) : "too few bytes were written");
}

}  // namespace wick::boot

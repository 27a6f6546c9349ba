#include "boot/uefi_variables.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/replace_file.h"
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

Result<Fd> open_existing(const std::string& path, uint64_t size_bytes) {
  Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!file.valid()) return fail_errno(errno, "{}: cannot open the variables of UEFI", path);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "{}: cannot stat", path);
  if (!S_ISREG(status.st_mode) || static_cast<uint64_t>(status.st_size) != size_bytes)
    return with_hint(
        fail("{}: does not have the {} bytes of this firmware's variables", path, size_bytes),
        "give the file that was made with this firmware, or a new name");
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0)
    return with_hint(fail_errno(errno, "{}: another machine uses these variables of UEFI", path),
                     "give each machine a file of its own");
  return file;
}

}  // namespace

Result<std::unique_ptr<UefiVariables>> UefiVariables::open(const std::string& path,
                                                           const std::string& template_path,
                                                           GuestAddress end) {
  std::vector<std::byte> content = TRY(read_template(template_path));
  Fd file;
  if (!path.empty()) {
    if (::access(path.c_str(), F_OK) != 0)
      TRY(replace_file(path, {reinterpret_cast<const char*>(content.data()), content.size()}));
    file = TRY(open_existing(path, content.size()));
    const InputFile input = TRY(InputFile::open(path));
    TRY(input.read(0, content));
  }
  const GuestAddress start{end.value - content.size()};
  GuestMemory memory =
      TRY(GuestMemory::create(std::array{GuestMemory::Range{start, content.size()}}));
  TRY(memory.write_bytes(start, content));
  return std::unique_ptr<UefiVariables>(
      new UefiVariables(std::move(memory), path, std::move(file)));
}

// A guest may write often, so that nothing waits for the disk here.
void UefiVariables::store(size_t offset, size_t size) {
  if (!file_.valid()) return;
  const auto from = bytes().subspan(offset, size);
  const ssize_t written =
      ::pwrite(file_.get(), from.data(), from.size(), static_cast<off_t>(offset));
  if (written == static_cast<ssize_t>(size)) return;
  static RateLimit limit;
  limit.warn("{}: cannot store the variables of UEFI: {}", path_,
             written < 0 ? std::strerror(errno) : "too few bytes were written");
}

}  // namespace wick::boot

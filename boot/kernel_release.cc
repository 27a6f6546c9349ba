#include "boot/kernel_release.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "boot/decompress.h"
#include "boot/input_file.h"

namespace wick::boot {

namespace {

constexpr size_t kMaxReleaseBytes = 64;  // __NEW_UTS_LEN
constexpr std::string_view kBanner = "Linux version ";

// Returns the text up to the first blank or NUL; empty if there is none within the limit.
std::string word_at(std::string_view text) {
  text = text.substr(0, kMaxReleaseBytes + 1);
  const size_t end = text.find_first_of(std::string_view(" \0\n", 3));
  return end == std::string_view::npos ? std::string() : std::string(text.substr(0, end));
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads `size_bytes` at `offset`, or less if the file ends before that.
Result<std::vector<std::byte>> read_part(const InputFile& file, uint64_t offset,
                                         uint64_t size_bytes) {
  if (offset >= file.size_bytes()) return std::vector<std::byte>();
  std::vector<std::byte> part(std::min(size_bytes, file.size_bytes() - offset));
  TRY(file.read(offset, part));
  return part;
}

Result<std::string> find_banner(const InputFile& file) {
  constexpr uint64_t kPieceBytes = 1 << 20;
  constexpr uint64_t kOverlapBytes = kBanner.size() + kMaxReleaseBytes + 1;
  for (uint64_t offset = 0; offset < file.size_bytes(); offset += kPieceBytes) {
    const auto piece = TRY(read_part(file, offset, kPieceBytes + kOverlapBytes));
    const std::string_view text = as_text(piece);
    for (size_t at = text.find(kBanner); at != text.npos; at = text.find(kBanner, at + 1)) {
      std::string release = word_at(text.substr(at + kBanner.size()));
      // A kernel also contains the banner as a format string: "Linux version %s (%s)".
      if (!release.empty() && release.front() >= '0' && release.front() <= '9') return release;
    }
  }
  return std::string();
}

}  // namespace

Result<std::string> kernel_release(const std::string& path) {
  auto compressed = TRY(InputFile::open(path));
  const InputFile file = TRY(decompressed(std::move(compressed)));
  constexpr size_t kSetupHeader = 0x1f1;
  constexpr size_t kMagic = 0x202;
  constexpr size_t kVersionPointer = 0x20e;
  constexpr size_t kSectorBytes = 512;
  const auto start = TRY(read_part(file, 0, kVersionPointer + sizeof(uint16_t)));
  std::string release;
  if (start.size() == kVersionPointer + sizeof(uint16_t) &&
      as_text(start).substr(kMagic).starts_with("HdrS")) {
    // Boot protocol: kernel_version is an offset from the end of the boot sector and must be less
    // than setup_sects * 512. If setup_sects is 0, it stands for 4.
    constexpr size_t kDefaultSetupSects = 4;
    const auto given_sects = std::to_integer<size_t>(start[kSetupHeader]);
    const size_t setup_sects = given_sects != 0 ? given_sects : kDefaultSetupSects;
    const size_t pointer = load_le<uint16_t>(std::span(start).subspan(kVersionPointer));
    if (pointer != 0 && pointer < setup_sects * kSectorBytes)
      release =
          word_at(as_text(TRY(read_part(file, pointer + kSectorBytes, kMaxReleaseBytes + 1))));
  } else {
    release = TRY(find_banner(file));
  }
  if (release.empty() || release.find('/') != release.npos)
    return fail("{}: does not tell which release of Linux it is", path);
  return release;
}

}  // namespace wick::boot

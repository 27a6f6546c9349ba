#include "share/mapped_stat.h"

#include <fmt/format.h>
#include <sys/xattr.h>

#include <array>
#include <charconv>

#include "share/host_calls.h"

namespace wick::share {

namespace {

// Takes "PREFIX" and a number off the front of `text`.
bool take(std::string_view& text, std::string_view prefix, int base, uint32_t& value) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

bool is_file_type(uint32_t type) {
  switch (type) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::string MappedStat::text() const {
  return fmt::format("uid={} gid={} mode=0{:o} rdev={}:{}", uid, gid, mode, rdev_major, rdev_minor);
}

std::optional<MappedStat> MappedStat::parse(std::string_view text) {
  MappedStat stat;
  if (!take(text, "uid=", 10, stat.uid) || !take(text, " gid=", 10, stat.gid) ||
      !take(text, " mode=", 8, stat.mode) || !take(text, " rdev=", 10, stat.rdev_major) ||
      !take(text, ":", 10, stat.rdev_minor) || !text.empty())
    return std::nullopt;
  if ((stat.mode & ~(S_IFMT | 07777u)) != 0 || !is_file_type(stat.mode & S_IFMT))
    return std::nullopt;
  return stat;
}

MappedStat MappedStat::of(const Attributes& attributes) {
  return {.uid = attributes.stx_uid,
          .gid = attributes.stx_gid,
          .mode = attributes.stx_mode,
          .rdev_major = attributes.stx_rdev_major,
          .rdev_minor = attributes.stx_rdev_minor};
}

void MappedStat::apply_to(Attributes& attributes) const {
  const uint32_t host_type = attributes.stx_mode & S_IFMT;
  const uint32_t type = mode & S_IFMT;
  // A directory is a directory on both sides. Only a regular file of the host stands for other
  // types.
  if (host_type != S_IFREG && type != host_type) return;
  if (host_type == S_IFREG && type == S_IFDIR) return;
  attributes.stx_uid = uid;
  attributes.stx_gid = gid;
  attributes.stx_mode = static_cast<uint16_t>(mode);
  attributes.stx_rdev_major = rdev_major;
  attributes.stx_rdev_minor = rdev_minor;
  if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK) attributes.stx_size = 0;
}

Outcome<std::optional<MappedStat>> read_mapped_stat(const Fd& fd) {
  std::array<char, 128> text;
  const ssize_t size =
      ::getxattr(path_of(fd).c_str(), kMappedAttribute.data(), text.data(), text.size());
  if (size >= 0) return MappedStat::parse({text.data(), static_cast<size_t>(size)});
  // ERANGE: longer than any valid text. EPERM and EOPNOTSUPP: files of types without user.*.
  if (errno == ENODATA || errno == ERANGE || errno == EPERM || errno == EOPNOTSUPP)
    return std::nullopt;
  return refuse(errno);
}

Outcome<> write_mapped_stat(const Fd& fd, const MappedStat& stat) {
  const std::string text = stat.text();
  return succeeded(
      ::setxattr(path_of(fd).c_str(), kMappedAttribute.data(), text.data(), text.size(), 0));
}

}  // namespace wick::share

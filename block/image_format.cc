#include "block/image_format.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace wick::block {

namespace {

using namespace std::string_view_literals;

struct Magic {
  const char* format;
  size_t offset_bytes;
  std::string_view bytes;
};

constexpr std::array kMagics = {
    Magic{"qcow2", 0, "QFI\xfb\0\0\0\2"sv},
    Magic{"qcow2", 0, "QFI\xfb\0\0\0\3"sv},
    Magic{"qcow", 0, "QFI\xfb"sv},
    Magic{"qed", 0, "QED\0"sv},
    Magic{"vmdk", 0, "KDMV"sv},
    Magic{"vmdk", 0, "COWD"sv},
    Magic{"vmdk", 0, "# Disk Descriptor"sv},
    Magic{"vhd", 0, "conectix"sv},
    Magic{"vhdx", 0, "vhdxfile"sv},
    Magic{"luks", 0, "LUKS\xba\xbe"sv},
    Magic{"parallels", 0, "WithoutFreeSpace"sv},
    Magic{"parallels", 0, "WithouFreSpacExt"sv},
    Magic{"vdi", 64, "\x7f\x10\xda\xbe"sv},
};

constexpr std::array kForeignSuffixes = {".qcow2"sv, ".qcow"sv, ".qed"sv,  ".vmdk"sv,
                                         ".vdi"sv,   ".vhd"sv,  ".vhdx"sv, ".iso.gz"sv};

std::string_view foreign_suffix(std::string_view path) {
  for (const std::string_view suffix : kForeignSuffixes)
    if (path.ends_with(suffix)) return suffix;
  return {};
}

}  // namespace

const char* format_of_magic(std::span<const std::byte> sector) {
  for (const Magic& magic : kMagics)
    if (sector.size() >= magic.offset_bytes + magic.bytes.size() &&
        std::memcmp(sector.data() + magic.offset_bytes, magic.bytes.data(), magic.bytes.size()) ==
            0)
      return magic.format;
  return nullptr;
}

const char* format_name(Format format) { return format == Format::kQcow2 ? "qcow2" : "raw"; }

std::optional<Format> format_of_name(std::string_view name) {
  for (const Format format : {Format::kRaw, Format::kQcow2})
    if (name == format_name(format)) return format;
  return std::nullopt;
}

Result<Format> probe_format(const Fd& file, const std::string& path) {
  std::array<std::byte, 512> sector{};
  const ssize_t got = ::pread(file.get(), sector.data(), sector.size(), 0);
  if (got < 0) return fail_errno(errno, "disk {}: cannot read", path);
  if (const char* format = format_of_magic(std::span(sector).first(static_cast<size_t>(got)))) {
    if (format == "qcow2"sv) return Format::kQcow2;
    const bool ours = format == "vdi"sv || format == "vmdk"sv;
    return with_hint(
        fail("disk {}: is a {} image, which wick cannot use as a disk", path, format),
        fmt::format("convert it: {} convert -O qcow2 OLD NEW", ours ? "wick image" : "qemu-img"));
  }
  if (const auto suffix = foreign_suffix(path); !suffix.empty())
    return with_hint(
        fail("disk {}: has the suffix {}, but not the header of that format", path, suffix),
        "if it is a raw disk, add format=raw (-f raw with wick image)");
  return Format::kRaw;
}

}  // namespace wick::block

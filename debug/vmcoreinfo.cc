#include "debug/vmcoreinfo.h"

#include <elf.h>
#include <linux/qemu_fw_cfg.h>

#include <charconv>

#include "base/bytes.h"

namespace wick::debug {

namespace {

constexpr uint64_t kNoteAlignment = 4;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

Result<std::optional<GuestNote>> GuestNote::read(const GuestMemory& memory,
                                                 std::span<const std::byte> written) {
  static_assert(sizeof(fw_cfg_vmcoreinfo) == 16);
  if (written.size() != sizeof(fw_cfg_vmcoreinfo)) return std::nullopt;
  const auto entry = load_le<fw_cfg_vmcoreinfo>(written);
  if (entry.guest_format == FW_CFG_VMCOREINFO_FORMAT_NONE) return std::nullopt;
  if (entry.guest_format != FW_CFG_VMCOREINFO_FORMAT_ELF)
    return fail("the guest's vmcoreinfo has the unknown format {}", entry.guest_format);
  if (entry.size < sizeof(Elf64_Nhdr) || entry.size > kMaxGuestNoteBytes)
    return fail("the guest's vmcoreinfo is said to have {} bytes; a note has {} to {}", entry.size,
                sizeof(Elf64_Nhdr), kMaxGuestNoteBytes);
  const auto area = memory.slice({entry.paddr}, entry.size);
  if (!area)
    return fail("the guest's vmcoreinfo at {:#x} + {:#x} is not RAM", entry.paddr, entry.size);
  GuestNote note;
  note.bytes_.assign(area->begin(), area->end());
  const auto header = load_le<Elf64_Nhdr>(note.bytes_);
  const uint64_t description = sizeof(header) + align_up(header.n_namesz, kNoteAlignment);
  const uint64_t end = description + align_up(header.n_descsz, kNoteAlignment);
  if (end > entry.size)
    return fail("the guest's vmcoreinfo at {:#x} is not a note: its parts have {} bytes of {}",
                entry.paddr, end, entry.size);
  note.bytes_.resize(end);
  note.name_bytes_ = header.n_namesz;
  note.description_offset_ = description;
  note.description_bytes_ = header.n_descsz;
  return std::optional(std::move(note));
}

std::string_view GuestNote::name() const {
  const std::string_view name = text_of(std::span(bytes_).subspan(sizeof(Elf64_Nhdr), name_bytes_));
  return name.substr(0, name.find('\0'));
}

std::string_view GuestNote::description() const {
  return text_of(std::span(bytes_).subspan(description_offset_, description_bytes_));
}

std::optional<std::string_view> GuestNote::value(std::string_view key) const {
  if (name() != "VMCOREINFO") return std::nullopt;
  std::string_view rest = description();
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == '=')
      return line.substr(key.size() + 1);
  }
  return std::nullopt;
}

// The value is a signed decimal number: Linux prints it with %ld on x86.
std::optional<int64_t> GuestNote::phys_base() const {
  const auto text = value("NUMBER(phys_base)");
  if (!text) return std::nullopt;
  int64_t number = 0;
  const char* const end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

}  // namespace wick::debug

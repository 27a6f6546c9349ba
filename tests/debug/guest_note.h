// What a guest's kernel would write for its cores.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace wick::debug {

// The content of etc/vmcoreinfo.
inline std::vector<std::byte> vmcoreinfo_entry(uint64_t address, uint32_t size_bytes,
                                               uint16_t format = 1) {
  std::vector<std::byte> entry(16);
  store_le<uint16_t>(std::span(entry).subspan(0, 2), 1);
  store_le(std::span(entry).subspan(2, 2), format);
  store_le(std::span(entry).subspan(4, 4), size_bytes);
  store_le(std::span(entry).subspan(8, 8), address);
  return entry;
}

inline std::vector<std::byte> elf_note(std::string_view name, std::string_view text) {
  const Elf64_Nhdr header{.n_namesz = static_cast<uint32_t>(name.size() + 1),
                          .n_descsz = static_cast<uint32_t>(text.size()),
                          .n_type = 0};
  const size_t text_at = sizeof(header) + align_up(header.n_namesz, 4);
  std::vector<std::byte> note(text_at + align_up(text.size(), 4));
  std::memcpy(note.data(), &header, sizeof(header));
  std::memcpy(note.data() + sizeof(header), name.data(), name.size());
  if (!text.empty()) std::memcpy(note.data() + text_at, text.data(), text.size());
  return note;
}

}  // namespace wick::debug

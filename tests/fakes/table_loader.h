// Executes a script of QEMU's linker/loader as firmware does (SeaBIOS, src/fw/romfile_loader.c):
// puts files into guest memory, and links them there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/guest_memory.h"

namespace wick::fakes {

class TableLoader {
 public:
  using Files = std::map<std::string, std::vector<std::byte>>;

  // `memory` has at least 4 MiB.
  TableLoader(const GuestMemory& memory, Files files) : memory_(memory), files_(std::move(files)) {}

  // Returns what is wrong with the script; empty: nothing.
  std::string run(std::span<const std::byte> script) {
    if (script.size() % kCommandBytes != 0) return "the script has part of a command";
    for (; !script.empty(); script = script.subspan(kCommandBytes)) {
      const std::string error = execute(script.first(kCommandBytes));
      if (!error.empty()) return error;
    }
    return {};
  }

  // 0 if no command has allocated it.
  uint64_t address_of(const std::string& file) const {
    const auto found = allocated_.find(file);
    return found == allocated_.end() ? 0 : found->second.first;
  }

 private:
  static constexpr size_t kCommandBytes = 128;
  static constexpr size_t kNameBytes = 56;

  static std::string name_at(std::span<const std::byte> command, size_t offset) {
    const auto* const text = reinterpret_cast<const char*>(command.data()) + offset;
    return {text, ::strnlen(text, kNameBytes)};
  }
  static uint32_t number_at(std::span<const std::byte> command, size_t offset) {
    return load_le<uint32_t>(command.subspan(offset, 4));
  }

  std::string execute(std::span<const std::byte> command) {
    const std::string file = name_at(command, 4);
    if (file.size() == kNameBytes) return "a name without end";
    switch (number_at(command, 0)) {
      case 1:
        return allocate(file, number_at(command, 60), std::to_integer<uint8_t>(command[64]));
      case 2:
        return add_pointer(file, name_at(command, 60), number_at(command, 116),
                           std::to_integer<uint8_t>(command[120]));
      case 3:
        return add_checksum(file, number_at(command, 60), number_at(command, 64),
                            number_at(command, 68));
      default:
        return "an unknown command";
    }
  }

  // No address is aligned better than the script asks for.
  std::string allocate(const std::string& file, uint32_t alignment, uint8_t zone) {
    if (allocated_.contains(file)) return file + " is allocated twice";
    const auto content = files_.find(file);
    if (content == files_.end()) return "there is no file " + file;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) return "a bad alignment";
    if (zone != 1 && zone != 2) return "a bad zone";
    uint64_t& next = zone == 1 ? next_high_ : next_fseg_;
    const uint64_t address = align_up(next, alignment) | alignment;
    const auto to = memory_.slice({address}, content->second.size());
    if (!to) return "no memory";
    std::copy(content->second.begin(), content->second.end(), to->begin());
    next = address + content->second.size();
    allocated_[file] = {address, *to};
    return {};
  }

  std::string add_pointer(const std::string& in, const std::string& to, uint32_t offset,
                          uint8_t size_bytes) {
    const auto blob = allocated_.find(in);
    const auto target = allocated_.find(to);
    if (blob == allocated_.end() || target == allocated_.end()) return "a file is not allocated";
    const auto bytes = blob->second.second;
    if (size_bytes != 4 && size_bytes != 8) return "a pointer of an odd size";
    if (offset > bytes.size() || size_bytes > bytes.size() - offset) return "a pointer outside";
    const auto field = bytes.subspan(offset, size_bytes);
    const auto value = load_le<uint64_t>(field);
    // edk2 refuses it.
    if (value >= target->second.second.size()) return "a pointer to what is outside";
    store_le(field, value + target->second.first);
    return {};
  }

  std::string add_checksum(const std::string& file, uint32_t offset, uint32_t start,
                           uint32_t size_bytes) {
    const auto blob = allocated_.find(file);
    if (blob == allocated_.end()) return "a file is not allocated";
    const auto bytes = blob->second.second;
    if (offset >= bytes.size() || start > bytes.size() || size_bytes > bytes.size() - start)
      return "a checksum outside";
    unsigned sum = 0;
    for (const std::byte byte : bytes.subspan(start, size_bytes))
      sum += std::to_integer<unsigned>(byte);
    bytes[offset] = static_cast<std::byte>(std::to_integer<unsigned>(bytes[offset]) - sum);
    return {};
  }

  const GuestMemory& memory_;
  const Files files_;
  uint64_t next_high_ = 0x20'0000;
  uint64_t next_fseg_ = 0xf'0000;
  std::map<std::string, std::pair<uint64_t, std::span<std::byte>>> allocated_;
};

}  // namespace wick::fakes

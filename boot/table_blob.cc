#include "boot/table_blob.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <numeric>

#include "base/bytes.h"

namespace wick::boot {

namespace {

constexpr size_t kFileNameBytes = 56;  // including the NUL
constexpr size_t kCommandBytes = 128;

enum Command : uint32_t { kAllocate = 1, kAddPointer = 2, kAddChecksum = 3 };
// kFseg is below 1 MiB, where operating systems look for the RSDP.
enum Zone : uint8_t { kHigh = 1, kFseg = 2 };

// Writes the fields of one command one after the other; the rest of the command is zero.
class CommandWriter {
 public:
  CommandWriter(std::vector<std::byte>& script, Command command)
      : script_(script), at_(script.size()), end_(at_ + kCommandBytes) {
    script.resize(end_);
    number(uint32_t{command});
  }
  CommandWriter& file(std::string_view name) {
    assert(name.size() < kFileNameBytes);
    std::copy_n(reinterpret_cast<const std::byte*>(name.data()), name.size(), next(kFileNameBytes));
    return *this;
  }
  template <typename T>
  CommandWriter& number(T value) {
    store_le(std::span(next(sizeof(T)), sizeof(T)), value);
    return *this;
  }

 private:
  std::byte* next(size_t size_bytes) {
    assert(size_bytes <= end_ - at_);
    std::byte* const field = script_.data() + at_;
    at_ += size_bytes;
    return field;
  }

  std::vector<std::byte>& script_;
  size_t at_;
  const size_t end_;
};

void allocate(std::vector<std::byte>& script, std::string_view file, uint32_t alignment,
              Zone zone) {
  CommandWriter(script, kAllocate).file(file).number(alignment).number(uint8_t{zone});
}

void add_fix_ups(std::vector<std::byte>& script, std::string_view file, const TableBlob& blob) {
  for (const TableBlob::Pointer& pointer : blob.pointers)
    CommandWriter(script, kAddPointer)
        .file(file)
        .file(kAcpiTablesFile)
        .number(pointer.offset)
        .number(pointer.size_bytes);
  for (const TableBlob::Checksum& sum : blob.checksums)
    CommandWriter(script, kAddChecksum)
        .file(file)
        .number(sum.offset)
        .number(sum.start)
        .number(sum.size_bytes);
}

}  // namespace

std::byte checksum(std::span<const std::byte> bytes) {
  return static_cast<std::byte>(-std::accumulate(
      bytes.begin(), bytes.end(), 0, [](int sum, std::byte b) { return sum + int(b); }));
}

void link(TableBlob& blob, GuestAddress tables) {
  const std::span bytes(blob.bytes);
  for (const TableBlob::Pointer& pointer : blob.pointers) {
    const auto field = bytes.subspan(pointer.offset, pointer.size_bytes);
    store_le(field, load_le<uint64_t>(field) + tables.value);
  }
  for (const TableBlob::Checksum& sum : blob.checksums)
    bytes[sum.offset] = checksum(bytes.subspan(sum.start, sum.size_bytes));
}

std::vector<std::byte> make_loader_script(const TableBlob& tables, const TableBlob& rsdp) {
  constexpr uint32_t kFacsAlignment = 64;  // ACPI 6.5, 5.2.10
  constexpr uint32_t kRsdpAlignment = 16;  // ACPI 6.5, 5.2.5.1
  std::vector<std::byte> script;
  allocate(script, kAcpiTablesFile, kFacsAlignment, kHigh);
  allocate(script, kAcpiRsdpFile, kRsdpAlignment, kFseg);
  add_fix_ups(script, kAcpiTablesFile, tables);
  add_fix_ups(script, kAcpiRsdpFile, rsdp);
  return script;
}

}  // namespace wick::boot

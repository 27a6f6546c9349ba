// The monitor's commands that read the guest's memory, and the command p.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "control/hmp_command.h"

namespace wick::control::hmp {

namespace {

constexpr uint64_t kPageBytes = 4096;
// The limit for one dump. Larger parts of memory can be read with gdb or dump-guest-memory.
constexpr uint64_t kMaxDumpBytes = 64 << 10;

std::string one_value(uint64_t value, char format, uint32_t size_bytes) {
  const uint32_t bits = size_bytes * 8;
  switch (format) {
    case 'o':
      return fmt::format("{:#{}o}", value, (bits + 2) / 3);
    case 'u':
      return fmt::format("{:{}}", value, (bits * 10 + 32) / 33);
    case 'd': {
      // The value is sign-extended from its size.
      const auto shifted = static_cast<int64_t>(value << (64 - bits));
      return fmt::format("{:{}}", shifted >> (64 - bits), (bits * 10 + 32) / 33);
    }
    case 'c':
      break;
    default:
      return fmt::format("{:#0{}x}", value, bits / 4 + 2);
  }
  const auto c = static_cast<unsigned char>(value);
  switch (c) {
    case '\'':
      return "'\\''";
    case '\\':
      return "'\\\\'";
    case '\n':
      return "'\\n'";
    case '\r':
      return "'\\r'";
    default:
      break;
  }
  if (c >= 32 && c <= 126) return fmt::format("'{}'", static_cast<char>(c));
  return fmt::format("'\\x{:02x}'", c);
}

// Returns a byte of the guest's memory; nullopt if there is no memory at this address.
using Reader = std::function<std::optional<std::byte>(uint64_t address)>;

std::string dump(uint64_t address, Format format, const Reader& read) {
  if (format.format == 'i')
    return "wick has no disassembler; connect gdb (--gdb) and use its x/i\n";
  if (format.format == 'c') format.size_bytes = 1;
  const uint64_t length = uint64_t{format.count} * format.size_bytes;
  if (length > kMaxDumpBytes)
    return fmt::format("the count is too large: at most {} bytes are shown\n", kMaxDumpBytes);
  const uint64_t line_bytes = format.size_bytes == 1 ? 8 : 16;
  std::string text;
  for (uint64_t done = 0; done < length; done += format.size_bytes) {
    if (done % line_bytes == 0)
      text += fmt::format("{}{:016x}:", done == 0 ? "" : "\n", address + done);
    uint64_t value = 0;
    for (uint32_t i = 0; i < format.size_bytes; ++i) {
      const auto byte = read(address + done + i);
      if (!byte) return text + " Cannot access memory\n";
      value |= std::to_integer<uint64_t>(*byte) << (8 * i);
    }
    text += " " + one_value(value, format.format, format.size_bytes);
  }
  return text + (text.empty() ? "" : "\n");
}

std::optional<std::byte> physical_byte(const GuestMemory& memory, uint64_t address) {
  const std::byte* const found = memory.find({address}, 1);
  if (found == nullptr) return std::nullopt;
  return *found;
}

uint64_t address_of(const Arguments& arguments) {
  return static_cast<uint64_t>(arguments.numbers.at("addr"));
}

// Returns the address in the host's RAM behind an address of this process. Needs CAP_SYS_ADMIN,
// because without it the kernel shows 0 (Linux, Documentation/admin-guide/mm/pagemap.rst).
std::expected<uint64_t, std::string> host_physical(const std::byte* host) {
  const auto address = reinterpret_cast<uintptr_t>(host);
  const Fd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  uint64_t entry = 0;
  if (!pagemap.valid() ||
      ::pread(pagemap.get(), &entry, sizeof(entry),
              static_cast<off_t>(address / kPageBytes * sizeof(entry))) != sizeof(entry))
    return std::unexpected(fmt::format("cannot read /proc/self/pagemap: {}", std::strerror(errno)));
  constexpr uint64_t kPresent = 1ull << 63;
  constexpr uint64_t kFrameMask = (1ull << 55) - 1;
  if ((entry & kPresent) == 0) return std::unexpected("the page is not in the host's RAM now");
  if ((entry & kFrameMask) == 0)
    return std::unexpected("the kernel hides physical addresses; run wick with CAP_SYS_ADMIN");
  return (entry & kFrameMask) * kPageBytes + address % kPageBytes;
}

}  // namespace

std::string dump_virtual(Hmp& monitor, const Arguments& arguments) {
  const vmm::Inspector& inspector = monitor.context().inspector();
  uint64_t page = 1;  // an address at which no page starts
  std::optional<GuestAddress> physical;
  return dump(address_of(arguments), arguments.format, [&](uint64_t address) {
    if (address / kPageBytes * kPageBytes != page) {
      page = address / kPageBytes * kPageBytes;
      physical = inspector.translate(monitor.cpu(), page);
    }
    return physical ? physical_byte(inspector.memory(), physical->value + address % kPageBytes)
                    : std::nullopt;
  });
}

std::string dump_physical(Hmp& monitor, const Arguments& arguments) {
  const GuestMemory& memory = monitor.context().inspector().memory();
  return dump(address_of(arguments), arguments.format,
              [&](uint64_t address) { return physical_byte(memory, address); });
}

std::string gva_to_gpa(Hmp& monitor, const Arguments& arguments) {
  const auto physical =
      monitor.context().inspector().translate(monitor.cpu(), address_of(arguments));
  return physical ? fmt::format("gpa: {:#x}\n", physical->value) : "Unmapped\n";
}

std::string gpa_to_hva(Hmp& monitor, const Arguments& arguments) {
  const uint64_t address = address_of(arguments);
  const std::byte* const host = monitor.context().inspector().memory().find({address}, 1);
  if (host == nullptr) return fmt::format("No memory is mapped at address {:#x}\n", address);
  return fmt::format("Host virtual address for {:#x} (pc.ram) is {}\n", address, fmt::ptr(host));
}

std::string gpa_to_hpa(Hmp& monitor, const Arguments& arguments) {
  const uint64_t address = address_of(arguments);
  const std::byte* const host = monitor.context().inspector().memory().find({address}, 1);
  if (host == nullptr) return fmt::format("No memory is mapped at address {:#x}\n", address);
  const auto physical = host_physical(host);
  if (!physical) return fmt::format("Error: {}\n", physical.error());
  return fmt::format("Host physical address for {:#x} (pc.ram) is {:#x}\n", address, *physical);
}

std::string print(Hmp&, const Arguments& arguments) {
  const int64_t value = arguments.numbers.at("val");
  switch (arguments.format.format) {
    case 'o':
      return fmt::format("{:#o}\n", static_cast<uint64_t>(value));
    case 'd':
      return fmt::format("{}\n", value);
    case 'u':
      return fmt::format("{}\n", static_cast<uint64_t>(value));
    case 'c':
      return one_value(static_cast<uint64_t>(value), 'c', 1) + "\n";
    default:
      return fmt::format("{:#x}\n", static_cast<uint64_t>(value));
  }
}

}  // namespace wick::control::hmp

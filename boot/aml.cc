#include "boot/aml.h"

#include <array>
#include <bit>
#include <cassert>

namespace wick::boot::aml {

namespace {

// ACPI 6.5, table 20.2.
constexpr uint8_t kZeroOp = 0x00;
constexpr uint8_t kOneOp = 0x01;
constexpr uint8_t kNameOp = 0x08;
constexpr uint8_t kBytePrefix = 0x0a;
constexpr uint8_t kWordPrefix = 0x0b;
constexpr uint8_t kDWordPrefix = 0x0c;
constexpr uint8_t kStringPrefix = 0x0d;
constexpr uint8_t kQWordPrefix = 0x0e;
constexpr uint8_t kScopeOp = 0x10;
constexpr uint8_t kBufferOp = 0x11;
constexpr uint8_t kPackageOp = 0x12;
constexpr uint8_t kMethodOp = 0x14;
constexpr uint8_t kMultiNamePrefix = 0x2f;
constexpr uint8_t kExtOpPrefix = 0x5b;
constexpr uint8_t kRootChar = 0x5c;
constexpr uint8_t kArg0Op = 0x68;
constexpr uint8_t kStoreOp = 0x70;
constexpr uint8_t kAndOp = 0x7b;
constexpr uint8_t kOrOp = 0x7d;
constexpr uint8_t kOpRegionOp = 0x80;  // after kExtOpPrefix, like kFieldOp and kDeviceOp
constexpr uint8_t kFieldOp = 0x81;
constexpr uint8_t kDeviceOp = 0x82;
constexpr uint8_t kNotifyOp = 0x86;
constexpr uint8_t kCreateDWordFieldOp = 0x8a;
constexpr uint8_t kLEqualOp = 0x93;
constexpr uint8_t kLGreaterOp = 0x94;
constexpr uint8_t kIfOp = 0xa0;
constexpr uint8_t kElseOp = 0xa1;
constexpr uint8_t kReturnOp = 0xa4;

void append(Bytes& to, const Bytes& bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

void append_le(Bytes& to, uint64_t value, size_t size_bytes) {
  for (size_t i = 0; i < size_bytes; ++i) to.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

// Returns the encoding of a name with one segment (20.2.2).
Bytes name_segment(std::string_view segment) {
  assert(segment.size() == 4);
  return {segment.begin(), segment.end()};
}

// Returns a PkgLength, which counts its own bytes, too (20.2.4). A length up to 63 takes one byte;
// otherwise the first byte holds the low four bits and the number of bytes that follow.
Bytes package_length(size_t content_bytes) {
  if (content_bytes + 1 < 1 << 6) return {static_cast<uint8_t>(content_bytes + 1)};
  size_t following = 1;
  while (content_bytes + 1 + following >= size_t{1} << (4 + 8 * following)) ++following;
  assert(following <= 3);
  const size_t length = content_bytes + 1 + following;
  Bytes bytes = {static_cast<uint8_t>(following << 6 | (length & 0xf))};
  append_le(bytes, length >> 4, following);
  return bytes;
}

Bytes with_length(std::initializer_list<uint8_t> opcode, const Bytes& content) {
  Bytes bytes = opcode;
  append(bytes, package_length(content.size()));
  append(bytes, content);
  return bytes;
}

}  // namespace

Bytes sequence(std::span<const Bytes> terms) {
  Bytes bytes;
  for (const Bytes& term : terms) append(bytes, term);
  return bytes;
}

Bytes integer(uint64_t value) {
  if (value == 0) return {kZeroOp};
  if (value == 1) return {kOneOp};
  const auto with_prefix = [&](uint8_t prefix, size_t size_bytes) {
    Bytes bytes = {prefix};
    append_le(bytes, value, size_bytes);
    return bytes;
  };
  if (value <= UINT8_MAX) return with_prefix(kBytePrefix, 1);
  if (value <= UINT16_MAX) return with_prefix(kWordPrefix, 2);
  if (value <= UINT32_MAX) return with_prefix(kDWordPrefix, 4);
  return with_prefix(kQWordPrefix, 8);
}

Bytes string(std::string_view value) {
  Bytes bytes = {kStringPrefix};
  append(bytes, {value.begin(), value.end()});
  bytes.push_back(0);
  return bytes;
}

// Encodes an EISA ID: five bits for each of the three letters and four for each hexadecimal digit,
// big-endian (6.1.5).
Bytes eisa_id(std::string_view id) {
  assert(id.size() == 7);
  uint32_t value = 0;
  for (const char letter : id.substr(0, 3)) value = value << 5 | (letter & 0x1f);
  for (const char digit : id.substr(3))
    value = value << 4 | static_cast<uint32_t>(digit <= '9' ? digit - '0' : digit - 'A' + 10);
  return integer(std::byteswap(value));
}

Bytes package(std::initializer_list<Bytes> elements) {
  return package(std::span(elements.begin(), elements.size()));
}

Bytes package(std::span<const Bytes> elements) {
  assert(elements.size() <= UINT8_MAX);
  Bytes content = {static_cast<uint8_t>(elements.size())};
  append(content, sequence(elements));
  return with_length({kPackageOp}, content);
}

Bytes name(std::string_view segment, const Bytes& value) {
  Bytes bytes = {kNameOp};
  append(bytes, name_segment(segment));
  append(bytes, value);
  return bytes;
}

Bytes scope(std::string_view segment, std::span<const Bytes> terms) {
  Bytes content = name_segment(segment);
  append(content, sequence(terms));
  return with_length({kScopeOp}, content);
}

Bytes device(std::string_view segment, std::initializer_list<Bytes> terms) {
  return device(segment, std::span(terms.begin(), terms.size()));
}

Bytes device(std::string_view segment, std::span<const Bytes> terms) {
  Bytes content = name_segment(segment);
  append(content, sequence(terms));
  return with_length({kExtOpPrefix, kDeviceOp}, content);
}

Bytes buffer(std::span<const uint8_t> bytes) {
  Bytes content = integer(bytes.size());
  content.insert(content.end(), bytes.begin(), bytes.end());
  return with_length({kBufferOp}, content);
}

// Encodes a UUID, whose first three groups are stored little-endian (19.6.142).
Bytes uuid(std::string_view text) {
  assert(text.size() == 36);
  constexpr std::array<size_t, 16> kOrder = {6,  4,  2,  0,  11, 9,  16, 14,
                                             19, 21, 24, 26, 28, 30, 32, 34};
  const auto digit = [&](size_t at) {
    const char c = text[at];
    return static_cast<uint8_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  };
  Bytes bytes;
  for (const size_t at : kOrder)
    bytes.push_back(static_cast<uint8_t>(digit(at) << 4 | digit(at + 1)));
  return buffer(bytes);
}

Bytes reference(std::string_view segment) { return name_segment(segment); }

Bytes root_path(std::initializer_list<std::string_view> segments) {
  assert(segments.size() >= 3 && segments.size() <= UINT8_MAX);
  Bytes bytes = {kRootChar, kMultiNamePrefix, static_cast<uint8_t>(segments.size())};
  for (const std::string_view segment : segments) append(bytes, name_segment(segment));
  return bytes;
}

Bytes argument(unsigned number) {
  assert(number <= 6);
  return {static_cast<uint8_t>(kArg0Op + number)};
}

Bytes method(std::string_view segment, unsigned arguments, std::initializer_list<Bytes> terms) {
  return method(segment, arguments, std::span(terms.begin(), terms.size()));
}

Bytes method(std::string_view segment, unsigned arguments, std::span<const Bytes> terms) {
  assert(arguments <= 7);
  // A method that creates names must not run twice at the same time.
  constexpr uint8_t kSerialized = 1 << 3;
  Bytes content = name_segment(segment);
  content.push_back(static_cast<uint8_t>(arguments | kSerialized));
  append(content, sequence(terms));
  return with_length({kMethodOp}, content);
}

Bytes if_op(const Bytes& condition, std::initializer_list<Bytes> terms) {
  Bytes content = condition;
  append(content, sequence(terms));
  return with_length({kIfOp}, content);
}

Bytes else_op(std::initializer_list<Bytes> terms) {
  return with_length({kElseOp}, sequence(terms));
}

namespace {

Bytes operation(uint8_t opcode, std::initializer_list<Bytes> operands) {
  Bytes bytes = {opcode};
  append(bytes, sequence(operands));
  return bytes;
}

}  // namespace

Bytes equal(const Bytes& left, const Bytes& right) { return operation(kLEqualOp, {left, right}); }

Bytes greater(const Bytes& left, const Bytes& right) {
  return operation(kLGreaterOp, {left, right});
}

Bytes bit_and(const Bytes& left, const Bytes& right, const Bytes& result) {
  return operation(kAndOp, {left, right, result});
}

Bytes bit_or(const Bytes& left, const Bytes& right, const Bytes& result) {
  return operation(kOrOp, {left, right, result});
}

Bytes create_dword_field(const Bytes& buffer, uint64_t byte_index, std::string_view segment) {
  return operation(kCreateDWordFieldOp, {buffer, integer(byte_index), name_segment(segment)});
}

Bytes return_op(const Bytes& value) { return operation(kReturnOp, {value}); }

Bytes call(const Bytes& path, std::initializer_list<Bytes> arguments) {
  Bytes bytes = path;
  append(bytes, sequence(arguments));
  return bytes;
}

Bytes store(const Bytes& value, const Bytes& target) {
  return operation(kStoreOp, {value, target});
}

Bytes notify(const Bytes& object, const Bytes& value) {
  return operation(kNotifyOp, {object, value});
}

Bytes port_region(std::string_view segment, uint16_t start, uint8_t count) {
  constexpr uint8_t kSystemIo = 1;
  Bytes bytes = {kExtOpPrefix, kOpRegionOp};
  append(bytes, name_segment(segment));
  bytes.push_back(kSystemIo);
  append(bytes, integer(start));
  append(bytes, integer(count));
  return bytes;
}

// The flags (20.2.5.2) mean: double word access, no lock, other bits are preserved.
Bytes dword_fields(std::string_view region, std::initializer_list<std::string_view> segments) {
  constexpr uint8_t kDWordAccess = 3;
  Bytes content = name_segment(region);
  content.push_back(kDWordAccess);
  for (const std::string_view segment : segments) {
    append(content, name_segment(segment));
    append(content, {32});  // the length in bits, encoded like a PkgLength
  }
  return with_length({kExtOpPrefix, kFieldOp}, content);
}

Bytes resource_template(std::initializer_list<Bytes> descriptors) {
  Bytes resources = sequence(descriptors);
  // End tag (6.4.2.9); a checksum of 0 counts as correct.
  append(resources, {0x79, 0});
  return buffer(resources);
}

// Returns an I/O port descriptor (6.4.2.5) for ports of which all 16 address bits are decoded.
Bytes io_ports(uint16_t start, uint8_t count) {
  Bytes bytes = {0x47, 0x01};
  append_le(bytes, start, 2);  // minimum base
  append_le(bytes, start, 2);  // maximum base
  append(bytes, {1, count});   // alignment, length
  return bytes;
}

// Returns an IRQ descriptor without flags (6.4.2.1).
Bytes isa_irq(uint8_t irq) {
  assert(irq < 16);
  Bytes bytes = {0x22};
  append_le(bytes, uint64_t{1} << irq, 2);
  return bytes;
}

// Returns a 32-bit fixed memory range descriptor (6.4.3.4).
Bytes memory32(uint32_t start, uint32_t size_bytes) {
  Bytes bytes = {0x86, 9, 0, 0x01};
  append_le(bytes, start, 4);
  append_le(bytes, size_bytes, 4);
  return bytes;
}

// Returns an extended interrupt descriptor (6.4.3.6). Bit 0 of its flags: the device consumes the
// interrupt; bit 1: the interrupt is edge-triggered.
Bytes interrupt(uint32_t gsi) {
  Bytes bytes = {0x89, 6, 0, 0x03, 1};
  append_le(bytes, gsi, 4);
  return bytes;
}

namespace {

// Returns the word or double word address space descriptor (6.4.3.5.2, 6.4.3.5.3) of a fixed range:
// granularity 0, no translation.
Bytes address_space(uint8_t size_bytes, uint8_t type, uint8_t type_flags, uint64_t first,
                    uint64_t last) {
  constexpr uint8_t kMinimumAndMaximumFixed = 0x0c;
  Bytes fields = {type, kMinimumAndMaximumFixed, type_flags};
  for (const uint64_t field : {uint64_t{0}, first, last, uint64_t{0}, last - first + 1})
    append_le(fields, field, size_bytes);
  Bytes bytes = {static_cast<uint8_t>(size_bytes == 2 ? 0x88 : 0x87)};
  append_le(bytes, fields.size(), 2);
  append(bytes, fields);
  return bytes;
}

}  // namespace

Bytes bus_numbers(uint8_t first, uint8_t last) { return address_space(2, 2, 0, first, last); }

Bytes io_window(uint16_t first, uint16_t last) {
  return address_space(2, 1, 0x03, first, last);  // 0x03: ISA and non-ISA ranges
}

Bytes memory_window(uint32_t first, uint32_t last) {
  return address_space(4, 0, 0x01, first, last);  // 0x01: not cacheable, writable
}

}  // namespace wick::boot::aml

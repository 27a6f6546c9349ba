// An encoder for ACPI Machine Language, reduced to the terms that describe this machine. Each
// function returns the bytes of one term; terms nest.
//
//   scope("_SB_", {device("COM1", {name("_HID", eisa_id("PNP0501")), ...})})
//
// Names have four characters out of A to Z, 0 to 9 and _. A table begins at the root of the
// namespace.
//
// Specification: ACPI 6.5, 20.2 (AML grammar), 6.4 (resource descriptors).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

namespace wick::boot::aml {

using Bytes = std::vector<uint8_t>;

// Concatenates the bytes of several terms.
Bytes sequence(std::span<const Bytes> terms);

// These functions encode data objects in their shortest form.
Bytes integer(uint64_t value);
Bytes string(std::string_view value);
Bytes eisa_id(std::string_view id);              // "PNP0501"
Bytes package(std::span<const Bytes> elements);  // at most 255 elements
Bytes package(std::initializer_list<Bytes> elements);

// These functions encode named objects.
Bytes name(std::string_view segment, const Bytes& value);
Bytes scope(std::string_view segment, std::span<const Bytes> terms);
Bytes device(std::string_view segment, std::initializer_list<Bytes> terms);
Bytes device(std::string_view segment, std::span<const Bytes> terms);

// These functions encode methods and the terms in their bodies. An operand is a data object, an
// argument or a name. If the caller does not need the result of an operation, it passes integer(0)
// as `result`.
Bytes buffer(std::span<const uint8_t> bytes);
Bytes uuid(std::string_view text);  // "33db4d5b-1ff7-401c-9657-7441c03dd766", as ToUUID() stores it
Bytes reference(std::string_view segment);
// Encodes a path that begins at the root of the namespace. The path needs at least three segments.
Bytes root_path(std::initializer_list<std::string_view> segments);
Bytes argument(unsigned number);  // 0 to 6
// Encodes a call of the method at `path`, which must take exactly as many arguments.
Bytes call(const Bytes& path, std::initializer_list<Bytes> arguments);
Bytes store(const Bytes& value, const Bytes& target);
Bytes notify(const Bytes& object, const Bytes& value);
Bytes method(std::string_view segment, unsigned arguments, std::initializer_list<Bytes> terms);
Bytes method(std::string_view segment, unsigned arguments, std::span<const Bytes> terms);
Bytes if_op(const Bytes& condition, std::initializer_list<Bytes> terms);
Bytes else_op(std::initializer_list<Bytes> terms);
Bytes equal(const Bytes& left, const Bytes& right);
Bytes greater(const Bytes& left, const Bytes& right);
Bytes bit_and(const Bytes& left, const Bytes& right, const Bytes& result);
Bytes bit_or(const Bytes& left, const Bytes& right, const Bytes& result);
Bytes create_dword_field(const Bytes& buffer, uint64_t byte_index, std::string_view segment);
Bytes return_op(const Bytes& value);

// Makes I/O ports accessible to AML: port_region() names the range, dword_fields() names its 32-bit
// registers, in order from the first port on.
Bytes port_region(std::string_view segment, uint16_t start, uint8_t count);
Bytes dword_fields(std::string_view region, std::initializer_list<std::string_view> segments);

// These functions encode the resources that a device uses, for its _CRS.
Bytes resource_template(std::initializer_list<Bytes> descriptors);
Bytes io_ports(uint16_t start, uint8_t count);
Bytes isa_irq(uint8_t irq);                           // edge-triggered, active high, not shared
Bytes memory32(uint32_t start, uint32_t size_bytes);  // writable memory range
Bytes interrupt(uint32_t gsi);                        // edge-triggered, active high, not shared

// These functions encode the ranges that a bridge forwards to its bus; `last` is inclusive.
Bytes bus_numbers(uint8_t first, uint8_t last);
Bytes io_window(uint16_t first, uint16_t last);
Bytes memory_window(uint32_t first, uint32_t last);

}  // namespace wick::boot::aml

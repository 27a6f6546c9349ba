// Guests of a few dozen bytes, for tests of what a virtual machine does when a kernel does
// just one thing. Code assembles machine code; bzimage(), pvh_elf() and multiboot() make a kernel
// of it that wick boots, the first in 64-bit and the others in 32-bit mode.
//
// Specification: Linux, Documentation/x86/boot.rst; Xen, docs/misc/pvh.pandoc; Multiboot
// Specification 0.6.96; Intel SDM 2 (encodings).
#pragma once

#include <asm/bootparam.h>
#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace wick::guests {

inline constexpr uint16_t kSerialPort = 0x3f8;
inline constexpr uint16_t kLineStatus = 5;  // offset of the register
inline constexpr uint16_t kAcpiControlPort = 0x604;
inline constexpr uint32_t kUnbacked = 0xd800'0000;  // neither RAM nor a device

// A program, built instruction by instruction. All encodings mean the same in 32-bit and in
// 64-bit mode, and change only al, dx, ebx and ecx. There is no stack and no interrupt table,
// so any exception is a triple fault.
class Code {
 public:
  // A place to jump back to.
  using Label = size_t;
  Label here() const { return bytes_.size(); }

  Code& out8(uint16_t port, uint8_t value) {
    return set_port(port).byte(0xb0).byte(value).byte(0xee);  // mov al, value; out dx, al
  }
  Code& out16(uint16_t port, uint16_t value) {
    return set_port(port).byte(0x66).byte(0xb8).number(value).byte(0x66).byte(0xef);
  }
  Code& in8(uint16_t port) { return set_port(port).byte(0xec); }     // in al, dx
  Code& out_al(uint16_t port) { return set_port(port).byte(0xee); }  // out dx, al
  Code& store8(uint32_t address, uint8_t value) {
    return set_ebx(address).byte(0xc6).byte(0x03).byte(value);  // mov byte [rbx], value
  }
  Code& store32(uint32_t address, uint32_t value) {
    return set_ebx(address).byte(0xc7).byte(0x03).number(value);
  }
  Code& load8(uint32_t address) { return set_ebx(address).byte(0x8a).byte(0x03); }

  Code& jump(Label to) { return byte(0xe9).relative(to); }
  Code& jump_unless_bits(uint8_t bits, Label to) {  // in al: test; jz
    return byte(0xa8).byte(bits).byte(0x0f).byte(0x84).relative(to);
  }
  Code& jump_unless_equal(uint8_t value, Label to) {  // with al: cmp; jne
    return byte(0x3c).byte(value).byte(0x0f).byte(0x85).relative(to);
  }
  Code& jump_to_address(uint32_t address) { return set_ebx(address).byte(0xff).byte(0xe3); }

  // Starts a loop that runs `times` times, up to end_repeat(). Counts down ecx.
  Label repeat(uint32_t times) {
    byte(0xb9).number(times);
    return here();
  }
  // Inside a loop: reads the port whose number is in ecx, and writes `value` to it.
  Code& poke_counted_port(uint8_t value) {
    return byte(0x89).byte(0xca).byte(0xec).byte(0xb0).byte(value).byte(0xee);  // mov edx, ecx
  }
  Code& end_repeat(Label start) {  // dec ecx; jnz
    return byte(0xff).byte(0xc9).byte(0x0f).byte(0x85).relative(start);
  }

  Code& print(std::string_view text, uint16_t port = kSerialPort) {
    set_port(port);
    for (const char c : text) byte(0xb0).byte(static_cast<uint8_t>(c)).byte(0xee);
    return *this;
  }
  // Echoes input of the serial port, up to and including `last`.
  Code& echo_until(char last) {
    const Label again = here();
    in8(kSerialPort + kLineStatus).jump_unless_bits(1, again);
    return in8(kSerialPort)
        .out_al(kSerialPort)
        .jump_unless_equal(static_cast<uint8_t>(last), again);
  }

  Code& spin() { return jump(here()); }
  // Halts in an endless loop. Does not change the interrupt flag, which is off at the start.
  Code& halt() {
    const Label again = here();
    return byte(0xf4).jump(again);
  }
  Code& enable_interrupts() { return byte(0xfb); }
  Code& triple_fault() { return byte(0x0f).byte(0x0b); }  // ud2, without an interrupt table
  // Soft off: writes SLP_TYP 5 and SLP_EN to wick's PM1a control register.
  Code& power_off() { return out16(kAcpiControlPort, 5 << 10 | 1 << 13).spin(); }
  // Resets by the keyboard controller, as Linux does with `reboot=k`.
  Code& reset() { return out8(0x64, 0xfe).spin(); }

  Code& byte(uint8_t value) {
    bytes_ += static_cast<char>(value);
    return *this;
  }

  const std::string& bytes() const { return bytes_; }

 private:
  template <typename T>
  Code& number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Code& relative(Label to) {
    const auto after = static_cast<int64_t>(bytes_.size() + sizeof(int32_t));
    return number(static_cast<int32_t>(static_cast<int64_t>(to) - after));
  }
  Code& set_port(uint16_t port) { return byte(0x66).byte(0xba).number(port); }  // mov dx, port
  Code& set_ebx(uint32_t value) { return byte(0xbb).number(value); }

  std::string bytes_;
};

template <typename T>
void append_to(std::string& file, const T& value) {
  file.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Returns a bzImage whose 64-bit entry is `code`.
inline std::string bzimage(const Code& code) {
  constexpr size_t kSector = 512;
  constexpr size_t kEntry64 = 0x200;                    // boot.rst, "64-bit Boot Protocol"
  std::string payload = Code().triple_fault().bytes();  // the 32-bit entry, not used
  payload.resize(kEntry64);
  payload += code.bytes();
  payload.resize((payload.size() + kSector - 1) / kSector * kSector);

  ::setup_header header{};
  header.setup_sects = 1;
  header.syssize = static_cast<uint32_t>(payload.size() / 16);
  header.boot_flag = 0xaa55;
  header.jump = 0x66eb;        // jumps over the header
  header.header = 0x53726448;  // "HdrS"
  header.version = 0x020f;
  header.loadflags = LOADED_HIGH;
  header.code32_start = 0x10'0000;
  header.initrd_addr_max = 0x7fff'ffff;
  header.kernel_alignment = 0x20'0000;
  header.relocatable_kernel = 1;
  header.min_alignment = 21;
  header.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
  header.cmdline_size = 2047;
  header.pref_address = 0x100'0000;
  header.init_size = 0x1'0000;

  std::string file((1 + header.setup_sects) * kSector, '\0');
  std::memcpy(file.data() + offsetof(::boot_params, hdr), &header, sizeof(header));
  return file + payload;
}

// Returns an ELF kernel with a PVH note, whose 32-bit entry is `code`.
inline std::string pvh_elf(const Code& code) {
  constexpr uint64_t kLoadAddress = 0x10'0000;
  constexpr uint32_t kPhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
  struct Note {
    Elf64_Nhdr header{.n_namesz = 4, .n_descsz = 4, .n_type = kPhys32Entry};
    char name[4] = {'X', 'e', 'n', '\0'};
    uint32_t entry = kLoadAddress;
  } note;
  constexpr uint64_t kNoteOffset = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
  constexpr uint64_t kCodeOffset = 0x1000;
  static_assert(kNoteOffset + sizeof(Note) <= kCodeOffset);

  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_entry = kLoadAddress;
  header.e_phoff = sizeof(Elf64_Ehdr);
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 2;

  Elf64_Phdr load{};
  load.p_type = PT_LOAD;
  load.p_flags = PF_R | PF_W | PF_X;
  load.p_offset = kCodeOffset;
  load.p_vaddr = load.p_paddr = kLoadAddress;
  load.p_filesz = load.p_memsz = code.bytes().size();
  load.p_align = 0x1000;

  Elf64_Phdr notes{};
  notes.p_type = PT_NOTE;
  notes.p_flags = PF_R;
  notes.p_offset = kNoteOffset;
  notes.p_filesz = notes.p_memsz = sizeof(Note);
  notes.p_align = 4;

  std::string file;
  append_to(file, header);
  append_to(file, load);
  append_to(file, notes);
  append_to(file, note);
  file.resize(kCodeOffset);
  return file + code.bytes();
}

// Returns a Multiboot kernel without an executable format, whose entry is `code`.
inline std::string multiboot(const Code& code) {
  constexpr uint32_t kMagic = 0x1bad'b002;
  constexpr uint32_t kAddresses = 1 << 16;
  constexpr uint32_t kLoadAddress = 0x10'0000;
  struct Header {
    uint32_t magic = kMagic;
    uint32_t flags = kAddresses;
    uint32_t checksum = -(kMagic + kAddresses);
    uint32_t header_addr = kLoadAddress;
    uint32_t load_addr = kLoadAddress;
    uint32_t load_end_addr = 0;
    uint32_t bss_end_addr = 0;
    uint32_t entry_addr = kLoadAddress + 8 * sizeof(uint32_t);
  } header;
  std::string file;
  append_to(file, header);
  return file + code.bytes();
}

}  // namespace wick::guests

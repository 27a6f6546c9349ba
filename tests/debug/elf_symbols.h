// A small ELF file with a table of symbols, as a vmlinux has one.
#pragma once

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace wick::debug {

struct ElfSymbols {
  using Named = std::vector<std::pair<std::string, uint64_t>>;

  Elf64_Ehdr header{};
  Elf64_Shdr sections[5]{};  // none, .symtab, .strtab, .text, .data..percpu

  explicit ElfSymbols(const Named& symbols, const Named& per_cpu = {}) {
    add(symbols, 3, STT_FUNC);
    add(per_cpu, 4, STT_OBJECT);
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_ehsize = sizeof(header);
    header.e_shoff = sizeof(header);
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = 5;
    header.e_shstrndx = 2;
    sections[1].sh_type = SHT_SYMTAB;
    sections[1].sh_link = 2;
    sections[1].sh_entsize = sizeof(Elf64_Sym);
    sections[1].sh_offset = sizeof(header) + sizeof(sections);
    sections[1].sh_size = table_.size();
    for (int i = 1; i < 5; ++i) {
      static constexpr const char* kNames[] = {"", ".symtab", ".strtab", ".text", ".data..percpu"};
      sections[i].sh_name = static_cast<Elf64_Word>(names_.size());
      names_ += kNames[i] + std::string(1, '\0');
    }
    sections[2].sh_type = SHT_STRTAB;
    sections[2].sh_offset = sections[1].sh_offset + sections[1].sh_size;
    sections[2].sh_size = names_.size();
    sections[3].sh_type = SHT_NOBITS;
    sections[3].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
    sections[3].sh_addr = symbols.empty() ? 0 : symbols[0].second;
    sections[3].sh_size = 0x1000;
    sections[4].sh_type = SHT_NOBITS;
    sections[4].sh_flags = SHF_ALLOC | SHF_WRITE;
    sections[4].sh_size = 0x1000;
  }

  std::string bytes() const {
    std::string file(reinterpret_cast<const char*>(&header), sizeof(header));
    file.append(reinterpret_cast<const char*>(sections), sizeof(sections));
    return file + table_ + names_;
  }

 private:
  void add(const Named& symbols, Elf64_Half section, unsigned char type) {
    for (const auto& [name, value] : symbols) {
      Elf64_Sym symbol{};
      symbol.st_name = static_cast<Elf64_Word>(names_.size());
      symbol.st_shndx = section;
      symbol.st_info = static_cast<unsigned char>(ELF64_ST_INFO(STB_GLOBAL, type));
      symbol.st_value = value;
      table_.append(reinterpret_cast<const char*>(&symbol), sizeof(symbol));
      names_ += name + '\0';
    }
  }

  std::string table_ = std::string(sizeof(Elf64_Sym), '\0');  // symbol 0 is none
  std::string names_ = std::string(1, '\0');
};

}  // namespace wick::debug

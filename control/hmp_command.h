// The commands of the human monitor. One table has, for each of them, the arguments, the help text
// and the function that executes it. The functions are in hmp_commands.cc, hmp_info.cc and
// hmp_memory.cc.
//
// Arguments are declared as NAME:KIND with spaces between; a '?' behind the kind makes one
// optional. Kinds:
//
//   s  a word, or a text in double quotes       S  the rest of the line
//   i  an integer expression                    M  a size, by default in MiB
//   b  on or off                                -x the flag -x, always optional
//   /  a format: /COUNTfmtSIZE
//
// Thread rule: the main loop's thread.
#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "control/hmp.h"
#include "control/hmp_expression.h"

namespace wick::control::hmp {

// /COUNT, then a format of o d u x c i, and a size of b h w g (1, 2, 4, 8 bytes).
struct Format {
  uint32_t count = 1;
  char format = 'x';
  uint32_t size_bytes = 4;
};

struct Arguments {
  std::map<std::string_view, std::string> words;
  std::map<std::string_view, int64_t> numbers;  // of kind b: 0 or 1
  std::set<char> flags;
  Format format;

  std::string word(std::string_view name) const {
    const auto found = words.find(name);
    return found == words.end() ? std::string() : found->second;
  }
  bool has(std::string_view name) const { return words.contains(name) || numbers.contains(name); }
  bool flag(char name) const { return flags.contains(name); }
};

// The error is for the user: what is wrong with the line.
std::expected<Arguments, std::string> parse_arguments(std::string_view declared,
                                                      std::string_view command,
                                                      std::string_view line,
                                                      const RegisterReader& read_register);

// What must hold when a command runs.
enum class Needs : uint8_t {
  kNothing,
  kRegisters,            // readable: a running machine is paused for the command
  kRegistersIfMentioned  // ... if the line has a '$'
};

struct Command {
  std::string_view names;  // "stop|s"
  std::string_view arguments;
  std::string_view form;  // for help: "device [-f] filename"
  std::string_view help;
  Needs needs = Needs::kNothing;
  // Exactly one of the two is set. The lines of the answer end in \n.
  std::string (*run)(Hmp& monitor, const Arguments& arguments) = nullptr;
  void (*start)(Hmp& monitor, const Arguments& arguments, Hmp::Done done) = nullptr;
};

std::span<const Command> commands();
std::span<const Command> info_commands();
// Finds a command by one of its names; nullptr: there is none.
const Command* find_command(std::span<const Command> table, std::string_view name);

std::string help_text(std::string_view command);

// -- hmp_info.cc and hmp_registers.cc: info --
std::string info_registers(Hmp&, const Arguments&);
std::string info_msr(Hmp&, const Arguments&);
std::string info_mem(Hmp&, const Arguments&);
std::string info_tlb(Hmp&, const Arguments&);

// -- hmp_memory.cc --
std::string dump_virtual(Hmp&, const Arguments&);
std::string dump_physical(Hmp&, const Arguments&);
std::string gva_to_gpa(Hmp&, const Arguments&);
std::string gpa_to_hva(Hmp&, const Arguments&);
std::string gpa_to_hpa(Hmp&, const Arguments&);
std::string print(Hmp&, const Arguments&);

}  // namespace wick::control::hmp

// The commands of the human monitor. One table has, for each command, the arguments, the help text
// and the function that executes it. The functions are in hmp_commands.cc, hmp_info.cc,
// hmp_registers.cc and hmp_memory.cc.
//
// Arguments are declared as NAME:KIND, with spaces between them. A '?' after the kind makes an
// argument optional. The kinds are:
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

// The format of a dump: "/COUNT", then one of the letters o d u x c i for the format, and one of b
// h w g for the size (1, 2, 4 or 8 bytes).
struct Format {
  uint32_t count = 1;
  char format = 'x';
  uint32_t size_bytes = 4;
};

struct Arguments {
  std::map<std::string_view, std::string> words;
  std::map<std::string_view, int64_t> numbers;  // values of the kinds i, M and b (0 or 1)
  std::set<char> flags;
  Format format;

  std::string word(std::string_view name) const {
    const auto found = words.find(name);
    return found == words.end() ? std::string() : found->second;
  }
  bool has(std::string_view name) const { return words.contains(name) || numbers.contains(name); }
  bool flag(char name) const { return flags.contains(name); }
};

// Parses `line` by the declaration `declared`. An error is a message for the user.
std::expected<Arguments, std::string> parse_arguments(std::string_view declared,
                                                      std::string_view command,
                                                      std::string_view line,
                                                      const RegisterReader& read_register);

// What a command needs when it runs.
enum class Needs : uint8_t {
  kNothing,
  kRegisters,            // readable registers: a running machine is paused for the command
  kRegistersIfMentioned  // readable registers if the line has a '$'
};

struct Command {
  std::string_view names;  // separated by '|': "stop|s"
  std::string_view arguments;
  std::string_view form;  // the arguments as the help shows them: "device [-f] filename"
  std::string_view help;
  Needs needs = Needs::kNothing;
  // The function; exactly one of the two is set, except for `info`, which Hmp::execute() handles.
  // The lines of the answer end in \n.
  std::string (*run)(Hmp& monitor, const Arguments& arguments) = nullptr;
  void (*start)(Hmp& monitor, const Arguments& arguments, Hmp::Done done) = nullptr;
};

std::span<const Command> commands();
std::span<const Command> info_commands();
// Finds a command by one of its names; returns nullptr if there is none.
const Command* find_command(std::span<const Command> table, std::string_view name);

std::string help_text(std::string_view command);

// Functions of info commands, in hmp_info.cc and hmp_registers.cc.
std::string info_registers(Hmp&, const Arguments&);
std::string info_msr(Hmp&, const Arguments&);
std::string info_mem(Hmp&, const Arguments&);
std::string info_tlb(Hmp&, const Arguments&);

// Functions in hmp_memory.cc.
std::string dump_virtual(Hmp&, const Arguments&);
std::string dump_physical(Hmp&, const Arguments&);
std::string gva_to_gpa(Hmp&, const Arguments&);
std::string gpa_to_hva(Hmp&, const Arguments&);
std::string gpa_to_hpa(Hmp&, const Arguments&);
std::string print(Hmp&, const Arguments&);

}  // namespace wick::control::hmp

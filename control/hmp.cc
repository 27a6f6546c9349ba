#include "control/hmp.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/printable.h"
#include "control/hmp_command.h"

namespace wick::control {

namespace {

using hmp::Command;
using hmp::Needs;

// Returns the text for the client. Raw terminals and scripts written for QEMU expect \r\n. The text
// may contain names from images and guests, so all other control characters are escaped.
std::string for_terminal(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 32);
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    out += printable(line, /*keep_tabs=*/true);
    text.remove_prefix(line.size());
    if (text.empty()) break;
    out += "\r\n";
    text.remove_prefix(1);
  }
  return out;
}

std::string_view take_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  // A format may follow the command without a blank: "p/x", "x/4".
  const std::string_view word = line.substr(0, line.find_first_of(" \t/"));
  line.remove_prefix(word.size());
  return word;
}

void run(Hmp& monitor, const Command& command, const std::string& path, const std::string& line,
         const Hmp::Done& done) {
  const RegisterReader read = [&](std::string_view name) -> std::expected<uint64_t, std::string> {
    const auto registers = monitor.context().inspector().registers(monitor.cpu());
    if (!registers) return std::unexpected(registers.error().message());
    const auto value = register_value(*registers, name);
    if (!value) return std::unexpected(fmt::format("unknown register ${}", name));
    return *value;
  };
  const auto arguments = hmp::parse_arguments(command.arguments, command.names, line, read);
  if (!arguments)
    return done(printable(arguments.error()) +
                fmt::format("\nTry \"help {}\" for more information\n", path));
  if (command.run != nullptr) return done(command.run(monitor, *arguments));
  command.start(monitor, *arguments, done);
}

}  // namespace

void Hmp::execute(std::string_view line, Done done) {
  const auto answer = [done = std::move(done)](const std::string& text) {
    done(for_terminal(text));
  };
  if (line.size() > kMaxLineBytes) return answer("the line is too long\n");
  // Control characters have no meaning in a command.
  std::string text(line);
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
  std::string_view rest = text;
  std::string path(take_word(rest));
  if (path.empty()) return answer(rest.empty() ? "" : "unknown command: '/'\n");
  const Command* command = nullptr;
  if (path == "info") {
    const std::string_view word = take_word(rest);
    if (word.empty()) return answer(hmp::help_text("info"));
    path += " " + std::string(word);
    command = hmp::find_command(hmp::info_commands(), word);
  } else {
    command = hmp::find_command(hmp::commands(), path);
  }
  if (command == nullptr) return answer(fmt::format("unknown command: '{}'\n", printable(path)));

  if (command->needs == Needs::kNothing ||
      (command->needs == Needs::kRegistersIfMentioned && rest.find('$') == rest.npos))
    return run(*this, *command, path, std::string(rest), answer);
  context_.while_paused(
      [this, command, path, rest = std::string(rest), answer, alive = std::weak_ptr(alive_)] {
        if (!alive.expired()) run(*this, *command, path, rest, answer);
      });
}

namespace hmp {

const Command* find_command(std::span<const Command> table, std::string_view name) {
  for (const Command& command : table) {
    std::string_view names = command.names;
    while (!names.empty()) {
      const std::string_view one = names.substr(0, names.find('|'));
      if (one == name) return &command;
      names.remove_prefix(std::min(one.size() + 1, names.size()));
    }
  }
  return nullptr;
}

std::string help_text(std::string_view name) {
  const auto line = [](std::string_view prefix, const Command& command) {
    return fmt::format("{}{} {} -- {}\n", prefix, command.names, command.form, command.help);
  };
  std::string text;
  if (name == "info") {
    for (const Command& command : info_commands()) text += line("info ", command);
  } else if (name.starts_with("info ")) {
    if (const Command* found = find_command(info_commands(), name.substr(5)))
      return line("info ", *found);
  } else if (name.empty()) {
    for (const Command& command : commands()) text += line("", command);
  } else if (const Command* found = find_command(commands(), name)) {
    return line("", *found);
  }
  if (!text.empty()) return text;
  return fmt::format("unknown command: '{}'\n", printable(name));
}

}  // namespace hmp

bool is_monitor_error(std::string_view answer) {
  static constexpr std::string_view kBeginnings[] = {
      "Error: ",          "unknown ",           "invalid ", "unrecognized ", "the line is too long",
      "the time must be", "dump-guest-memory: "};
  return answer.find("Try \"help ") != answer.npos ||  // wrong arguments
         std::ranges::any_of(kBeginnings,
                             [&](std::string_view begin) { return answer.starts_with(begin); });
}

}  // namespace wick::control

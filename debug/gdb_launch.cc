#include "debug/gdb_launch.h"

#include <fmt/format.h>

#include <string_view>

namespace wick::debug {

namespace {

// Quotes an argument of a gdb command. Within double quotes, gdb takes a backslash as an escape.
std::string quoted(std::string_view path) {
  std::string text = "\"";
  for (const char c : path) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + '"';
}

// Checks that a command has no line breaks: a line break in a path would start another command,
// because "target remote" and "source" take the rest of the line unquoted.
bool is_one_line(std::string_view text) { return text.find_first_of("\n\r") == text.npos; }

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

std::vector<std::string> gdb_words(const GdbLaunch& launch,
                                   const std::function<bool(const std::string& path)>& exists) {
  std::vector<std::string> words = {launch.program};
  const auto option = [&](const char* name, std::string command) {
    if (!is_one_line(command)) return;
    words.emplace_back(name);
    words.push_back(std::move(command));
  };
  const std::string helpers = folder_of(launch.vmlinux) + "/vmlinux-gdb.py";
  const bool has_helpers = !launch.vmlinux.empty() && exists(helpers);
  // By itself, gdb would load the helpers only from folders that the user has declared as safe, and
  // only for a file with the name "vmlinux". Here they are loaded explicitly: a user who names the
  // vmlinux to `wick gdb` trusts its folder.
  if (has_helpers) option("-iex", "set auto-load python-scripts off");
  // On a busy host an answer may take longer than gdb's default of 2 seconds.
  option("-ex", "set remotetimeout 30");
  if (!launch.vmlinux.empty()) {
    const std::string file = quoted(launch.vmlinux);
    if (launch.slide.value_or(0) == 0) {
      option("-ex", "file " + file);
    } else {
      // Unlike symbol-file, add-symbol-file can leave a section (the per-CPU symbols) at its
      // address. add-symbol-file would ask for a confirmation, so "with confirm off" precedes it.
      option("-ex",
             fmt::format("with confirm off -- add-symbol-file {} -o {:#x}{}", file, *launch.slide,
                         launch.per_cpu_at_zero ? " -s .data..percpu 0" : ""));
    }
  }
  option("-ex", "target remote " + launch.target);
  if (has_helpers) option("-ex", "source " + helpers);
  words.insert(words.end(), launch.arguments.begin(), launch.arguments.end());
  return words;
}

}  // namespace wick::debug

#include "cli/manual.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>
#include <vector>

#include "cli/run_options.h"

namespace wick::cli {

namespace {

struct PathRow {
  std::string_view command;
  const char* path;
  const char* meaning;
};

constexpr PathRow kPaths[] = {
    {"run", "/dev/kvm", "The kernel's virtual machines. Members of the group kvm may open it."},
    {"run", "/dev/net/tun, /dev/vhost-net", "For network cards on a TAP, and for vhost=on."},
    {"run", "/boot/vmlinuz-*", "The kernels, of which the newest is the default."},
    {"run", "$XDG_RUNTIME_DIR/wick/NAME/", "The machine's sockets; root's are in /run/wick."},
    {"start", "~/.config/wick/NAME.toml", "The options of a machine that is defined."},
    {"start", "$XDG_RUNTIME_DIR/wick/NAME/",
     "The machine's sockets, logs and ending; root's are in /run/wick."},
    {"net", "/run/wick/net/NAME/state.json", "What was made for the network, to be undone."},
    {"doctor", "/dev/kvm, /dev/net/tun, /dev/vhost-net", "What a run needs."},
};

// Escapes the characters that are special in roff, and lets lines break before a SPEC's keys.
std::string escaped(std::string text) {
  for (const auto& [what, by] : {std::pair("\\", "\\e"), std::pair("-", "\\-"),
                                 std::pair("[,", "\\:[,"), std::pair("'", "\\(aq")})
    text = CLI::detail::find_and_replace(text, what, by);
  return text.starts_with('.') ? "\\&" + text : text;
}

// Formats text for roff. Indented lines stay as they are; roff may fill the others.
std::string formatted(const std::string& text) {
  std::string out;
  std::istringstream lines(text);
  bool as_it_is = false;
  for (std::string line; std::getline(lines, line);) {
    const bool indented = line.starts_with("  ");
    if (indented != as_it_is) out += indented ? ".PP\n.nf\n" : ".fi\n.PP\n";
    as_it_is = indented;
    out += line.empty() ? ".PP\n" : escaped(line) + '\n';
  }
  return out + (as_it_is ? ".fi\n" : "");
}

// Splits the text that follows the options in the help into sections, by heading. The text
// before the first heading has the key "".
std::map<std::string, std::string> sections_of(const std::string& footer) {
  std::map<std::string, std::string> sections;
  std::string heading;
  std::istringstream lines(footer);
  for (std::string line; std::getline(lines, line);) {
    for (const std::string start : {"Examples", "Example", "Exit status", "Environment"}) {
      if (!line.starts_with(start + ":")) continue;
      heading = start == "Example" ? "Examples" : start;
      line.erase(0, std::min(start.size() + 2, line.size()));
      if (line.empty()) std::getline(lines, line);
    }
    sections[heading] += line + '\n';
  }
  for (auto& [name, text] : sections) text.erase(text.find_last_not_of('\n') + 1);
  return sections;
}

std::string names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("\\-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("\\-\\-" + escaped(name));
  if (names.empty()) names.push_back(option.get_name());
  std::string text = fmt::format("\\fB{}\\fR", fmt::join(names, "\\fR, \\fB"));
  if (const std::string value = option.get_type_name(); !value.empty())
    text += fmt::format(" \\fI{}\\fR", escaped(value));
  return text;
}

std::string entry(const std::string& what, const std::string& meaning) {
  return fmt::format(".TP\n{}\n{}\n", what, meaning);
}

std::vector<const CLI::Option*> shown_options(const CLI::App& command) {
  return command.get_options([](const CLI::Option* o) { return !o->get_group().empty(); });
}

std::string options_of(const CLI::App& command) {
  std::string text;
  for (const CLI::Option* const option : shown_options(command))
    text += entry(names_of(*option), escaped(option->get_description()));
  return text;
}

std::string synopsis(const std::string& name, const CLI::App& command) {
  const bool group = command.get_parent() != nullptr && !command.get_subcommands({}).empty();
  std::string text =
      fmt::format("\\fB{}\\fR{} [\\fIOPTION\\fR]...", name, group ? " \\fICOMMAND\\fR" : "");
  for (const CLI::Option* const option : shown_options(command)) {
    if (!option->get_positional()) continue;
    const char* const more = option->get_items_expected_max() > 1 ? "..." : "";
    text += option->get_required() ? fmt::format(" \\fI{}\\fR{}", option->get_name(), more)
                                   : fmt::format(" [\\fI{}\\fR{}]", option->get_name(), more);
  }
  return text + '\n';
}

// Returns the description for the section NAME, such as "makes a new image".
std::string short_description(const CLI::App& command) {
  std::string text = escaped(command.get_description());
  text.front() = static_cast<char>(std::tolower(static_cast<unsigned char>(text.front())));
  return text.substr(0, text.find('.'));
}

// Returns the subsection of the page for one command of a group, such as `create` of `wick image`.
std::string subsection(const CLI::App& command) {
  auto sections = sections_of(command.get_footer());
  std::string text =
      fmt::format(".SS {}\n{}\n{}.PP\n{}", command.get_name(), escaped(command.get_description()),
                  options_of(command), formatted(sections[""]));
  if (!sections["Exit status"].empty())
    text += ".PP\nExit status:\n" + formatted(sections["Exit status"]);
  return text + ".PP\nExample:\n" + formatted(sections["Examples"]);
}

std::string environment_of_run() {
  std::string text;
  for (const RunOption& option : run_options())
    text += entry("\\fB" + option.variable() + "\\fR",
                  fmt::format("As \\fB\\-\\-{}\\fR{}.", escaped(option.name()),
                              option.repeats ? ", with semicolons between several values" : ""));
  return text + entry("\\fBWICK_CONFIG\\fR", "As \\fB\\-\\-config\\fR.") +
         entry("\\fBTMPDIR\\fR",
               "The folder for what is written to disks with ephemeral=on (/var/tmp).");
}

}  // namespace

Result<std::string> manual_page(const CLI::App& wick, std::string_view page) {
  std::vector<std::string> pages = {"wick"};
  const CLI::App* command = &wick;
  for (const CLI::App* const app : wick.get_subcommands({})) {
    pages.push_back("wick-" + app->get_name());
    if (pages.back() == page) command = app;
  }
  if (std::ranges::find(pages, page) == pages.end())
    return with_hint(fail("--man '{}': there is no such page", page),
                     fmt::format("the pages are {}", fmt::join(pages, ", ")));
  const std::string name = command == &wick ? "wick" : "wick " + command->get_name();
  auto sections = sections_of(command->get_footer());
  const auto below = command->get_subcommands({});

  // The page has neither hyphenation nor justified lines (.nh, .ad l), because both make a SPEC
  // hard to read.
  std::string text = fmt::format(".TH {} 1 \"\" \"wick " WICK_VERSION
                                 "\" \"User Commands\"\n.nh\n.ad l\n"
                                 ".SH NAME\n{} \\- {}\n.SH SYNOPSIS\n",
                                 page, page, short_description(*command));
  if (below.empty() || command == &wick) text += synopsis(name, *command);
  for (const CLI::App* const app : below)
    text += (text.ends_with(".SH SYNOPSIS\n") ? "" : ".br\n") +
            synopsis(name + " " + app->get_name(), *app);
  text += ".SH DESCRIPTION\n" + escaped(command->get_description()) + "\n.PP\n" +
          formatted(sections[""]);
  text += ".SH OPTIONS\n" + options_of(*command);
  if (!below.empty()) text += ".SH COMMANDS\n";
  for (const CLI::App* const app : below)
    text += command == &wick ? entry(fmt::format("\\fBwick {}\\fR", app->get_name()),
                                     escaped(app->get_description()))
                             : subsection(*app);
  text += ".SH EXIT STATUS\n";
  text += sections["Exit status"].empty()
              ? std::string(
                    "0 success, 1 failure, 2 wrong command line, unless another is named above.\n")
              : formatted(sections["Exit status"]);
  if (command->get_name() == "run")
    text += ".SH ENVIRONMENT\n" + formatted(sections["Environment"]) + environment_of_run();
  std::string files;
  for (const auto& [whose, path, meaning] : kPaths)
    if (whose == command->get_name()) files += entry(escaped(path), escaped(meaning));
  if (!files.empty()) text += ".SH FILES\n" + files;
  std::erase(pages, page);
  return text + ".SH EXAMPLES\n" + formatted(sections["Examples"]) +
         fmt::format(".SH SEE ALSO\n\\fB{}\\fR(1)\n", fmt::join(pages, "\\fR(1),\n\\fB"));
}

}  // namespace wick::cli

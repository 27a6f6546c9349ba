#include "cli/completion.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

#include "cli/completion_scripts.h"
#include "cli/form.h"
#include "cli/image/create_options.h"
#include "cli/machines/options.h"
#include "cli/run_options.h"

namespace wick::cli {

namespace {

// Returns true if `name` stands for a file's name: FILE, FILE2, PATH or BASE.
bool is_file(std::string_view name) {
  return name.starts_with("FILE") || name == "PATH" || name == "BASE";
}

// Rewrites a form of cli/form.h for the scripts: "auto|FILE" becomes "auto|@", "N" becomes "".
std::string for_script(std::string_view form) {
  std::vector<std::string> parts;
  for (const std::string_view alternative : alternatives(form)) {
    const size_t kind =
        std::ranges::find_if(alternative, [](char c) { return c >= 'A' && c <= 'Z'; }) -
        alternative.begin();
    std::string part(alternative.substr(0, kind));
    if (is_file(alternative.substr(kind))) part += '@';
    if (!part.empty()) parts.push_back(part);
  }
  std::string text = fmt::format("{}", fmt::join(parts, "|"));
  for (const SpecKey& key : spec_keys(form))
    text += fmt::format("[,{}={}]", key.name, for_script(key.form));
  return text;
}

struct Word {
  std::vector<std::string> names;  // the names of an option, with dashes, or the name of a command
  std::string help;
  bool takes_value = false;
  std::string form;  // the form of the option's value, as the script needs it
};

// A place on the command line after a command, and the words that may follow there.
struct Place {
  std::string command;  // for instance "wick image create"
  std::vector<Word> options;
  std::vector<Word> commands;
  std::string form;  // the form of the positional arguments
};

// Returns true for the commands that have the options of wick run; their help refers to that of
// wick run.
bool has_options_of_run(const CLI::App& command) {
  return command.get_name() == "run" || command.get_name() == "exec" ||
         command.get_name() == "start";
}

std::string form_of(const CLI::App& command, const CLI::Option& option) {
  if (command.get_group() == kMachinesHeading && option.get_name() == "NAME") return "%";
  if (has_options_of_run(command))
    for (const RunOption& row : run_options())
      if (option.check_name(std::string(row.row().last_name()))) return for_script(row.form());
  const std::string form = option.get_type_name();
  if (form == "k=v,...") return for_script(create_options_form(block::Format::kQcow2));
  return for_script(form.empty() ? option.get_name() : form);
}

Place place_of(const CLI::App& command, const std::string& path) {
  Place place{path, {}, {}, {}};
  for (const CLI::Option* const option : command.get_options()) {
    const std::string form = form_of(command, *option);
    if (option->get_positional()) {
      if (place.form.empty()) place.form = form;
      continue;
    }
    if (option->get_group().empty() && !has_options_of_run(command)) continue;
    Word word{{}, option->get_description(), option->get_items_expected_max() > 0, form};
    for (const std::string& name : option->get_snames()) word.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) word.names.push_back("--" + name);
    place.options.push_back(std::move(word));
  }
  for (const CLI::App* const below : command.get_subcommands({}))
    place.commands.push_back({{below->get_name()}, below->get_description(), false, {}});
  return place;
}

// Adds the place after `command`. If the command has subcommands, also adds the place after `wick
// help` and the command's name, and, recursively, the places of the subcommands.
void add_places(std::vector<Place>& places, const CLI::App& command, const std::string& path) {
  Place place = place_of(command, path);
  if (!place.commands.empty())
    places.push_back({"wick help" + path.substr(4), {}, place.commands, {}});
  if (path == "wick")
    place.commands.push_back({{"help"}, "Prints the help of a command.", false, {}});
  places.push_back(std::move(place));
  for (const CLI::App* const below : command.get_subcommands({}))
    add_places(places, *below, path + " " + below->get_name());
}

// Puts the text in quotes that all three shells understand.
std::string quoted(const std::string& text) {
  return "'" + CLI::detail::find_and_replace(text, "'", "'\\''") + "'";
}

std::string bash_data(const std::vector<Place>& places) {
  std::string text;
  for (const Place& place : places) {
    std::vector<std::string> words;
    for (const auto* const list : {&place.commands, &place.options})
      for (const Word& word : *list)
        words.insert(words.end(), word.names.begin(), word.names.end());
    text += fmt::format("  words['{}']='{}'\n", place.command, fmt::join(words, " "));
    if (!place.form.empty()) text += fmt::format("  forms['{}']='{}'\n", place.command, place.form);
    for (const Word& option : place.options)
      for (const std::string& name : option.names)
        if (option.takes_value)
          text += fmt::format("  forms['{} {}']='{}'\n", place.command, name, option.form);
  }
  return text;
}

std::string zsh_action(const std::string& form) {
  if (form.empty()) return " ";
  return " _wick_value \"" + CLI::detail::find_and_replace(form, ":", "\\:") + '"';
}

std::string zsh_data(const std::vector<Place>& places) {
  std::string text;
  for (const Place& place : places) {
    text += fmt::format("  '{}')\n    _arguments -s", place.command);
    for (const Word& option : place.options) {
      const std::string value = option.takes_value ? ":value:" + zsh_action(option.form) : "";
      for (const std::string& name : option.names)
        text += " \\\n      " +
                quoted(fmt::format("*{}{}[{}]{}", name,
                                   option.takes_value && name.starts_with("--") ? "=" : "",
                                   option.help, value));
    }
    if (!place.commands.empty()) {
      std::string list;
      for (const Word& command : place.commands)
        list += fmt::format("{}\\:\"{}\" ", command.names.front(), command.help);
      text += " \\\n      " + quoted(fmt::format(":command:(({}))", list));
    } else if (!place.form.empty()) {
      text += " \\\n      " + quoted("*:argument:" + zsh_action(place.form));
    }
    text += "\n    ;;\n";
  }
  return text;
}

std::string fish_value(const std::string& form) {
  if (form.empty()) return "";
  return fmt::format(" -a '(__wick_value \"{}\")'", form);
}

std::string fish_data(const std::vector<Place>& places) {
  std::string text;
  for (const Place& place : places) {
    const std::string own = place.command.substr(4);
    const std::string start =
        fmt::format("complete -c wick -n '__wick_{}{}'", own.empty() ? "before" : "at", own);
    for (const Word& option : place.options) {
      text += start;
      for (const std::string& name : option.names)
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      if (option.takes_value) text += " -x" + fish_value(option.form);
      text += " -d " + quoted(option.help) + '\n';
    }
    for (const Word& command : place.commands)
      text += fmt::format("complete -c wick -n '__wick_before{}' -a {} -d {}\n", own,
                          command.names.front(), quoted(command.help));
    if (!place.form.empty()) text += start + fish_value(place.form) + '\n';
  }
  return text;
}

std::string replaced(const char* script, const char* what, const std::string& by) {
  return CLI::detail::find_and_replace(script, what, by);
}

}  // namespace

std::string completion_script(const CLI::App& wick, std::string_view shell) {
  std::vector<Place> places;
  add_places(places, wick, "wick");
  if (shell == "bash") return replaced(kBash, "@DATA@\n", bash_data(places));
  if (shell == "fish") return replaced(kFish, "@DATA@", fish_data(places));
  std::vector<std::string> commands;
  commands.reserve(places.size());
  for (const Place& place : places) commands.push_back('\'' + place.command + '\'');
  return CLI::detail::find_and_replace(replaced(kZsh, "@DATA@\n", zsh_data(places)), "@COMMANDS@",
                                       fmt::format("{}", fmt::join(commands, " | ")));
}

}  // namespace wick::cli

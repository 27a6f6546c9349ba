#include "cli/command_table.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

#include "cli/form.h"

namespace wick::cli {

const CLI::Option* Given::find(const std::string& name) const {
  const bool positional = name.front() >= 'A' && name.front() <= 'Z' && name.size() > 1;
  return app_.get_option(positional ? name : (name.size() > 1 ? "--" : "-") + name);
}

unsigned Given::count(const std::string& name) const {
  return static_cast<unsigned>(find(name)->count());
}

std::vector<std::string> Given::all(const std::string& name) const { return find(name)->results(); }

std::optional<std::string> Given::last(const std::string& name) const {
  const auto values = all(name);
  if (values.empty()) return std::nullopt;
  return values.back();
}

Result<void> Given::check(std::span<const OptionRow> rows) const {
  for (const OptionRow& row : rows) {
    if (row.value == nullptr) continue;
    const std::string name(row.last_name());
    for (const std::string& value : app_.get_option(name)->results())
      if (const auto fits = check_form(row.value, value); !fits)
        return fail("{} '{}': {}", name, value, fits.error().message());
  }
  return {};
}

void add_option(CLI::App& command, const OptionRow& row) {
  const auto& [names, value, help, min, max, may_be_missing] = row;
  CLI::Option* const option = value != nullptr ? command.add_option(names, CLI::callback_t(), help)
                                               : command.add_flag(names, help);
  if (*help == '\0') option->group("");
  option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  if (value == nullptr) return;
  option->type_name(value);
  option->expected(*value == '[' ? 0 : 1, 1);
  if (*names != '-' && max > 1) option->expected(min, max)->allow_extra_args();
  option->required(min > 0 && !may_be_missing);
}

CommandGroup::CommandGroup(CLI::App& wick, const char* name, const char* help, const char* footer)
    : name_(name), heading_("Commands"), group_(wick.add_subcommand(name, help)) {
  group_->footer(footer);
  group_->require_subcommand(0, 1);
}

CommandGroup::CommandGroup(CLI::App& wick, const char* heading)
    : heading_(heading), group_(&wick) {}

void CommandGroup::add(const CommandSyntax& row, bool with_options) {
  CLI::App* const command = group_->add_subcommand(row.name, row.help);
  commands_.push_back(command);
  command->group(heading_);
  if (!with_options) return;
  command->footer(row.footer);
  command->set_help_flag("-h,--help", "print this");
  command->allow_extras();
  for (const OptionRow& option : row.options) add_option(*command, option);
}

bool CommandGroup::parsed() const { return name_.empty() ? has_command() : group_->parsed(); }

bool CommandGroup::has_command() const { return index().has_value(); }

std::optional<size_t> CommandGroup::index() const {
  for (size_t i = 0; i < commands_.size(); ++i)
    if (commands_[i] != nullptr && commands_[i]->parsed()) return i;
  return std::nullopt;
}

std::string CommandGroup::known_commands() const {
  std::vector<std::string> names;
  for (const CLI::App* const command : commands_)
    if (command != nullptr) names.push_back(command->get_name());
  return fmt::format("the commands are {}", fmt::join(names, ", "));
}

std::string CommandGroup::help_command() const {
  const auto row = index();
  std::string command = "wick";
  if (!name_.empty()) command += ' ' + name_;
  if (row) command += ' ' + commands_[*row]->get_name();
  return command + " --help";
}

}  // namespace wick::cli

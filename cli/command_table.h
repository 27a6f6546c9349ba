// A table of commands: the commands below a command such as `wick image`, or the commands of wick
// itself. A row has a command's options, its help, and the function that turns the given options
// into a value.
//
// Thread rule: an object belongs to one thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace wick::cli {

struct OptionRow {
  const char* names;  // as CLI11 takes them; a name without dashes is a positional argument
  // The form of the option's value (cli/form.h). Brackets around the form: the value may be left
  // out. nullptr: the option is a flag. Empty: a positional argument without a form.
  const char* value;
  // Empty: the help does not list the option, because another option's help names it.
  const char* help;
  int min = 0;  // number of values of a positional argument
  int max = 1;
  bool may_be_missing = false;  // a required argument that may be missing with `-o help`

  std::string_view last_name() const {
    const std::string_view all = names;
    return all.substr(all.rfind(',') + 1);
  }
};

void add_option(CLI::App& command, const OptionRow& row);

// The options that were given to one command. An option's name here is the last of its names,
// without dashes; a positional argument has its name from the table ("FILE").
class Given {
 public:
  explicit Given(const CLI::App& app) : app_(app) {}

  bool has(const std::string& name) const { return count(name) > 0; }
  unsigned count(const std::string& name) const;
  std::vector<std::string> all(const std::string& name) const;
  std::optional<std::string> last(const std::string& name) const;
  // Fails if a value is not one of the words that its row allows.
  Result<void> check(std::span<const OptionRow> rows) const;

 private:
  const CLI::Option* find(const std::string& name) const;
  const CLI::App& app_;
};

struct CommandSyntax {
  const char* name;
  const char* help;
  const char* footer;
  std::span<const OptionRow> options;
};

template <typename Command>
struct CommandRow : CommandSyntax {
  Result<Command> (*make)(const Given& given);
};

// The part of CommandTable that does not depend on the type of the commands.
class CommandGroup {
 public:
  CommandGroup(CLI::App& wick, const char* name, const char* help, const char* footer);
  // Makes a group of commands of wick itself, which wick's help lists below `heading`.
  CommandGroup(CLI::App& wick, const char* heading);

  // Returns true if the command line names this group or, in a group of commands of wick itself,
  // one of its commands.
  bool parsed() const;
  bool has_command() const;
  // Returns the list of commands, for an error's hint.
  std::string known_commands() const;
  // Returns the command line that prints the most specific help.
  std::string help_command() const;

 protected:
  // Adds a command. Without its options, the command can only be listed.
  void add(const CommandSyntax& row, bool with_options = true);
  // Adds a placeholder for a row whose command this group does not offer, so that later rows keep
  // their index.
  void skip() { commands_.push_back(nullptr); }
  // Returns the index of the row whose command was given; nullopt: none was given.
  std::optional<size_t> index() const;
  Given given(size_t index) const { return Given(*commands_[index]); }

 private:
  const std::string name_;  // empty for commands of wick itself
  const char* const heading_;
  CLI::App* const group_;
  std::vector<const CLI::App*> commands_;  // one for each row; nullptr: not offered
};

template <typename Command>
class CommandTable : public CommandGroup {
 public:
  // `rows` must outlive the table. If `filled` is false, the group has a name, but no commands.
  CommandTable(CLI::App& wick, bool filled, const char* name, const char* help, const char* footer,
               std::span<const CommandRow<Command>> rows)
      : CommandGroup(wick, name, help, footer), rows_(rows) {
    if (filled)
      for (const auto& row : rows) add(row);
  }

  // Makes a table of commands of wick itself. The table offers the commands for which `wanted`
  // returns true, with or without options.
  template <typename Wanted>
  CommandTable(CLI::App& wick, const char* heading, std::span<const CommandRow<Command>> rows,
               bool with_options, Wanted wanted)
      : CommandGroup(wick, heading), rows_(rows) {
    for (const auto& row : rows) {
      if (wanted(row.name))
        add(row, with_options);
      else
        skip();
    }
  }

  Result<Command> command() const {
    if (const auto row = index()) {
      TRY(given(*row).check(rows_[*row].options));
      return rows_[*row].make(given(*row));
    }
    return with_hint(fail("no command"), known_commands());
  }

 private:
  const std::span<const CommandRow<Command>> rows_;
};

}  // namespace wick::cli

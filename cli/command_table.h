// Commands below a command, such as those of `wick image`, or of wick itself, as a table: their
// options, their help, and the function that turns the given options into a value.
//
// Thread rule: none.
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
  const char* names;  // as CLI11 takes them; without dashes: positional
  // The form of its value (cli/form.h). In brackets: the value may be left out; nullptr: a flag;
  // empty: a positional argument without a form.
  const char* value;
  const char* help;  // empty: not shown, since the help of another option names it
  int min = 0;       // number of values of a positional argument
  int max = 1;
  bool may_be_missing = false;  // with `-o help`

  std::string_view last_name() const {
    const std::string_view all = names;
    return all.substr(all.rfind(',') + 1);
  }
};

void add_option(CLI::App& command, const OptionRow& row);

// The options that were given to one command. An option's name is its last one, without
// dashes; a positional argument's is as in the table ("FILE").
class Given {
 public:
  explicit Given(const CLI::App& app) : app_(app) {}

  bool has(const std::string& name) const { return count(name) > 0; }
  unsigned count(const std::string& name) const;
  std::vector<std::string> all(const std::string& name) const;
  std::optional<std::string> last(const std::string& name) const;
  // Fails if a value is none of the words that its row allows.
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
  // Commands of wick itself, which its help lists below `heading`.
  CommandGroup(CLI::App& wick, const char* heading);

  // The group was given, or one of the commands of wick itself.
  bool parsed() const;
  bool has_command() const;
  // The list of commands, for an error's hint.
  std::string known_commands() const;
  // The command line that prints the most specific help.
  std::string help_command() const;

 protected:
  // Without its options, the command can only be listed.
  void add(const CommandSyntax& row, bool with_options = true);
  // Leaves a command out.
  void skip() { commands_.push_back(nullptr); }
  // The row of the command that was given.
  std::optional<size_t> index() const;
  Given given(size_t index) const { return Given(*commands_[index]); }

 private:
  const std::string name_;  // empty: wick itself
  const char* const heading_;
  CLI::App* const group_;
  std::vector<const CLI::App*> commands_;  // nullptr: left out
};

template <typename Command>
class CommandTable : public CommandGroup {
 public:
  // `rows` must outlive the table. Without `filled` the group has a name, but no commands.
  CommandTable(CLI::App& wick, bool filled, const char* name, const char* help, const char* footer,
               std::span<const CommandRow<Command>> rows)
      : CommandGroup(wick, name, help, footer), rows_(rows) {
    if (filled)
      for (const auto& row : rows) add(row);
  }

  // Commands of wick itself: those for which `wanted` returns true, with or without options.
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

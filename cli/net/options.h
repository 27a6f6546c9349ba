// Parses the command line of wick net into plain values.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/net/commands.h"

namespace wick::cli {

class NetArguments {
 public:
  explicit NetArguments(CLI::App& wick);

  bool parsed() const { return net_->parsed(); }
  bool has_command() const { return !net_->get_subcommands().empty(); }
  static std::string known_commands();
  Result<NetCommand> command() const;
  // The command that prints help for the parsed subcommand.
  std::string help_command() const;

 private:
  CLI::App* const net_;
};

}  // namespace wick::cli

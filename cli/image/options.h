// The command line of wick image, made into plain values: a table of its commands
// and their options. `Given` serves wick net too.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "image/commands.h"

namespace wick::cli {

// What was given to one command: its options by their last name, without dashes,
// its positional arguments by theirs ("FILE").
class Given {
 public:
  explicit Given(const CLI::App& app) : app_(app) {}

  bool has(const std::string& name) const { return find(name)->count() > 0; }
  unsigned count(const std::string& name) const {
    return static_cast<unsigned>(find(name)->count());
  }
  std::vector<std::string> all(const std::string& name) const { return find(name)->results(); }
  // The last one; or nothing.
  std::optional<std::string> last(const std::string& name) const;
  // -f, -F, -O: a format that wick knows.
  Result<std::optional<block::Format>> format(const std::string& name) const;
  // The same for what is only read, of which there is more.
  Result<std::optional<image::ImageFormat>> source_format(const std::string& name) const;
  // -t, -T: how files are cached; `otherwise`: when it is not given.
  Result<block::Cache> cache(const std::string& name, block::Cache otherwise) const;
  // --output
  Result<bool> json() const;

 private:
  const CLI::Option* find(const std::string& name) const;
  const CLI::App& app_;
};

class ImageArguments {
 public:
  explicit ImageArguments(CLI::App& wick);

  bool parsed() const { return image_->parsed(); }
  bool has_command() const { return !image_->get_subcommands().empty(); }
  static std::string known_commands();
  Result<image::ImageCommand> command() const;
  // The command that says more about what was given.
  std::string help_command() const;

 private:
  CLI::App* const image_;
};

}  // namespace wick::cli

#include "cli/options.h"

#include <fcntl.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "base/fd.h"
#include "cli/completion.h"
#include "cli/form.h"
#include "cli/image/options.h"
#include "cli/manual.h"
#include "cli/nearest.h"
#include "cli/net/options.h"
#include "cli/run_options.h"
#include "cli/toml.h"

namespace wick::cli {
namespace {

constexpr OptionRow kMainOptions[] = {
    {"--completion", "bash|zsh|fish", "print a completion script for this shell"},
    {"--man", "PAGE", "print the source of a manual page, such as wick-run"},
};

// These two are not in run_options(): one names the config file, the other is short for
// --log-level.
constexpr OptionRow kMoreRunOptions[] = {
    {"--config", "FILE", "TOML with the same names; arrays for repeated options"},
    {"-v", nullptr, "more messages: --log-level info; -vv: debug"},
};
constexpr const char* kConfigVariable = "WICK_CONFIG";

constexpr OptionRow kSocket = {"PATH", "", "the socket of wick run -s unix:PATH", 1};

constexpr const char* kKnownCommands = "the commands are run, attach, image, net and doctor";

constexpr const char* kMainHelp = R"(Examples:
  wick run -k bzImage -d alpine.ext4 -m 256M
  wick attach serial.socket
  wick image create -f qcow2 disk.qcow2 20G
  sudo wick net up --user alice
  wick doctor)";

// To be formatted with the forms of SPECs.
constexpr const char* kRunHelp =
    R"(A disk is {}.
A network card is none, or user{}, or
tap{}, with {}. Two commas are one. A serial port or console is
{}. On stdio Ctrl-] ? lists the keys.
Environment: WICK_OPTION (';' between SPECs); after it comes the config file.
Exit status: 0 success, 1 host failed, 2 usage error, 3 panic or no output,
4 triple fault, 5 timeout, 6 KVM failed, 128+N signal N.

Example:
  wick run -k bzImage -d alpine.ext4 -s unix:serial.socket -m 256M)";

constexpr const char* kAttachHelp = R"(Ctrl-] leaves; the machine keeps running.

Example:
  wick attach serial.socket)";

constexpr const char* kDoctorHelp =
    R"(Each line is ok, warn or fail, with the fix.
Exit status: 0 if wick run can work on this host, else 1.

Example:
  wick doctor)";

// Parses the command line with CLI11. The other sources are handled by class Sources, because in
// CLI11 2.1.2 the file overrides the environment, and set_config has no effect on a subcommand.
class Arguments {
 public:
  explicit Arguments(const std::vector<std::string>& arguments) : first_(first_of(arguments)) {
    app_.get_formatter()->column_width(26);
    app_.get_formatter()->label("SUBCOMMAND", "COMMAND");
    app_.get_formatter()->label("REQUIRED", "");
    app_.require_subcommand(0, 1);
    app_.set_version_flag("--version", "wick " WICK_VERSION, "print the version");
    app_.footer(kMainHelp);
    run_->footer(fmt::format(kRunHelp, kDiskForm, kUserKeys, kTapKeys, kCardKeys, kSerialForm));
    attach_->footer(kAttachHelp);
    doctor_->footer(kDoctorHelp);
    for (CLI::App* const app : {&app_, run_, attach_, app_.get_subcommand("image"),
                                app_.get_subcommand("net"), doctor_}) {
      app->set_help_flag("-h,--help", "print this");
      app->allow_extras();  // parse() below has a better message about them
    }
    for (CLI::App* const command : app_.get_subcommands({})) command->group("Commands");
    for (const OptionRow& row : kMainOptions) add_option(app_, row);
    if (needs("run")) {
      for (const RunOption& option : run_options()) add_option(*run_, option.row());
      for (const OptionRow& row : kMoreRunOptions) add_option(*run_, row);
    }
    add_option(*attach_, kSocket);
  }

  // The text to print for --help and the other options of wick itself; nullopt for a command.
  Result<std::optional<std::string>> parse(const std::vector<std::string>& arguments) {
    try {
      app_.parse(prepared(arguments));
    } catch (const CLI::CallForVersion& version) {
      return fmt::format("{}\n", version.what());
    } catch (const CLI::CallForHelp&) {
      TRY(refuse_extras());
      return CLI::detail::find_and_replace(app_.help(), "\n\n\n", "\n\n");
    } catch (const CLI::ParseError& error) {
      return fail("{}", error.what());
    }
    TRY(refuse_extras());
    const Given main(app_);
    TRY(main.check(kMainOptions));
    if (const auto shell = main.last("completion")) return completion_script(app_, *shell);
    if (const auto page = main.last("man")) return manual_page(app_, *page);
    return std::nullopt;
  }

  Result<void> refuse_extras() const {
    for (const std::string& extra : app_.remaining(true)) {
      if (extra == "--") continue;  // CLI11 does not remove it
      if (extra.starts_with('-')) return unknown_option(extra);
      if (is_run() || is_attach() || is_doctor() || image_.has_command() || net_.has_command())
        return fail("'{}' is one argument too many", extra);
      if (image_.parsed())
        return with_hint(fail("unknown command 'image {}'", extra), image_.known_commands());
      if (net_.parsed())
        return with_hint(fail("unknown command 'net {}'", extra), net_.known_commands());
      return with_hint(fail("unknown command '{}'", extra), kKnownCommands);
    }
    return {};
  }

  // The error names the option of this command that was probably meant.
  std::unexpected<Error> unknown_option(const std::string& extra) const {
    const CLI::App* command = &app_;
    while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
    std::vector<std::string> names;
    for (const CLI::Option* const option : command->get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    auto error = fail("unknown option '{}'", extra);
    const std::string meant = nearest(extra.substr(0, extra.find('=')), names);
    return meant.empty() ? error : with_hint(std::move(error), "did you mean " + meant + "?");
  }

  bool is_run() const { return run_->parsed(); }
  bool is_attach() const { return attach_->parsed(); }
  bool is_doctor() const { return doctor_->parsed(); }
  const CommandTable<image::ImageCommand>& image() const { return image_; }
  const CommandTable<hostnet::NetCommand>& net() const { return net_; }
  std::string help_command() const {
    if (image_.parsed()) return image_.help_command();
    if (net_.parsed()) return net_.help_command();
    for (const CLI::App* const command : {run_, attach_, doctor_})
      if (command->parsed()) return "wick " + command->get_name() + " --help";
    return "wick --help";
  }

  std::vector<std::string> values(const std::string& name) const { return Given(*run_).all(name); }
  std::string socket_path() const { return *Given(*attach_).last("PATH"); }

 private:
  // CLI11 expects the arguments in reverse order, and would read `--append=` as `--append`.
  static std::vector<std::string> prepared(const std::vector<std::string>& arguments) {
    std::vector<std::string> reversed;
    if (!arguments.empty() && arguments.front() == "help") {  // wick help COMMAND
      reversed.emplace_back("--help");
      reversed.insert(reversed.end(), arguments.rbegin(), arguments.rend() - 1);
      return reversed;
    }
    const auto end_of_options = std::ranges::find(arguments, "--");
    for (auto argument = arguments.rbegin(); argument != arguments.rend(); ++argument) {
      const bool empty_value = argument->starts_with("--") && argument->ends_with('=') &&
                               argument->find('=') == argument->size() - 1 &&
                               argument.base() <= end_of_options;
      if (empty_value) reversed.emplace_back();
      reversed.push_back(empty_value ? argument->substr(0, argument->size() - 1) : *argument);
    }
    return reversed;
  }

  static std::string first_of(const std::vector<std::string>& arguments) {
    return arguments.empty() ? std::string() : arguments.front();
  }

  // False for a command whose options no message and no help can name. To create them all takes
  // a third of the time of a short run.
  bool needs(std::string_view command) const {
    constexpr std::array kKnown = {"run",    "attach", "image",    "net",
                                   "doctor", "--help", "--version"};
    return first_ == command || std::ranges::find(kKnown, first_) == kKnown.end();
  }

  const std::string first_;  // argument; empty: none
  CLI::App app_{"Runs virtual machines on KVM.", "wick"};
  CLI::App* const run_ = app_.add_subcommand("run", "Boots a kernel in a virtual machine.");
  CLI::App* const attach_ =
      app_.add_subcommand("attach", "Connects this terminal to a machine's serial socket.");
  const CommandTable<image::ImageCommand> image_ = image_commands(app_, needs("image"));
  const CommandTable<hostnet::NetCommand> net_ = net_commands(app_, needs("net"));
  CLI::App* const doctor_ =
      app_.add_subcommand("doctor", "Checks whether this host can run guests.");
};

Result<std::string> read_file(const std::string& path) {
  constexpr size_t kMaxBytes = 64 << 10;
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return with_hint(fail_errno(errno, "{}: cannot open the config file", path),
                     "check --config and WICK_CONFIG");
  }
  std::string text;
  std::array<char, 4096> buffer;
  while (true) {
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "{}: cannot read the config file", path);
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
    if (text.size() > kMaxBytes) return fail("{}: too large for a config file", path);
  }
}

Result<std::vector<TomlEntry>> parse_config(const std::string& path, const std::string& text) {
  auto entries = parse_toml(text);
  if (!entries) return fail("{}: {}", path, entries.error().message());
  for (const TomlEntry& entry : *entries) {
    std::vector<std::string> known;
    for (const RunOption& option : run_options()) known.push_back(option.name());
    if (std::ranges::find(known, entry.key) == known.end())
      return with_hint(fail("{}: line {}: unknown key '{}'", path, entry.line, entry.key),
                       fmt::format("the keys are {}", fmt::join(known, ", ")));
  }
  return entries;
}

// The values of one option from one source.
struct Setting {
  std::string origin;  // for messages: "--memory", "WICK_MEMORY", "vm.toml: line 2: memory"
  std::vector<std::string> values;
};

class Sources {
 public:
  Sources(const Arguments& arguments, const Environment& environment, std::string config_path,
          std::vector<TomlEntry> config)
      : arguments_(arguments),
        environment_(environment),
        config_path_(std::move(config_path)),
        config_(std::move(config)) {}

  Setting find(const RunOption& option) const {
    const std::string name = option.name();
    if (auto values = from_command_line(option); !values.empty())
      return {"--" + name, std::move(values)};
    if (auto values = from_environment(option); !values.empty())
      return {option.variable(), std::move(values)};
    for (const TomlEntry& entry : config_) {
      if (entry.key == name)
        return {fmt::format("{}: line {}: {}", config_path_, entry.line, name), entry.values};
    }
    return {};
  }

 private:
  std::vector<std::string> from_command_line(const RunOption& option) const {
    std::vector<std::string> values = arguments_.values(option.name());
    if (option.name() == "log-level") {
      const size_t verbosity = arguments_.values("v").size();
      if (verbosity > 0) values.emplace_back(verbosity == 1 ? "info" : "debug");
    }
    return values;
  }

  // An empty variable counts as not set.
  std::vector<std::string> from_environment(const RunOption& option) const {
    const char* const found = environment_(option.variable());
    const std::string text = found ? found : "";
    if (!option.repeats && !text.empty()) return {text};
    std::vector<std::string> values;
    for (size_t start = 0; start < text.size();) {
      const size_t end = std::min(text.find(';', start), text.size());
      if (end > start) values.push_back(text.substr(start, end - start));
      start = end + 1;
    }
    return values;
  }

  const Arguments& arguments_;
  const Environment& environment_;
  const std::string config_path_;
  const std::vector<TomlEntry> config_;
};

Result<RunOptions> resolve(const Sources& sources) {
  RunOptions options;
  for (const RunOption& option : run_options()) {
    const Setting setting = sources.find(option);
    if (setting.values.size() > 1 && !option.repeats)
      return fail("{}: given more than once; it takes one value", setting.origin);
    for (const std::string& value : setting.values) {
      Result<void> applied = check_form(option.value, value);
      if (applied) applied = option.apply(options, value);
      if (!applied) {
        Error error = std::move(applied).error();
        error.context = fmt::format("{} '{}': {}", setting.origin, value, error.context);
        return std::unexpected(std::move(error));
      }
    }
  }
  return options;
}

// Sets the defaults that depend on other options, and checks the machine as a whole.
Result<RunOptions> complete(RunOptions options) {
  vmm::MachineConfig& machine = options.machine;
  const bool console_on_stdio =
      machine.console && machine.console->kind == vmm::SerialConfig::Kind::kStdio;
  if (machine.serials.empty())
    machine.serials.emplace_back().kind =
        console_on_stdio ? vmm::SerialConfig::Kind::kNull : vmm::SerialConfig::Kind::kStdio;
  TRY(vmm::check(machine));
  return options;
}

}  // namespace

std::expected<Command, CommandError> parse_command(const std::vector<std::string>& arguments,
                                                   const Environment& environment) {
  Arguments parsed(arguments);
  const auto usage = [&](Error error) {
    return std::unexpected(
        CommandError{CommandError::Kind::kUsage, std::move(error), parsed.help_command()});
  };

  auto text = parsed.parse(arguments);
  if (!text) return usage(text.error());
  if (*text) return PrintText{**text};
  if (parsed.is_attach()) return AttachOptions{parsed.socket_path()};
  if (parsed.is_doctor()) return DoctorOptions{};
  if (parsed.image().parsed()) {
    auto command = parsed.image().command();
    if (!command) return usage(std::move(command).error());
    return *std::move(command);
  }
  if (parsed.net().parsed()) {
    auto command = parsed.net().command();
    if (!command) return usage(std::move(command).error());
    return *std::move(command);
  }
  if (!parsed.is_run()) return usage({0, "no command", kKnownCommands});

  std::string config_path;
  if (const char* const path = environment(kConfigVariable)) config_path = path;
  if (const auto given = parsed.values("config"); !given.empty()) {
    if (given.size() > 1) return usage({0, "--config: given more than once", {}});
    config_path = given.front();
    if (config_path.empty()) return usage({0, "--config: needs a file name", {}});
  }
  std::vector<TomlEntry> config;
  if (!config_path.empty()) {
    auto file = read_file(config_path);
    if (!file) return std::unexpected(CommandError{CommandError::Kind::kHost, file.error(), {}});
    auto entries = parse_config(config_path, *file);
    if (!entries) return usage(entries.error());
    config = std::move(*entries);
  }

  auto options = resolve(Sources(parsed, environment, config_path, std::move(config)));
  if (options) options = complete(std::move(*options));
  if (!options) return usage(options.error());
  return std::move(*options);
}

}  // namespace wick::cli

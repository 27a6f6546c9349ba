#include "cli/options.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "base/fd.h"
#include "cli/completion.h"
#include "cli/exec_options.h"
#include "cli/form.h"
#include "cli/image/options.h"
#include "cli/machines/definitions.h"
#include "cli/machines/options.h"
#include "cli/manual.h"
#include "cli/nearest.h"
#include "cli/net/options.h"
#include "cli/run_options.h"
#include "cli/sources.h"
#include "control/registry.h"

namespace wick::cli {
namespace {

constexpr OptionRow kMainOptions[] = {
    {"--completion", "bash|zsh|fish", "print a completion script for this shell"},
    {"--man", "PAGE", "print the source of a manual page, such as wick-run"},
};

// These two options are not in run_options(): one names the config file, the other is short for
// --log-level.
constexpr OptionRow kMoreRunOptions[] = {
    {"--config", "FILE", "TOML with the same names; arrays for repeated options"},
    {"-v", nullptr, "more messages: --log-level info; -vv: debug"},
};
constexpr const char* kConfigVariable = "WICK_CONFIG";

constexpr OptionRow kSocket = {"PATH", "", "the socket of wick run -s unix:PATH", 1};

constexpr OptionRow kMachine = {"NAME", "", "the machine", 1};

constexpr const char* kKnownCommands =
    "the commands are run, exec, attach, image, net, doctor, and start, list and others for "
    "machines by name";

constexpr const char* kMainHelp = R"(Examples:
  sudo wick net up --user alice
  wick run -k bzImage -d alpine.ext4 -m 256M
  wick exec -k linux/ -- uname -r
  wick attach serial.socket
  wick image create -f qcow2 disk.qcow2 20G
  wick start web -k bzImage -d alpine.ext4)";

// A format string; its arguments are the forms of SPECs.
constexpr const char* kRunHelp =
    R"(A disk is {}.
A network card is none, or user{}, or
tap{}, with {}. Two commas are one. A serial port or console is
{}; of a console also name=NAME.
Environment: WICK_OPTION (';' between SPECs); after it comes the config file.
Exit status: 0 success, 1 host failed, 2 usage error, 3 panic or no output,
4 triple fault, 5 timeout, 6 KVM failed, 128+N signal N.

Example:
  wick run -k bzImage -d alpine.ext4 -s unix:serial.socket -m 256M)";

constexpr const char* kStartHelp =
    R"(OPTIONS are those of wick run, but --name. Without --config they also come from
~/.config/wick/NAME.toml (wick define). Serial ports on stdio get a socket, for
wick console. Returns when the guest runs, or with the error.
Exit status: 0, or that of wick run if the machine cannot be built.

Example:
  wick start web -k bzImage -d alpine.ext4)";

constexpr const char* kExecHelp =
    R"(OPTIONS are also those of wick run; -k may be a build tree. Several -k or
--script are a run for each. Without COMMAND: a shell. It gets PATH, HOME, USER,
LOGNAME, SHELL, LANG, LANGUAGE, LC_*, TERM, TZ, COLORTERM and NO_COLOR from the
caller. On a terminal, Ctrl-] q ends the run. Signals go to the command; a
second one ends wick.
Exit status: the command's, 128+N if signal N killed it; 127 or 126 if it cannot
be started; 1 if the guest ended without it; 2 usage error, 3 panic, 4 triple
fault, 5 timeout, 6 KVM failed, each with a line on standard error.

Example:
  wick exec -k linux/ -- uname -r)";

constexpr const char* kAttachHelp = R"(Ctrl-] leaves; the machine keeps running.

Example:
  wick attach serial.socket)";

constexpr const char* kDoctorHelp =
    R"(Each line is ok, warn or fail, with the fix.
Exit status: 0 if wick run can work on this host, else 1.

Example:
  wick doctor)";

// Parses the command line with CLI11. The other sources are handled by class Sources, because in
// CLI11 2.1.2 the config file overrides the environment, and set_config() has no effect on a
// subcommand.
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
    start_->footer(kStartHelp);
    attach_->footer(kAttachHelp);
    doctor_->footer(kDoctorHelp);
    exec_->footer(kExecHelp);
    for (CLI::App* const app : {&app_, run_, exec_, start_, attach_, app_.get_subcommand("image"),
                                app_.get_subcommand("net"), doctor_}) {
      app->set_help_flag("-h,--help", "print this");
      app->allow_extras();  // refuse_extras() has a better message
    }
    for (CLI::App* const command :
         {run_, exec_, attach_, app_.get_subcommand("image"), app_.get_subcommand("net"), doctor_})
      command->group("Commands");
    start_->group(kMachinesHeading);
    for (const OptionRow& row : kMainOptions) add_option(app_, row);
    if (needs("run")) {
      for (const RunOption& option : run_options()) add_option(*run_, option.row());
      for (const OptionRow& row : kMoreRunOptions) add_option(*run_, row);
    }
    if (needs("exec")) {
      for (const ExecOption& option : exec_options()) add_option(*exec_, option.row);
      for (const RunOption& option : run_options())
        if (option.name() != "detach") add_hidden(*exec_, option.row());
      for (const OptionRow& row : kMoreRunOptions) add_hidden(*exec_, row);
    }
    if (needs("start")) {
      add_option(*start_, kMachine);
      for (const RunOption& option : run_options())
        if (option.name() != "name" && option.name() != "detach") add_hidden(*start_, option.row());
      for (const OptionRow& row : kMoreRunOptions) add_hidden(*start_, row);
    }
    add_option(*attach_, kSocket);
  }

  // Parses the command line. Returns the text to print for --help and the other options of wick
  // itself; nullopt for a command.
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
      if (extra == "--") continue;  // CLI11 does not remove the "--"
      if (extra.starts_with('-')) return unknown_option(extra);
      if (is_exec())
        return with_hint(fail("'{}': not an option", extra), "put -- before the command");
      if (is_run() || is_start() || is_attach() || is_doctor() || image_.has_command() ||
          net_.has_command() || machines_.has_command())
        return fail("'{}' is one argument too many", extra);
      if (image_.parsed())
        return with_hint(fail("unknown command 'image {}'", extra), image_.known_commands());
      if (net_.parsed())
        return with_hint(fail("unknown command 'net {}'", extra), net_.known_commands());
      return with_hint(fail("unknown command '{}'", extra), kKnownCommands);
    }
    return {};
  }

  // Returns an error that suggests the option of this command that the user probably meant.
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
  bool is_exec() const { return exec_->parsed(); }
  bool is_start() const { return start_->parsed(); }
  bool is_attach() const { return attach_->parsed(); }
  bool is_doctor() const { return doctor_->parsed(); }
  const CommandTable<image::ImageCommand>& image() const { return image_; }
  const CommandTable<hostnet::NetCommand>& net() const { return net_; }
  const CommandTable<MachineCommand>& machines() const { return machines_; }
  std::string help_command() const {
    if (image_.parsed()) return image_.help_command();
    if (net_.parsed()) return net_.help_command();
    if (machines_.parsed()) return machines_.help_command();
    for (const CLI::App* const command : {run_, exec_, start_, attach_, doctor_})
      if (command->parsed()) return "wick " + command->get_name() + " --help";
    return "wick --help";
  }

  // Returns the values of an option of wick run, wick exec or wick start.
  std::vector<std::string> values(const std::string& name) const {
    const CLI::App& command = is_start() ? *start_ : is_exec() ? *exec_ : *run_;
    const std::string option = (name.size() > 1 ? "--" : "-") + name;
    if (command.get_option_no_throw(option) == nullptr) return {};
    return Given(command).all(name);
  }
  bool has_values() const {
    return std::ranges::any_of(start_->get_options(), [](const CLI::Option* option) {
      return !option->get_positional() && option->count() > 0;
    });
  }
  std::string machine() const { return *Given(*start_).last("NAME"); }
  std::string socket_path() const { return *Given(*attach_).last("PATH"); }

 private:
  // Adds an option that the help does not list: the help of wick start and wick exec refers to that
  // of wick run.
  static void add_hidden(CLI::App& command, const OptionRow& row) {
    add_option(command, row);
    command.get_option(std::string(row.last_name()))->group("");
  }

  // Returns the arguments for CLI11, which expects them in reverse order. CLI11 would read
  // `--append=` as `--append`, so an empty value becomes an argument of its own.
  static std::vector<std::string> prepared(const std::vector<std::string>& arguments) {
    std::vector<std::string> reversed;
    if (!arguments.empty() && arguments.front() == "help") {  // `wick help COMMAND`
      reversed.emplace_back("--help");
      reversed.insert(reversed.end(), arguments.rbegin(), arguments.rend() - 1);
      return reversed;
    }
    const auto end_of_options = std::ranges::find(arguments, "--");
    for (auto argument = arguments.rbegin(); argument != arguments.rend(); ++argument) {
      // -fw_cfg is QEMU's name of the option.
      if (*argument == "-fw_cfg" && argument.base() <= end_of_options) {
        reversed.emplace_back("--fw-cfg");
        continue;
      }
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

  // Returns false if no message and no help can name the options of `command`, so that they need
  // not exist. The creation of all options takes a third of the time of a short run.
  bool needs(std::string_view command) const { return first_ == command || !names_a_command(); }
  bool names_a_command() const {
    constexpr std::array kKnown = {"run", "exec",   "start",  "attach",   "image",
                                   "net", "doctor", "--help", "--version"};
    return std::ranges::find(kKnown, first_) != kKnown.end() || is_machine_command(first_);
  }

  const std::string first_;  // the first argument; empty: there is none
  CLI::App app_{"Runs virtual machines on KVM.", "wick"};
  CLI::App* const run_ = app_.add_subcommand("run", "Boots a kernel in a virtual machine.");
  CLI::App* const exec_ = app_.add_subcommand("exec", "Runs a command on a kernel.");
  CLI::App* const attach_ =
      app_.add_subcommand("attach", "Connects this terminal to a machine's serial socket.");
  const CommandTable<image::ImageCommand> image_ = image_commands(app_, needs("image"));
  const CommandTable<hostnet::NetCommand> net_ = net_commands(app_, needs("net"));
  CLI::App* const doctor_ =
      app_.add_subcommand("doctor", "Checks whether this host can run guests.");
  CLI::App* const start_ = app_.add_subcommand("start", "Starts a machine in the background.");
  const CommandTable<MachineCommand> machines_ = machine_commands(app_, first_, names_a_command());
};

// Removes the arguments after "--" and returns them: the command of wick exec or wick monitor, or
// the arguments that wick gdb passes on. CLI11 would take options among them for options of wick.
std::vector<std::string> take_passed_on(std::vector<std::string>& arguments) {
  constexpr std::array<std::string_view, 3> kCommands = {"exec", "gdb", "monitor"};
  if (arguments.empty() || std::ranges::find(kCommands, arguments.front()) == kCommands.end())
    return {};
  const auto end = std::ranges::find(arguments, "--");
  if (end == arguments.end()) return {};
  std::vector<std::string> passed_on(end + 1, arguments.end());
  arguments.erase(end, arguments.end());
  return passed_on;
}

}  // namespace

std::expected<Command, CommandError> parse_command(const std::vector<std::string>& all_arguments,
                                                   const Environment& environment) {
  std::vector<std::string> arguments = all_arguments;
  std::vector<std::string> passed_on = take_passed_on(arguments);
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
  if (parsed.machines().parsed()) {
    auto command = parsed.machines().command();
    if (!command) return usage(std::move(command).error());
    if (auto* const gdb = std::get_if<machines::Gdb>(&*command))
      gdb->arguments.insert(gdb->arguments.end(), passed_on.begin(), passed_on.end());
    if (auto* const monitor = std::get_if<machines::Monitor>(&*command))
      for (const std::string& word : passed_on)
        monitor->command += (monitor->command.empty() ? "" : " ") + word;
    return *std::move(command);
  }
  if (!parsed.is_run() && !parsed.is_exec() && !parsed.is_start())
    return usage({0, "no command", kKnownCommands});

  std::string config_path;
  if (const char* const path = environment(kConfigVariable)) config_path = path;
  if (parsed.is_start()) {
    const std::string name = parsed.machine();
    if (const auto valid = control::check_machine_name(name); !valid)
      return usage({0, "NAME " + valid.error().context, valid.error().hint});
    const std::string definition = definition_path(
        definitions_folder(environment("XDG_CONFIG_HOME"), environment("HOME")), name);
    if (!definition.empty() && ::access(definition.c_str(), F_OK) == 0)
      config_path = definition;
    else if (config_path.empty() && !parsed.has_values())
      return std::unexpected(CommandError{
          CommandError::Kind::kHost,
          {0, fmt::format("{}: this machine is not defined", name),
           "give the options of wick run, or define it: wick define " + name + ".toml"},
          {}});
  }
  if (const auto given = parsed.values("config"); !given.empty()) {
    if (given.size() > 1) return usage({0, "--config: given more than once", {}});
    config_path = given.front();
    if (config_path.empty()) return usage({0, "--config: needs a file name", {}});
  }
  std::string config;
  if (!config_path.empty()) {
    auto file = read_config(config_path);
    if (!file) return std::unexpected(CommandError{CommandError::Kind::kHost, file.error(), {}});
    config = *std::move(file);
  }

  // wick exec accepts several kernels (ExecOptions::kernels), but a run has one kernel, which
  // exec() sets.
  const auto values = [&](const std::string& name) {
    std::vector<std::string> all = parsed.values(name);
    if (parsed.is_exec() && name == "kernel" && all.size() > 1) all.resize(1);
    return all;
  };
  auto options = resolve({.command_line = values,
                          .environment = environment,
                          .config_path = config_path,
                          .config = config,
                          .defaults = parsed.is_exec() ? exec_defaults() : RunOptions()});
  if (options && parsed.is_start()) {
    options->detach = true;
    options->machine.name = parsed.machine();
  }
  if (options)
    options = parsed.is_exec() ? complete_exec(std::move(*options)) : complete(std::move(*options));
  if (!options) return usage(options.error());
  if (!parsed.is_exec()) return std::move(*options);
  auto exec =
      resolve_exec([&](const auto& name) { return parsed.values(name); }, std::move(passed_on));
  if (!exec) return usage(exec.error());
  return ExecCommand{.run = std::move(*options), .exec = std::move(*exec)};
}

}  // namespace wick::cli

#include "cli/sources.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/fd.h"
#include "cli/boot_choice.h"
#include "cli/form.h"
#include "cli/run_options.h"
#include "cli/toml.h"
#include "control/registry.h"

namespace wick::cli {

namespace {

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
  std::string origin;  // its name in messages: "--memory", "WICK_MEMORY", "vm.toml: line 2: memory"
  std::vector<std::string> values;
};

class Lookup {
 public:
  Lookup(const Sources& sources, std::vector<TomlEntry> config)
      : sources_(sources), config_(std::move(config)) {}

  Setting find(const RunOption& option) const {
    const std::string name = option.name();
    if (auto values = from_command_line(option); !values.empty())
      return {"--" + name, std::move(values)};
    if (auto values = from_environment(option); !values.empty())
      return {option.variable(), std::move(values)};
    for (const TomlEntry& entry : config_) {
      if (entry.key == name)
        return {fmt::format("{}: line {}: {}", sources_.config_path, entry.line, name),
                entry.values};
    }
    return {};
  }

 private:
  std::vector<std::string> from_command_line(const RunOption& option) const {
    std::vector<std::string> values = sources_.command_line(option.name());
    if (option.name() == "log-level") {
      const size_t verbosity = sources_.command_line("v").size();
      if (verbosity > 0) values.emplace_back(verbosity == 1 ? "info" : "debug");
    }
    return values;
  }

  // Returns the values from the environment. An empty variable counts as not set.
  std::vector<std::string> from_environment(const RunOption& option) const {
    const char* const found = sources_.environment(option.variable());
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

  const Sources& sources_;
  const std::vector<TomlEntry> config_;
};

// Checks the services: at most one user of standard input and output, and none in the background.
Result<void> check_services(const RunOptions& options) {
  const auto on_stdio = std::ranges::count_if(
      options.services, [](const auto& service) { return !service.address.has_value(); });
  if (options.gdb_wait && !options.gdb)
    return with_hint(fail("--gdb-wait: there is no server for gdb"), "add --gdb tcp::1234");
  if (on_stdio == 0) return {};
  if (options.detach)
    return with_hint(fail("stdio: a machine in the background has no terminal"),
                     "QMP and the monitor are in its folder anyway: wick monitor NAME");
  const auto is_stdio = [](const vmm::SerialConfig& serial) {
    return serial.kind == vmm::SerialConfig::Kind::kStdio;
  };
  if (on_stdio > 1 || std::ranges::any_of(options.machine.serials, is_stdio) ||
      std::ranges::any_of(options.machine.consoles, is_stdio))
    return with_hint(fail("stdio: more than one of --serial, --console, --qmp and --monitor uses "
                          "it"),
                     "use unix:PATH for the others");
  return {};
}

}  // namespace

Result<std::string> read_config(const std::string& path) {
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

Result<RunOptions> resolve(const Sources& sources) {
  std::vector<TomlEntry> config;
  if (!sources.config_path.empty()) config = TRY(parse_config(sources.config_path, sources.config));
  const Lookup lookup(sources, std::move(config));
  RunOptions options = sources.defaults;
  for (const RunOption& option : run_options()) {
    const Setting setting = lookup.find(option);
    if (setting.values.size() > 1 && !option.repeats)
      return fail("{}: given more than once; it takes one value", setting.origin);
    for (const std::string& value : setting.values) {
      Result<void> applied;
      if (option.value != nullptr) applied = check_form(option.value, value);
      if (applied) applied = option.apply(options, value);
      if (!applied) {
        Error error = std::move(applied).error();
        error.context = fmt::format("{} '{}': {}", setting.origin, value, error.context);
        return std::unexpected(std::move(error));
      }
      const std::string name = option.name();
      if (name != "name" && name != "detach")
        options.arguments.push_back(fmt::format("--{}={}", name, value));
    }
  }
  return options;
}

Result<RunOptions> complete(RunOptions options) {
  vmm::MachineConfig& machine = options.machine;
  const bool console_on_stdio =
      std::ranges::find(machine.consoles, vmm::SerialConfig::Kind::kStdio,
                        &vmm::SerialConfig::kind) != machine.consoles.end();
  const bool service_on_stdio = std::ranges::any_of(
      options.services, [](const auto& service) { return !service.address.has_value(); });
  if (machine.serials.empty())
    machine.serials.emplace_back().kind = console_on_stdio || service_on_stdio
                                              ? vmm::SerialConfig::Kind::kNull
                                              : vmm::SerialConfig::Kind::kStdio;
  if (options.detach && !machine.name.empty()) TRY(control::check_machine_name(machine.name));
  if (!options.detach) options.arguments.clear();
  TRY(check_services(options));
  TRY(check_boot(options));
  TRY(vmm::check(machine));
  return options;
}

RunOptions exec_defaults() {
  RunOptions options;
  // Half of the memory is the room for the guest's writes to its root (tmpfs).
  options.machine.memory_bytes = uint64_t{1} << 30;
  // Hot-plug slots would slow down the boot.
  options.machine.hotplug = vmm::MachineConfig::Hotplug::kOff;
  return options;
}

Result<RunOptions> complete_exec(RunOptions options) {
  vmm::MachineConfig& machine = options.machine;
  const auto on_stdio = [](const vmm::SerialConfig& serial) {
    return serial.kind == vmm::SerialConfig::Kind::kStdio;
  };
  const auto service_on_stdio = [](const auto& service) { return !service.address.has_value(); };
  if (std::ranges::any_of(machine.serials, on_stdio) ||
      std::ranges::any_of(machine.consoles, on_stdio) ||
      std::ranges::any_of(options.services, service_on_stdio))
    return with_hint(fail("stdio: the command has it"), "use unix:PATH or file:PATH");
  if (options.detach)
    return with_hint(fail("--detach: wick exec waits for its command"), "use the shell's &");
  if (options.reset_on_reboot.value_or(false))
    return with_hint(fail("--on-reboot reset: the command would be lost"), "leave it out");
  if (options.initrd_auto)
    return with_hint(fail("--initrd auto: wick exec brings an initramfs of its own"),
                     "leave it out, or give a file, whose content is added to it");
  if (!options.location.empty() || !options.boot.firmware.empty() ||
      options.boot.what.value_or(BootOptions::What::kKernel) != BootOptions::What::kKernel)
    return with_hint(fail("--location, --firmware, --boot: wick exec boots a kernel"),
                     "give one with -k");
  // The kernel's messages are kept for the report at the end; with another log level, such as that
  // of -v, they are also shown at once.
  if (machine.serials.empty())
    machine.serials.emplace_back().kind = options.log_level == RunOptions().log_level
                                              ? vmm::SerialConfig::Kind::kNull
                                              : vmm::SerialConfig::Kind::kStderr;
  return complete(std::move(options));
}

}  // namespace wick::cli

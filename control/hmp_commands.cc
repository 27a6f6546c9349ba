// The table of the monitor's commands, and the commands that change something. Most of these
// execute a command of QMP and print its answer.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/commas.h"
#include "control/hmp_command.h"
#include "control/key_names.h"
#include "control/qmp_handlers.h"

namespace wick::control::hmp {

namespace {

// Returns the text for the answer of a QMP command: empty, or the error.
std::string text_of(const qmp::Answer& answer) {
  return answer ? "" : fmt::format("Error: {}\n", answer.error().text);
}

std::string help(Hmp&, const Arguments& arguments) { return help_text(arguments.word("name")); }

void stop(Hmp& monitor, const Arguments&, Hmp::Done done) {
  qmp::stop(monitor.context(), Json::object(),
            [done = std::move(done)](const qmp::Answer& answer) { done(text_of(answer)); });
}

std::string cont(Hmp& monitor, const Arguments&) {
  return text_of(qmp::cont(monitor.context(), Json::object()));
}

void quit(Hmp& monitor, const Arguments&, Hmp::Done done) {
  qmp::quit(monitor.context(), Json::object(),
            [done = std::move(done)](const qmp::Answer& answer) { done(text_of(answer)); });
}

std::string system_reset(Hmp& monitor, const Arguments&) {
  return text_of(qmp::system_reset(monitor.context(), Json::object()));
}

std::string system_powerdown(Hmp& monitor, const Arguments&) {
  return text_of(qmp::system_powerdown(monitor.context(), Json::object()));
}

std::string system_wakeup(Hmp& monitor, const Arguments&) {
  return text_of(qmp::system_wakeup(monitor.context(), Json::object()));
}

std::string nmi(Hmp& monitor, const Arguments&) {
  return text_of(qmp::inject_nmi(monitor.context(), Json::object()));
}

std::string cpu(Hmp& monitor, const Arguments& arguments) {
  const int64_t index = arguments.numbers.at("index");
  if (index < 0 || index >= monitor.context().inspector().cpu_count()) return "invalid CPU index\n";
  monitor.set_cpu(static_cast<uint32_t>(index));
  return "";
}

std::string balloon(Hmp& monitor, const Arguments& arguments) {
  return text_of(qmp::balloon(monitor.context(), {{"value", arguments.numbers.at("target")}}));
}

std::string set_link(Hmp& monitor, const Arguments& arguments) {
  return text_of(qmp::set_link(monitor.context(), {{"name", arguments.word("name")},
                                                   {"up", arguments.numbers.at("up") != 0}}));
}

std::string block_resize(Hmp& monitor, const Arguments& arguments) {
  return text_of(qmp::block_resize(monitor.context(), {{"device", arguments.word("device")},
                                                       {"size", arguments.numbers.at("size")}}));
}

std::string snapshot_blkdev(Hmp& monitor, const Arguments& arguments) {
  Json request = {{"device", arguments.word("device")},
                  {"snapshot-file", arguments.word("snapshot-file")}};
  if (arguments.has("format")) request["format"] = arguments.word("format");
  return text_of(qmp::blockdev_snapshot_sync(monitor.context(), request));
}

std::string eject(Hmp& monitor, const Arguments& arguments) {
  return text_of(qmp::eject(
      monitor.context(), {{"device", arguments.word("device")}, {"force", arguments.flag('f')}}));
}

std::string change(Hmp& monitor, const Arguments& arguments) {
  Json request = {{"device", arguments.word("device")},
                  {"filename", arguments.word("target")},
                  {"force", arguments.flag('f')}};
  if (arguments.has("format")) request["format"] = arguments.word("format");
  return text_of(qmp::change_medium(monitor.context(), request));
}

std::string chardev_send_break(Hmp& monitor, const Arguments& arguments) {
  return text_of(qmp::send_break(monitor.context(), {{"id", arguments.word("id")}}));
}

// The arguments of hostfwd_add and hostfwd_remove: a card's id and a rule, or only a rule. Without
// an id the first card with a user network is meant.
struct Forward {
  std::string card;
  std::string rule;
};

std::expected<Forward, std::string> find_forward(Hmp& monitor, const Arguments& arguments) {
  Forward forward{arguments.word("arg1"), arguments.word("arg2")};
  const auto cards = monitor.context().hardware().cards();
  if (forward.rule.empty()) {
    forward.rule = std::exchange(forward.card, {});
    for (const auto& card : cards)
      if (card.kind == vmm::NetConfig::Kind::kUser && forward.card.empty()) forward.card = card.id;
    if (forward.card.empty()) return std::unexpected("No user mode network stack in use");
    return forward;
  }
  const auto found = std::ranges::find(cards, forward.card, &vmm::CardInfo::id);
  if (found == cards.end())
    return std::unexpected(fmt::format("unrecognized netdev id '{}'", forward.card));
  if (found->kind != vmm::NetConfig::Kind::kUser)
    return std::unexpected("the network back end is not user mode");
  return forward;
}

std::string hostfwd_add(Hmp& monitor, const Arguments& arguments) {
  const auto forward = find_forward(monitor, arguments);
  if (!forward) return forward.error() + "\n";
  const auto added = monitor.context().hardware().add_forward(forward->card, forward->rule);
  return added ? "" : added.error().message() + "\n";
}

std::string hostfwd_remove(Hmp& monitor, const Arguments& arguments) {
  const auto forward = find_forward(monitor, arguments);
  if (!forward) return forward.error() + "\n";
  const auto removed = monitor.context().hardware().remove_forward(forward->card, forward->rule);
  if (!removed) return removed.error().message() + "\n";
  return fmt::format("host forwarding rule for {} removed\n", forward->rule);
}

// Sends SysRq to the first console. On a serial line SysRq is a BREAK and then a key (Linux,
// admin-guide/sysrq.rst).
std::string send_sysrq(Hmp& monitor, const std::string& key) {
  const auto consoles = monitor.context().hardware().consoles();
  if (consoles.empty()) return "this machine has no console to send SysRq to\n";
  const auto& type = monitor.context().hooks().type;
  if (!type) return "Error: nothing can be typed on this machine's consoles\n";
  const std::string& console = consoles.front().id;
  if (const auto sent = monitor.context().hardware().send_break(console); !sent)
    return fmt::format("Error: {}\n", sent.error().message());
  const auto typed = type(console, key);
  return typed ? "" : fmt::format("Error: {}\n", typed.error().message());
}

std::string sendkey(Hmp& monitor, const Arguments& arguments) {
  constexpr std::string_view kSysRq = "alt-sysrq-";
  const std::string text = arguments.word("keys");
  const bool sysrq = text.starts_with(kSysRq) && text.size() == kSysRq.size() + 1;
  const auto keys = parse_keys(text);
  // SysRq has more keys than QEMU has names for.
  if (!keys && !sysrq) return keys.error() + "\n";
  const int64_t hold_ms =
      arguments.has("hold") ? arguments.numbers.at("hold") : kDefaultKeyHold.count();
  if (hold_ms < 0 || hold_ms > kMaxKeyHold.count())
    return fmt::format("the time must be from 0 to {} ms\n", kMaxKeyHold.count());
  if (keys) {
    const auto sent =
        monitor.context().hardware().send_keys(*keys, std::chrono::milliseconds(hold_ms));
    if (sent) return "";
    if (!sysrq)
      return fmt::format("Error: {}; alt-sysrq-KEY can also be sent to the first console\n",
                         sent.error().message());
  }
  return send_sysrq(monitor, text.substr(kSysRq.size()));
}

std::string no_snapshots(Hmp&, const Arguments&) {
  return "Error: wick has no snapshots of running machines yet; `wick image snapshot` makes them "
         "of a disk that is not in use\n";
}

std::string screendump(Hmp& monitor, const Arguments& arguments) {
  const std::string path = arguments.word("filename");
  return text_of(qmp::screendump(
      monitor.context(), {{"filename", path}, {"format", path.ends_with(".png") ? "png" : "ppm"}}));
}

void dump_guest_memory(Hmp& monitor, const Arguments& arguments, Hmp::Done done) {
  if (arguments.has("begin") != arguments.has("length"))
    return done("dump-guest-memory: begin and length come together\n");
  if (arguments.flag('l') || arguments.flag('s') || arguments.flag('w'))
    return done("Error: only ELF and kdump with zlib (-z) are available\n");
  Json request = {{"paging", arguments.flag('p')},
                  {"detach", arguments.flag('d')},
                  {"protocol", "file:" + arguments.word("filename")},
                  {"format", arguments.flag('z') ? "kdump-zlib" : "elf"}};
  if (arguments.has("begin")) {
    request["begin"] = arguments.numbers.at("begin");
    request["length"] = arguments.numbers.at("length");
  }
  qmp::dump_guest_memory(
      monitor.context(), request,
      [done = std::move(done)](const qmp::Answer& answer) { done(text_of(answer)); });
}

// Parses "driver,key=value,..." as on QEMU's command line. The first part is the value of
// `implied`. The key `list` may come several times; its values become an array.
Json parse_options(std::string_view text, const char* implied, std::string_view list = {}) {
  Json options = Json::object();
  bool first = true;
  for (const std::string& part : split_at_commas(text)) {
    const size_t equals = part.find('=');
    const std::string key = part.substr(0, equals);
    if (!list.empty() && key == list)
      options[key].push_back({{"str", equals == part.npos ? "" : part.substr(equals + 1)}});
    else if (equals != part.npos)
      options[part.substr(0, equals)] = part.substr(equals + 1);
    else if (first)
      options[implied] = part;
    else
      options[part] = "on";
    first = false;
  }
  return options;
}

std::string device_add(Hmp& monitor, const Arguments& arguments) {
  Json options = parse_options(arguments.word("device"), "driver");
  if (!options.contains("driver")) return "Error: Parameter 'driver' is missing\n";
  if (const auto queues = options.find("num-queues"); queues != options.end()) {
    const auto text = queues->get<std::string>();
    int64_t count = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (error != std::errc() || end != text.data() + text.size())
      return "Error: Parameter 'num-queues' expects a number\n";
    *queues = count;
  }
  return text_of(qmp::device_add(monitor.context(), options));
}

std::string device_del(Hmp& monitor, const Arguments& arguments) {
  return text_of(qmp::device_del(monitor.context(), {{"id", arguments.word("id")}}));
}

std::string netdev_add(Hmp& monitor, const Arguments& arguments) {
  Json options = parse_options(arguments.word("netdev"), "type", "hostfwd");
  if (!options.contains("type")) return "Error: Parameter 'type' is missing\n";
  if (!options.contains("id")) return "Error: Parameter 'id' is missing\n";
  if (options.contains("vhost")) options["vhost"] = options["vhost"] == "on";
  for (const auto& [key, value] : options.items())
    if (key != "type" && key != "id" && key != "hostfwd" && key != "ifname" && key != "br" &&
        key != "vhost")
      return fmt::format("Error: Parameter '{}' is unexpected\n", key);
  return text_of(qmp::netdev_add(monitor.context(), options));
}

std::string netdev_del(Hmp& monitor, const Arguments& arguments) {
  return text_of(qmp::netdev_del(monitor.context(), {{"id", arguments.word("id")}}));
}

// Adds the host's half of a disk; device_add refers to it.
std::string drive_add(Hmp& monitor, const Arguments& arguments) {
  const Json options = parse_options(arguments.word("opts"), "file");
  for (const auto& [key, value] : options.items())
    if (key != "file" && key != "id" && key != "format" && key != "readonly" && key != "if")
      return fmt::format("Error: Parameter '{}' is unexpected\n", key);
  if (!options.contains("file") || !options.contains("id"))
    return "Error: file= and id= are needed\n";
  const std::string format = options.value("format", "raw");
  if (format != "raw" && format != "qcow2")
    return fmt::format("Error: Parameter 'format' does not accept value '{}'\n", format);
  const std::string problem = text_of(qmp::blockdev_add(
      monitor.context(), {{"driver", format},
                          {"node-name", options.at("id")},
                          {"read-only", options.value("readonly", "off") == "on"},
                          {"file", {{"driver", "file"}, {"filename", options.at("file")}}}}));
  return problem.empty() ? "OK\n" : problem;
}

constexpr Needs kNothing = Needs::kNothing;
constexpr Needs kRegisters = Needs::kRegisters;
constexpr Needs kIfMentioned = Needs::kRegistersIfMentioned;

constexpr Command kCommands[] = {
    {"balloon", "target:M", "target", "request VM to change its memory allocation (in MB)",
     kNothing, balloon},
    {"block_resize", "device:s size:M", "device size", "resize a block image", kNothing,
     block_resize},
    {"change", "force:-f device:s target:s format:s?", "device [-f] filename [format]",
     "change a removable medium, use -f to force the operation", kNothing, change},
    {"chardev-send-break", "id:s", "id", "send a break on chardev", kNothing, chardev_send_break},
    {"cont|c", "", "", "resume emulation", kNothing, cont},
    {"cpu", "index:i", "index", "set the default CPU", kIfMentioned, cpu},
    {"delvm", "name:s", "tag", "delete a VM snapshot from its tag", kNothing, no_snapshots},
    {"device_add", "device:s", "driver[,prop=value][,...]",
     "add device, like -device on the command line", kNothing, device_add},
    {"device_del", "id:s", "device", "remove device", kNothing, device_del},
    {"drive_add", "pci_addr:s opts:s", "dummy file=PATH,id=ID[,format=raw|qcow2][,readonly=on]",
     "add the host's half of a disk; device_add uses it", kNothing, drive_add},
    {"dump-guest-memory", "p:-p d:-d z:-z l:-l s:-s w:-w filename:s begin:i? length:i?",
     "[-p] [-d] [-z] filename [begin length]",
     "dump guest memory into file 'filename' (-p: with the guest's paging; -d: do not wait; -z: "
     "kdump-compressed with zlib)",
     kIfMentioned, nullptr, dump_guest_memory},
    {"eject", "force:-f device:s", "[-f] device", "eject a removable medium (use -f to force it)",
     kNothing, eject},
    {"gpa2hpa", "addr:i", "addr",
     "print the host physical address corresponding to a guest physical address", kIfMentioned,
     gpa_to_hpa},
    {"gpa2hva", "addr:i", "addr",
     "print the host virtual address corresponding to a guest physical address", kIfMentioned,
     gpa_to_hva},
    {"gva2gpa", "addr:i", "addr",
     "print the guest physical address corresponding to a guest virtual address", kRegisters,
     gva_to_gpa},
    {"help|?", "name:S?", "[cmd]", "show the help", kNothing, help},
    {"hostfwd_add", "arg1:s arg2:s?",
     "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
     "redirect TCP or UDP connections from host to guest (requires -net user)", kNothing,
     hostfwd_add},
    {"hostfwd_remove", "arg1:s arg2:s?", "[netdev_id] [tcp|udp]:[hostaddr]:hostport",
     "remove host-to-guest TCP or UDP redirection", kNothing, hostfwd_remove},
    {"info", "", "[subcommand]", "show various information about the system state", kNothing,
     nullptr},
    {"loadvm", "name:s", "tag", "restore a VM snapshot from its tag", kNothing, no_snapshots},
    {"netdev_add", "netdev:s", "[user|tap],id=str[,prop=value][,...]", "add host network device",
     kNothing, netdev_add},
    {"netdev_del", "id:s", "id", "remove host network device", kNothing, netdev_del},
    {"nmi", "", "", "inject an NMI", kNothing, nmi},
    {"print|p", "fmt:/ val:i", "/fmt expr",
     "print expression value (use $reg for CPU register access)", kIfMentioned, print},
    {"quit|q", "", "", "end the machine", kNothing, nullptr, quit},
    {"savevm", "name:s?", "tag", "save a VM snapshot", kNothing, no_snapshots},
    {"screendump", "filename:s", "filename", "save screen as an image", kNothing, screendump},
    {"sendkey", "keys:s hold:i?", "keys [hold_ms]",
     "send keys to the VM (alt-sysrq-KEY also without a keyboard, by the first console)", kNothing,
     sendkey},
    {"set_link", "name:s up:b", "name on|off", "change the link status of a network adapter",
     kNothing, set_link},
    {"snapshot_blkdev", "device:s snapshot-file:s format:s?", "device new-image-file [format]",
     "continue a disk with a new overlay of its image", kNothing, snapshot_blkdev},
    {"stop|s", "", "", "stop emulation", kNothing, nullptr, stop},
    {"system_powerdown", "", "", "send system power down event", kNothing, system_powerdown},
    {"system_reset", "", "", "reset the system", kNothing, system_reset},
    {"system_wakeup", "", "", "wakeup guest from suspend", kNothing, system_wakeup},
    {"x", "fmt:/ addr:i", "/fmt addr", "virtual memory dump starting at 'addr'", kRegisters,
     dump_virtual},
    {"xp", "fmt:/ addr:i", "/fmt addr", "physical memory dump starting at 'addr'", kIfMentioned,
     dump_physical},
};

}  // namespace

std::span<const Command> commands() { return kCommands; }

}  // namespace wick::control::hmp

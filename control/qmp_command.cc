#include "control/qmp_command.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/qmp_handlers.h"

namespace wick::control::qmp {

namespace {

constexpr Command kCommands[] = {
    // The connection and introspection
    {"qmp_capabilities", "enable?:[QMPCapability]", ""},
    {"query-version", "", "VersionInfo", query_version},
    {"query-commands", "", "[CommandInfo]", query_commands},
    {"query-qmp-schema", "", "[SchemaInfo]", query_schema},
    {"human-monitor-command", "command-line:str cpu-index?:int", "str", nullptr,
     human_monitor_command},

    // The machine
    {"query-status", "", "StatusInfo", query_status},
    {"query-name", "", "NameInfo", query_name},
    {"query-uuid", "", "UuidInfo", query_uuid},
    {"query-kvm", "", "KvmInfo", query_kvm},
    {"query-machines", "", "[MachineInfo]", query_machines},
    {"query-current-machine", "", "CurrentMachineParams", query_current_machine},
    {"query-target", "", "TargetInfo", query_target},
    {"query-cpus-fast", "", "[CpuInfoFast]", query_cpus_fast},
    {"query-memory-size-summary", "", "MemoryInfo", query_memory_size_summary},
    {"query-balloon", "", "BalloonInfo", query_balloon},
    // Always empty: wick has no iothread objects; the thread of a disk does not count.
    {"query-iothreads", "", "[IOThreadInfo]", empty_list},
    {"stop", "", "", nullptr, stop},
    {"cont", "", "", cont},
    {"quit", "", "", nullptr, quit},
    {"system_reset", "", "", system_reset},
    {"system_powerdown", "", "", system_powerdown},
    {"system_wakeup", "", "", system_wakeup},
    {"inject-nmi", "", "", inject_nmi},
    {"balloon", "value:int", "", balloon},
    {"screendump", "filename:str device?:str head?:int format?:ImageFormat", "", screendump},

    // Dumps
    {"dump-guest-memory",
     "paging:bool protocol:str detach?:bool begin?:int length?:int "
     "format?:DumpGuestMemoryFormat",
     "", nullptr, dump_guest_memory},
    {"query-dump", "", "DumpQueryResult", query_dump},
    {"query-dump-guest-memory-capability", "", "DumpGuestMemoryCapability", query_dump_capability},

    // Disks
    {"query-block", "", "[BlockInfo]", query_block},
    {"query-blockstats", "query-nodes?:bool", "[BlockStats]", query_blockstats},
    {"query-named-block-nodes", "flat?:bool", "[BlockDeviceInfo]", query_named_block_nodes},
    {"query-jobs", "", "[JobInfo]", empty_list},
    {"query-block-jobs", "", "[BlockJobInfo]", empty_list},
    {"block_resize", "device?:str node-name?:str size:int", "", block_resize},
    {"blockdev-snapshot-sync",
     "device?:str node-name?:str snapshot-file:str snapshot-node-name?:str format?:str "
     "mode?:NewImageMode",
     "", blockdev_snapshot_sync},
    {"eject", "device?:str id?:str force?:bool", "", eject},
    {"blockdev-change-medium",
     "device?:str id?:str filename:str format?:str force?:bool "
     "read-only-mode?:BlockdevChangeReadOnlyMode",
     "", change_medium},

    // Other devices
    {"query-chardev", "", "[ChardevInfo]", query_chardev},
    {"query-pci", "", "[PciInfo]", query_pci},
    {"query-rx-filter", "name?:str", "[RxFilterInfo]", query_rx_filter},
    {"set_link", "name:str up:bool", "", set_link},
    {"chardev-send-break", "id:str", "", send_break},
    {"send-key", "keys:[KeyValue] hold-time?:int", "", send_key},

    // Hot-plug
    {"blockdev-add",
     "driver:BlockdevDriver node-name?:str read-only?:bool auto-read-only?:bool "
     "cache?:BlockdevCacheOptions discard?:str file?:any filename?:str",
     "", blockdev_add},
    {"blockdev-del", "node-name:str", "", blockdev_del},
    {"netdev_add",
     "type:NetClientDriver id:str hostfwd?:[any] ifname?:str br?:str script?:str downscript?:str "
     "vhost?:bool queues?:int",
     "", netdev_add},
    {"netdev_del", "id:str", "", netdev_del},
    {"device_add", "driver:str bus?:str id?:str *", "", device_add},
    {"device_del", "id:str", "", device_del},
};

std::string_view class_name(ErrorClass kind) {
  switch (kind) {
    case ErrorClass::kCommandNotFound:
      return "CommandNotFound";
    case ErrorClass::kDeviceNotActive:
      return "DeviceNotActive";
    case ErrorClass::kDeviceNotFound:
      return "DeviceNotFound";
    case ErrorClass::kGeneric:
      break;
  }
  return "GenericError";
}

}  // namespace

std::span<const Command> commands() { return kCommands; }

const Command* find_command(std::string_view name) {
  const auto* found = std::ranges::find(kCommands, name, &Command::name);
  return found == std::end(kCommands) ? nullptr : found;
}

Json to_json(const CommandError& error) {
  return {{"class", class_name(error.kind)}, {"desc", error.text}};
}

std::unexpected<CommandError> generic(std::string text) {
  return std::unexpected(CommandError{ErrorClass::kGeneric, std::move(text)});
}

std::unexpected<CommandError> device_not_found(const std::string& id) {
  return std::unexpected(
      CommandError{ErrorClass::kDeviceNotFound, fmt::format("Device '{}' not found", id)});
}

Answer answer(const Result<void>& result) {
  if (!result) return generic(result.error().message());
  return nothing();
}

std::string text_or(const Json& arguments, std::string_view key, std::string_view otherwise) {
  const auto found = arguments.find(key);
  return found == arguments.end() ? std::string(otherwise) : found->get<std::string>();
}

bool bool_or(const Json& arguments, std::string_view key, bool otherwise) {
  const auto found = arguments.find(key);
  return found == arguments.end() ? otherwise : found->get<bool>();
}

}  // namespace wick::control::qmp

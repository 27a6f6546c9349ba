// Parsers for option values: sizes, durations, switches and SPECs. They are pure functions. An
// error says what is wrong with the text and what is valid; the caller adds the option's name.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/listener.h"
#include "base/result.h"
#include "net/user.h"
#include "vmm/config.h"

namespace wick::cli {

// A parsed VALUE[,key=value...]; a doubled comma stands for a comma.
struct Spec {
  std::string value;
  std::vector<std::pair<std::string, std::string>> pairs;  // in the order of the text
};

// Parses a SPEC. `form` gives the valid keys, and the words that are valid for a key (cli/form.h).
// Parts must not be empty. A key must not come twice, unless dots follow it in the form.
Result<Spec> parse_spec(std::string_view text, std::string_view form);

// The forms of the SPECs below. The help prints them, line breaks included.
inline constexpr std::string_view kDiskForm =
    "PATH[,format=raw|qcow2][,readonly=on|off][,ephemeral=on|off]\n"
    "[,device=virtio|ide][,media=disk|cdrom][,cache=writeback|none|unsafe]\n"
    "[,cache-size=SIZE][,queues=N][,serial=ID][,data-file=PATH][,backing=folder|any]\n"
    "[,rerror=report|ignore|stop][,werror=report|ignore|stop|enospc]";
inline constexpr std::string_view kUserKeys = "[,hostfwd=tcp:127.0.0.1:2222-:22]...";
inline constexpr std::string_view kTapKeys = "[,ifname=NAME][,bridge=BR][,vhost=on|off][,queues=N]";
inline constexpr std::string_view kCardKeys = "[,mac=MAC][,mtu=N]\n[,device=virtio|e1000]";
inline constexpr std::string_view kSerialForm = "stdio|pty|null|unix:PATH|file:PATH[,log=FILE]";
inline constexpr std::string_view kConsoleForm =
    "stdio|pty|null|unix:PATH|file:PATH[,log=FILE][,name=NAME]";
inline constexpr std::string_view kServiceForm = "stdio|unix:PATH|tcp:HOST:PORT";
inline constexpr std::string_view kGdbForm = "unix:PATH|tcp:HOST:PORT";
inline constexpr std::string_view kDisplayForm =
    "none|vnc=HOST:N|vnc=unix:PATH[,password-file=FILE][,web=on|off]";
inline constexpr std::string_view kFirmwareForm = "bios|uefi|FILE[,vars=FILE]";
inline constexpr std::string_view kFwCfgForm = "NAME[,file=PATH][,string=TEXT]";
inline constexpr std::string_view kShareForm =
    "DIR[,tag=TAG][,readonly=on|off][,cache=auto|always|never]\n"
    "[,security=squash|mapped|passthrough][,device=virtiofs|9p]\n"
    "[,uid-map=GUEST:HOST:COUNT]...[,gid-map=GUEST:HOST:COUNT]...";
inline constexpr std::string_view kPanicForm = "exit|core:FILE";
inline constexpr std::string_view kStatsForm = "table|json[,file=FILE]";

// Parses a positive number of bytes. The suffixes K, M and G, also in lower case, are binary;
// without a suffix the unit is `default_unit_bytes`.
Result<uint64_t> parse_size(std::string_view text, uint64_t default_unit_bytes);

// Parses the size of guest RAM, in MiB if there is no suffix. Returns bytes, a multiple of the
// page size.
Result<uint64_t> parse_memory_size(std::string_view text);

// Parses a number above zero; nullopt if `text` is not such a number.
std::optional<uint32_t> parse_count(std::string_view text);

// Parses a number of virtual CPUs. The host's maximum is checked later.
Result<uint32_t> parse_cpus(std::string_view text);

// Parses kServiceForm. Returns nullopt for standard input and output.
Result<std::optional<StreamAddress>> parse_service(std::string_view text);

// Parses kGdbForm.
Result<StreamAddress> parse_address(std::string_view text);

// Parses kPanicForm; returns the file for a core, or an empty string.
Result<std::string> parse_on_panic(std::string_view text);

// Parses kDisplayForm. Returns nullopt for "none": no screen.
Result<std::optional<display::VncConfig>> parse_display(std::string_view text);

// Parses kFwCfgForm, also as QEMU writes it: name=NAME,file=PATH.
Result<vmm::FwCfgFile> parse_fw_cfg(std::string_view text);

// Parses a switch: on, off, true, false, 1 or 0.
Result<bool> parse_switch(std::string_view text);

// Parses a positive number of seconds, with an optional fraction; at most a hundred years.
Result<std::chrono::microseconds> parse_seconds(std::string_view text);

// The value of --stats; an empty path means stderr.
struct StatsForm {
  enum class Kind { kOff, kTable, kJson };

  Kind kind = Kind::kOff;
  std::string path;
};

// Parses kStatsForm, or a switch; "on" means table.
Result<StatsForm> parse_stats(std::string_view text);

// Parses kDiskForm.
Result<vmm::DiskConfig> parse_disk(std::string_view text);

// Parses a network card: "tap" with kTapKeys or "user" with kUserKeys; both also take kCardKeys.
// Returns nullopt for "none": no card.
Result<std::optional<vmm::NetConfig>> parse_net(std::string_view text);

// Parses kShareForm.
Result<vmm::ShareConfig> parse_share(std::string_view text);

// Parses kSerialForm.
Result<vmm::SerialConfig> parse_serial(std::string_view text);
// Parses kConsoleForm.
Result<vmm::SerialConfig> parse_console(std::string_view text);

}  // namespace wick::cli

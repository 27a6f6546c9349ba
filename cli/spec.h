// Parsers for option values: sizes, durations, switches and SPECs. They are pure functions. An
// error says what is wrong with the text and what is valid; the caller adds the option's name.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/user.h"
#include "vmm/config.h"

namespace wick::cli {

// VALUE[,key=value...]; a doubled comma is a comma.
struct Spec {
  std::string value;
  std::vector<std::pair<std::string, std::string>> pairs;  // in the order given
};

// `keys` are the valid keys. Parts must not be empty; keys must be unique, except `repeats`.
Result<Spec> parse_spec(std::string_view text, std::span<const std::string_view> keys,
                        std::string_view repeats = "");

// A positive number of bytes. The suffixes K, M and G, also in lower case, are binary; without a
// suffix the unit is `default_unit_bytes`.
Result<uint64_t> parse_size(std::string_view text, uint64_t default_unit_bytes);

// The size of guest RAM, in MiB if there is no suffix; a multiple of the page size.
Result<uint64_t> parse_memory_size(std::string_view text);

// A number of virtual CPUs. The host's maximum is checked later.
Result<uint32_t> parse_cpus(std::string_view text);

// Positive seconds, with an optional fraction; at most a hundred years.
Result<std::chrono::microseconds> parse_seconds(std::string_view text);

// on or off.
Result<bool> parse_switch(std::string_view text);

// The form of --stats; an empty path means stderr.
struct StatsForm {
  enum class Kind { kOff, kTable, kJson };

  Kind kind = Kind::kOff;
  std::string path;
};

// table|json[,file=FILE], or a switch; on means table.
Result<StatsForm> parse_stats(std::string_view text);

// PATH[,format=raw|qcow2][,readonly=on|off][,device=virtio|ide][,media=disk|cdrom][,cache=...]
// [,serial=ID][,data-file=PATH][,backing=folder|any]
Result<vmm::DiskConfig> parse_disk(std::string_view text);

// tap[,ifname=IF][,bridge=BR][,vhost=on|off][,queues=N] or user[,hostfwd=FORWARD],
// which may repeat; both with [,mac=MAC][,device=virtio|e1000][,mtu=N]; or none: no card.
Result<std::optional<vmm::NetConfig>> parse_net(std::string_view text);

// stdio|pty|null|unix:PATH|file:PATH[,log=FILE]
Result<vmm::SerialConfig> parse_serial(std::string_view text);

// The syntax of QEMU's hostfwd: [tcp|udp]:[HOST ADDRESS]:HOST PORT-[GUEST ADDRESS]:GUEST PORT.
// The default protocol is TCP, the default guest address is DHCP's first. The default host
// address is 127.0.0.1, and not all addresses as in QEMU, so that other hosts get access only on
// request.
Result<net::HostForward> parse_host_forward(std::string_view text);

}  // namespace wick::cli

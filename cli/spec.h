// The little languages inside option values: sizes, durations, switches and
// SPECs. Pure functions of a text; a failure says what is wrong with it and
// what would be right, the caller adds which option it came from.
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

// `keys` are the valid ones. No part is empty, and no key comes twice.
// But for `repeats`.
Result<Spec> parse_spec(std::string_view text, std::span<const std::string_view> keys,
                        std::string_view repeats = "");

// A positive number of bytes. The suffixes K, M and G, also in lower case, are
// binary; without one the number counts `default_unit_bytes`.
Result<uint64_t> parse_size(std::string_view text, uint64_t default_unit_bytes);

// Guest RAM: a size, in MiB without a suffix, in whole pages.
Result<uint64_t> parse_memory_size(std::string_view text);

// A number of virtual CPUs; the host says later how many it can.
Result<uint32_t> parse_cpus(std::string_view text);

// Seconds, perhaps with a fraction; positive, at most a hundred years.
Result<std::chrono::microseconds> parse_seconds(std::string_view text);

// on or off.
Result<bool> parse_switch(std::string_view text);

// --stats: whether, how and where. Without a file: stderr.
struct StatsForm {
  enum class Kind { kOff, kTable, kJson };

  Kind kind = Kind::kOff;
  std::string path;
};

// table|json[,file=FILE], or a switch: on is table.
Result<StatsForm> parse_stats(std::string_view text);

// PATH[,format=raw|qcow2][,readonly=on|off][,device=virtio|ide][,media=disk|cdrom][,cache=...]
// [,serial=ID][,data-file=PATH][,backing=folder|any]
Result<DiskConfig> parse_disk(std::string_view text);

// tap[,ifname=IF][,bridge=BR][,vhost=on|off][,queues=N] or user[,hostfwd=FORWARD],
// which may repeat; both with [,mac=MAC][,device=virtio|e1000][,mtu=N]; or none: no card.
Result<std::optional<NetConfig>> parse_net(std::string_view text);

// stdio|pty|null|unix:PATH|file:PATH[,log=FILE]
Result<SerialConfig> parse_serial(std::string_view text);

// As QEMU's hostfwd: [tcp|udp]:[HOST ADDRESS]:HOST PORT-[GUEST ADDRESS]:GUEST PORT.
// Without a protocol TCP, without the guest's address the first of DHCP's. Without
// the host's address 127.0.0.1, where QEMU takes all: who wants others in says so.
Result<net::HostForward> parse_host_forward(std::string_view text);

}  // namespace wick::cli

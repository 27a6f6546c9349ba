#include "cli/ending_hints.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstring>
#include <optional>
#include <vector>

#include "console/transcript.h"

namespace wick::cli {
namespace {

using console::after_message;

struct Facts {
  const std::vector<std::string>& lines;  // the console's last lines
  const vmm::MachineConfig& config;

  // Returns the text that follows the last occurrence of the kernel message `message`.
  std::optional<std::string_view> after(std::string_view message) const {
    for (size_t i = lines.size(); i-- > 0;)
      if (const auto rest = after_message(lines[i], message)) return rest;
    return std::nullopt;
  }
};

// Returns the disks in the list that a kernel without a root device prints (Linux,
// printk_all_partitions): "fe00            1024 vda ". Returns nullopt if there is no such list.
std::optional<std::vector<std::string>> listed_disks(const Facts& facts) {
  constexpr std::string_view kHeading = "Please append a correct \"root=\" boot option";
  constexpr std::array<std::string_view, 4> kKinds = {"vd", "sd", "sr", "nvme"};
  std::optional<std::vector<std::string>> disks;
  for (const std::string& line : facts.lines) {
    if (after_message(line, kHeading)) disks.emplace();
    if (!disks) continue;
    const size_t end = line.find_last_not_of(' ');
    if (end == std::string::npos) continue;
    const size_t start = line.rfind(' ', end) + 1;
    const std::string name = line.substr(start, end + 1 - start);
    if (std::ranges::any_of(kKinds, [&](auto kind) { return name.starts_with(kind); }))
      disks->push_back(name);
  }
  return disks;
}

std::string no_root(std::string_view /*rest*/, const Facts& facts) {
  if (!facts.config.initrd_path.empty())
    return "the kernel found no /init in the initrd, or could not unpack it, and looked for a root "
           "device itself";
  if (facts.after("No filesystem could mount root"))
    return "the root device exists, but the kernel has no built-in driver for its file system; is "
           "the root on a partition (root=/dev/vda1), or is an initrd missing (-i)?";
  const auto disks = listed_disks(facts);
  if (!disks) return {};
  if (!disks->empty())
    return fmt::format("the kernel did not find the root device given by root=; it found: {}",
                       fmt::join(*disks, ", "));
  const vmm::DiskConfig* root = facts.config.root_disk();
  if (root == nullptr)
    return "the machine has no root device: give a disk with -d, or an initrd with -i";
  return fmt::format(
      "the kernel did not find its root device: it has no built-in driver for {} disks, and no "
      "initrd was given; give the kernel's initrd with -i, or use -i auto",
      root->device == vmm::DiskConfig::Device::kIde ? "IDE" : "virtio");
}

std::string no_init(std::string_view /*rest*/, const Facts& /*facts*/) {
  return "the root file system has no /sbin/init, /etc/init, /bin/init or /bin/sh that can be "
         "started; give another program with -a init=PATH";
}

std::string no_requested_init(std::string_view rest, const Facts& /*facts*/) {
  return fmt::format("the program given by init=, {}, cannot be started from this root file system",
                     rest.substr(0, rest.find(' ')));
}

// Returns advice about the end of init. `rest` is its wait(2) status in hexadecimal.
std::string init_died(std::string_view rest, const Facts& /*facts*/) {
  unsigned code = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), code, 16);
  if (error != std::errc()) return {};
  const int signal = static_cast<int>(code & 0x7f);
  if (signal == 0) return fmt::format("the guest's init ended with status {}", code >> 8 & 0xff);
  const char* const abbreviation = ::sigabbrev_np(signal);
  return fmt::format("the guest's init was killed by signal {} (SIG{})", signal,
                     abbreviation != nullptr ? abbreviation : "?");
}

// Returns advice for the message of initramfs-tools: "ALERT!  UUID=… does not exist.  Dropping to a
// shell!"
std::string no_root_in_initramfs(std::string_view rest, const Facts& facts) {
  const size_t end = rest.find(" does not exist");
  if (end == std::string_view::npos) return {};
  if (facts.config.disks.empty())
    return "the initramfs waits for a root device, but the machine has no disk: give one with -d";
  return fmt::format(
      "the initramfs did not find the root device {}: this machine has no such disk, or the "
      "initramfs has no driver for its disks",
      rest.substr(0, end));
}

std::string no_memory(std::string_view /*rest*/, const Facts& facts) {
  return fmt::format("the guest had too little memory: give it more than {} MiB with -m",
                     facts.config.memory_bytes >> 20);
}

struct Hint {
  std::string_view message;
  std::string (*advice)(std::string_view rest, const Facts& facts);
};

// The first message that is found counts, so causes come before their consequences.
constexpr Hint kHints[] = {
    {"Out of memory while allocating", no_memory},  // a message of the kernel's decompressor
    {"Kernel panic - not syncing: Out of memory", no_memory},
    {"Kernel panic - not syncing: System is deadlocked on memory", no_memory},
    {"ALERT!  ", no_root_in_initramfs},
    {"Kernel panic - not syncing: VFS: Unable to mount root fs on ", no_root},
    {"Kernel panic - not syncing: No working init found.", no_init},
    {"Kernel panic - not syncing: Requested init ", no_requested_init},
    {"Kernel panic - not syncing: Attempted to kill init! exitcode=0x", init_died},
};

std::string silence_hint(std::string_view cmdline) {
  const bool early = cmdline.contains("earlyprintk") || cmdline.contains("earlycon");
  if (!early && cmdline.contains("console=hvc"))
    return "hvc0 works only late in a boot, and not without its driver; -s stdio and "
           "-a console=ttyS0 show earlier messages";
  if (!early && !cmdline.contains("console=ttyS"))
    return "the kernel's command line has no console=ttyS0, so its messages do not appear here";
  if (early) return {};
  return "-a earlyprintk=serial,ttyS0 shows the kernel's messages before its console works";
}

}  // namespace

std::string ending_hint(const vmm::RunReport& report, const vmm::MachineConfig& config,
                        std::string_view cmdline) {
  switch (report.ending) {
    case vmm::Ending::kPanicked:
    case vmm::Ending::kTripleFault:
    case vmm::Ending::kTimeout:
    case vmm::Ending::kHalted:
    case vmm::Ending::kRebooted:  // with panic=-1 an initramfs reboots if it finds no root device
      // The other hints are about options of a kernel that wick starts.
      if (!config.firmware_path.empty())
        return report.silent ? "-vv shows the log of the firmware" : "";
      if (report.multiboot) return {};
      if (report.console_lines.empty()) return silence_hint(cmdline);
      break;
    case vmm::Ending::kKvmError:
      return "wick doctor tells whether this host's KVM can run guests";
    default:
      return {};
  }
  const Facts facts{report.console_lines, config};
  for (const auto& [message, advice] : kHints) {
    const auto rest = facts.after(message);
    if (std::string text = rest ? advice(*rest, facts) : ""; !text.empty()) return text;
  }
  return {};
}

}  // namespace wick::cli

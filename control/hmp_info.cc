// The info commands of the monitor.
#include <fmt/format.h>

#include "base/human_size.h"
#include "control/hmp_command.h"
#include "control/image_details.h"
#include "control/names.h"
#include "net/mac_address.h"
#include "vmm/page_tables.h"

namespace wick::control::hmp {

namespace {

using vmm::Page;

// The limits of info mem and info tlb; the guest's page tables may refer to themselves, so that a
// walk would not end. 8192 tables map about 16 GiB in pages of 4 KiB.
constexpr size_t kMaxTableText = 1 << 20;
constexpr uint64_t kMaxPrintedTables = 8192;

std::string status(Hmp& monitor, const Arguments&) {
  const vmm::RunState state = monitor.context().state();
  if (state == vmm::RunState::kRunning) return "VM status: running\n";
  if (state == vmm::RunState::kPaused) return "VM status: paused\n";
  return fmt::format("VM status: paused ({})\n", state_name(state));
}

std::string version(Hmp& monitor, const Arguments&) {
  return fmt::format("7.2.0 ({})\n", monitor.context().hooks().version);
}

std::string name(Hmp& monitor, const Arguments&) {
  return monitor.context().machine().config().name + "\n";
}

std::string uuid(Hmp& monitor, const Arguments&) {
  return uuid_text(monitor.context().machine().config().uuid) + "\n";
}

std::string kvm(Hmp&, const Arguments&) { return "kvm support: enabled\n"; }

std::string cpus(Hmp& monitor, const Arguments&) {
  std::string text;
  for (uint32_t cpu = 0; cpu < monitor.context().inspector().cpu_count(); ++cpu)
    text += fmt::format("{} CPU #{}: thread_id={}\n", cpu == monitor.cpu() ? '*' : ' ', cpu,
                        monitor.context().inspector().thread_id(cpu));
  return text;
}

std::string balloon(Hmp& monitor, const Arguments&) {
  const auto bytes = monitor.context().hardware().balloon_bytes();
  if (!bytes) return "Error: No balloon device has been activated\n";
  return fmt::format("balloon: actual={}\n", *bytes >> 20);
}

std::string memory_size(Hmp& monitor, const Arguments&) {
  return fmt::format("base memory: {}\nplugged memory: 0\n",
                     monitor.context().machine().config().memory_bytes);
}

std::string image_lines(const vmm::DiskInfo& disk) {
  const ImageDetails details = read_image_details(disk);
  std::string text =
      fmt::format("\nImages:\nimage: {}\nfile format: {}\nvirtual size: {} ({} bytes)\n", disk.path,
                  disk.format, human_size(disk.size_bytes), disk.size_bytes);
  if (details.allocated_bytes)
    text += fmt::format("disk size: {}\n", human_size(*details.allocated_bytes));
  if (details.qcow2) text += fmt::format("cluster_size: {}\n", details.qcow2->cluster_bytes());
  if (!disk.backing_path.empty()) text += fmt::format("backing file: {}\n", disk.backing_path);
  return text;
}

std::string block_text(const vmm::DiskInfo& disk, bool verbose) {
  using Cache = vmm::DiskConfig::Cache;
  std::string text;
  if (disk.inserted)
    text += fmt::format("{} ({}): {} ({}{})\n", disk.id, disk.id, disk.path, disk.format,
                        disk.read_only ? ", read-only" : "");
  else
    text += fmt::format("{}: [not inserted]\n", disk.id);
  text += fmt::format("    Attached to:      {}\n", device_path(disk));
  if (disk.media == vmm::DiskConfig::Media::kCdrom)
    text += fmt::format("    Removable device: {}locked, tray {}\n", disk.locked ? "" : "not ",
                        disk.tray_open ? "open" : "closed");
  if (disk.failed)
    text += fmt::format("    I/O status:       {}\n", disk.no_space ? "nospace" : "failed");
  if (!disk.inserted) return text;
  text += fmt::format("    Cache mode:       writeback{}{}\n",
                      disk.cache == Cache::kNone ? ", direct" : "",
                      disk.cache == Cache::kUnsafe ? ", ignore flushes" : "");
  if (!disk.backing_path.empty())
    text += fmt::format("    Backing file:     {} (chain depth: 1)\n", disk.backing_path);
  return verbose ? text + image_lines(disk) : text;
}

std::string block(Hmp& monitor, const Arguments& arguments) {
  std::string text;
  for (const auto& disk : monitor.context().hardware().disks()) {
    if (arguments.has("device") && arguments.word("device") != disk.id) continue;
    if (!text.empty()) text += "\n";
    text += block_text(disk, arguments.flag('v'));
  }
  return text;
}

std::string blockstats(Hmp& monitor, const Arguments&) {
  std::string text;
  for (const auto& disk : monitor.context().hardware().disks()) {
    const vmm::DiskCounters& count = disk.counters;
    text += fmt::format(
        "{}: rd_bytes={} wr_bytes={} rd_operations={} wr_operations={} flush_operations={} "
        "wr_total_time_ns={} rd_total_time_ns={} flush_total_time_ns={} rd_merged=0 wr_merged=0 "
        "idle_time_ns=0\n",
        disk.id, count.read_bytes, count.write_bytes, count.reads, count.writes, count.flushes,
        count.write_ns, count.read_ns, count.flush_ns);
  }
  return text;
}

std::string network(Hmp& monitor, const Arguments&) {
  std::string text;
  for (const auto& card : monitor.context().hardware().cards()) {
    text += fmt::format("{}: index=0,type=nic,model={},macaddr={}{}\n", card.id, model_name(card),
                        net::to_text(card.mac), card.link_up ? "" : ",link=off");
    if (card.kind == vmm::NetConfig::Kind::kUser)
      text += fmt::format(" \\ {}: index=0,type=user,net=10.0.2.0,restrict=off\n", card.id);
    else
      text += fmt::format(" \\ {}: index=0,type=tap,ifname={}{}\n", card.id, card.host_name,
                          card.vhost ? ",vhost=on" : "");
  }
  return text;
}

std::string usernet(Hmp& monitor, const Arguments&) {
  std::string text;
  for (const auto& card : monitor.context().hardware().cards()) {
    if (card.kind != vmm::NetConfig::Kind::kUser) continue;
    text += fmt::format("Hub -1 ({}):\n", card.id);
    text += monitor.context().hardware().connections(card.id);
  }
  return text;
}

std::string chardev(Hmp& monitor, const Arguments&) {
  std::string text;
  for (const auto& console : monitor.context().hardware().consoles())
    text += fmt::format("{}: filename={}\n", console.id, console.host_name);
  return text;
}

std::string pci(Hmp& monitor, const Arguments&) {
  std::string text;
  for (const auto& function : monitor.context().hardware().pci_functions()) {
    const uint32_t code = function.class_code >> 8;
    const auto words = pci_class_name(code);
    text += fmt::format("  Bus  0, device {:3}, function 0:\n    {}: PCI device {:04x}:{:04x}\n",
                        function.slot, words.empty() ? fmt::format("Class {:04}", code) : words,
                        function.vendor, function.device);
    if (function.subsystem_vendor != 0 || function.subsystem != 0)
      text += fmt::format("      PCI subsystem {:04x}:{:04x}\n", function.subsystem_vendor,
                          function.subsystem);
    if (function.interrupt_pin != 0)
      text += fmt::format("      IRQ {}, pin {}\n", function.interrupt_line,
                          static_cast<char>('A' + (function.interrupt_pin - 1) % 4));
    for (const auto& bar : function.bars) {
      const uint64_t start = bar.address == 0 ? ~0ull : bar.address;
      const uint64_t end = start + bar.size_bytes - 1;
      if (bar.io)
        text += fmt::format("      BAR{}: I/O at 0x{:04x} [0x{:04x}].\n", bar.index, start, end);
      else
        text += fmt::format("      BAR{}: 32 bit memory at 0x{:08x} [0x{:08x}].\n", bar.index,
                            start, end);
    }
    text += fmt::format("      id \"{}\"\n", function.id);
  }
  return text.empty() ? "PCI bus is not available\n" : text;
}

std::string qtree(Hmp& monitor, const Arguments&) {
  const vmm::Hardware& hardware = monitor.context().hardware();
  std::string text = "bus: main-system-bus\n  type System\n";
  const auto functions = hardware.pci_functions();
  if (!functions.empty()) text += "  dev: pcihost, id \"\"\n    bus: pci.0\n      type PCI\n";
  const char* const indent = functions.empty() ? "  " : "      ";
  for (const auto& disk : hardware.disks()) {
    const bool ide = disk.device == vmm::DiskConfig::Device::kIde;
    const bool cdrom = disk.media == vmm::DiskConfig::Media::kCdrom;
    text += fmt::format("{0}dev: {1}, id \"{2}\"\n{0}  drive = \"{2}\"\n{0}  serial = \"{3}\"\n",
                        indent,
                        !ide    ? "virtio-blk-pci"
                        : cdrom ? "ide-cd"
                                : "ide-hd",
                        disk.id, disk.serial);
  }
  for (const auto& card : hardware.cards())
    text += fmt::format("{0}dev: {1}, id \"{2}\"\n{0}  mac = \"{3}\"\n{0}  netdev = \"{2}\"\n",
                        indent, model_name(card), card.id, net::to_text(card.mac));
  for (const auto& console : hardware.consoles())
    text += fmt::format("  dev: {0}, id \"{1}\"\n    chardev = \"{1}\"\n",
                        console.id.starts_with("hvc") ? "virtconsole" : "isa-serial", console.id);
  return text;
}

std::string mtree(Hmp& monitor, const Arguments&) {
  std::string text = "memory\n";
  for (const auto& region : monitor.context().inspector().memory().regions())
    text += fmt::format("  {:016x}-{:016x} (prio 0, ram): pc.ram\n", region.start.value,
                        region.start.value + region.size_bytes - 1);
  return text + "devices\n" + monitor.context().hardware().address_map();
}

std::string snapshots(Hmp&, const Arguments&) { return "There is no snapshot available.\n"; }
std::string nothing(Hmp&, const Arguments&) { return ""; }

std::string stats(Hmp&, const Arguments&) {
  return "wick prints the exits at the end of a run with --stats\n";
}

std::string dump(Hmp& monitor, const Arguments&) {
  constexpr const char* kNames[] = {"none", "active", "completed", "failed"};
  const DumpState state = monitor.context().dump_state();
  std::string text = fmt::format("Status: {}\n", kNames[static_cast<size_t>(state.status)]);
  if (state.status == DumpState::Status::kActive && state.total_bytes > 0)
    text += fmt::format("Finished: {:.2f} %\n", 100.0 * static_cast<double>(state.done_bytes) /
                                                    static_cast<double>(state.total_bytes));
  return text;
}

// Prints pages until `text` is too long, or too many tables have been read.
class PagePrinter final : public vmm::PageVisitor {
 public:
  PagePrinter(const std::string& text, const std::function<void(const Page&)>& print)
      : text_(text), print_(print) {}

  Next on_table(const vmm::PageTable&) override {
    return ++tables_ > kMaxPrintedTables ? Next::kEnd : Next::kRead;
  }
  bool on_page(const Page& page) override {
    print_(page);
    return text_.size() <= kMaxTableText;
  }

 private:
  const std::string& text_;
  const std::function<void(const Page&)>& print_;
  uint64_t tables_ = 0;
};

// Calls `print`, which appends to `text`, for each page of the monitor's vCPU. Returns the text
// that follows the pages: an error, or empty.
std::string walk(Hmp& monitor, const std::string& text,
                 const std::function<void(const Page&)>& print) {
  const auto registers = monitor.context().inspector().registers(monitor.cpu());
  if (!registers) return registers.error().message() + "\n";
  const auto paging = vmm::Paging::of(*registers);
  if (!paging) return "PG disabled\n";
  PagePrinter printer(text, print);
  const bool all = vmm::walk_page_tables(*paging, monitor.context().inspector().memory(), printer);
  return all ? "" : "(cut: there is too much)\n";
}

}  // namespace

std::string info_tlb(Hmp& monitor, const Arguments&) {
  std::string text;
  const auto end = walk(monitor, text, [&text](const Page& page) {
    const auto letter = [&page](int bit, char name) {
      return (page.entry >> bit & 1) != 0 ? name : '-';
    };
    text += fmt::format("{:016x}: {:016x} {}{}{}{}{}{}{}{}{}\n", page.linear, page.physical,
                        letter(63, 'X'), letter(8, 'G'), page.size_bytes > 4096 ? 'P' : '-',
                        letter(6, 'D'), letter(5, 'A'), letter(4, 'C'), letter(3, 'T'),
                        letter(2, 'U'), letter(1, 'W'));
  });
  return text + end;
}

std::string info_mem(Hmp& monitor, const Arguments&) {
  std::string text;
  std::optional<Page> range;  // neighbouring pages with equal rights
  const auto print = [&] {
    if (range)
      text += fmt::format("{:016x}-{:016x} {:016x} {}r{}\n", range->linear,
                          range->linear + range->size_bytes, range->size_bytes,
                          range->user ? 'u' : '-', range->writable ? 'w' : '-');
  };
  const auto end = walk(monitor, text, [&](const Page& page) {
    if (range && range->linear + range->size_bytes == page.linear && range->user == page.user &&
        range->writable == page.writable) {
      range->size_bytes += page.size_bytes;
      return;
    }
    print();
    range = page;
  });
  print();
  return text + end;
}

namespace {

constexpr Command kInfo[] = {
    {"balloon", "", "", "show balloon information", Needs::kNothing, balloon},
    {"block", "n:-n v:-v device:s?", "[-n] [-v] [device]",
     "show info of one block device or all block devices (-v: show details)", Needs::kNothing,
     block},
    {"block-jobs", "", "", "show progress of ongoing block device operations", Needs::kNothing,
     [](Hmp&, const Arguments&) -> std::string { return "No active jobs\n"; }},
    {"blockstats", "", "", "show block device statistics", Needs::kNothing, blockstats},
    {"chardev", "", "", "show the character devices", Needs::kNothing, chardev},
    {"cpus", "", "", "show infos for each CPU", Needs::kNothing, cpus},
    {"dump", "", "", "display the latest dump status", Needs::kNothing, dump},
    {"iothreads", "", "", "show iothreads", Needs::kNothing, nothing},
    {"kvm", "", "", "show KVM information", Needs::kNothing, kvm},
    {"mem", "", "", "show the active virtual memory mappings", Needs::kRegisters, info_mem},
    {"memory_size_summary", "", "", "show the amount of memory in bytes", Needs::kNothing,
     memory_size},
    {"mtree", "f:-f d:-d o:-o D:-D", "[-f][-d][-o][-D]", "show memory and device addresses",
     Needs::kNothing, mtree},
    {"name", "", "", "show the current VM name", Needs::kNothing, name},
    {"network", "", "", "show the network state", Needs::kNothing, network},
    {"pci", "", "", "show PCI info", Needs::kNothing, pci},
    {"qtree", "", "", "show device tree", Needs::kNothing, qtree},
    {"msr", "index:i", "index", "show a model-specific register of the cpu", Needs::kRegisters,
     info_msr},
    {"registers", "a:-a vcpu:i?", "[-a|vcpu]",
     "show the cpu registers (-a: of all cpus; vcpu: of this one)", Needs::kRegisters,
     info_registers},
    {"snapshots", "", "", "show the currently saved VM snapshots", Needs::kNothing, snapshots},
    {"stats", "", "", "show the counts of exits", Needs::kNothing, stats},
    {"status", "", "", "show the current VM status (running|paused)", Needs::kNothing, status},
    {"tlb", "", "", "show virtual to physical memory mappings", Needs::kRegisters, info_tlb},
    {"usernet", "", "", "show user network stack connection states", Needs::kNothing, usernet},
    {"uuid", "", "", "show the current VM UUID", Needs::kNothing, uuid},
    {"version", "", "", "show the version of wick", Needs::kNothing, version},
};

}  // namespace

std::span<const Command> info_commands() { return kInfo; }

}  // namespace wick::control::hmp

#include "vmm/peripherals.h"

#include "vmm/layout.h"

namespace wick {

namespace {

Result<std::unique_ptr<console::Port>> open_console(const SerialConfig& config,
                                                    const std::string& name, EventLoop& loop,
                                                    const console::TerminalKeys& keys) {
  switch (config.kind) {
    case SerialConfig::Kind::kStdio:
      return console::open_stdio(loop, keys, config.log_path);
    case SerialConfig::Kind::kPty: {
      auto port = TRY(console::open_pty(loop, config.log_path));
      // Asked for, and the only way to find it: said at any log level.
      fmt::print(stderr, "wick: {} is at {}\n", name, port->name());
      return port;
    }
    case SerialConfig::Kind::kUnix:
      return console::open_unix(loop, config.path, config.log_path);
    case SerialConfig::Kind::kFile:
      return console::open_file(loop, config.path, config.log_path);
    case SerialConfig::Kind::kNull:
      break;
  }
  return console::open_null(loop, config.log_path);
}

}  // namespace

Result<Peripherals> Peripherals::create(const MachineConfig& config, EventLoop& main_loop,
                                        const console::TerminalKeys& keys) {
  Peripherals made;
  for (const SerialConfig& serial : config.serials)
    made.consoles_.push_back(
        TRY(open_console(serial, fmt::format("ttyS{}", made.consoles_.size()), main_loop, keys)));
  if (config.disks.size() > layout::kFirstNetSlot - layout::kFirstDiskSlot)
    return with_hint(fail("{} disks: there is room for only {}", config.disks.size(),
                          layout::kFirstNetSlot - layout::kFirstDiskSlot),
                     "give fewer disks");
  for (const DiskConfig& disk : config.disks) {
    const size_t index = made.disks_.size();
    const std::string id = fmt::format("vd{:c}", 'a' + index);
    made.disks_.push_back(TRY(Disk::create(disk, id)));
    made.slots_.push_back(
        {&made.disks_.back()->device(), id, static_cast<uint8_t>(layout::kFirstDiskSlot + index)});
  }
  if (config.rng) {
    made.rng_ = TRY(virtio::Rng::create(main_loop, *config.rng));
    made.slots_.push_back({made.rng_.get(), "rng", layout::kRngSlot});
  }
  if (config.console) {
    auto& port =
        *made.consoles_.emplace_back(TRY(open_console(*config.console, "hvc0", main_loop, keys)));
    made.hvc_ = std::make_unique<virtio::Console>(
        main_loop, std::vector<virtio::Console::PortConfig>{{.backend = port}});
    made.slots_.push_back({made.hvc_.get(), "hvc0", layout::kConsoleSlot});
  }
  return made;
}

Result<void> Peripherals::finish() {
  Result<void> result;
  for (const auto& disk : disks_) {
    if (auto finished = disk->finish(); !finished && result) result = std::move(finished);
  }
  for (const auto& port : consoles_) port->flush();
  return result;
}

}  // namespace wick

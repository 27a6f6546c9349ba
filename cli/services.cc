#include "cli/services.h"

namespace wick::cli {

namespace {

StreamAddress socket_of(const control::MachineEntry& entry, const char* file) {
  StreamAddress address;
  address.path = entry.path(file);
  return address;
}

}  // namespace

Result<std::unique_ptr<RunServices>> RunServices::start(EventLoop& loop, vmm::Machine& machine,
                                                        const RunOptions& options,
                                                        const control::MachineEntry* entry) {
  using Kind = control::ServiceConfig::Kind;
  std::unique_ptr<RunServices> made(new RunServices(loop, machine, options));
  RunServices& self = *made;
  std::vector<control::ServiceConfig> configs = options.services;
  if (entry != nullptr) {
    configs.push_back({Kind::kQmp, socket_of(*entry, "qmp.sock")});
    configs.push_back({Kind::kMonitor, socket_of(*entry, "monitor.sock")});
  }
  control::Hooks hooks;
  hooks.version = "wick " WICK_VERSION;
  hooks.dump = [&self](const control::DumpRequest& request, auto progress, auto done) {
    self.write_core(request, std::move(progress), std::move(done));
  };
  hooks.type = [&machine](const std::string& console, const std::string& text) {
    return machine.hardware().type(console, text);
  };
  made->services_ = TRY(control::Services::start(loop, machine, configs, std::move(hooks)));

  const auto monitor = [&self](const std::string& line, std::function<void(std::string)> answer) {
    self.services_->execute(line, std::move(answer));
  };
  if (!options.gdb && entry == nullptr) return made;
  made->gdb_ = TRY(debug::GdbServer::start(
      loop, machine, options.gdb ? *options.gdb : socket_of(*entry, "gdb.sock"), monitor));
  if (options.gdb && entry != nullptr) TRY(made->gdb_->listen(socket_of(*entry, "gdb.sock")));
  return made;
}

std::vector<control::MachineRecord::Service> RunServices::listed() const {
  using Kind = control::ServiceConfig::Kind;
  std::vector<control::MachineRecord::Service> list;
  // The entry's own sockets come after the user's.
  const std::vector<StreamAddress> addresses = services_->addresses();
  for (const control::ServiceConfig& wanted : options_.services)
    if (wanted.address)
      list.push_back(
          {wanted.kind == Kind::kQmp ? "qmp" : "monitor", addresses[list.size()].text()});
  if (options_.gdb) list.push_back({"gdb", gdb_->address().text()});
  return list;
}

// Writes a core. control::Context has paused the machine, and requests only one core at a time.
void RunServices::write_core(const control::DumpRequest& request,
                             std::function<void(uint64_t, uint64_t)> progress,
                             std::function<void(Result<void>)> done) {
  auto file = debug::open_core_file(request.path);
  if (!file) return done(failure(file));
  debug::CoreOptions options{.file = *std::move(file), .name = request.path};
  options.paging = request.paging;
  if (request.format == control::DumpRequest::Format::kKdumpZlib)
    options.format = debug::CoreFormat::kKdumpZlib;
  if (request.begin && request.length) options.range = {*request.begin, *request.length};
  auto writer = debug::CoreWriter::create(
      machine_, loop_, std::move(options),
      [progress](debug::CoreProgress now) { progress(now.done_bytes, now.total_bytes); }, done);
  if (!writer) return done(failure(writer));
  core_ = *std::move(writer);
}

}  // namespace wick::cli

// The services of a running machine: QMP and the human monitor, on sockets or standard input and
// output. They run on the main loop and never delay the guest.
//
// Thread rule: the main loop's thread.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "base/listener.h"
#include "base/log.h"
#include "base/result.h"
#include "base/stream.h"
#include "control/context.h"
#include "control/hooks.h"
#include "control/json_stream.h"
#include "vmm/machine.h"

namespace wick::control {

struct ServiceConfig {
  enum class Kind { kQmp, kMonitor };
  Kind kind = Kind::kQmp;
  std::optional<StreamAddress> address = {};  // nullopt: standard input and output
};

class Client;
class Hmp;

class Services {
 public:
  // The limit for the clients that one service has at the same time. Further clients are
  // disconnected.
  static constexpr size_t kMaxClients = 16;

  // Starts the services; must be called before the machine runs. `loop` is the machine's main loop.
  // `loop` and `machine` must outlive the services.
  static Result<std::unique_ptr<Services>> start(EventLoop& loop, vmm::Machine& machine,
                                                 std::span<const ServiceConfig> configs,
                                                 Hooks hooks = {});
  // Gives each client a short time to receive the output that is waiting for it, including the
  // event of the machine's end.
  ~Services();
  Services(const Services&) = delete;
  Services& operator=(const Services&) = delete;

  // Returns the addresses of the services on sockets, with the ports that the kernel has chosen.
  std::vector<StreamAddress> addresses() const;

  // Executes one line of the human monitor, as gdb's `monitor` sends it. `done` may be called
  // later.
  void execute(std::string_view line, std::function<void(const std::string& text)> done);

 private:
  struct Service {
    ServiceConfig::Kind kind = ServiceConfig::Kind::kQmp;
    std::unique_ptr<Listener> listener;  // nullptr: standard input and output
    std::list<std::unique_ptr<Client>> clients;
  };

  Services(EventLoop& loop, vmm::Machine& machine, Hooks hooks);
  Result<void> add(const ServiceConfig& config);
  Result<void> connect(Service& service, Stream input, Stream output);
  void on_event(const vmm::MachineEvent& event);
  void send_balloon_event();
  void broadcast(const Json& event);

  Context context_;
  RateLimit warnings_;
  std::list<Service> services_;
  std::unique_ptr<Hmp> monitor_;

  // The balloon's events come at most once in a second, as in QEMU.
  std::optional<EventLoop::Timer> balloon_timer_;
  bool balloon_waits_ = false;
  std::optional<vmm::MachineEvent> balloon_event_;
};

}  // namespace wick::control

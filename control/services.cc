#include "control/services.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/connection.h"
#include "control/hmp.h"
#include "control/monitor_session.h"
#include "control/qmp_events.h"
#include "control/qmp_session.h"

namespace wick::control {

using namespace std::chrono_literals;

// A client: a session and its connection. In each turn of the loop a client executes one command,
// so that a client that floods a service does not keep the loop from its other work.
class Client {
 public:
  static Result<std::unique_ptr<Client>> create(Context& context, ServiceConfig::Kind kind,
                                                Stream input, Stream output,
                                                std::function<void(Client*)> gone) {
    std::unique_ptr<Client> made(new Client(context));
    Client& self = *made;
    Connection::Events events;
    events.received = [&self](std::string_view bytes) { self.receive(bytes); };
    events.closed = [&self, gone = std::move(gone)] { gone(&self); };
    made->connection_ = TRY(
        Connection::create(context.loop(), std::move(input), std::move(output), std::move(events)));
    const auto send = [&self](std::string_view text) { self.connection_->send(text); };
    const auto ready = [&self] { self.pump(); };
    if (kind == ServiceConfig::Kind::kQmp)
      made->qmp_.emplace(context, QmpSession::Events{send, ready});
    else
      made->monitor_.emplace(context, MonitorSession::Events{send, ready});
    return made;
  }

  void send_event(const Json& event) {
    if (qmp_) qmp_->send_event(event);
  }
  void flush(std::chrono::milliseconds timeout) { connection_->flush(timeout); }

 private:
  explicit Client(Context& context) : loop_(context.loop()) {}

  void receive(std::string_view bytes) {
    if (qmp_)
      qmp_->receive(bytes);
    else
      monitor_->receive(bytes);
    pump();
  }

  void pump() {
    if (posted_) return;
    const bool more = qmp_ ? qmp_->run_one() : monitor_->run_one();
    if (qmp_ && qmp_->finished()) return connection_->close_after_output();
    if (more) {
      posted_ = true;
      loop_.post([this, alive = std::weak_ptr(alive_)] {
        if (alive.expired()) return;
        posted_ = false;
        pump();
      });
    }
    connection_->hold_input(more || (qmp_ ? qmp_->has_work() : monitor_->has_work()));
  }

  EventLoop& loop_;
  std::unique_ptr<Connection> connection_;
  std::optional<QmpSession> qmp_;
  std::optional<MonitorSession> monitor_;
  bool posted_ = false;  // true: the loop will call pump()
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

Services::Services(EventLoop& loop, vmm::Machine& machine, Hooks hooks)
    : context_(loop, machine, std::move(hooks)) {
  context_.observe_events([this](const vmm::MachineEvent& event) { on_event(event); });
  context_.observe_dumps(
      [this](const DumpState& state) { broadcast(qmp::make_dump_event(state)); });
}

Services::~Services() {
  for (Service& service : services_)
    for (const auto& client : service.clients) client->flush(50ms);
}

Result<std::unique_ptr<Services>> Services::start(EventLoop& loop, vmm::Machine& machine,
                                                  std::span<const ServiceConfig> configs,
                                                  Hooks hooks) {
  std::unique_ptr<Services> made(new Services(loop, machine, std::move(hooks)));
  Services& self = *made;
  made->balloon_timer_ = TRY(loop.timer([&self] { self.send_balloon_event(); }));
  bool stdio_taken = false;
  for (const ServiceConfig& config : configs) {
    if (!config.address && std::exchange(stdio_taken, true))
      return fail("only one service can use stdio");
    TRY(made->add(config));
  }
  return made;
}

Result<void> Services::add(const ServiceConfig& config) {
  Service& service = services_.emplace_back();
  service.kind = config.kind;
  if (!config.address) {
    return connect(service, Stream::borrow(STDIN_FILENO, O_RDONLY),
                   Stream::borrow(STDOUT_FILENO, O_WRONLY));
  }
  service.listener =
      TRY(Listener::create(context_.loop(), *config.address, [this, &service](Fd socket) {
        const auto connected = connect(service, Stream(std::move(socket)), Stream());
        if (!connected) warnings_.warn("{}", connected.error().message());
      }));
  spdlog::info("{}: listening on {}", config.kind == ServiceConfig::Kind::kQmp ? "QMP" : "monitor",
               service.listener->address().text());
  return {};
}

Result<void> Services::connect(Service& service, Stream input, Stream output) {
  if (service.clients.size() >= kMaxClients)
    return fail("{}: a client was turned away: {} are connected",
                service.listener->address().text(), kMaxClients);
  auto client = TRY(Client::create(
      context_, service.kind, std::move(input), std::move(output), [&service](Client* gone) {
        std::erase_if(service.clients, [gone](const auto& each) { return each.get() == gone; });
      }));
  service.clients.push_back(std::move(client));
  return {};
}

std::vector<StreamAddress> Services::addresses() const {
  std::vector<StreamAddress> list;
  for (const Service& service : services_)
    if (service.listener) list.push_back(service.listener->address());
  return list;
}

void Services::execute(std::string_view line, std::function<void(const std::string& text)> done) {
  if (!monitor_) monitor_ = std::make_unique<Hmp>(context_);
  monitor_->execute(line, std::move(done));
}

void Services::on_event(const vmm::MachineEvent& event) {
  if (event.kind != vmm::MachineEvent::Kind::kBalloonChange)
    return broadcast(qmp::make_event(context_, event));
  balloon_event_ = event;
  if (!balloon_waits_) send_balloon_event();
}

// Sends the event of a balloon change. The first change is sent at once; of the changes within one
// second after an event, only the last is sent.
void Services::send_balloon_event() {
  balloon_waits_ = balloon_event_.has_value();
  if (!balloon_event_) return;
  broadcast(qmp::make_event(context_, *std::exchange(balloon_event_, std::nullopt)));
  balloon_timer_->arm(1s);
}

void Services::broadcast(const Json& event) {
  for (Service& service : services_)
    for (const auto& client : service.clients) client->send_event(event);
}

}  // namespace wick::control

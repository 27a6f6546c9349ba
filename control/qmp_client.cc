#include "control/qmp_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/unix_socket.h"

namespace wick::control {

namespace {

using Json = nlohmann::json;
using std::chrono::duration_cast;
using std::chrono::milliseconds;

const std::string* text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : found->get_ptr<const std::string*>();
}

// Returns the line to send. Bytes that are not UTF-8 become U+FFFD.
std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Result<QmpClient> QmpClient::connect(const std::string& socket_path, milliseconds timeout) {
  return start(TRY(connect_unix(socket_path)), socket_path, timeout);
}

Result<QmpClient> QmpClient::start(Fd socket, const std::string& name, milliseconds timeout) {
  QmpClient client(std::move(socket), name, timeout);
  const Json greeting = TRY(client.receive(Clock::now() + timeout));
  if (!greeting.contains("QMP")) return fail("{}: the server does not speak QMP", name);
  TRY(client.execute("qmp_capabilities"));
  return client;
}

Result<Json> QmpClient::execute(std::string_view command) {
  return request(dump({{"execute", command}}));
}

Result<Json> QmpClient::execute(std::string_view command, const Json& arguments) {
  return request(dump({{"execute", command}, {"arguments", arguments}}));
}

Result<Json> QmpClient::request(std::string_view text) {
  const auto deadline = Clock::now() + timeout_;
  TRY(send(text, deadline));
  for (;;) {
    Json answer = TRY(receive(deadline));
    if (answer.contains("event")) continue;
    if (const auto value = answer.find("return"); value != answer.end()) return std::move(*value);
    const auto error = answer.find("error");
    const std::string* const description =
        error != answer.end() && error->is_object() ? text_of(*error, "desc") : nullptr;
    if (description == nullptr)
      return fail("{}: an answer with neither \"return\" nor \"error\"", name_);
    return fail("{}", *description);
  }
}

// Waits for `events`. After the deadline it fails even if there is something to receive, because a
// server that sends events without end gives no answer.
Result<void> QmpClient::wait_for(short events, Clock::time_point deadline) const {
  for (;;) {
    const auto left = duration_cast<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0)
      return with_hint(
          fail("{}: no answer within {} s", name_, static_cast<double>(timeout_.count()) / 1000),
          "the machine may be hanging; wick destroy ends it");
    pollfd ready{.fd = socket_.get(), .events = events, .revents = 0};
    const int count = ::poll(&ready, 1, static_cast<int>(std::min<int64_t>(left.count(), 1000)));
    if (count > 0) return {};
    if (count < 0 && errno != EINTR) return fail_errno(errno, "{}: cannot wait", name_);
  }
}

Result<void> QmpClient::send(std::string_view text, Clock::time_point deadline) {
  while (!text.empty()) {
    TRY(wait_for(POLLOUT, deadline));
    const ssize_t sent =
        ::send(socket_.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) text.remove_prefix(static_cast<size_t>(sent));
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
      return fail_errno(errno, "{}: cannot send a command", name_);
  }
  return {};
}

// Returns the next message, which is an object on one line.
Result<Json> QmpClient::receive(Clock::time_point deadline) {
  size_t searched = 0;
  for (;;) {
    const size_t end = received_.find('\n', searched);
    if (end != received_.npos) {
      Json message = Json::parse(received_.begin(), received_.begin() + static_cast<ptrdiff_t>(end),
                                 nullptr, false);
      received_.erase(0, end + 1);
      if (!message.is_object()) return fail("{}: the server does not speak QMP", name_);
      return message;
    }
    searched = received_.size();
    if (received_.size() > kMaxMessageBytes)
      return fail("{}: a message longer than {} bytes", name_, kMaxMessageBytes);
    TRY(wait_for(POLLIN, deadline));
    std::array<char, 16384> part;
    const ssize_t got = ::recv(socket_.get(), part.data(), part.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got < 0) return fail_errno(errno, "{}: cannot receive", name_);
    if (got == 0) return fail("{}: the machine closed the connection", name_);
    received_.append(part.data(), static_cast<size_t>(got));
  }
}

}  // namespace wick::control

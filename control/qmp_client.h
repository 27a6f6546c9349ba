// A blocking client of a machine's QMP server (QEMU QMP Reference Manual; "QEMU Machine Protocol
// Specification"), for subcommands of wick that do one thing and exit, such as wick suspend. A call
// fails after the timeout, or if a message is longer than kMaxMessageBytes.
//
// Thread rule: one thread.
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace wick::control {

class QmpClient {
 public:
  static constexpr size_t kMaxMessageBytes = 16 << 20;

  // Connects and leaves the negotiation mode. `timeout` is the limit for both together, and for
  // each call of execute().
  static Result<QmpClient> connect(const std::string& socket_path,
                                   std::chrono::milliseconds timeout);

  // Executes a command and returns its "return" value. If the server refuses, the error has the
  // server's description. Events are skipped. `arguments` is an object, or null.
  Result<nlohmann::json> execute(std::string_view command);
  Result<nlohmann::json> execute(std::string_view command, const nlohmann::json& arguments);

  // Does what connect() does, with a connected socket; for tests.
  static Result<QmpClient> start(Fd socket, const std::string& name,
                                 std::chrono::milliseconds timeout);

 private:
  using Clock = std::chrono::steady_clock;

  QmpClient(Fd socket, std::string name, std::chrono::milliseconds timeout)
      : socket_(std::move(socket)), name_(std::move(name)), timeout_(timeout) {}
  Result<nlohmann::json> request(std::string_view text);
  Result<void> send(std::string_view text, Clock::time_point deadline);
  Result<nlohmann::json> receive(Clock::time_point deadline);
  Result<void> wait_for(short events, Clock::time_point deadline) const;

  Fd socket_;
  std::string name_;  // the server's name in errors
  std::chrono::milliseconds timeout_;
  std::string received_;
};

}  // namespace wick::control

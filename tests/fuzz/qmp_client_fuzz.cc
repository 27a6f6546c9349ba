// A QMP server that sends anything: the client ends with a value or an error.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "control/qmp_client.h"
#include "tests/fuzz/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using wick::Fd;
  constexpr size_t kMaxBytes = 64 << 10;  // fits the socket's buffer
  std::array<int, 2> ends{};
  wick::fuzz::require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  const Fd server(ends[1]);
  (void)!::send(server.get(), data, std::min(size, kMaxBytes), MSG_DONTWAIT);
  ::shutdown(server.get(), SHUT_WR);
  auto client = wick::control::QmpClient::start(Fd(ends[0]), "fuzz", std::chrono::seconds(5));
  for (int i = 0; client && i < 4; ++i)
    if (!client->execute("query-status")) break;
  return 0;
}

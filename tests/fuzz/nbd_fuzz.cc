// A client of the NBD server, of any bytes: the handshake alone, a request alone, and a whole
// session over a small disk in memory. Whatever comes in, what goes out is bounded, nothing outside
// the disk is accessed, and the server still serves an honest client afterwards. A round of the
// loop delivers at most 4 KiB of input.
#include <sys/socket.h>

#include <cstring>
#include <optional>
#include <string_view>

#include "image/nbd_server.h"
#include "tests/fakes/memory_backend.h"
#include "tests/fakes/nbd_client.h"
#include "tests/fuzz/harness.h"

namespace {

using wick::fakes::NbdClient;
using wick::fuzz::require;
namespace image = wick::image;

constexpr uint64_t kDiskBytes = 64 << 10;
constexpr size_t kMaxSessionBytes = 4096;

void run_handshake(std::string_view input) {
  image::NbdHandshake handshake({"disk", "text", kDiskBytes, 1});
  while (handshake.state() == image::NbdHandshake::State::kNegotiating) {
    const size_t wanted = handshake.wanted_bytes();
    require(wanted > 0 && wanted <= image::kNbdMaxOptionBytes);
    if (input.size() < wanted) return;
    const std::string answer = handshake.receive(std::as_bytes(std::span(input.substr(0, wanted))));
    require(answer.size() < 1024);
    if (handshake.allocation_context()) require(handshake.structured_replies());
    input.remove_prefix(wanted);
  }
}

// A request that passes the check lies in the disk.
void run_request(std::string_view input) {
  if (input.size() < image::NbdRequest::kBytes + 1) return;
  const auto kind = static_cast<uint8_t>(input.front());
  std::string bytes(input.substr(1, image::NbdRequest::kBytes));
  if (kind % 2 == 0) {
    constexpr uint32_t kMagic = std::byteswap(uint32_t{NBD_REQUEST_MAGIC});
    std::memcpy(bytes.data(), &kMagic, sizeof(kMagic));
  }
  const auto request =
      image::NbdRequest::parse(std::as_bytes(std::span(bytes)).first<image::NbdRequest::kBytes>());
  if (!request) return;
  const image::NbdLimits limits{kDiskBytes, static_cast<uint16_t>(kind << 4), (kind & 2) != 0,
                                (kind & 6) == 6};
  if (image::check_request(*request, limits) != image::NBD_SUCCESS) return;
  if (request->command == NBD_CMD_FLUSH) return;
  require(request->offset_bytes <= kDiskBytes &&
          request->length_bytes <= kDiskBytes - request->offset_bytes);
}

// Without a handshake if the first byte says so. The rest may come in two parts.
void run_session(std::string_view input) {
  auto& loop = wick::fuzz::loop();
  wick::fakes::MemoryBackend disk(loop, kDiskBytes);
  if (input.front() & 2) disk.set_delay(wick::fakes::MemoryBackend::Delay::kNextRound);
  image::NbdServer server(loop, disk, {.max_clients = 2, .persistent = true});
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  server.serve(wick::Fd(ends[0]), (input.front() & 1) != 0);
  NbdClient client{wick::Fd(ends[1])};
  input = input.substr(1, kMaxSessionBytes);
  const std::string_view first = input.substr(0, input.size() / 2);
  char sink[8192];
  for (const std::string_view part : {first, input.substr(first.size())}) {
    (void)client.send(part);
    for (int round = 0; round < 8; ++round) {
      wick::fuzz::run_loop();
      while (::recv(client.socket().get(), sink, sizeof(sink), 0) > 0) {
      }
    }
  }
  client.close();

  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  server.serve(wick::Fd(ends[0]), false);
  NbdClient honest{wick::Fd(ends[1])};
  require(honest.send(NbdClient::request(NBD_CMD_READ, 1, 0, 512)));
  for (int round = 0; round < 8; ++round) wick::fuzz::run_loop();
  require(honest.reply(512).arrived);
  honest.close();

  bool finished = false;
  wick::spawn([](image::NbdServer& of, bool& done) -> wick::Task<void> {
    co_await of.finished();
    done = true;
  }(server, finished));
  server.stop();
  for (int round = 0; round < 1000 && !finished; ++round) wick::fuzz::run_loop();
  require(finished);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static const bool quiet = [] {
    spdlog::set_level(spdlog::level::off);
    return true;
  }();
  (void)quiet;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      run_handshake(input);
      break;
    case 1:
      run_request(input);
      break;
    default:
      run_session(input);
  }
  return 0;
}

#include "image/nbd_session.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/bytes.h"
#include "block/file.h"

namespace wick::image {

namespace {

// The maximum numbers of pieces of one read, and of descriptors of one block status reply. A client
// asks again for what a block status does not cover.
constexpr size_t kMaxPieces = 64;
constexpr size_t kMaxDescriptors = 1024;
// The maximum number of questions to the disk for one block status reply. Neighbouring extents of
// equal status become one descriptor.
constexpr int kMaxQuestions = 4096;
// Long zeroes and trims are executed in parts of this length, so that the end of the server does
// not wait long.
constexpr uint64_t kPartBytes = 64 << 20;
// A session yields to the event loop after requests whose total cost reaches kTurnBytes, even if
// none of them suspended. The cost of a request is kRequestCost plus the length of its data.
constexpr uint64_t kTurnBytes = 1 << 20;
constexpr uint64_t kRequestCost = 64 << 10;

// Suspends a coroutine until the next round of the loop.
struct NextRound {
  EventLoop& loop;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) const {
    loop.post([handle] { handle.resume(); });
  }
  void await_resume() const {}
};

iovec buffer_of(std::string_view text) { return block::to_iovec(std::as_bytes(std::span(text))); }

}  // namespace

NbdExportInfo NbdExport::info() const {
  uint32_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;
  if (disk.read_only()) {
    flags |= NBD_FLAG_READ_ONLY;
  } else {
    flags |= NBD_FLAG_SEND_WRITE_ZEROES;
    if (discards && disk.can_discard()) flags |= NBD_FLAG_SEND_TRIM;
    if (disk.zeroes_fast(true)) flags |= NBD_FLAG_SEND_FAST_ZERO;
  }
  // All clients share one disk, whose flush covers the writes of all of them.
  if (multi_conn) flags |= NBD_FLAG_CAN_MULTI_CONN;
  return {name, description, disk.size_bytes(), static_cast<uint16_t>(flags)};
}

struct NbdSession::Job {
  NbdRequest request;
  uint32_t error;  // why the request must not be executed, or NBD_SUCCESS
  Held slot;
  Held bytes;
  std::unique_ptr<std::byte[]> buffer = {};  // for the data of a read or write

  std::span<std::byte> data() const { return {buffer.get(), request.length_bytes}; }
};

Task<void> NbdSession::run(bool shakes_hands) {
  const NbdExportInfo info = exported_.info();
  if (shakes_hands)
    co_await shake_hands(info);
  else
    limits_ = NbdLimits{.size_bytes = info.size_bytes, .flags = info.flags};
  if (limits_) co_await transmit();
  co_await Idle{*this};
}

void NbdSession::stop() {
  stopping_ = true;
  socket_->stop_reading();
}

// --- Handshake ---

Task<void> NbdSession::shake_hands(const NbdExportInfo& info) {
  const auto timer = exported_.loop.timer([this] {
    exported_.warnings.warn("nbd: a client is disconnected: its handshake takes too long");
    disconnect();
  });
  if (!timer) co_return (void) log_error(timer.error());
  timer->arm(exported_.handshake_time);
  NbdHandshake handshake(info);
  co_await send(NbdHandshake::greeting());
  std::vector<std::byte> part;
  while (handshake.state() == NbdHandshake::State::kNegotiating) {
    part.resize(handshake.wanted_bytes());
    if (!co_await socket_->read(part)) co_return;
    const std::string answer = handshake.receive(part);
    co_await send(answer);
    // A client that never pauses must not keep the loop from its timers and its other clients.
    co_await NextRound{exported_.loop};
  }
  if (handshake.state() != NbdHandshake::State::kTransmission) co_return;
  limits_ = NbdLimits{.size_bytes = info.size_bytes,
                      .flags = info.flags,
                      .structured = handshake.structured_replies(),
                      .allocation = handshake.allocation_context()};
}

// --- Requests ---

// Returns the limits with the present size, because the disk may have been resized.
NbdLimits NbdSession::limits() const {
  NbdLimits limits = *limits_;
  limits.size_bytes = exported_.disk.size_bytes();
  return limits;
}

Task<void> NbdSession::transmit() {
  uint64_t turn = 0;
  while (!stopping_) {
    const std::optional<uint64_t> cost = co_await take_request();
    if (!cost) co_return;
    turn += *cost;
    if (turn < kTurnBytes) continue;
    turn = 0;
    co_await NextRound{exported_.loop};
  }
}

// Takes the next request, starts it, and returns its cost for this turn in bytes. Returns nullopt
// if the session must end: the client disconnected or broke the protocol.
Task<std::optional<uint64_t>> NbdSession::take_request() {
  std::array<std::byte, NbdRequest::kBytes> header;
  if (!co_await socket_->read(header)) co_return std::nullopt;
  const auto request = NbdRequest::parse(header);
  if (!request || request->payload_bytes() > kNbdMaxDataBytes) {
    exported_.warnings.warn(
        "nbd: a client is disconnected: {}",
        request ? "it writes more than 32 MiB at once" : "it broke the protocol");
    co_return std::nullopt;
  }
  if (request->command == NBD_CMD_DISC) co_return std::nullopt;
  const uint32_t error = check_request(*request, limits());
  const bool reads = request->command == NBD_CMD_READ && error == NBD_SUCCESS;
  // The payload of a write that is refused must be read, too.
  const uint32_t size = reads ? request->length_bytes : request->payload_bytes();
  auto slot = co_await requests_.take(1);
  auto bytes = co_await bytes_.take(size);
  std::unique_ptr<Job> job(new Job{*request, error, std::move(slot), std::move(bytes)});
  if (size > 0) job->buffer = std::make_unique_for_overwrite<std::byte[]>(size);
  if (!reads && size > 0 && !co_await socket_->read(job->data())) co_return std::nullopt;
  ++in_flight_;
  spawn(serve(std::move(job)));
  co_return kRequestCost + size;
}

// Resumes idle_ at the end, and this resumption may destroy the session.
Task<void> NbdSession::serve(std::unique_ptr<Job> job) {
  if (job->error != NBD_SUCCESS)
    co_await answer(job->request.cookie, job->error);
  else if (job->request.command == NBD_CMD_READ)
    co_await read(*job);
  else if (job->request.command == NBD_CMD_BLOCK_STATUS)
    co_await report_status(*job);
  else
    co_await change(*job);
  job.reset();
  if (--in_flight_ == 0 && idle_) std::exchange(idle_, {}).resume();
}

// --- Reading ---

Task<void> NbdSession::read(Job& job) {
  const NbdRequest& request = job.request;
  const uint64_t cookie = request.cookie;
  std::vector<Piece> pieces = {{request.offset_bytes, request.length_bytes, false}};
  // One chunk with all the data is what NBD_CMD_FLAG_DF ("don't fragment") asks for.
  if (limits_->structured && !request.has(NBD_CMD_FLAG_DF)) pieces = co_await find_pieces(request);
  std::vector<iovec> data;
  for (const Piece& piece : pieces) {
    data.push_back(block::to_iovec(
        job.data().subspan(piece.offset_bytes - request.offset_bytes, piece.length_bytes)));
    if (piece.hole || piece.length_bytes == 0) continue;
    auto done = co_await exported_.disk.read(piece.offset_bytes, {&data.back(), 1});
    if (!done) {
      const uint32_t error = log_error(done.error());
      co_return co_await answer(cookie, error);
    }
  }
  // The whole reply is sent now that no error can happen any more.
  std::vector<std::string> heads;
  if (!limits_->structured) heads.push_back(simple_reply(cookie, NBD_SUCCESS));
  for (size_t i = 0; limits_->structured && i < pieces.size(); ++i) {
    const auto& [offset, length, hole] = pieces[i];
    const bool last = i + 1 == pieces.size();
    if (length == 0)
      heads.push_back(chunk_header(cookie, NBD_REPLY_TYPE_NONE, 0, true));
    else
      heads.push_back(hole ? hole_chunk(cookie, offset, length, last)
                           : data_chunk(cookie, offset, length, last));
  }
  std::vector<iovec> message;
  for (size_t i = 0; i < heads.size(); ++i) {
    message.push_back(buffer_of(heads[i]));
    if (!pieces[i].hole) message.push_back(data[i]);
  }
  co_await send(message);
}

// Divides a read into data and holes. After kMaxPieces the rest counts as data.
Task<std::vector<NbdSession::Piece>> NbdSession::find_pieces(NbdRequest request) {
  std::vector<Piece> pieces;
  uint64_t offset = request.offset_bytes;
  const uint64_t end = offset + request.length_bytes;
  while (offset < end) {
    uint64_t length = end - offset;
    bool hole = false;
    if (pieces.size() + 1 < kMaxPieces) {
      auto extent = co_await exported_.disk.extent(offset, length);
      if (extent && extent->length_bytes > 0) {  // after an error, reading the data reports it
        length = std::min(length, extent->length_bytes);
        hole = extent->zero;
      }
    }
    if (!pieces.empty() && pieces.back().hole == hole)
      pieces.back().length_bytes += static_cast<uint32_t>(length);
    else
      pieces.push_back({offset, static_cast<uint32_t>(length), hole});
    offset += length;
  }
  if (pieces.empty()) pieces.push_back({offset, 0, false});
  co_return pieces;
}

Task<void> NbdSession::report_status(Job& job) {
  const NbdRequest& request = job.request;
  std::vector<NbdDescriptor> descriptors;
  uint64_t offset = request.offset_bytes;
  const uint64_t end = offset + request.length_bytes;
  for (int questions = 0; offset < end && questions < kMaxQuestions; ++questions) {
    auto extent = co_await exported_.disk.extent(offset, end - offset);
    if (!extent && descriptors.empty()) {
      const uint32_t error = log_error(extent.error());
      co_return co_await answer(request.cookie, error);
    }
    if (!extent || extent->length_bytes == 0) break;
    const auto length = static_cast<uint32_t>(std::min(extent->length_bytes, end - offset));
    const uint32_t status =
        (extent->data ? 0 : NBD_STATE_HOLE) | (extent->zero ? NBD_STATE_ZERO : 0);
    if (!descriptors.empty() && descriptors.back().status == status) {
      descriptors.back().length_bytes += length;
    } else {
      const size_t max = request.has(NBD_CMD_FLAG_REQ_ONE) ? 1 : kMaxDescriptors;
      if (descriptors.size() == max) break;
      descriptors.push_back({length, status});
    }
    offset += length;
  }
  // Zero is always a valid status ("NBD_CMD_BLOCK_STATUS").
  if (descriptors.empty()) descriptors.push_back({request.length_bytes, 0});
  const std::string chunk = block_status_chunk(request.cookie, descriptors);
  co_await send(chunk);
}

// --- Writing ---

Task<void> NbdSession::change(Job& job) {
  const NbdRequest& request = job.request;
  uint32_t error = NBD_SUCCESS;
  // "NBD_CMD_FLAG_FAST_ZERO": fail at once if it is no faster than a write.
  if (request.has(NBD_CMD_FLAG_FAST_ZERO) &&
      !exported_.disk.zeroes_fast(!request.has(NBD_CMD_FLAG_NO_HOLE)))
    error = NBD_ENOTSUP;
  if (error == NBD_SUCCESS && request.command != NBD_CMD_FLUSH) {
    auto done = co_await change_range(job);
    // The only ESHUTDOWN is that of change_range().
    if (!done) error = done.error().code == ESHUTDOWN ? NBD_ESHUTDOWN : log_error(done.error());
  }
  if (error == NBD_SUCCESS && (request.command == NBD_CMD_FLUSH || request.has(NBD_CMD_FLAG_FUA))) {
    auto done = co_await exported_.disk.flush();
    if (!done) error = log_error(done.error());
  }
  co_await answer(request.cookie, error);
}

Task<Result<void>> NbdSession::change_range(const Job& job) {
  const NbdRequest& request = job.request;
  if (request.length_bytes == 0) co_return Result<void>();
  if (request.command == NBD_CMD_WRITE) {
    const iovec data = block::to_iovec(job.data());
    co_return co_await exported_.disk.write(request.offset_bytes, {&data, 1});
  }
  const bool may_unmap = !request.has(NBD_CMD_FLAG_NO_HOLE);
  for (uint64_t done = 0; done < request.length_bytes;) {
    if (stopping_ && done > 0) co_return fail_errno(ESHUTDOWN, "nbd");
    const uint64_t offset = request.offset_bytes + done;
    // All parts but the first start at a multiple of the length.
    const uint64_t part = std::min(kPartBytes - offset % kPartBytes, request.length_bytes - done);
    Result<void> changed;
    if (request.command == NBD_CMD_TRIM)
      changed = co_await exported_.disk.discard(offset, part);
    else
      changed = co_await exported_.disk.write_zeroes(offset, part, may_unmap);
    if (!changed) co_return changed;
    done += part;
  }
  co_return Result<void>();
}

// --- Replies ---

// The client learns only the error's value, because messages name files of the host.
uint32_t NbdSession::log_error(const Error& error) {
  exported_.warnings.warn("nbd: {}", error.message());
  return nbd_error_of(error);
}

Task<void> NbdSession::answer(uint64_t cookie, uint32_t error) {
  const std::string text = limits_->structured && error != NBD_SUCCESS
                               ? error_chunk(cookie, error)
                               : simple_reply(cookie, error);
  co_await send(text);
}

Task<void> NbdSession::send(std::string_view text) {
  const iovec buffer = buffer_of(text);
  co_await send(std::span(&buffer, 1));
}

// After an error nothing more is sent; the reader ends the session.
Task<void> NbdSession::send(std::span<const iovec> buffers) {
  const auto turn = co_await turn_.take(1);
  if (!co_await socket_->write(buffers)) disconnect();
}

}  // namespace wick::image

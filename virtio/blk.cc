#include "virtio/blk.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/buffers.h"
#include "block/file.h"

namespace wick::virtio {

namespace {

// The maximum sizes of DISCARD and WRITE ZEROES. Linux splits larger requests itself.
constexpr uint32_t kMaxZeroSectors = 4u << 20;       // 2 GiB
constexpr uint32_t kMaxSlowZeroSectors = 16u << 10;  // 8 MiB, if wick must write the zeroes
// Requests longer than this are executed in pieces of this size. A reset or a stop of a queue waits
// only for the pieces that are being executed. A budget (pieces_) limits the bytes of the pieces of
// all requests, so the wait is short.
constexpr uint64_t kPieceBytes = 2 << 20;
// The size of the pieces of a request that writes no data to the host's disk, such as DISCARD. Such
// a piece costs kPieceBytes of the budget.
constexpr uint64_t kFastPieceBytes = 128 << 20;
constexpr uint16_t kQueueSize = 512;
constexpr uint32_t kMaxSegments = 510;  // with a header and a status they fill the ring (2.7.5.3.1)
constexpr uint32_t kMaxInFlight = 256;  // the maximum of requests in all queues together

}  // namespace

Blk::Blk(block::Backend& backend, EventLoop& loop, std::string serial, std::string name,
         uint16_t queues)
    : backend_(backend),
      loop_(loop),
      serial_(std::move(serial)),
      name_(std::move(name)),
      queue_sizes_(queues, kQueueSize),
      capacity_sectors_(backend.size_bytes() / kSectorBytes) {
  config_.num_queues = queues;
  config_.seg_max = kMaxSegments;
  config_.blk_size = kSectorBytes;
  if (!backend.read_only()) {
    config_.max_write_zeroes_sectors =
        backend.zeroes_fast(false) ? kMaxZeroSectors : kMaxSlowZeroSectors;
    config_.max_write_zeroes_seg = 1;
    config_.write_zeroes_may_unmap = backend.can_discard() ? 1 : 0;
  }
  if (backend.can_discard()) {
    config_.max_discard_sectors = kMaxZeroSectors;
    config_.max_discard_seg = 1;
    config_.discard_sector_alignment = 4096 / kSectorBytes;
  }
}

uint64_t Blk::features() const {
  uint64_t features = feature_bit(VIRTIO_BLK_F_SEG_MAX) | feature_bit(VIRTIO_BLK_F_BLK_SIZE) |
                      feature_bit(VIRTIO_BLK_F_FLUSH);
  if (backend_.read_only())
    features |= feature_bit(VIRTIO_BLK_F_RO);
  else
    features |= feature_bit(VIRTIO_BLK_F_WRITE_ZEROES);
  if (backend_.can_discard()) features |= feature_bit(VIRTIO_BLK_F_DISCARD);
  if (queue_sizes_.size() > 1) features |= feature_bit(VIRTIO_BLK_F_MQ);
  return features;
}

void Blk::read_config(uint64_t offset, std::span<std::byte> data) {
  virtio_blk_config config = config_;
  config.capacity = capacity_sectors_;
  copy_config(config, offset, data);
}

void Blk::update_capacity() {
  const uint64_t sectors = backend_.size_bytes() / kSectorBytes;
  if (capacity_sectors_.exchange(sectors) == sectors) return;
  limits_.capacity_sectors = sectors;
  if (notifier_ != nullptr)
    notifier_->config_changed();
  else
    capacity_change_pending_ = true;
}

void Blk::activate(uint64_t features, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  loop_.call([&] { start(features, std::move(queues), notifier); });
}

void Blk::start(uint64_t features, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  notifier_ = &notifier;
  limits_ = {.capacity_sectors = capacity_sectors_,
             .read_only = backend_.read_only(),
             .flush = has_feature(features, VIRTIO_BLK_F_FLUSH),
             .discard = has_feature(features, VIRTIO_BLK_F_DISCARD),
             .write_zeroes = has_feature(features, VIRTIO_BLK_F_WRITE_ZEROES),
             .max_discard_sectors = config_.max_discard_sectors,
             .max_write_zeroes_sectors = config_.max_write_zeroes_sectors};
  queues_.resize(queue_sizes_.size());
  // The back end registered its round end earlier, so the back end's I/O is submitted and completed
  // before end_round() is called.
  round_end_ = loop_.at_round_end([this] { return end_round(); });
  for (ActiveQueue& queue : queues) add(std::move(queue));
  // The driver may have read the old capacity before it set DRIVER_OK.
  if (std::exchange(capacity_change_pending_, false)) notifier.config_changed();
  for (size_t index = 0; index < queues_.size(); ++index) process_queue(index);
}

void Blk::add(ActiveQueue queue) {
  const uint16_t index = queue.index;
  queues_[index].reset(new Queue{.ring{loop_, std::move(queue), *notifier_, name_, warnings_,
                                       [this, index] { process_queue(index); }}});
}

void Blk::start_queue(ActiveQueue queue, DriverNotifier&) {
  loop_.call([&] {
    const uint16_t index = queue.index;
    add(std::move(queue));
    process_queue(index);
  });
}

void Blk::stop_queue(uint16_t index) {
  Queue* queue = nullptr;
  std::binary_semaphore idle(0);
  loop_.call([&] {
    queue = queues_[index].get();
    if (queue == nullptr) return;
    queue->ring.stop();
    backend_.drain(true);
    release_when_zero(queue->in_flight, idle);
  });
  if (queue == nullptr) return;
  idle.acquire();
  loop_.call([&] {
    backend_.drain(false);
    queues_[index].reset();
  });
}

void Blk::reset() {
  std::binary_semaphore idle(0);
  loop_.call([&] {
    for (const auto& queue : queues_)
      if (queue != nullptr) queue->ring.stop();
    backend_.drain(true);
    release_when_zero(in_flight_, idle);
  });
  idle.acquire();
  loop_.call([this] {
    backend_.drain(false);
    notifier_ = nullptr;
    stalled_ = false;
    round_end_.reset();
    queues_.clear();
  });
}

// Releases `idle` when the counter becomes 0, perhaps at once. The caller must make sure that no
// new request increments the counter. While the counter is not 0, long requests end after their
// current piece, so that the wait is short.
void Blk::release_when_zero(const uint32_t& in_flight, std::binary_semaphore& idle) {
  if (in_flight == 0) return idle.release();
  drained_ = &in_flight;
  idle_ = &idle;
}

// Starts the requests that are in the ring, but at most as many as the ring has entries; further
// requests wait for the next round.
void Blk::process_queue(size_t index) {
  if (index >= queues_.size() || queues_[index] == nullptr) return;
  Queue& queue = *queues_[index];
  if (!queue.ring.active()) return;
  queue.used_in_round = true;
  const auto ready = [this] { return in_flight_ < kMaxInFlight; };
  const auto take = [&](Chain chain) {
    ++in_flight_;
    ++queue.in_flight;
    spawn(serve(queue, std::move(chain)));
  };
  queue.ring.take_chains(queue.ring.queue().size(), ready, take);
  if (in_flight_ == kMaxInFlight) stalled_ = true;
}

// Sends one interrupt for all requests that completed in this round. With an interrupt for each
// request, the driver would wake up each time, and preempt this thread if they share a CPU. Driver
// notifications stay off until this function enables them; requests that were added before are then
// taken. Returns true if a queue had new requests.
bool Blk::end_round() {
  bool more = false;
  for (size_t index = 0; index < queues_.size(); ++index) {
    if (queues_[index] == nullptr || !queues_[index]->used_in_round) continue;
    Queue& queue = *queues_[index];
    queue.used_in_round = false;
    queue.ring.interrupt();
    // During a stall no queue takes requests, so that none gets ahead of the others.
    if (stalled_ || !queue.ring.wait_for_kick()) continue;
    process_queue(index);
    more = true;
  }
  return more;
}

Task<void> Blk::serve(Queue& queue, Chain chain) {
  BlkRequest request = BlkRequest::parse(chain.readable(), chain.writable(), limits_);
  const uint8_t status = co_await execute(request, queue);
  uint32_t written = 0;
  if (request.status_byte != nullptr) {
    *request.status_byte = std::byte{status};
    // 2.7.8.2: the used length may only count bytes that were written without a gap from the first
    // writable byte on. The status byte is the last one, so it counts only if all bytes before it
    // were written.
    const bool filled = status == VIRTIO_BLK_S_OK && (request.kind == BlkRequest::Kind::kRead ||
                                                      request.kind == BlkRequest::Kind::kGetId);
    if (filled || request.written_before_status == 0) written = request.written_before_status + 1;
  } else {
    warnings_.warn("{}: the driver sent a request without a status byte", name_);
  }
  std::move(chain).complete(written);
  --in_flight_;
  --queue.in_flight;
  queue.used_in_round = true;
  if (stalled_ && in_flight_ == kMaxInFlight / 2) {
    stalled_ = false;
    loop_.post([this] {
      // After each stall another queue is served first, because the first queue may take the whole
      // limit.
      ++first_after_stall_;
      for (size_t i = 0; i < queues_.size(); ++i)
        process_queue((first_after_stall_ + i) % queues_.size());
    });
  }
  if (idle_ != nullptr && *drained_ == 0) std::exchange(idle_, nullptr)->release();
}

Task<uint8_t> Blk::execute(BlkRequest& request, const Queue& queue) {
  Result<void> result;
  switch (request.kind) {
    case BlkRequest::Kind::kRefused:
      warnings_.warn("{}: the driver sent a malformed or unsupported request", name_);
      co_return request.refusal;
    case BlkRequest::Kind::kRead:
      if (request.length_bytes > kPieceBytes)
        result = co_await execute_in_pieces(request, queue);
      else
        result = co_await backend_.read(request.offset_bytes, request.data);
      break;
    case BlkRequest::Kind::kWrite:
      if (request.length_bytes > kPieceBytes)
        result = co_await execute_in_pieces(request, queue);
      else
        result = co_await backend_.write(request.offset_bytes, request.data);
      // 5.2.6.2: a driver that has not negotiated FLUSH expects a write-through cache.
      if (result && !limits_.flush) result = co_await backend_.flush();
      break;
    case BlkRequest::Kind::kFlush:
      result = co_await backend_.flush();
      break;
    case BlkRequest::Kind::kDiscard:
    case BlkRequest::Kind::kWriteZeroes:
      result = co_await execute_in_pieces(request, queue);
      break;
    case BlkRequest::Kind::kGetId: {
      // 5.2.6: the ID has 20 bytes and is padded with zeroes; an ID of full length has no NUL.
      std::array<char, VIRTIO_BLK_ID_BYTES> id{};
      serial_.copy(id.data(), id.size());
      size_t copied = 0;
      for (const iovec& buffer : request.data) {
        const size_t part = std::min(buffer.iov_len, id.size() - copied);
        std::memcpy(buffer.iov_base, id.data() + copied, part);
        std::memset(static_cast<char*>(buffer.iov_base) + part, 0, buffer.iov_len - part);
        copied += part;
      }
      break;
    }
  }
  if (result) co_return VIRTIO_BLK_S_OK;
  if (!drains(queue)) warnings_.warn("{}: {}", name_, result.error().message());
  co_return VIRTIO_BLK_S_IOERR;
}

Task<Result<void>> Blk::execute_in_pieces(const BlkRequest& request, const Queue& queue) {
  for (uint64_t done = 0; done < request.length_bytes;) {
    const bool fast =
        request.kind == BlkRequest::Kind::kDiscard ||
        (request.kind == BlkRequest::Kind::kWriteZeroes && backend_.zeroes_fast(request.unmap));
    const uint64_t length =
        std::min(request.length_bytes - done, fast ? kFastPieceBytes : kPieceBytes);
    const auto held = co_await pieces_.take(std::min(length, kPieceBytes));
    // Long requests are cancelled at a reset, when the queue is stopped, and when the machine ends.
    if (drains(queue)) co_return fail_errno(ECANCELED, "reset in the middle of a request");
    auto result = co_await execute_piece(request, done, length);
    if (!result) co_return result;
    done += length;
  }
  co_return Result<void>();
}

Task<Result<void>> Blk::execute_piece(const BlkRequest& request, uint64_t done, uint64_t length) {
  const uint64_t offset = request.offset_bytes + done;
  if (request.kind == BlkRequest::Kind::kDiscard)
    co_return co_await backend_.discard(offset, length);
  if (request.kind == BlkRequest::Kind::kWriteZeroes)
    co_return co_await backend_.write_zeroes(offset, length, request.unmap);
  const std::vector<iovec> buffers = slice(request.data, done, length);
  if (request.kind == BlkRequest::Kind::kRead) co_return co_await backend_.read(offset, buffers);
  co_return co_await backend_.write(offset, buffers);
}

}  // namespace wick::virtio

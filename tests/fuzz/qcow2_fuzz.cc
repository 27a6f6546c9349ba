// A qcow2 image of any content, alone or over another such image: opened, read, written,
// zeroed, discarded and flushed on a host that fails on request. All requests must end, without
// a crash, and without memory in proportion to what the image claims.
#include <fuzzer/FuzzedDataProvider.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"
#include "block/raw.h"
#include "tests/block/hostile_images.h"
#include "tests/fakes/memory_file.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using block::HostileImage;
using block::Qcow2;
using fakes::MemoryFile;
using fakes::MemoryStore;
using fuzz::require;

constexpr uint64_t kMaxRequestBytes = 256 << 10;

// Makes a valid image of some shape, which the input then damages. This gets further than
// arbitrary bytes.
void make_image(FuzzedDataProvider& input, MemoryStore& store) {
  if (input.ConsumeIntegralInRange(0, 7) == 0) {
    const auto bytes = input.ConsumeBytes<std::byte>(input.ConsumeIntegralInRange(0, 4096));
    store.bytes.write(0, bytes);
    return;
  }
  const bool extended_l2 = input.ConsumeBool();
  HostileImage image(input.ConsumeIntegralInRange<uint32_t>(extended_l2 ? 14 : 9, 16), extended_l2);
  const uint64_t size = image.store.bytes.size_bytes();
  for (int harms = input.ConsumeIntegralInRange(0, 8); harms > 0; --harms) {
    // In the header, in any of the tables, or anywhere.
    const uint64_t cluster = size / HostileImage::kClusters;
    uint64_t offset = input.ConsumeIntegralInRange<uint64_t>(0, 15) * 8;
    switch (input.ConsumeIntegralInRange(0, 3)) {
      case 0:
        break;
      case 1:
      case 2:
        offset += cluster * input.ConsumeIntegralInRange<uint64_t>(1, HostileImage::kClusters - 1);
        break;
      default:
        offset = input.ConsumeIntegralInRange<uint64_t>(0, size);
    }
    switch (input.ConsumeIntegralInRange(0, 3)) {
      case 0:
        image.put8(offset, input.ConsumeIntegral<uint8_t>());
        break;
      case 1:
        image.put32(offset + input.ConsumeIntegralInRange<uint64_t>(0, 1) * 4,
                    input.ConsumeIntegralInRange<uint32_t>(0, 64));
        break;
      case 2:
        image.put64(offset, input.ConsumeIntegral<uint64_t>());
        break;
      default:
        // An entry for a cluster inside the file, or nearly.
        image.put64(offset, cluster * input.ConsumeIntegralInRange<uint64_t>(0, 9) |
                                input.ConsumeIntegralInRange<uint64_t>(0, 7) << 61 |
                                input.ConsumeIntegralInRange<uint64_t>(0, 1));
    }
  }
  store.bytes = image.store.bytes;
}

class Session {
 public:
  explicit Session(FuzzedDataProvider& input) : input_(input) {
    make_image(input_, store_);
    const auto fault = [this](const fakes::FileOperation&) {
      if (fails_ == 0) return 0;
      --fails_;
      return code_;
    };
    store_.fault = fault;
    store_.can_discard = input_.ConsumeBool();
    store_.failed_write_bytes = input_.ConsumeBool() ? 0 : 512;
    disk_ = open(store_, false);
    if (disk_ && input_.ConsumeBool()) {
      make_image(input_, base_store_);
      base_store_.fault = fault;
      if (auto base = open(base_store_, true))
        disk_->set_backing(std::move(base));
      else if (auto raw =
                   block::open_raw(std::make_unique<MemoryFile>(base_store_), {.read_only = true}))
        disk_->set_backing(*std::move(raw));
    }
    // An image that names a data file gets one.
    if (disk_ && disk_->header().external_data())
      disk_->set_data_file(std::make_unique<MemoryFile>(data_store_));
    store_.holds = base_store_.holds = true;
  }

  bool opened() const { return disk_ != nullptr; }

  void step() {
    switch (input_.ConsumeIntegralInRange(0, 7)) {
      case 0:
        fails_ = input_.ConsumeIntegralInRange(1, 3);
        code_ = input_.ConsumeBool() ? EIO : ENOSPC;
        break;
      case 1:
      case 2:
        complete();
        break;
      default:
        if (requests_.size() < 8) start();
    }
    requests_.remove_if([](const Request& request) { return request.done; });
  }

  // Checks that each request has ended, once.
  void finish() {
    start_flush();
    while (complete()) {
    }
    requests_.remove_if([](const Request& request) { return request.done; });
    require(requests_.empty());
  }

 private:
  struct Request {
    int kind = 0;
    uint64_t offset = 0;
    std::vector<std::byte> bytes;
    bool done = false;
  };

  std::unique_ptr<Qcow2> open(MemoryStore& store, bool read_only) {
    const uint64_t cache_bytes = input_.ConsumeBool() ? 1 : 256 << 10;
    auto disk = fakes::finish(Qcow2::open(std::make_unique<MemoryFile>(store),
                                          {.read_only = read_only, .cache_bytes = cache_bytes}));
    if (disk) return *std::move(disk);
    require(disk.error().message().find(store.path) != std::string::npos);
    return nullptr;
  }

  bool complete() {
    const size_t all = store_.held.size() + base_store_.held.size();
    if (all == 0) return false;
    const size_t index = input_.ConsumeIntegralInRange<size_t>(0, all - 1);
    if (index < store_.held.size())
      store_.complete(index);
    else
      base_store_.complete(index - store_.held.size());
    return true;
  }

  void start() {
    Request& request = requests_.emplace_back();
    request.kind = input_.ConsumeIntegralInRange(0, 5);
    const uint64_t disk_bytes = disk_->size_bytes();
    // Near the start, near the end, or anywhere; rarely outside.
    uint64_t offset = input_.ConsumeIntegralInRange<uint64_t>(0, kMaxRequestBytes);
    if (input_.ConsumeIntegralInRange(0, 3) == 0)
      offset = disk_bytes - std::min(disk_bytes, offset);
    else if (input_.ConsumeIntegralInRange(0, 7) == 0)
      offset = input_.ConsumeIntegral<uint64_t>();
    request.offset = offset;
    request.bytes.resize(
        input_.ConsumeIntegralInRange<size_t>(0, input_.ConsumeBool() ? 4096 : kMaxRequestBytes));
    spawn(serve(*disk_, request));
  }

  void start_flush() {
    Request& request = requests_.emplace_back();
    request.kind = 5;
    spawn(serve(*disk_, request));
  }

  static Task<void> serve(block::Backend& disk, Request& request) {
    const iovec buffer = block::to_iovec(request.bytes);
    const uint64_t length = request.bytes.size();
    Result<void> result;
    switch (request.kind) {
      case 0:
        result = co_await disk.read(request.offset, {&buffer, 1});
        break;
      case 1:
      case 2:
        result = co_await disk.write(request.offset, {&buffer, 1});
        break;
      case 3:
        result = co_await disk.write_zeroes(request.offset, length, length % 2 == 0);
        break;
      case 4:
        result = co_await disk.discard(request.offset, length);
        break;
      default:
        result = co_await disk.flush();
    }
    require(result || !result.error().message().empty());
    require(!request.done);
    request.done = true;
  }

  FuzzedDataProvider& input_;
  MemoryStore store_;
  MemoryStore base_store_;
  MemoryStore data_store_;
  int fails_ = 0;
  int code_ = EIO;
  std::unique_ptr<Qcow2> disk_;
  std::list<Request> requests_;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  spdlog::set_level(spdlog::level::off);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  Session session(input);
  if (!session.opened()) return 0;
  for (int steps = 0; steps < 200 && input.remaining_bytes() > 0; ++steps) session.step();
  session.finish();
  return 0;
}

// A block::File in memory. It logs all changes in the order of completion; tests control
// when operations complete and whether they fail.
//
// Thread rule: one thread, without an event loop.
#pragma once

#include <cassert>
#include <cerrno>
#include <coroutine>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "block/file.h"
#include "tests/fakes/sparse_bytes.h"

namespace wick::fakes {

struct FileOperation {
  enum class Kind : uint8_t { kRead, kWrite, kPunch, kZero, kReserve, kTruncate, kSync, kDiscard };

  Kind kind = Kind::kRead;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  std::vector<std::byte> data;  // kWrite
  size_t issued_at = 0;         // the size of the log when the operation was issued
  bool beside = false;          // on the second file
};

// Applies the operation to `bytes`. If `sectors` is given, a write changes only the sectors
// for which it returns true.
inline void apply(const FileOperation& operation, SparseBytes& bytes,
                  const std::function<bool(uint64_t)>& sectors = {}) {
  constexpr uint64_t kSectorBytes = 512;
  switch (operation.kind) {
    case FileOperation::Kind::kWrite:
      for (uint64_t done = 0; done < operation.length_bytes;) {
        const uint64_t at = operation.offset_bytes + done;
        const uint64_t rest = operation.length_bytes - done;
        const uint64_t size = sectors ? std::min(rest, kSectorBytes - at % kSectorBytes) : rest;
        if (!sectors || sectors(at / kSectorBytes))
          bytes.write(at, std::span(operation.data).subspan(done, size));
        done += size;
      }
      break;
    case FileOperation::Kind::kPunch:
    case FileOperation::Kind::kZero:
    case FileOperation::Kind::kDiscard:
      bytes.clear(operation.offset_bytes, operation.length_bytes);
      break;
    case FileOperation::Kind::kReserve:
      bytes.reserve(operation.offset_bytes, operation.length_bytes);
      break;
    case FileOperation::Kind::kTruncate:
      bytes.resize(operation.offset_bytes);
      break;
    case FileOperation::Kind::kRead:
    case FileOperation::Kind::kSync:
      break;
  }
}

// The contents and the controls of a MemoryFile. The test owns it; it must outlive the
// file.
struct MemoryStore {
  // The maximum size of a file, so that hostile offsets do not use up memory.
  static constexpr uint64_t kMaxBytes = 256 << 20;

  SparseBytes bytes;
  std::string path = "memory.qcow2";
  bool can_discard = true;
  bool zeroes_fast = true;
  // The size of the host's disk. An operation that needs more space fails with ENOSPC.
  uint64_t disk_bytes = ~0ull;

  // A second file: a data file, or a backing file that is written too. Both files use the
  // fields below of the first file, except `stable` and `sync_failed`.
  std::unique_ptr<MemoryStore> beside;
  MemoryStore* first = this;
  MemoryStore& add_beside() {
    beside = std::make_unique<MemoryStore>();
    beside->path = "beside.raw";
    beside->first = this;
    return *beside;
  }

  // If `logs` is set, `log` has all changes and syncs in the order of completion.
  bool logs = false;
  std::vector<FileOperation> log;

  // While `holds` is set, operations wait for complete(). `held` has the oldest first.
  bool holds = false;
  std::vector<std::coroutine_handle<>> held;
  void complete(size_t index) {
    const auto handle = held[index];
    held.erase(held.begin() + static_cast<std::ptrdiff_t>(index));
    handle.resume();
  }

  // Called before each operation, which fails if the result is an errno value and not 0. A
  // failed write leaves its first `failed_write_bytes` in the file. A failed sync discards
  // all changes since the last sync, and all later syncs fail too.
  std::function<int(const FileOperation&)> fault;
  uint64_t failed_write_bytes = 0;
  SparseBytes stable;
  bool sync_failed = false;

  MemoryStore() = default;
  MemoryStore(const MemoryStore&) = delete;
  MemoryStore& operator=(const MemoryStore&) = delete;

  struct Hold {
    MemoryStore& store;
    bool await_ready() const { return !store.holds; }
    void await_suspend(std::coroutine_handle<> handle) const { store.held.push_back(handle); }
    void await_resume() const {}
  };
};

class MemoryFile final : public block::File {
 public:
  explicit MemoryFile(MemoryStore& store) : store_(store), first_(*store.first) {}

  uint64_t size_bytes() const override { return store_.bytes.size_bytes(); }
  bool can_discard() const override { return store_.can_discard; }
  bool zeroes_fast(bool) const override { return store_.zeroes_fast; }
  uint64_t allocated_bytes() const override { return store_.bytes.allocated_bytes(); }
  Piece piece_at(uint64_t offset) const override {
    const SparseBytes& bytes = store_.bytes;
    const auto is_hole = [&](uint64_t at) { return bytes.missing_bytes(at, 1) > 0; };
    Piece piece{is_hole(offset), (offset / 4096 + 1) * 4096};
    while (piece.end < bytes.size_bytes() && is_hole(piece.end) == piece.hole) piece.end += 4096;
    piece.end = std::max(offset, std::min(piece.end, bytes.size_bytes()));
    return piece;
  }
  const std::string& path() const override { return store_.path; }

  Task<Result<void>> read(uint64_t offset, std::span<const iovec> buffers) override {
    return execute({.kind = FileOperation::Kind::kRead,
                    .offset_bytes = offset,
                    .length_bytes = total_bytes(buffers),
                    .data = {}},
                   buffers);
  }
  Task<Result<void>> write(uint64_t offset, std::span<const iovec> buffers) override {
    return execute({.kind = FileOperation::Kind::kWrite,
                    .offset_bytes = offset,
                    .length_bytes = total_bytes(buffers),
                    .data = {}},
                   buffers);
  }
  Task<Result<void>> sync() override {
    return execute({.kind = FileOperation::Kind::kSync, .data = {}}, {});
  }
  Task<Result<void>> discard(uint64_t offset, uint64_t length) override {
    return execute({.kind = FileOperation::Kind::kDiscard,
                    .offset_bytes = offset,
                    .length_bytes = length,
                    .data = {}},
                   {});
  }
  Task<Result<void>> punch(uint64_t offset, uint64_t length) override {
    return execute({.kind = FileOperation::Kind::kPunch,
                    .offset_bytes = offset,
                    .length_bytes = length,
                    .data = {}},
                   {});
  }
  Task<Result<void>> zero(uint64_t offset, uint64_t length) override {
    return execute({.kind = FileOperation::Kind::kZero,
                    .offset_bytes = offset,
                    .length_bytes = length,
                    .data = {}},
                   {});
  }
  Task<Result<void>> reserve(uint64_t offset, uint64_t length) override {
    return execute({.kind = FileOperation::Kind::kReserve,
                    .offset_bytes = offset,
                    .length_bytes = length,
                    .data = {}},
                   {});
  }
  Result<void> truncate(uint64_t size) override {
    if (size > MemoryStore::kMaxBytes) return fail_errno(EFBIG, "{}", path());
    FileOperation operation{.kind = FileOperation::Kind::kTruncate,
                            .offset_bytes = size,
                            .data = {},
                            .issued_at = first_.log.size(),
                            .beside = &first_ != &store_};
    if (const int code = first_.fault ? first_.fault(operation) : 0; code != 0)
      return fail_errno(code, "{}: told to fail at {:#x}", path(), size);
    apply(operation, store_.bytes);
    if (first_.logs) first_.log.push_back(std::move(operation));
    return {};
  }

 private:
  using Kind = FileOperation::Kind;

  Task<Result<void>> execute(FileOperation operation, std::span<const iovec> buffers) {
    operation.issued_at = first_.log.size();
    operation.beside = &first_ != &store_;
    SparseBytes before;
    if (operation.kind == Kind::kSync) before = store_.bytes;
    co_await MemoryStore::Hold{first_};
    // The buffers are read as late as possible, to detect buffers that are freed too early.
    if (operation.kind == Kind::kWrite)
      for (const iovec& buffer : buffers) {
        const auto* from = static_cast<const std::byte*>(buffer.iov_base);
        operation.data.insert(operation.data.end(), from, from + buffer.iov_len);
      }
    int code = 0;
    if (first_.fault) code = first_.fault(operation);
    if (operation.kind == Kind::kSync && store_.sync_failed) code = EIO;
    if (code == 0) code = limit(operation);
    if (code != 0) {
      fail_with(operation);
      co_return fail_errno(code, "{}: told to fail at {:#x}", path(), operation.offset_bytes);
    }
    apply(operation, store_.bytes);
    if (operation.kind == Kind::kSync) store_.stable = before;
    if (operation.kind == Kind::kRead)
      for (const iovec& buffer : buffers) {
        store_.bytes.read(operation.offset_bytes,
                          {static_cast<std::byte*>(buffer.iov_base), buffer.iov_len});
        operation.offset_bytes += buffer.iov_len;
      }
    else if (first_.logs)
      first_.log.push_back(std::move(operation));
    co_return Result<void>();
  }

  // Returns the error of a host's file system for too large an operation; 0 if there is none.
  int limit(const FileOperation& operation) const {
    const uint64_t end = operation.offset_bytes + operation.length_bytes;
    if (end < operation.offset_bytes || end > uint64_t{INT64_MAX}) return EINVAL;
    if (operation.kind != Kind::kWrite && operation.kind != Kind::kReserve) return 0;
    if (end > MemoryStore::kMaxBytes) return EFBIG;
    if (store_.disk_bytes == ~0ull) return 0;
    const uint64_t missing =
        store_.bytes.missing_bytes(operation.offset_bytes, operation.length_bytes);
    const bool fits = missing == 0 || store_.bytes.allocated_bytes() + missing <= store_.disk_bytes;
    return fits ? 0 : ENOSPC;
  }

  void fail_with(FileOperation& operation) {
    if (operation.kind == Kind::kWrite) {
      operation.length_bytes = std::min(operation.length_bytes, first_.failed_write_bytes);
      if (limit(operation) == 0) apply(operation, store_.bytes);
    }
    if (operation.kind == Kind::kSync && !std::exchange(store_.sync_failed, true))
      store_.bytes = store_.stable;
  }

  MemoryStore& store_;
  MemoryStore& first_;
};

// Returns the result of a task that completes without waiting.
template <typename T>
T finish(Task<T> task) {
  std::optional<T> result;
  spawn([](Task<T> what, std::optional<T>& out) -> Task<void> { out.emplace(co_await what); }(
                                                    std::move(task), result));
  if (!result) std::abort();  // the task still waits and has a reference to our stack
  return *std::move(result);
}

}  // namespace wick::fakes

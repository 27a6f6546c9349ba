// wick image compare
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <future>

#include "base/bytes.h"
#include "base/output.h"
#include "block/io_thread.h"
#include "image/commands.h"
#include "image/extents.h"
#include "image/source.h"

namespace wick::image {

namespace {

using block::Backend;
using block::Extent;

// qemu-img's exit statuses.
constexpr int kEqual = 0;
constexpr int kDiffer = 1;
constexpr int kCannotOpen = 2;
constexpr int kCannotRead = 4;

constexpr uint64_t kPieceBytes = 256 << 10;  // stays in the CPU's cache until it is compared
constexpr size_t kPiecesAtOnce = 4;

// One of the two disks. Its own thread reads ahead, while the calling thread compares.
class Side {
 public:
  Side(block::IoThread& thread, Backend& disk) : thread_(thread), disk_(disk) {}
  ~Side() {
    for (Slot& slot : slots_)
      if (slot.done.valid()) slot.done.wait();
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  uint64_t size_bytes() const { return disk_.size_bytes(); }

  // Returns the extent at `offset`, which ends at `end` at the latest. Later calls must not ask for
  // a lower offset.
  Result<Extent> extent(uint64_t offset, uint64_t end) {
    while (next_ < extents_.size() && offset >= extents_end_) ++next_, move_end();
    if (next_ == extents_.size()) {
      extents_ = TRY(thread_.run([&] { return extents_from(disk_, offset, end, kExtentsAtOnce); }));
      next_ = 0;
      extents_end_ = offset;
      move_end();
    }
    Extent found = extents_[next_];
    found.length_bytes = std::min(extents_end_, end) - offset;
    return found;
  }

  // Starts to read a piece into the slot `number`.
  void start(size_t number, uint64_t offset, uint64_t length) {
    Slot& slot = slots_[number];
    slot.bytes.resize(kPieceBytes);
    slot.length = length;
    slot.promise = {};
    slot.done = slot.promise.get_future();
    thread_.loop().post([this, &slot, offset] { spawn(fill(slot, offset)); });
  }
  // Waits until the piece in the slot `number` is read, and returns it.
  Result<std::span<const std::byte>> take(size_t number) {
    TRY(slots_[number].done.get());
    return std::span<const std::byte>(slots_[number].bytes).first(slots_[number].length);
  }

 private:
  struct Slot {
    std::vector<std::byte> bytes;
    size_t length = 0;
    std::promise<Result<void>> promise;
    std::future<Result<void>> done;  // valid while the slot is in use
  };

  void move_end() {
    if (next_ < extents_.size()) extents_end_ += extents_[next_].length_bytes;
  }

  Task<void> fill(Slot& slot, uint64_t offset) {
    const iovec buffer = block::to_iovec(std::span(slot.bytes).first(slot.length));
    auto got = co_await disk_.read(offset, {&buffer, 1});
    slot.promise.set_value(std::move(got));
  }

  block::IoThread& thread_;
  Backend& disk_;
  std::vector<Extent> extents_;  // extents that were looked up ahead
  size_t next_ = 0;              // the index of the current extent
  uint64_t extents_end_ = 0;     // where the current extent ends
  Slot slots_[kPiecesAtOnce];
};

class Comparison {
 public:
  Comparison(Side& first, Side& second, const ImageCompare& command)
      : sides_{&first, &second}, command_(command) {}

  Result<int> run() {
    const uint64_t sizes[2] = {sides_[0]->size_bytes(), sides_[1]->size_bytes()};
    if (sizes[0] != sizes[1] && command_.strict)
      return differ("Strict mode: Image size mismatch!\n");
    const uint64_t common = std::min(sizes[0], sizes[1]);
    for (uint64_t offset = 0; offset < common && !status_;) {
      const auto length = start_both(offset, common);
      if (!length) {  // differences before the failed part are reported first
        TRY(finish_pieces());
        return status_ ? Result<int>(*status_) : std::unexpected(length.error());
      }
      offset += *length;
    }
    TRY(finish_pieces());
    if (status_) return *status_;
    if (sizes[0] != sizes[1]) say("Warning: Image size mismatch!\n");
    TRY(start_rest(sizes[0] > sizes[1] ? 0 : 1, common));
    TRY(finish_pieces());
    if (status_) return *status_;
    say("Images are identical.\n");
    return kEqual;
  }

 private:
  struct Piece {
    uint64_t offset;
    bool read[2];  // false: the disk has zeroes there
  };

  void say(const std::string& text) const {
    if (!command_.quiet) std::fputs(text.c_str(), stdout);
  }
  int differ(const std::string& text) const {
    say(text);
    return kDiffer;
  }

  // Starts to read the next part of both disks, and returns its length.
  Result<uint64_t> start_both(uint64_t offset, uint64_t end) {
    const Extent first = TRY(sides_[0]->extent(offset, end));
    const Extent second = TRY(sides_[1]->extent(offset, end));
    const uint64_t length = std::min(first.length_bytes, second.length_bytes);
    if (command_.strict && first.present != second.present) {
      TRY(finish_pieces());
      if (!status_)
        status_ = differ(fmt::format("Strict mode: Offset {} block status mismatch!\n", offset));
      return length;
    }
    if (first.zero && second.zero) return length;
    const uint64_t step = std::min(length, kPieceBytes);
    TRY(start({.offset = offset, .read = {!first.zero, !second.zero}}, step));
    return step;
  }

  // Starts to read the rest of the longer disk, which must be zeroes.
  Result<void> start_rest(size_t longer, uint64_t offset) {
    const uint64_t end = sides_[longer]->size_bytes();
    while (offset < end && !status_) {
      const auto rest = sides_[longer]->extent(offset, end);
      if (!rest) {
        TRY(finish_pieces());
        return status_ ? Result<void>() : std::unexpected(rest.error());
      }
      uint64_t step = rest->length_bytes;
      if (!rest->zero) {
        step = std::min(step, kPieceBytes);
        TRY(start({.offset = offset, .read = {longer == 0, longer == 1}}, step));
      }
      offset += step;
    }
    return {};
  }

  Result<void> start(const Piece& piece, uint64_t length) {
    if (started_ - finished_ == kPiecesAtOnce) TRY(finish_piece());
    if (status_) return {};
    const size_t slot = started_++ % kPiecesAtOnce;
    pieces_[slot] = piece;
    for (size_t side = 0; side < 2; ++side)
      if (piece.read[side]) sides_[side]->start(slot, piece.offset, length);
    return {};
  }

  Result<void> finish_pieces() {
    while (finished_ < started_ && !status_) TRY(finish_piece());
    return {};
  }

  // Compares the oldest piece. Sets status_ if it differs.
  Result<void> finish_piece() {
    const size_t slot = finished_++ % kPiecesAtOnce;
    const Piece& piece = pieces_[slot];
    std::span<const std::byte> bytes[2];
    for (size_t side = 0; side < 2; ++side)
      if (piece.read[side]) bytes[side] = TRY(sides_[side]->take(slot));
    // qemu-img prints the offset of the sector.
    if (const auto at = first_difference(bytes[0], bytes[1]))
      status_ =
          differ(fmt::format("Content mismatch at offset {}!\n", piece.offset + *at / 512 * 512));
    return {};
  }

  // An empty span stands for zeroes.
  static std::optional<size_t> first_difference(std::span<const std::byte> first,
                                                std::span<const std::byte> second) {
    if (first.empty() || second.empty()) {
      const auto bytes = first.empty() ? second : first;
      if (is_zero(bytes)) return std::nullopt;
      return std::ranges::find_if(bytes, [](std::byte byte) { return byte != std::byte{0}; }) -
             bytes.begin();
    }
    if (std::memcmp(first.data(), second.data(), first.size()) == 0) return std::nullopt;
    return std::ranges::mismatch(first, second).in1 - first.begin();
  }

  Side* const sides_[2];
  const ImageCompare& command_;
  Piece pieces_[kPiecesAtOnce];  // the pieces that are being read
  size_t started_ = 0;
  size_t finished_ = 0;
  std::optional<int> status_;  // set when the disks differ
};

int cannot(const Error& error, int status) {
  report_error(error.message());
  return status;
}

}  // namespace

Result<int> execute(const ImageCompare& command) {
  std::unique_ptr<block::IoThread> threads[2];
  std::unique_ptr<Backend> disks[2];
  for (size_t i = 0; i < 2; ++i) {
    threads[i] = TRY(block::IoThread::create(i == 0 ? "image" : "image-2"));
    threads[i]->io().enable_inline_completion();
    auto opened = open_source(*threads[i], command.paths[i],
                              {.format = command.formats[i], .share = command.share});
    if (!opened) return cannot(opened.error(), kCannotOpen);
    disks[i] = std::move(opened->disk);
  }
  Side first(*threads[0], *disks[0]), second(*threads[1], *disks[1]);
  const auto status = Comparison(first, second, command).run();
  return status ? *status : cannot(status.error(), kCannotRead);
}

}  // namespace wick::image

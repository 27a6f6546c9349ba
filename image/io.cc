// wick image io
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <sstream>

#include "base/human_size.h"
#include "base/output.h"
#include "base/printable.h"
#include "block/compression.h"
#include "block/io_thread.h"
#include "block/qcow2/qcow2.h"
#include "image/commands.h"
#include "image/files.h"
#include "image/size.h"

namespace wick::image {

namespace {

using block::Backend;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kMaxBytes = 1 << 30;  // of memory that one command may use
constexpr std::byte kDefaultPattern{0xcd};

struct IoCommand {
  std::string verb;
  std::optional<std::byte> pattern;
  bool zeroes = false;
  bool may_unmap = false;
  bool compressed = false;
  bool quiet = false;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
};

Result<IoCommand> parse_io(const std::string& text) {
  std::istringstream words(text);
  IoCommand command;
  words >> command.verb;
  if (command.verb == "r") command.verb = "read";
  if (command.verb == "w") command.verb = "write";
  const bool reads = command.verb == "read", writes = command.verb == "write";
  if (!reads && !writes && command.verb != "discard" && command.verb != "flush")
    return with_hint(fail("unknown command '{}'", command.verb),
                     "there are read, write, discard and flush");
  std::vector<uint64_t> numbers;
  for (std::string word; words >> word;) {
    if (word == "-q") {
      command.quiet = true;
    } else if (word == "-P" && (reads || writes)) {
      std::string value;
      words >> value;
      const uint64_t pattern = TRY(parse_image_size(value));
      if (pattern > 255) return fail("-P {}: a pattern is 0 to 255", value);
      command.pattern = static_cast<std::byte>(pattern);
    } else if (word == "-z" && writes) {
      command.zeroes = true;
    } else if (word == "-u" && writes) {
      command.may_unmap = true;
    } else if (word == "-c" && writes) {
      command.compressed = true;
    } else if (word.starts_with('-')) {
      return fail("{} has no option {}", command.verb, word);
    } else {
      numbers.push_back(TRY(parse_image_size(word)));
    }
  }
  if (command.verb == "flush" && !numbers.empty()) return fail("flush takes no numbers");
  if (command.verb != "flush" && numbers.size() != 2)
    return fail("{} takes an offset and a length", command.verb);
  if (command.may_unmap && !command.zeroes) return fail("-u needs -z");
  if (command.zeroes && command.pattern) return fail("-z and -P exclude each other");
  if (command.zeroes && command.compressed) return fail("-z and -c exclude each other");
  if (numbers.empty()) return command;
  command.offset_bytes = numbers[0];
  command.length_bytes = numbers[1];
  if ((reads || (writes && !command.zeroes)) && command.length_bytes > kMaxBytes)
    return fail("the length must be at most {} bytes", kMaxBytes);
  return command;
}

class IoSession {
 public:
  IoSession(block::IoThread& thread, Backend& disk) : thread_(thread), disk_(disk) {}

  // Returns true if the command succeeded and, for a read with a pattern, the data has that
  // pattern.
  bool run(const IoCommand& command) {
    const auto start = Clock::now();
    const auto done = execute(command);
    const std::chrono::duration<double> seconds = Clock::now() - start;
    if (!done) {
      fmt::print(stderr, "{} failed: {}\n", command.verb, printable(done.error().message()));
      return false;
    }
    bool right = true;
    if (command.verb == "read" && command.pattern)
      right =
          std::ranges::all_of(buffer_, [&](std::byte byte) { return byte == *command.pattern; });
    if (!right)
      fmt::print("Pattern verification failed at offset {}, {} bytes\n", command.offset_bytes,
                 command.length_bytes);
    if (!command.quiet && command.verb != "flush") report(command, seconds.count());
    return right;
  }

 private:
  Result<void> execute(const IoCommand& command) {
    const uint64_t offset = command.offset_bytes, length = command.length_bytes;
    if (command.verb == "flush") return thread_.run([&] { return disk_.flush(); });
    if (command.verb == "discard")
      return thread_.run([&] { return disk_.discard(offset, length); });
    if (command.zeroes)
      return thread_.run([&] { return disk_.write_zeroes(offset, length, command.may_unmap); });
    buffer_.assign(length, command.pattern.value_or(kDefaultPattern));
    const iovec buffer = block::to_iovec(buffer_);
    if (command.verb == "read")
      return thread_.run([&] { return disk_.read(offset, {&buffer, 1}); });
    if (command.compressed) return write_compressed(offset);
    return thread_.run([&] { return disk_.write(offset, {&buffer, 1}); });
  }

  // Writes the buffer cluster by cluster. A cluster that does not become smaller is written
  // uncompressed.
  Result<void> write_compressed(uint64_t offset) {
    auto* const image = dynamic_cast<block::Qcow2*>(&disk_);
    if (image == nullptr) return fail("only qcow2 has compressed clusters");
    const uint64_t cluster = image->header().cluster_bytes();
    for (uint64_t done = 0; done < buffer_.size(); done += cluster) {
      std::vector<std::byte> content(cluster);
      const auto part = std::span(buffer_).subspan(done).first(
          std::min<uint64_t>(cluster, buffer_.size() - done));
      if (part.size() < cluster && offset + buffer_.size() != disk_.size_bytes())
        return fail("-c writes whole clusters of {} bytes", cluster);
      std::ranges::copy(part, content.begin());
      const auto packed = block::qcow2::compress(image->header().compression, content);
      const iovec plain = block::to_iovec(part);
      TRY(thread_.run([&] {
        return packed.empty() ? disk_.write(offset + done, {&plain, 1})
                              : image->write_compressed(offset + done, packed);
      }));
    }
    return thread_.run([&] { return image->end_compressed(); });
  }

  static void report(const IoCommand& command, double seconds) {
    const uint64_t length = command.length_bytes;
    const double per_second = 1 / std::max(seconds, 1e-9);
    fmt::print("{} {}/{} bytes at offset {}\n{}, 1 ops; {:05.2f} sec ({}/sec and {:.4f} ops/sec)\n",
               command.verb == "write" ? "wrote" : command.verb, length, length,
               command.offset_bytes, human_size(length), seconds,
               human_size(static_cast<uint64_t>(static_cast<double>(length) * per_second)),
               per_second);
  }

  block::IoThread& thread_;
  Backend& disk_;
  std::vector<std::byte> buffer_;
};

}  // namespace

Result<int> execute(const ImageIo& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  const block::ImageOptions options =
      command.read_only ? reading(command.format) : writing(command.format, command.trust_names);
  const auto disk =
      TRY(thread->run([&] { return block::open_image(command.path, options, thread->io()); }));
  IoSession session(*thread, *disk);
  bool all_well = true;
  for (const std::string& text : command.commands) {
    const auto parsed = parse_io(text);
    if (!parsed) {
      report_error(fmt::format("-c '{}': {}", text, parsed.error().message()));
      all_well = false;
      continue;
    }
    all_well = session.run(*parsed) && all_well;
  }
  TRY(thread->run([&] { return block::final_flush(*disk); }));
  return all_well ? 0 : 1;
}

}  // namespace wick::image

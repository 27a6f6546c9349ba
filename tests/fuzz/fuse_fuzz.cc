// A guest's FUSE requests, sane and not, over a folder in /dev/shm with a few files. Beside crashes
// it is checked that answers fit their room, that what is outside of the folder stays as it is,
// and that a client that has gone leaves nothing open. A run has at most 64 requests of at most
// 4 KiB, and files grow to at most 1 MiB (RLIMIT_FSIZE).
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "share/tree.h"
#include "tests/fakes/files.h"
#include "tests/fuzz/harness.h"
#include "virtio/fuse_session.h"

namespace {

using namespace wick;

struct Scratch {
  Scratch() {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 20, 1 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    fuzz::require(::mkdtemp(top.data()) != nullptr);
    ::mkdir(shared.assign(top + "/shared").c_str(), 0755);
    fakes::write_file(top + "/secret", "secret");
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(top, ignored);
  }
  static Scratch& of() {
    static Scratch scratch;
    return scratch;
  }
  void fill() const {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(shared))
      std::filesystem::remove_all(entry.path(), ignored);
    ::mkdir((shared + "/d").c_str(), 0755);
    fakes::write_file(shared + "/f", "some text");
    fakes::write_file(shared + "/d/f", "more text");
    static_cast<void>(::symlink("../secret", (shared + "/l").c_str()));
    ::mkfifo((shared + "/p").c_str(), 0644);
  }
  std::string top = "/dev/shm/wick-fuzz-XXXXXX";
  std::string shared;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  const Scratch& scratch = Scratch::of();
  scratch.fill();
  share::TreeOptions options;
  options.path = scratch.shared;
  options.read_only = input.ConsumeProbability<float>() < 0.1f;
  options.security = input.PickValueInArray(
      {share::Security::kSquash, share::Security::kMapped, share::Security::kPassthrough});
  auto opened = share::Tree::open(options);
  if (!opened) return 0;  // /dev/shm has no user.* before Linux 6.6
  share::Tree& tree = **opened;
  virtio::FuseSession session(
      tree, input.PickValueInArray(
                {virtio::FuseCache::kAuto, virtio::FuseCache::kAlways, virtio::FuseCache::kNever}));
  const auto call = [&](const std::string& message, size_t room) {
    std::string answer(room, '\0');
    const size_t cut = input.ConsumeIntegralInRange<size_t>(0, message.size());
    char* const start = const_cast<char*>(message.data());
    const std::array<iovec, 2> in = {{{start, cut}, {start + cut, message.size() - cut}}};
    const iovec out{answer.data(), answer.size()};
    const uint32_t written = session.handle(in, std::span(&out, 1));
    fuzz::require(written <= room);
    fuse_out_header header{};
    if (written == 0) return;
    fuzz::require(written >= sizeof(header));
    std::memcpy(&header, answer.data(), sizeof(header));
    fuzz::require(header.len == written && header.error <= 0 && header.error > -512);
  };
  const auto message = [&](uint32_t opcode, uint64_t node, const std::string& rest) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof(header) + rest.size());
    if (input.ConsumeProbability<float>() < 0.02f) header.len = input.ConsumeIntegral<uint32_t>();
    header.opcode = opcode;
    header.nodeid = node;
    return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) + rest;
  };
  fuse_init_in init{};
  init.major = 7;
  init.minor = 31;
  call(message(FUSE_INIT, 0, {reinterpret_cast<const char*>(&init), sizeof(init)}), 4096);

  for (int requests = 0; requests < 64 && input.remaining_bytes() > 0; ++requests) {
    const auto opcode = input.ConsumeIntegralInRange<uint32_t>(0, 55);
    const auto node = input.ConsumeIntegralInRange<uint64_t>(0, 8);
    std::string rest;
    // Structures are multiples of eight bytes; small numbers are handles of files and of nodes.
    const auto words = input.ConsumeIntegralInRange(0, 12);
    for (int i = 0; i < words; ++i) {
      const uint64_t word = input.ConsumeBool() ? input.ConsumeIntegralInRange<uint64_t>(0, 8)
                                                : input.ConsumeIntegral<uint64_t>();
      rest.append(reinterpret_cast<const char*>(&word), sizeof(word));
    }
    for (int names = input.ConsumeIntegralInRange(0, 2); names > 0; --names) {
      if (input.ConsumeBool())
        rest += input.PickValueInArray(
            {"f", "d", "l", "p", "x", "..", ".", "d/f", "../secret", "user.x", "user.wick.stat"});
      else
        rest += input.ConsumeRandomLengthString(300);
      rest += '\0';
    }
    call(message(opcode, node, rest), input.PickValueInArray<size_t>({0, 8, 16, 120, 4096}));
  }
  session.reset();
  fuzz::require(tree.usage().descriptors == 1);
  fuzz::require(fakes::read_file(scratch.top + "/secret") == "secret");
  return 0;
}

// virtio-9p's messages: any bytes in any buffers as requests for a session on a scratch folder.
// The parser must read nothing outside of the buffers, and the session must write no more than
// it says, and nothing outside of the share. Bounds: 64 messages of at most 300 bytes for one
// input; names are "a" to "d", "..", or any bytes.
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/bytes.h"
#include "share/tree.h"
#include "tests/fuzz/harness.h"
#include "virtio/p9_session.h"

namespace {

using namespace wick;
using namespace wick::virtio;
using fuzz::require;

// A folder with a share in it. Nothing but the share may change.
struct Scratch {
  Scratch() {
    require(::mkdtemp(path.data()) != nullptr);
    share = path + "/share";
    require(::mkdir(share.c_str(), 0755) == 0);
    secret = path + "/secret";
    const int fd = ::open(secret.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    require(fd >= 0 && ::write(fd, "secret", 6) == 6);
    ::close(fd);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  void clear() const {
    for (const auto& entry : std::filesystem::directory_iterator(share)) {
      std::error_code ignored;
      std::filesystem::remove_all(entry, ignored);
    }
  }
  void check() const {
    struct stat status {};
    require(::stat(secret.c_str(), &status) == 0 && status.st_size == 6 && status.st_nlink == 1);
    size_t entries = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path)) ++entries;
    require(entries == 2);
  }
  std::string path = "/tmp/wick-p9-fuzz-XXXXXX";
  std::string share, secret;
};

class Client {
 public:
  Client(FuzzedDataProvider& input, p9::Session& session) : input_(input), session_(session) {}

  void send_any() { send(input_.ConsumeRandomLengthString(300), room()); }
  void send_message(uint8_t type) {
    p9::Reply message(type);
    switch (type) {
      case p9::P9_TVERSION:
        message.u32(input_.ConsumeBool() ? 8192 : input_.ConsumeIntegral<uint32_t>());
        message.text("9P2000.L");
        break;
      case p9::P9_TATTACH:
        message.u32(fid()).u32(p9::P9_NOFID).text("").text(name()).u32(small());
        break;
      case p9::P9_TWALK: {
        message.u32(fid()).u32(fid());
        const int count = input_.ConsumeIntegralInRange(0, 3);
        message.u16(static_cast<uint16_t>(count));
        for (int i = 0; i < count; ++i) message.text(name());
        break;
      }
      case p9::P9_TLCREATE:
        message.u32(fid()).text(name()).u32(flags()).u32(small()).u32(0);
        break;
      case p9::P9_TLOPEN:
        message.u32(fid()).u32(flags());
        break;
      case p9::P9_TREAD:
      case p9::P9_TREADDIR:
        message.u32(fid()).u64(offset()).u32(small());
        break;
      case p9::P9_TWRITE: {
        const std::string data = input_.ConsumeRandomLengthString(60);
        message.u32(fid()).u64(input_.ConsumeIntegralInRange<uint64_t>(0, 5000));
        message.u32(static_cast<uint32_t>(data.size()));
        return send(bytes_of(message) + data, room());
      }
      case p9::P9_TSYMLINK:
        message.u32(fid()).text(name()).text(name()).u32(0);
        break;
      case p9::P9_TMKDIR:
        message.u32(fid()).text(name()).u32(0755).u32(0);
        break;
      case p9::P9_TMKNOD:
        message.u32(fid()).text(name()).u32(input_.ConsumeIntegral<uint16_t>());
        message.u32(1).u32(small()).u32(0);
        break;
      case p9::P9_TLINK:
      case p9::P9_TRENAME:
        message.u32(fid()).u32(fid()).text(name());
        break;
      case p9::P9_TRENAMEAT:
        message.u32(fid()).text(name()).u32(fid()).text(name());
        break;
      case p9::P9_TUNLINKAT:
        message.u32(fid()).text(name()).u32(input_.ConsumeBool() ? 0x200 : 0);
        break;
      case p9::P9_TSETATTR:
        message.u32(fid()).u32(input_.ConsumeIntegralInRange<uint32_t>(0, 0x1ff) &
                               ~(p9::P9_ATTR_UID | p9::P9_ATTR_GID));
        message.u32(small()).u32(0).u32(0).u64(input_.ConsumeIntegralInRange<uint64_t>(0, 9999));
        for (int i = 0; i < 4; ++i) message.u64(offset());
        break;
      case p9::P9_TXATTRWALK:
        message.u32(fid()).u32(fid()).text(input_.ConsumeBool() ? "" : "user." + name());
        break;
      case p9::P9_TXATTRCREATE:
        message.u32(fid()).text("user." + name()).u64(small()).u32(small());
        break;
      case p9::P9_TLOCK:
        message.u32(fid()).u8(input_.ConsumeIntegral<uint8_t>()).u32(0);
        message.u64(offset()).u64(offset()).u32(small()).text("guest");
        break;
      case p9::P9_TGETLOCK:
        message.u32(fid()).u8(input_.ConsumeIntegral<uint8_t>());
        message.u64(offset()).u64(offset()).u32(small()).text("guest");
        break;
      default:
        message.u32(fid()).u32(small()).u32(small());
    }
    send(bytes_of(message), room());
  }

 private:
  static std::string bytes_of(p9::Reply& message) {
    const auto bytes = message.finish(1);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  uint32_t fid() { return input_.ConsumeIntegralInRange<uint32_t>(0, 5); }
  uint32_t small() {
    return input_.ConsumeBool() ? input_.ConsumeIntegralInRange<uint32_t>(0, 600)
                                : input_.ConsumeIntegral<uint32_t>();
  }
  uint32_t flags() { return input_.ConsumeIntegral<uint32_t>() & 07777777; }
  uint64_t offset() {
    return input_.ConsumeBool() ? input_.ConsumeIntegralInRange<uint64_t>(0, 600)
                                : input_.ConsumeIntegral<uint64_t>();
  }
  size_t room() { return input_.ConsumeBool() ? 4096 : input_.ConsumeIntegralInRange(0, 300); }
  std::string name() {
    constexpr const char* kNames[] = {"a", "b", "c", "d", "..", ".", "../secret"};
    return input_.ConsumeBool() ? input_.PickValueInArray(kNames)
                                : input_.ConsumeRandomLengthString(12);
  }

  void send(const std::string& message, size_t room) {
    // Each buffer is of its own, so that the sanitizer sees an access outside of it.
    std::vector<std::vector<std::byte>> buffers;
    const auto add = [&](size_t size, std::vector<iovec>& views, const char* content) {
      for (size_t at = 0; at < size;) {
        const size_t part = input_.ConsumeIntegralInRange<size_t>(1, size - at);
        auto& buffer = buffers.emplace_back(part, std::byte{0xee});
        if (content != nullptr) std::memcpy(buffer.data(), content + at, part);
        views.push_back({buffer.data(), part});
        at += part;
      }
    };
    std::vector<iovec> readable, writable;
    add(message.size(), readable, message.data());
    add(room, writable, nullptr);
    const auto request = p9::Request::parse(readable, session_.msize());
    require(request.has_value() == (message.size() >= p9::kHeaderBytes));
    if (!request) return;
    const size_t size = session_.execute(*request, writable);
    require(size <= room && (size == 0) == (room < p9::kErrorBytes));
    if (size == 0) return;
    std::string reply;
    for (const iovec& view : writable)
      reply.append(static_cast<const char*>(view.iov_base), view.iov_len);
    require(size >= p9::kHeaderBytes &&
            load_le<uint32_t>(std::as_bytes(std::span(reply).first(4))) == size);
    require(reply.find_first_not_of('\xee', size) == reply.npos);
  }

  FuzzedDataProvider& input_;
  p9::Session& session_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Scratch scratch;
  share::Tree::prepare_thread();
  FuzzedDataProvider input(data, size);
  scratch.clear();
  {
    const auto tree = share::Tree::open({.path = scratch.share,
                                         .security = input.PickValueInArray(
                                             {share::Security::kSquash, share::Security::kMapped})})
                          .value();
    p9::Session session(*tree);
    Client client(input, session);
    client.send_message(p9::P9_TVERSION);
    client.send_message(p9::P9_TATTACH);
    constexpr uint8_t kTypes[] = {
        p9::P9_TSTATFS,  p9::P9_TLOPEN,     p9::P9_TLCREATE,     p9::P9_TSYMLINK,
        p9::P9_TMKNOD,   p9::P9_TRENAME,    p9::P9_TREADLINK,    p9::P9_TGETATTR,
        p9::P9_TSETATTR, p9::P9_TXATTRWALK, p9::P9_TXATTRCREATE, p9::P9_TREADDIR,
        p9::P9_TFSYNC,   p9::P9_TLOCK,      p9::P9_TGETLOCK,     p9::P9_TLINK,
        p9::P9_TMKDIR,   p9::P9_TRENAMEAT,  p9::P9_TUNLINKAT,    p9::P9_TVERSION,
        p9::P9_TATTACH,  p9::P9_TWALK,      p9::P9_TREAD,        p9::P9_TWRITE,
        p9::P9_TCLUNK,   p9::P9_TREMOVE,    p9::P9_TWALK,        p9::P9_TLCREATE};
    for (int i = 0; i < 64 && input.remaining_bytes() > 0; ++i) {
      if (input.ConsumeProbability<float>() < 0.1f)
        client.send_any();
      else
        client.send_message(input.PickValueInArray(kTypes));
    }
    session.reset();
    require(session.fids() == 0 && tree->usage().open_files == 0);
  }
  scratch.check();
  return 0;
}

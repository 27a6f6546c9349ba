// wick image nbd
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <optional>

#include "base/replace_file.h"
#include "block/io_thread.h"
#include "image/background.h"
#include "image/commands.h"
#include "image/files.h"
#include "image/nbd_device.h"
#include "image/nbd_server.h"
#include "image/source.h"

namespace wick::image {

namespace {

using block::Backend;

// A second signal within this time counts as the first, as in cli/signals.h.
constexpr std::chrono::milliseconds kDuplicateWindow{500};

// Blocks the signals that the server handles, for this thread and for threads that it starts later.
// Returns a signalfd for them.
Result<Fd> take_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGQUIT, SIGUSR1}) sigaddset(&set, number);
  struct sigaction hangup {};
  (void)::sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);
  if (const int code = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); code != 0)
    return fail_errno(code, "signals: cannot block");
  Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return fail_errno(errno, "signalfd: cannot create");
  return fd;
}

Result<std::unique_ptr<Backend>> open_disk(block::IoThread& thread, const ImageNbd& nbd) {
  if (nbd.read_only) {
    auto source = TRY(open_source(thread, nbd.path,
                                  {.format = nbd.format, .share = nbd.share, .cache = nbd.cache}));
    if (!nbd.snapshot.empty()) TRY(show_snapshot(thread, source, nbd.snapshot));
    return std::move(source.disk);
  }
  const ImageFormat format = TRY(format_of(thread, nbd.path, nbd.format));
  if (is_foreign(format))
    return with_hint(fail("{}: {} images can only be read", nbd.path, format_name(format)),
                     "add -r");
  auto how = writing(block_format(nbd.format), nbd.trust_names);
  how.cache = nbd.cache;
  how.ephemeral = nbd.ephemeral;
  // Nothing is written to an ephemeral image, so it may name any file, as with -r.
  if (nbd.ephemeral) how.names = block::Names::kRead;
  return thread.run([&] { return block::open_image(nbd.path, how, thread.io()); });
}

// Runs the server on the disk's thread, and handles signals and the kernel's device on the main
// thread.
class Service {
 public:
  Service(const ImageNbd& nbd, block::IoThread& thread, Backend& disk, Fd signals)
      : nbd_(nbd), thread_(thread), disk_(disk), signals_(std::move(signals)) {}
  ~Service() {
    disk_loop().call([this] { server_.reset(); });
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // Serves until the server has finished. `ready` is called once clients can come.
  Result<void> run(const std::function<Result<void>()>& ready) {
    loop_ = TRY(EventLoop::create());
    watch_ = TRY(loop_->watch(signals_.get(), EPOLLIN, [this](uint32_t) { take_signal(); }));
    if (!nbd_.device.empty()) device_.emplace(TRY(NbdDevice::open(nbd_.device)));
    disk_loop().call([this] {
      server_.emplace(disk_loop(), disk_,
                      NbdServer::Options{.name = nbd_.name,
                                         .description = nbd_.description,
                                         .max_clients = nbd_.max_clients,
                                         .persistent = nbd_.persistent,
                                         .discards = nbd_.discards});
      spawn(await_end());
    });
    Result<void> started = device_ ? connect_device() : listen();
    if (started) started = ready();
    if (!started) stop();
    loop_->run();
    return started;
  }

 private:
  EventLoop& disk_loop() { return thread_.loop(); }

  Task<void> await_end() {
    co_await server_->finished();
    loop_->stop();
  }

  void stop() {
    if (connected_) (void)device_->disconnect();
    disk_loop().call([this] { server_->stop(); });
  }

  Result<void> listen() {
    StreamAddress address;
    address.path = nbd_.socket_path;
    address.host = nbd_.bind_address;
    address.port = nbd_.port;
    return disk_loop().call([&] { return server_->listen(address); });
  }

  Result<void> connect_device() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      return fail_errno(errno, "{}: cannot make a connection", nbd_.device);
    const Fd kernels(ends[0]);
    Fd ours(ends[1]);
    const NbdExportInfo info = disk_loop().call([&] {
      // To get memory, the kernel may write to the device that this thread serves. With this flag,
      // an allocation by this thread does not wait for such a write. The call needs
      // CAP_SYS_RESOURCE; without that, the server works unless memory is short.
      (void)::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
      server_->serve(std::move(ours), false);
      return server_->info();
    });
    TRY(device_->connect(kernels, info));
    connected_ = true;
    return {};
  }

  void take_signal() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo == SIGUSR1) {
        update_size();
        continue;
      }
      const auto now = std::chrono::steady_clock::now();
      if (!ended_at_) {
        ended_at_ = now;
        stop();
      } else if (now - *ended_at_ >= kDuplicateWindow) {
        std::quick_exit(128 + static_cast<int>(info.ssi_signo));
      }
    }
  }

  // Clients that connect later learn the new size; the protocol cannot tell the others.
  void update_size() {
    auto updated = thread_.run([this] { return disk_.update_size(); });
    const uint64_t size_bytes = disk_loop().call([this] { return disk_.size_bytes(); });
    if (updated && connected_) updated = device_->resize(size_bytes);
    if (!updated) spdlog::warn("{}", updated.error().message());
  }

  const ImageNbd& nbd_;
  block::IoThread& thread_;
  Backend& disk_;
  const Fd signals_;
  std::unique_ptr<EventLoop> loop_;
  EventLoop::Watch watch_;
  std::optional<NbdDevice> device_;
  bool connected_ = false;  // the kernel's device is connected to this server
  std::optional<std::chrono::steady_clock::time_point> ended_at_;

  // Owned by the disk's thread.
  std::optional<NbdServer> server_;
};

// A file that holds the process's ID while the process serves.
class PidFile {
 public:
  ~PidFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  Result<void> write(const std::string& path) {
    if (path.empty()) return {};
    TRY(check_replaceable(path));
    TRY(replace_file(path, fmt::format("{}\n", ::getpid()), {.mode = 0644, .sync = false}));
    path_ = path;
    return {};
  }

 private:
  std::string path_;
};

}  // namespace

Result<int> execute(const ImageNbd& command) {
  if (!command.disconnected.empty()) {
    const NbdDevice device = TRY(NbdDevice::open(command.disconnected));
    TRY(device.disconnect());
    return 0;
  }
  std::optional<Background> background;
  if (command.background) {
    auto split = TRY(Background::split());
    if (!split.service) return split.status;
    background = std::move(split.service);
  }
  Fd signals = TRY(take_signals());
  const auto thread = TRY(block::IoThread::create("nbd"));
  const auto disk = TRY(open_disk(*thread, command));
  PidFile pid_file;
  const auto ready = [&]() -> Result<void> {
    TRY(pid_file.write(command.pid_path));
    if (background) background->ready();
    return {};
  };
  const Result<void> served = Service(command, *thread, *disk, std::move(signals)).run(ready);
  // Flushes even if ready() failed, because clients may have written before.
  const Result<void> flushed = thread->run([&] { return block::final_flush(*disk); });
  TRY(served);
  TRY(flushed);
  return 0;
}

}  // namespace wick::image

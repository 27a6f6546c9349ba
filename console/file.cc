#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "console/open.h"

namespace wick::console {

namespace {

// The host's end of a port that has only output.
class FileHost final : public Port::Host {
 public:
  explicit FileHost(std::string name) : name_(std::move(name)) {}
  void received(std::span<const std::byte>) override {}
  void output_ended(int error) override {
    spdlog::warn("{}: cannot write the guest's output: {}; the output ends here", name_,
                 std::strerror(error));
  }

 private:
  const std::string name_;
};

}  // namespace

Result<std::unique_ptr<Port>> open_file(EventLoop& loop, const std::string& path,
                                        const LogFile& log) {
  Stream file = TRY(Stream::create_file(path));
  auto port = TRY(Port::create(loop, "file:" + path, log));
  port->set_host(std::make_unique<FileHost>(port->name()));
  port->attach({}, std::move(file));
  return port;
}

Result<std::unique_ptr<Port>> open_stderr(EventLoop& loop, const LogFile& log) {
  auto port = TRY(Port::create(loop, "stderr", log));
  port->set_host(std::make_unique<FileHost>(port->name()));
  port->attach({}, Stream::borrow(STDERR_FILENO, O_WRONLY));
  return port;
}

Result<std::unique_ptr<Port>> open_null(EventLoop& loop, const LogFile& log) {
  return Port::create(loop, "null", log);
}

}  // namespace wick::console

#include "block/overlay.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "block/qcow2/create.h"
#include "block/qcow2/qcow2.h"

namespace wick::block {

namespace {

Result<std::unique_ptr<File>> make_nameless_file(AsyncIo& io) {
  const char* const given = std::getenv("TMPDIR");
  const std::string folder = given != nullptr && *given != '\0' ? given : "/var/tmp";
  std::string path = folder + "/wick-ephemeral-XXXXXX";
  Fd file(::mkostemp(path.data(), O_CLOEXEC));
  if (!file.valid())
    return with_hint(fail_errno(errno, "{}: cannot create a file for an ephemeral disk", folder),
                     "set TMPDIR to a folder that you may write to");
  ::unlink(path.c_str());
  return open_host_file(std::move(file), path, Cache::kUnsafe, false, io);
}

}  // namespace

Task<Result<std::unique_ptr<Backend>>> open_overlay(std::unique_ptr<Backend> base,
                                                    uint64_t cache_bytes, AsyncIo& io) {
  auto file = make_nameless_file(io);
  if (!file) co_return failure(file);
  Qcow2CreateOptions options;
  options.size_bytes = base->size_bytes();
  auto created = co_await create_qcow2(**file, nullptr, options);
  if (!created) co_return failure(created);
  const Qcow2Options with_cache{.cache_bytes = cache_bytes};
  auto overlay = co_await Qcow2::open(*std::move(file), with_cache);
  if (!overlay) co_return failure(overlay);
  (*overlay)->set_backing(std::move(base));
  co_return std::unique_ptr<Backend>(*std::move(overlay));
}

}  // namespace wick::block

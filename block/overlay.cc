#include "block/overlay.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "block/image_lock.h"
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

Result<std::unique_ptr<File>> make_file(const SnapshotFile& wanted, AsyncIo& io) {
  Fd file(::open(wanted.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file.valid())
    return with_hint(fail_errno(errno, "{}: cannot create the snapshot's file", wanted.path),
                     errno == EEXIST ? "choose a new path" : "check the path");
  TRY(lock_image(file, false, wanted.path));
  return open_host_file(std::move(file), wanted.path, wanted.cache, false, io);
}

Task<Result<std::unique_ptr<Qcow2>>> fill_snapshot(std::unique_ptr<File> file,
                                                   SnapshotFile wanted) {
  Qcow2CreateOptions options;
  options.size_bytes = wanted.size_bytes;
  options.backing_path = wanted.backing_path;
  options.backing_format = wanted.backing_format;
  if (auto checked = check_create_options(options); !checked) co_return failure(checked);
  if (auto created = co_await create_qcow2(*file, nullptr, options); !created)
    co_return failure(created);
  co_return co_await Qcow2::open(std::move(file), {});
}

}  // namespace

Task<Result<std::unique_ptr<Qcow2>>> create_snapshot(SnapshotFile wanted, AsyncIo& io) {
  auto file = make_file(wanted, io);
  if (!file) co_return failure(file);
  auto made = co_await fill_snapshot(*std::move(file), wanted);
  if (!made) ::unlink(wanted.path.c_str());
  co_return made;
}

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

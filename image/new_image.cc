#include "image/new_image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/image_lock.h"
#include "block/named_file.h"

namespace wick::image {

namespace {

// A file that the destructor removes, unless it existed before or keep() was called.
class NewFile {
 public:
  static Result<NewFile> make(const std::string& path, block::AsyncIo& io) {
    constexpr int kFlags = O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK;
    Fd fd(::open(path.c_str(), kFlags | O_EXCL, 0644));
    const bool is_new = fd.valid();
    if (!is_new && errno == EEXIST) fd = Fd(::open(path.c_str(), kFlags, 0644));
    if (!fd.valid())
      return with_hint(fail_errno(errno, "{}: cannot create the image", path), "check the path");
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return fail_errno(errno, "{}: cannot stat", path);
    if (!S_ISREG(status.st_mode))
      return with_hint(fail("{}: is not a regular file", path),
                       S_ISBLK(status.st_mode)
                           ? "write into a block device: wick image convert -n -O raw FILE DEVICE"
                           : "give a new file's path");
    TRY(block::lock_image(fd, false, path));
    if (::fcntl(fd.get(), F_SETFL, 0) != 0) return fail_errno(errno, "{}: fcntl", path);
    if (::ftruncate(fd.get(), 0) != 0) return fail_errno(errno, "{}: cannot truncate", path);
    NewFile made;
    made.path_ = path;
    made.is_new_ = is_new;
    made.file_ =
        TRY(block::open_host_file(std::move(fd), path, block::Cache::kWriteback, false, io));
    return made;
  }
  NewFile(NewFile&&) = default;
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (file_ && is_new_) ::unlink(path_.c_str());
  }

  block::File& file() { return *file_; }
  void keep() { file_.reset(); }

 private:
  NewFile() = default;
  std::string path_;
  bool is_new_ = false;
  std::unique_ptr<block::File> file_;
};

Task<Result<void>> fill_raw(block::File& file, RawCreateOptions options) {
  const uint64_t size = align_up(options.size_bytes, 512);
  if (auto done = file.truncate(size); !done) co_return done;
  co_return co_await block::preallocate(file, 0, size, options.preallocation);
}

}  // namespace

Task<Result<void>> create_image(std::string path, CreateOptions options, block::AsyncIo& io) {
  const auto* const qcow2 = std::get_if<block::Qcow2CreateOptions>(&options);
  std::optional<NewFile> data;
  if (qcow2 != nullptr) {
    if (auto checked = block::check_create_options(*qcow2); !checked) {
      checked.error().context = path + ": " + checked.error().context;
      co_return checked;
    }
    if (!qcow2->data_path.empty()) {
      auto name = block::named_file(path, qcow2->data_path);
      if (!name) co_return failure(name);
      auto made = NewFile::make(*name, io);
      if (!made) co_return failure(made);
      data.emplace(*std::move(made));
    }
  }
  auto image = NewFile::make(path, io);
  if (!image) co_return failure(image);
  Task<Result<void>> filled =
      qcow2 != nullptr ? block::create_qcow2(image->file(), data ? &data->file() : nullptr, *qcow2)
                       : fill_raw(image->file(), std::get<RawCreateOptions>(options));
  if (auto done = co_await filled; !done) co_return done;
  image->keep();
  if (data) data->keep();
  co_return Result<void>();
}

}  // namespace wick::image

#include "block/image_file.h"

#include "block/image_lock.h"
#include "block/named_file.h"

namespace wick::block {

Result<Fd> open_first_file(const std::string& path, const ImageOptions& options) {
  if (options.pinned != nullptr) return open_pinned_file(*options.pinned, path, options.read_only);
  return open_given_file(path, options.read_only);
}

Result<ImageFile> make_image_file(Fd file, const std::string& path, const ImageOptions& options,
                                  AsyncIo& io) {
  if (options.lock) TRY(lock_image(file, options.read_only, "disk " + path));
  const Format format = options.format ? *options.format : TRY(probe_format(file, path));
  return ImageFile{TRY(open_host_file(std::move(file), path, options.cache, options.read_only, io)),
                   format};
}

Result<ImageFile> open_image_file(const std::string& path, const ImageOptions& options,
                                  AsyncIo& io) {
  return make_image_file(TRY(open_first_file(path, options)), path, options, io);
}

}  // namespace wick::block

// wick image convert
#include <fmt/format.h>

#include <csignal>
#include <cstdio>

#include "block/copy.h"
#include "block/named_file.h"
#include "block/vdi.h"
#include "block/vmdk.h"
#include "cli/image.h"
#include "cli/image_files.h"
#include "cli/image_runner.h"

namespace wick::cli {

namespace {

using block::Backend;
using block::CopyTarget;
using Output = ImageConvert::Output;

constexpr uint64_t kTableCacheBytes = 16 << 20;
constexpr uint64_t kRawGranuleBytes = 4096;

Result<void> refuse_own_source(ImageRunner& runner, const ImageConvert& convert) {
  for (const std::string& source : convert.sources) {
    const auto files = TRY(files_of(runner, source, convert.format));
    if (const std::string same = same_file(files, convert.target); !same.empty())
      return with_hint(fail("{}: is read from to make it ({})", convert.target, same),
                       "choose another name for the copy");
  }
  return {};
}

class Conversion {
 public:
  Conversion(ImageRunner& runner, const ImageConvert& convert)
      : runner_(runner), convert_(convert) {}

  Result<void> run() {
    TRY(open_sources());
    TRY(refuse_own_source(runner_, convert_));
    if (!convert_.into_existing) TRY(create());
    auto done = copy();
    if (!done) {
      Error& error = done.error();
      error.context = fmt::format("{} is incomplete: {}", convert_.target, error.context);
    }
    return done;
  }

 private:
  Result<void> open_sources() {
    for (const std::string& path : convert_.sources) {
      auto options = reading(convert_.format);
      options.may_be_empty = true;
      disks_.push_back(
          TRY(runner_.run([&] { return block::open_image(path, options, runner_.io()); })));
      sources_.push_back(disks_.back().get());
      size_bytes_ += disks_.back()->size_bytes();
    }
    return {};
  }

  Result<void> create() const {
    block::CreateOptions options = convert_.options;
    if (convert_.output == Output::kRaw || convert_.output == Output::kQcow2)
      std::visit([&](auto& of_format) { of_format.size_bytes = size_bytes_; }, options);
    return runner_.run([&] { return block::create_image(convert_.target, options, runner_.io()); });
  }

  Result<void> copy() {
    auto how = writing({}, convert_.trust_names);
    how.cache = block::Cache::kUnsafe;  // as qemu-img, and as any other copy
    how.cache_bytes = kTableCacheBytes;
    how.may_be_empty = true;
    how.format = convert_.output == Output::kQcow2 ? block::Format::kQcow2 : block::Format::kRaw;
    const auto* const made = std::get_if<block::Qcow2CreateOptions>(&convert_.options);
    if (!convert_.into_existing && made != nullptr && !made->data_path.empty())
      how.data_path = TRY(block::named_file(convert_.target, made->data_path));
    std::unique_ptr<block::File> file;
    std::unique_ptr<Backend> disk;
    std::unique_ptr<block::Workers> workers;
    std::unique_ptr<CopyTarget> target;
    if (convert_.output == Output::kVdi || convert_.output == Output::kVmdk) {
      file = TRY(block::open_image_file(convert_.target, how, runner_.io())).file;
      target = TRY(convert_.output == Output::kVdi ? block::new_vdi(*file, size_bytes_)
                                                   : block::new_vmdk(*file, size_bytes_));
    } else {
      disk =
          TRY(runner_.run([&] { return block::open_image(convert_.target, how, runner_.io()); }));
      if (disk->size_bytes() < size_bytes_)
        return with_hint(fail("{}: has {} bytes, too few for {}", convert_.target,
                              disk->size_bytes(), size_bytes_),
                         "enlarge it with wick image resize");
      auto* const qcow2 = dynamic_cast<block::Qcow2*>(disk.get());
      const bool is_new = !convert_.into_existing;
      if (convert_.compressed) {
        workers = TRY(block::Workers::start(runner_.loop()));
        target = block::copy_compressed_to(*qcow2, *workers, is_new);
      } else {
        const uint64_t granule = qcow2 != nullptr ? qcow2->header().unit_bytes() : kRawGranuleBytes;
        target = block::copy_to(*disk, std::max(granule, kRawGranuleBytes), is_new);
      }
    }
    TRY(runner_.run(
        [&] { return block::copy_disks(sources_, *target, progress(convert_.progress)); }));
    if (convert_.progress) fmt::print("\n");
    return {};
  }

  ImageRunner& runner_;
  const ImageConvert& convert_;
  std::vector<std::unique_ptr<Backend>> disks_;
  std::vector<Backend*> sources_;
  uint64_t size_bytes_ = 0;
};

}  // namespace

Result<int> carry_out(const ImageConvert& command) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow further is an error to tell
  const auto runner = TRY(ImageRunner::create());
  runner->io().hurry();
  TRY(Conversion(*runner, command).run());
  return 0;
}

}  // namespace wick::cli

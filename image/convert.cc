// wick image convert
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <csignal>
#include <cstdio>

#include "base/printable.h"
#include "block/io_thread.h"
#include "block/named_file.h"
#include "image/clone.h"
#include "image/commands.h"
#include "image/copy.h"
#include "image/files.h"
#include "image/layers.h"
#include "image/part_disk.h"
#include "image/source.h"
#include "image/vdi.h"
#include "image/vmdk.h"

namespace wick::image {

namespace {

using block::Backend;

constexpr uint64_t kTableCacheBytes = 16 << 20;
constexpr uint64_t kRawGranuleBytes = 4096;
// The maximum number of errors that are shown, one line each. A damaged disk may have millions.
constexpr uint64_t kMaxErrorsShown = 200;
constexpr uint64_t kMaxGranuleBytes = 2 << 20;  // the buffers of a copy are as large

class Conversion {
 public:
  Conversion(block::IoThread& thread, const ImageConvert& convert)
      : thread_(thread), convert_(convert) {}

  Result<void> run() {
    TRY(open_sources());
    if (!convert_.into_existing) TRY(create());
    auto done = copy();
    if (!done && !convert_.into_existing) {
      remove_target();
    } else if (!done) {
      Error& error = done.error();
      error.context = fmt::format("{} is incomplete: {}", convert_.target, error.context);
    }
    return done;
  }

 private:
  Result<void> open_sources() {
    for (const std::string& path : convert_.sources) {
      Source source = TRY(open_source(
          thread_, path,
          {.format = convert_.format, .share = convert_.share, .cache = convert_.source_cache}));
      if (source.format != ImageFormat::kRaw) sources_are_raw_ = false;
      if (!is_foreign(source.format))
        source.files = TRY(files_of(thread_, path, block_format(source.format)));
      if (const std::string same = same_file(source.files, convert_.target); !same.empty())
        return with_hint(fail("{}: is also read as a source ({})", convert_.target, same),
                         "choose another name for the copy");
      read_files_.insert(read_files_.end(), source.files.begin(), source.files.end());
      if (!convert_.snapshot.empty()) TRY(show_snapshot(thread_, source, convert_.snapshot));
      disks_.push_back(std::move(source.disk));
      auto* const qcow2 = dynamic_cast<block::Qcow2*>(disks_.back().get());
      if (has_backing() && qcow2 != nullptr) disks_.push_back(top_layer(*qcow2));
      if (convert_.part) take_part(path);
      sources_.push_back(disks_.back().get());
      size_bytes_ += disks_.back()->size_bytes();
    }
    return {};
  }

  // Adds the wanted part of the last disk in disks_ to disks_, as a disk of its own.
  void take_part(const std::string& path) {
    Backend& disk = *disks_.back();
    const uint64_t end = std::min(convert_.part->end, disk.size_bytes());
    const uint64_t start = std::min(convert_.part->start, end);
    if (start < convert_.part->start)
      fmt::print(stderr, "wick: {}: cannot skip to offset {}\n", printable(path),
                 convert_.part->start);
    disks_.push_back(std::make_unique<PartDisk>(disk, start, end - start));
  }

  bool has_backing() const {
    const auto* const options = std::get_if<block::Qcow2CreateOptions>(&convert_.options);
    return options != nullptr && !options->backing_path.empty();
  }

  // The files of the target: the image, and its data file if it will have one.
  Result<std::vector<std::string>> target_files() const {
    std::vector<std::string> files = {convert_.target};
    if (const auto* const qcow2 = std::get_if<block::Qcow2CreateOptions>(&convert_.options))
      if (!qcow2->data_path.empty())
        files.push_back(TRY(block::named_file(convert_.target, qcow2->data_path)));
    return files;
  }

  Result<void> create() {
    for (const std::string& path : TRY(target_files())) {
      if (const std::string same = same_file(read_files_, path); !same.empty())
        return with_hint(fail("{}: is a file of {}, but also read as a source ({})", path,
                              convert_.target, same),
                         "choose another name");
      struct stat status {};
      if (::lstat(path.c_str(), &status) != 0 && errno == ENOENT) new_files_.push_back(path);
    }
    CreateOptions options = convert_.options;
    if (!is_foreign(convert_.output))
      std::visit([&](auto& of_format) { of_format.size_bytes = size_bytes_; }, options);
    if (auto* const qcow2 = std::get_if<block::Qcow2CreateOptions>(&options); has_backing()) {
      // The backing file must exist and must not be the target.
      const std::string base = TRY(block::named_file(convert_.target, qcow2->backing_path));
      if (qcow2->backing_format.empty())
        qcow2->backing_format = TRY(format_by_magic(base, thread_.io()));
      const auto files = TRY(files_of(thread_, base, block::format_of_name(qcow2->backing_format)));
      for (const std::string& path : TRY(target_files()))
        if (!same_file(files, path).empty()) return fail("{}: would be its own backing file", path);
    }
    return thread_.run([&] { return create_image(convert_.target, options, thread_.io()); });
  }

  // An unfinished copy must not be taken for a complete one. Removes only files that did
  // not exist before.
  void remove_target() const {
    for (const std::string& path : new_files_) {
      struct stat status {};
      if (::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode)) ::unlink(path.c_str());
    }
  }

  // Tries to let the host copy the data; returns false if wick must read the data. Shared blocks
  // take no space, zeroes included, so wick reads the data to find zeroes only if -S asks for it.
  // With preallocation, sharing would give the space up.
  Result<bool> clone(const Backend& target) {
    const auto* const raw = std::get_if<RawCreateOptions>(&convert_.options);
    if (raw == nullptr || raw->preallocation != block::Preallocation::kOff ||
        sources_.size() != 1 || convert_.into_existing || convert_.part || convert_.salvage ||
        convert_.sparse_bytes || !sources_are_raw_ || convert_.output != ImageFormat::kRaw)
      return false;
    auto cloned = clone_raw(*sources_[0], target,
                            convert_.offload ? CloneHow::kShareOrCopy : CloneHow::kShare);
    if (!cloned) cloned.error().context = convert_.target + ": " + cloned.error().context;
    if (cloned && *cloned && convert_.progress) fmt::print("    (100.00/100%)\r\n");
    return cloned;
  }

  uint64_t granule_for(uint64_t unit) const {
    const uint64_t wanted = convert_.sparse_bytes.value_or(kRawGranuleBytes);
    return std::max(unit, std::bit_ceil(std::clamp<uint64_t>(wanted, 512, kMaxGranuleBytes)));
  }

  Result<void> copy() {
    auto how = writing({}, convert_.trust_names);
    how.cache = convert_.cache;
    how.cache_bytes = kTableCacheBytes;
    how.may_be_empty = true;
    how.format = block_format(convert_.output).value_or(block::Format::kRaw);
    const auto* const made = std::get_if<block::Qcow2CreateOptions>(&convert_.options);
    if (!convert_.into_existing && made != nullptr && !made->data_path.empty())
      how.data_path = TRY(block::named_file(convert_.target, made->data_path));
    std::unique_ptr<block::File> file;
    std::unique_ptr<Backend> disk;
    std::unique_ptr<Workers> workers;
    std::unique_ptr<CopyTarget> target;
    if (is_foreign(convert_.output)) {
      file = TRY(block::open_image_file(convert_.target, how, thread_.io())).file;
      target = TRY(convert_.output == ImageFormat::kVdi ? new_vdi(*file, size_bytes_)
                                                        : new_vmdk(*file, size_bytes_));
    } else {
      disk =
          TRY(thread_.run([&] { return block::open_image(convert_.target, how, thread_.io()); }));
      if (disk->size_bytes() < size_bytes_)
        return with_hint(fail("{}: has {} bytes, too few for {}", convert_.target,
                              disk->size_bytes(), size_bytes_),
                         "enlarge it with wick image resize");
      auto* const qcow2 = dynamic_cast<block::Qcow2*>(disk.get());
      const bool is_new = convert_.target_is_zero || (!convert_.into_existing && !has_backing());
      if (TRY(clone(*disk))) return thread_.run([&] { return disk->flush(); });
      if (convert_.compressed) {
        workers = TRY(Workers::start(thread_.loop()));
        target = copy_compressed_to(*qcow2, *workers, is_new);
      } else {
        target = copy_to(*disk, granule_for(qcow2 != nullptr ? qcow2->header().unit_bytes() : 512),
                         is_new);
      }
    }
    CopyRules rules{.fill = convert_.sparse_bytes == 0u};
    uint64_t errors = 0;
    if (convert_.salvage)
      rules.salvage = [&](uint64_t offset, const Error& error) {
        if (!convert_.quiet && ++errors <= kMaxErrorsShown)
          fmt::print(stderr, "wick: warning: error while reading offset {}: {}\n", offset,
                     printable(error.message()));
      };
    const auto copied = thread_.run([&] {
      return copy_disks(sources_, *target, progress(convert_.progress, convert_.rate), rules);
    });
    if (errors > kMaxErrorsShown)
      fmt::print(stderr, "wick: warning: and {} more errors\n", errors - kMaxErrorsShown);
    TRY(copied);
    if (convert_.progress) fmt::print("\n");
    return {};
  }

  block::IoThread& thread_;
  const ImageConvert& convert_;
  std::vector<std::unique_ptr<Backend>> disks_;
  std::vector<Backend*> sources_;
  bool sources_are_raw_ = true;
  uint64_t size_bytes_ = 0;
  std::vector<std::string> read_files_;  // all files that the sources are read from
  std::vector<std::string> new_files_;   // files of the target that did not exist before
};

}  // namespace

Result<int> execute(const ImageConvert& command) {
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond RLIMIT_FSIZE then fails with EFBIG
  const auto thread = TRY(block::IoThread::create("image"));
  thread->io().enable_inline_completion();
  TRY(Conversion(*thread, command).run());
  return 0;
}

}  // namespace wick::image

// Random operations on images of random shapes over random chains, compared with a model in
// memory and with QEMU: qemu-io and qemu-img do the same operations on copies of the images.
// After each batch qemu-img finds wick's image clean and equal to QEMU's, and larger by at
// most a tenth or a few clusters.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "base/bytes.h"
#include "block/qcow2/resize.h"
#include "block/qcow2/snapshot_commands.h"
#include "image/commands.h"
#include "image/new_image.h"
#include "tests/block/disk_fixture.h"

namespace wick::block {
namespace {

struct Geometry {
  uint32_t version;
  uint64_t cluster_bytes;
  uint64_t refcount_bits;
  bool extended_l2;
  bool lazy_refcounts;
  uint64_t max_bytes;  // of the disk
};

constexpr Geometry kGeometries[] = {
    {3, 64 << 10, 16, false, false, 8 << 20}, {2, 64 << 10, 16, false, false, 8 << 20},
    {3, 512, 16, false, false, 1 << 20},      {3, 512, 64, false, false, 1 << 20},
    {3, 4 << 10, 8, false, false, 4 << 20},   {3, 4 << 10, 1, false, true, 4 << 20},
    {3, 16 << 10, 16, true, false, 4 << 20},  {3, 64 << 10, 32, true, false, 8 << 20},
    {3, 2 << 20, 16, false, false, 24 << 20}, {2, 1 << 10, 16, false, false, 2 << 20},
};

class Qcow2Differential : public DiskFixture {
 protected:
  using Bytes = std::vector<std::byte>;

  // Runs batches until `operations` are done.
  void run_operations(uint64_t seed, uint64_t operations, uint64_t batch);

 private:
  uint64_t below(uint64_t limit) { return random_() % limit; }
  bool one_in(uint64_t chances) { return below(chances) == 0; }

  uint64_t file_bytes(const std::string& name) const {
    return std::filesystem::file_size(directory_ / name);
  }
  testing::AssertionResult shell(const std::string& command) const {
    return fakes::shell("cd " + directory_.path() + " && " + command);
  }

  Qcow2& disk() { return *qcow2_; }
  Result<void> on_disk(const std::function<Task<Result<void>>()>& request) { return run(request); }

  // A backing file of the disk, or an image that may become one.
  struct Layer {
    std::string name;
    std::string format;
    std::string below;  // the name of its own backing file, or empty
    uint64_t cluster_bytes = 0;
    Bytes content = {};  // as read through this image and its backing files
  };

  void start_image();
  Layer& add_layer(const std::string& below_name);
  Layer& any_layer();
  void give_to_qemu(const Layer& layer);
  void open_ours();
  void close_ours();
  void run_batch(uint64_t operations);
  void step();
  void write_pattern(uint64_t offset, uint64_t length);
  void change_whole_image();
  void commit();
  void rebase();
  void rebase_to_a_copy();
  void rebased(const std::string& name, bool unsafe);
  void compare();
  void compare_sizes(const std::string& name, uint64_t most, uint64_t slack);

  void told_qemu(const std::string& command) { qemu_commands_ += " -c '" + command + "'"; }
  void run_qemu();

  std::mt19937_64 random_;
  Geometry geometry_{};
  std::map<std::string, Layer> layers_;
  std::string backing_;  // the disk's; empty: none
  // wick makes a new L1 table before it frees the old one, so the new one may stay at the end.
  bool has_new_l1_ = false;
  // A shrink cuts the file after the last cluster in use, which may be anywhere.
  uint64_t most_qemu_bytes_ = 0;
  Bytes model_;
  std::map<std::string, std::optional<Bytes>> snapshots_;  // empty: content unknown
  std::unique_ptr<Qcow2> qcow2_;
  std::string qemu_commands_;
  int snapshot_number_ = 0;
  int layer_number_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Engines, Qcow2Differential, testing::Values(Engine::kUring), engine_name);

void Qcow2Differential::start_image() {
  geometry_ = kGeometries[below(std::size(kGeometries))];
  const uint64_t size = (1 + below(geometry_.max_bytes / 512)) * 512;
  snapshots_.clear();
  has_new_l1_ = false;
  most_qemu_bytes_ = 0;
  model_.assign(size, std::byte{0});
  Qcow2CreateOptions options;
  options.version = geometry_.version;
  options.cluster_bytes = geometry_.cluster_bytes;
  options.refcount_bits = geometry_.refcount_bits;
  options.extended_l2 = geometry_.extended_l2;
  options.lazy_refcounts = geometry_.lazy_refcounts;
  options.size_bytes = size;
  layers_.clear();
  backing_.clear();
  ASSERT_TRUE(shell("rm -rf qemu layer* && mkdir qemu"));
  // Backing files shorter or longer than the disk, raw or with a backing file themselves.
  for (uint64_t depth = one_in(2) ? 0 : 1 + below(3); depth > 0 && !HasFatalFailure(); --depth)
    backing_ = add_layer(backing_).name;
  if (!backing_.empty()) {
    const Bytes& base = layers_.at(backing_).content;
    std::copy_n(base.begin(), std::min(base.size(), model_.size()), model_.begin());
    options.backing_path = backing_;
    options.backing_format = layers_.at(backing_).format;
  }
  const auto made = run([&] { return image::create_image(path_, options, *io_); });
  ASSERT_TRUE(made) << made.error().message();
  ASSERT_TRUE(shell("qemu-img check disk.img && cp disk.img qemu"));
}

Qcow2Differential::Layer& Qcow2Differential::add_layer(const std::string& below_name) {
  const std::string name = "layer" + std::to_string(++layer_number_);
  const uint64_t size = (1 + below(geometry_.max_bytes / 512)) * 512;
  Layer layer{name, "raw", below_name};
  if (below_name.empty() && one_in(2)) {
    layer.content = pattern(size, static_cast<uint32_t>(random_()));
    make_file(directory_ / name, layer.content);
  } else {
    constexpr uint64_t kClusterBytes[] = {512, 4 << 10, 64 << 10};
    layer.format = "qcow2";
    layer.cluster_bytes = kClusterBytes[below(std::size(kClusterBytes))];
    std::string command = fmt::format("qemu-img create -q -f qcow2 -o cluster_size={} {} {}",
                                      layer.cluster_bytes, name, size);
    if (!below_name.empty()) {
      layer.content = layers_.at(below_name).content;
      command += fmt::format(" -b {} -F {}", below_name, layers_.at(below_name).format);
    }
    layer.content.resize(size);
    command += " && qemu-io -t unsafe -f qcow2";
    for (int i = 0; i < 4; ++i) {
      const uint64_t offset = below(size / 512) * 512;
      const uint64_t length = std::min((1 + below(400)) * 512, size - offset);
      const auto value = static_cast<std::byte>(below(3) == 0 ? 0 : 1 + below(255));
      std::fill_n(layer.content.begin() + static_cast<std::ptrdiff_t>(offset), length, value);
      command += value == std::byte{0} ? fmt::format(" -c 'write -q -z {} {}'", offset, length)
                                       : fmt::format(" -c 'write -q -P {} {} {}'",
                                                     static_cast<int>(value), offset, length);
    }
    EXPECT_TRUE(shell(command + " " + name));
  }
  give_to_qemu(layer);
  return layers_[name] = std::move(layer);
}

void Qcow2Differential::give_to_qemu(const Layer& layer) {
  EXPECT_TRUE(shell("cp " + layer.name + " qemu"));
}

Qcow2Differential::Layer& Qcow2Differential::any_layer() {
  return std::next(layers_.begin(), static_cast<std::ptrdiff_t>(below(layers_.size())))->second;
}

void Qcow2Differential::open_ours() {
  ImageOptions options;
  options.format = Format::kQcow2;
  options.cache = Cache::kUnsafe;  // a sync would only take time
  options.cache_bytes = one_in(3) ? 1 : 2 << 20;
  auto opened = run_on(loop(), open_qcow2(path_, options, *io_));
  ASSERT_TRUE(opened) << opened.error().message();
  qcow2_ = *std::move(opened);
}

void Qcow2Differential::close_ours() {
  const auto flushed = on_disk([&] { return disk().flush(); });
  ASSERT_TRUE(flushed) << flushed.error().message();
  qcow2_.reset();
}

// Writes the same byte everywhere, so that a qemu-io command can do the same.
void Qcow2Differential::write_pattern(uint64_t offset, uint64_t length) {
  const auto value = static_cast<std::byte>(1 + below(255));
  const Bytes data(length, value);
  const iovec buffer = to_iovec(data);
  const auto written = on_disk([&] { return disk().write(offset, {&buffer, 1}); });
  ASSERT_TRUE(written) << written.error().message();
  std::fill_n(model_.begin() + static_cast<std::ptrdiff_t>(offset), length, value);
  told_qemu(fmt::format("write -q -P {} {} {}", static_cast<int>(value), offset, length));
}

void Qcow2Differential::step() {
  const uint64_t offset = below(model_.size() / 512) * 512;
  const uint64_t most = one_in(8) ? 400'000 : 12'000;
  const uint64_t length =
      std::min<uint64_t>(align_up(1 + below(most), 512), model_.size() - offset);
  const std::span part = std::span(model_).subspan(offset, length);
  switch (below(16)) {
    case 0:
    case 1: {
      const bool unmap = one_in(2);
      const auto done = on_disk([&] { return disk().write_zeroes(offset, length, unmap); });
      ASSERT_TRUE(done) << done.error().message();
      std::ranges::fill(part, std::byte{0});
      told_qemu(fmt::format("write -q -z {} {} {}", unmap ? "-u" : "", offset, length));
      break;
    }
    case 2: {
      // The content is undefined now, so the test writes zeroes.
      const auto done = on_disk([&] { return disk().discard(offset, length); });
      ASSERT_TRUE(done) << done.error().message();
      told_qemu(fmt::format("discard -q {} {}", offset, length));
      write_pattern(offset, length);
      break;
    }
    case 3:
      ASSERT_TRUE(on_disk([&] { return disk().flush(); }));
      break;
    case 4:
    case 5:
    case 6:
    case 7: {
      Bytes got(length, std::byte{0xcc});
      const iovec buffer = to_iovec(got);
      const auto read = on_disk([&] { return disk().read(offset, {&buffer, 1}); });
      ASSERT_TRUE(read) << read.error().message();
      ASSERT_TRUE(std::ranges::equal(got, part)) << offset << " " << length;
      break;
    }
    default:
      write_pattern(offset, length);
  }
}

// Operations of qemu-img, not of qemu-io: snapshots and sizes.
void Qcow2Differential::change_whole_image() {
  const bool can_snapshot = geometry_.refcount_bits >= 8;
  const uint64_t choice = below(5);
  Result<void> done;
  std::string command;
  if (choice == 0 && can_snapshot && snapshots_.size() < 6) {
    const std::string name = "s" + std::to_string(++snapshot_number_);
    done = on_disk([&] { return qcow2::create_snapshot(disk().metadata(), name); });
    snapshots_[name] = model_;
    command = "snapshot -c " + name + " disk.img";
  } else if (choice <= 2 && !snapshots_.empty()) {
    const auto found =
        std::next(snapshots_.begin(), static_cast<std::ptrdiff_t>(below(snapshots_.size())));
    const std::string name = found->first;
    const bool apply = choice == 1 && found->second;
    if (apply) {
      done = on_disk([&] { return qcow2::apply_snapshot(disk().metadata(), name); });
      model_ = *found->second;
    } else {
      done = on_disk([&] { return qcow2::delete_snapshot(disk().metadata(), name); });
      snapshots_.erase(found);
    }
    command = (apply ? "snapshot -a " : "snapshot -d ") + name + " disk.img";
  } else if (choice == 3 && (geometry_.version > 2 || snapshots_.empty())) {
    const uint64_t size = (1 + below(geometry_.max_bytes / 512)) * 512;
    done = on_disk([&] { return qcow2::resize(disk(), size); });
    // In QEMU, data cut off within a cluster comes back when the disk grows.
    const uint64_t old_size = model_.size();
    const uint64_t end = std::min(size, align_up(old_size, geometry_.cluster_bytes));
    if (end > old_size) told_qemu(fmt::format("write -q -z {} {}", old_size, end - old_size));
    model_.resize(size);
    command = "resize -q -f qcow2 --shrink disk.img " + std::to_string(size);
  } else {
    return;
  }
  has_new_l1_ = has_new_l1_ || choice == 1 || choice == 3;
  ASSERT_TRUE(done) << command << ": " << done.error().message();
  ASSERT_TRUE(shell("cd qemu && qemu-img " + command));
  run_qemu();
}

// Commits to the layer below, which then has the disk's content.
void Qcow2Differential::commit() {
  const bool keep = one_in(4);
  const auto done = image::execute(image::ImageCommit{
      .path = path_, .format = Format::kQcow2, .base = {}, .keep = keep, .quiet = true});
  ASSERT_TRUE(done) << done.error().message();
  Layer& base = layers_.at(backing_);
  ASSERT_TRUE(
      shell(fmt::format("cd qemu && qemu-img commit -q {} -f qcow2 disk.img && "
                        "cd .. && qemu-img compare -f {} -F {} {} qemu/{}",
                        keep ? "-d" : "", base.format, base.format, base.name, base.name)));
  base.content.resize(std::max(base.content.size(), model_.size()));
  std::ranges::copy(model_, base.content.begin());
  make_file(directory_ / "model.raw", base.content);
  ASSERT_TRUE(
      shell(fmt::format("qemu-img compare -f {} -F raw {} model.raw", base.format, base.name)));
  if (base.format == "qcow2") {
    ASSERT_TRUE(shell("qemu-img check -f qcow2 " + base.name));
    // Clusters that a commit zeroes can be reused only after a checkpoint, so wick's image may
    // be larger by these.
    compare_sizes(base.name, 0,
                  std::max((has_new_l1_ ? 12 : 4) * base.cluster_bytes, file_bytes(base.name) / 4));
  }
  // The content of other images above this base has changed.
  std::set<std::string> changed = {base.name};
  for (bool more = true; more;) {
    more = false;
    for (const auto& [name, layer] : layers_)
      if (changed.contains(layer.below)) more = changed.insert(name).second || more;
  }
  std::erase_if(layers_, [&](const auto& entry) {
    return entry.first != backing_ && changed.contains(entry.first);
  });
  for (auto& [name, content] : snapshots_) content.reset();
}

void Qcow2Differential::rebase() {
  std::string name;
  if (!one_in(5)) name = layers_.empty() || one_in(3) ? "new" : any_layer().name;
  if (name == "new") name = add_layer(layers_.empty() || one_in(2) ? "" : any_layer().name).name;
  rebased(name, false);
  for (auto& [snapshot, content] : snapshots_) content.reset();
}

// An unsafe rebase needs a backing file with the same content.
void Qcow2Differential::rebase_to_a_copy() {
  const Layer& old = layers_.at(backing_);
  Layer copy{.name = "layer" + std::to_string(++layer_number_),
             .format = one_in(2) ? "raw" : "qcow2",
             .below = "",
             .cluster_bytes = 64 << 10,
             .content = old.content};
  ASSERT_TRUE(shell(fmt::format("qemu-img convert -f {} -O {} {} {}", old.format, copy.format,
                                old.name, copy.name)));
  give_to_qemu(copy);
  const std::string name = copy.name;
  layers_[name] = std::move(copy);
  rebased(name, true);
}

void Qcow2Differential::rebased(const std::string& name, bool unsafe) {
  image::ImageRebase command;
  command.path = path_;
  command.format = Format::kQcow2;
  command.base = name;
  command.unsafe = unsafe;
  std::string format;
  if (!name.empty()) {
    format = "-F " + layers_.at(name).format;
    command.base_format = format_of_name(layers_.at(name).format);
  }
  const auto done = image::execute(command);
  ASSERT_TRUE(done) << done.error().message();
  ASSERT_TRUE(
      shell(fmt::format("cd qemu && qemu-img rebase {} -t unsafe -f qcow2 -b '{}' {} disk.img",
                        unsafe ? "-u" : "", name, format)));
  backing_ = name;
}

void Qcow2Differential::run_qemu() {
  if (!qemu_commands_.empty()) {
    ASSERT_TRUE(shell("qemu-io -t unsafe -f qcow2" + qemu_commands_ + " qemu/disk.img"));
  }
  qemu_commands_.clear();
  most_qemu_bytes_ = std::max(most_qemu_bytes_, file_bytes("qemu/disk.img"));
}

void Qcow2Differential::compare() {
  ASSERT_TRUE(shell("qemu-img check -f qcow2 disk.img"));
  make_file(directory_ / "model.raw", model_);
  ASSERT_TRUE(shell("qemu-img compare -f qcow2 -F raw disk.img model.raw"));
  ASSERT_TRUE(shell("qemu-img compare -f qcow2 -F qcow2 disk.img qemu/disk.img"));
  compare_sizes("disk.img", most_qemu_bytes_, (has_new_l1_ ? 12 : 4) * geometry_.cluster_bytes);
}

// `most`: the largest size of QEMU's image so far.
void Qcow2Differential::compare_sizes(const std::string& name, uint64_t most, uint64_t slack) {
  const uint64_t qemus = std::max(most, file_bytes("qemu/" + name));
  EXPECT_LE(file_bytes(name), qemus + std::max(qemus / 10, slack)) << name;
}

void Qcow2Differential::run_batch(uint64_t operations) {
  open_ours();
  // One call of qemu-io takes this many commands.
  constexpr uint64_t kAtOnce = 1000;
  for (uint64_t i = 0; i < operations && !HasFatalFailure(); ++i) {
    step();
    if (i % kAtOnce == kAtOnce - 1) run_qemu();
  }
  if (HasFatalFailure()) return;
  run_qemu();
  change_whole_image();
  if (HasFatalFailure()) return;
  close_ours();
  switch (below(6)) {
    case 0:
    case 1:
      if (!backing_.empty()) commit();
      break;
    case 2:
      rebase();
      break;
    case 3:
      if (!backing_.empty()) rebase_to_a_copy();
      break;
    default:
      break;
  }
  if (HasFatalFailure()) return;
  run_qemu();
  compare();
}

void Qcow2Differential::run_operations(uint64_t seed, uint64_t operations, uint64_t batch) {
  random_.seed(seed);
  for (uint64_t done = 0; done < operations;) {
    start_image();
    SCOPED_TRACE(fmt::format(
        "seed {}, image at operation {}: version {}, clusters of {}, counts of "
        "{} bits{}{}",
        seed, done, geometry_.version, geometry_.cluster_bytes, geometry_.refcount_bits,
        geometry_.extended_l2 ? ", extended" : "", backing_.empty() ? "" : ", over a base"));
    for (int batches = 0; batches < 6 && !HasFailure(); ++batches, done += batch) run_batch(batch);
    if (HasFailure()) return;
  }
}

TEST_P(Qcow2Differential, IsCleanAndEqualToQemuAfterAnyOperations) { run_operations(1, 4800, 60); }

TEST_P(Qcow2Differential, IsCleanAndEqualToQemuAfterAMillionOperationsLong) {
  run_operations(2, 1'000'000, 4000);
}

}  // namespace
}  // namespace wick::block

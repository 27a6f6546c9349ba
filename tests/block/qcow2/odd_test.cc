// Small sparse files with large tables: a check needs no more memory than the file's size
// justifies, and a run does not repair such an image by itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fstream>
#include <functional>

#include "base/bytes.h"
#include "block/qcow2/check.h"
#include "tests/block/disk_fixture.h"
#include "tests/fakes/temp_dir.h"

namespace wick::block {
namespace {

constexpr uint64_t kCluster = 512;
constexpr uint64_t kL1Entries = 1 << 20;
constexpr uint64_t kL1Offset = 4 * kCluster;
constexpr uint64_t kTables = kL1Offset + kL1Entries * 8;  // after the L1 table
constexpr uint64_t kMemoryBytes = 160 << 20;

// An image that its last writer did not close. It has only a header at first.
class OddImage {
 public:
  explicit OddImage(const std::string& path) : file_(path, std::ios::binary) {
    put32(0, 0x514649fb);
    put32(4, 3);
    put32(20, 9);
    put64(24, 1 << 30);
    put32(36, kL1Entries);
    put64(40, kL1Offset);
    put64(48, kCluster);
    put32(56, 1);
    put64(72, 1);
    put32(96, 4);
    put32(100, 112);
  }
  void put32(uint64_t offset, uint32_t value) { put(offset, value); }
  void put64(uint64_t offset, uint64_t value) { put(offset, value); }
  // Entries that are `step` bytes apart.
  void put_entries(uint64_t offset, uint64_t count, uint64_t first, uint64_t step) {
    std::vector<std::byte> bytes(count * 8);
    for (uint64_t i = 0; i < count; ++i)
      store_be(std::span(bytes).subspan(i * 8), first + i * step);
    put_bytes(offset, bytes);
  }
  void end_at(uint64_t offset) { put_bytes(offset - 1, std::array{std::byte{0}}); }

 private:
  template <typename T>
  void put(uint64_t offset, T value) {
    std::array<std::byte, sizeof(T)> bytes{};
    store_be(std::span(bytes), value);
    put_bytes(offset, bytes);
  }
  void put_bytes(uint64_t offset, std::span<const std::byte> bytes) {
    file_.seekp(static_cast<std::streamoff>(offset));
    file_.write(reinterpret_cast<const char*>(bytes.data()),
                static_cast<std::streamsize>(bytes.size()));
  }

  std::ofstream file_;
};

struct OddCase {
  const char* name;
  void (*make)(OddImage&);
};
constexpr OddCase kOddCases[] = {
    {"ManyTablesInAHole",
     [](OddImage& image) {
       image.put_entries(kL1Offset, kL1Entries, kTables | 1ull << 63, kCluster);
       image.end_at(kTables + kL1Entries * kCluster);
     }},
};
void PrintTo(const OddCase& odd, std::ostream* out) { *out << odd.name; }

class Qcow2Odd : public testing::TestWithParam<OddCase> {
 protected:
  void SetUp() override {
    OddImage image(path_);
    GetParam().make(image);
  }

  // The result of `act` in a child process that may use kMemoryBytes more than now.
  static bool within_memory(const std::function<bool(EventLoop&, AsyncIo&)>& act) {
    const pid_t child = ::fork();
    if (child == 0) {
      uint64_t pages = 0;
      std::ifstream("/proc/self/statm") >> pages;
      const rlimit limit{pages * 4096 + kMemoryBytes, pages * 4096 + kMemoryBytes};
      ::setrlimit(RLIMIT_AS, &limit);
      const auto thread = LoopThread::start("odd").value();
      std::unique_ptr<AsyncIo> io;
      thread->loop().call([&] { io = AsyncIo::create_threaded(thread->loop()).value(); });
      ::_exit(act(thread->loop(), *io) ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  Result<CheckReport> check(Repair repair, EventLoop& loop, AsyncIo& io) const {
    ImageOptions options;
    options.read_only = repair == Repair::kNone;
    auto opened = TRY(open_image_file(path_, options, io));
    return run_on(loop, check_qcow2(*opened.file, repair, [](const std::string&) {}));
  }

  const fakes::TempDir folder_;
  const std::string path_ = folder_ / "odd.qcow2";
};

INSTANTIATE_TEST_SUITE_P(Cases, Qcow2Odd, testing::ValuesIn(kOddCases),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(Qcow2Odd, IsCheckedAndRepairedInLittleMemory) {
  EXPECT_TRUE(within_memory([&](EventLoop& loop, AsyncIo& io) {
    const auto report = check(Repair::kNone, loop, io);
    return report && report->corruptions > 0;
  }));
  EXPECT_TRUE(within_memory([&](EventLoop& loop, AsyncIo& io) {
    const auto report = check(Repair::kAll, loop, io);
    return report && report->corruptions == 0 && report->check_errors == 0;
  }));
}

class Qcow2OddAndDirty : public Qcow2Odd {};

INSTANTIATE_TEST_SUITE_P(Cases, Qcow2OddAndDirty, testing::ValuesIn(kOddCases),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(Qcow2OddAndDirty, IsNotRepairedByBeingOpened) {
  EXPECT_TRUE(within_memory([&](EventLoop& loop, AsyncIo& io) {
    const auto disk = run_on(loop, open_image(path_, {}, io));
    return !disk &&
           disk.error().message().find("wick image check -r all " + path_) != std::string::npos;
  }));
}

}  // namespace
}  // namespace wick::block

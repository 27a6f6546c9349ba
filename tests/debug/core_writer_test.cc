// The core of a paused machine, written beside the main loop.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "debug/core.h"
#include "tests/fakes/fake_machine.h"
#include "tests/fakes/temp_dir.h"
#include "tests/fakes/wait_for.h"

namespace wick::debug {
namespace {

using ::testing::HasSubstr;

class CoreWriterTest : public ::testing::Test {
 protected:
  CoreWriterTest() {
    const auto ram = machine_.memory().slice({0}, vmm::FakeMachine::kMemoryBytes).value();
    std::ranges::fill(ram.first(ram.size() / 2), std::byte{0x5a});
    machine_.pause(vmm::RunState::kPaused, {});
  }

  Result<std::unique_ptr<CoreWriter>> create(Fd file, CoreFormat format = CoreFormat::kElf) {
    return CoreWriter::create(
        machine_, *loop_, {.format = format, .file = std::move(file), .name = "the core"},
        [this](CoreProgress progress) { reports_.push_back(progress); },
        [this](Result<void> result) {
          result_ = std::move(result);
          loop_->stop();
        });
  }
  Result<std::unique_ptr<CoreWriter>> create(CoreFormat format = CoreFormat::kElf) {
    return create(open_core_file(path_).value(), format);
  }
  // Runs the loop until the writer is done.
  Result<void> wait() {
    loop_->run();
    return std::exchange(result_, std::nullopt).value();
  }
  uint64_t size() const {
    struct stat status {};
    EXPECT_EQ(::stat(path_.c_str(), &status), 0);
    return static_cast<uint64_t>(status.st_size);
  }

  // A core that cannot end: nobody reads the pipe.
  std::unique_ptr<CoreWriter> stuck() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    reader_ = Fd(ends[0]);
    return create(Fd(ends[1])).value();
  }

  const fakes::TempDir folder_;
  const std::string path_ = folder_ / "core";
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  vmm::FakeMachine machine_;
  Fd reader_;
  std::vector<CoreProgress> reports_;
  std::optional<Result<void>> result_;
};

TEST_F(CoreWriterTest, RefusesAMachineThatRuns) {
  machine_.resume();
  const auto refused = create();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EBUSY);
  EXPECT_THAT(refused.error().message(), HasSubstr("pause it first"));
}

TEST_F(CoreWriterTest, WritesWhatTheOtherWayWrites) {
  for (const CoreFormat format : {CoreFormat::kElf, CoreFormat::kKdumpZlib}) {
    const auto writer = create(format).value();
    ASSERT_TRUE(wait());
    const std::string written = folder_.read("core");
    ASSERT_TRUE(write_core(
        machine_,
        {.format = format, .file = open_core_file(folder_ / "other").value(), .name = "other"}));
    EXPECT_TRUE(written == folder_.read("other"));
    EXPECT_EQ(writer->progress().done_bytes, vmm::FakeMachine::kMemoryBytes);
    EXPECT_EQ(writer->progress().total_bytes, vmm::FakeMachine::kMemoryBytes);
  }
}

TEST_F(CoreWriterTest, ReportsItsProgress) {
  const auto writer = create().value();
  ASSERT_TRUE(wait());
  ASSERT_FALSE(reports_.empty());
  uint64_t before = 0;
  for (const CoreProgress& report : reports_) {
    EXPECT_GE(report.done_bytes, before);
    EXPECT_EQ(report.total_bytes, vmm::FakeMachine::kMemoryBytes);
    before = report.done_bytes;
  }
}

TEST_F(CoreWriterTest, MayBeDestroyedWhenItIsDone) {
  std::unique_ptr<CoreWriter> writer;
  bool done = false;
  writer = CoreWriter::create(machine_, *loop_,
                              {.file = open_core_file(path_).value(), .name = "the core"}, {},
                              [&](const Result<void>& result) {
                                done = result.has_value();
                                writer.reset();
                                loop_->stop();
                              })
               .value();
  loop_->run();
  EXPECT_TRUE(done);
}

TEST_F(CoreWriterTest, TellsAnError) {
  const auto writer = create(Fd(::open("/dev/full", O_WRONLY))).value();
  const auto result = wait();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ENOSPC);
  EXPECT_THAT(result.error().message(), HasSubstr("the core: cannot write"));
}

TEST_F(CoreWriterTest, EndsWhenTheMachineIsResumedOrReset) {
  auto writer = stuck();
  machine_.resume();
  EXPECT_EQ(wait().error().code, ECANCELED);
  machine_.pause(vmm::RunState::kPaused, {});
  writer = stuck();
  machine_.reset();
  EXPECT_EQ(wait().error().code, ECANCELED);
  writer = stuck();
  machine_.publish({.kind = vmm::MachineEvent::Kind::kPowerdown});
  machine_.publish({.kind = vmm::MachineEvent::Kind::kShutdown});
  EXPECT_EQ(wait().error().code, ECANCELED);
}

TEST_F(CoreWriterTest, DoesNotTouchTheMemoryAfterAResume) {
  auto writer = create(CoreFormat::kKdumpZlib).value();
  machine_.resume();
  const uint64_t done = writer->progress().done_bytes;
  const auto result = wait();
  const uint64_t wanted = result ? size() : 0;
  EXPECT_EQ(size(), wanted) << "a part of a core is no core";
  EXPECT_EQ(writer->progress().done_bytes, done);
}

TEST_F(CoreWriterTest, EndsWithItsObjectAndIsSilentThen) {
  auto writer = stuck();
  writer.reset();
  loop_->stop();
  loop_->run();
  EXPECT_FALSE(result_);
}

}  // namespace
}  // namespace wick::debug

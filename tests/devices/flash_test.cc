#include "devices/flash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <vector>

#include "tests/fakes/registers.h"

namespace wick::devices {
namespace {

using fakes::read_register;
using fakes::write_register;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

class FlashTest : public testing::Test {
 protected:
  static constexpr size_t kBytes = 4 * Flash::kBlockBytes;

  FlashTest() {
    memory_.assign(kBytes, std::byte{0x5a});
    flash_.emplace(memory_, Flash::Wires{.show = [this](bool readable) { readable_ = readable; },
                                         .changed =
                                             [this](size_t offset, size_t size) {
                                               EXPECT_TRUE(readable_ || ends_);
                                               EXPECT_LE(offset + size, kBytes);
                                               changes_.emplace_back(offset, size);
                                             }});
  }
  // As a guest sees it.
  uint8_t read(size_t offset) {
    return readable_ ? std::to_integer<uint8_t>(memory_[offset])
                     : static_cast<uint8_t>(read_register(*flash_, offset, 1));
  }
  void write(size_t offset, uint8_t value) { write_register(*flash_, offset, value, 1); }

  std::vector<std::byte> memory_;
  bool readable_ = true;
  bool ends_ = false;
  std::vector<std::pair<size_t, size_t>> changes_;
  std::optional<Flash> flash_;
};

// edk2, OvmfPkg/QemuFlashFvbServicesRuntimeDxe/QemuFlash.c, QemuFlashDetected(): RAM would read as
// what was written, and ROM as before.
TEST_F(FlashTest, IsTakenForFlashByOvmf) {
  write(7, 0x50);
  EXPECT_EQ(read(7), 0x5a) << "the memory";
  write(7, 0x70);
  EXPECT_EQ(read(7), 0x00) << "the status, with all bits clear";
  write(7, 0xff);
  EXPECT_EQ(read(7), 0x5a);
  EXPECT_THAT(changes_, IsEmpty());
}

// QemuFlashWrite() and QemuFlashEraseBlock().
TEST_F(FlashTest, IsWrittenAndErasedAsOvmfDoes) {
  for (size_t i = 0; i < 3; ++i) {
    write(100 + i, 0x10);
    write(100 + i, static_cast<uint8_t>(0xa0 + i));
    EXPECT_EQ(read(100 + i), Flash::kReady);
  }
  EXPECT_THAT(changes_, IsEmpty()) << "all of it is told at once";
  write(102, 0xff);
  EXPECT_EQ(read(100), 0xa0);
  EXPECT_EQ(read(102), 0xa2);
  EXPECT_EQ(read(103), 0x5a);
  EXPECT_THAT(changes_, ElementsAre(Pair(100, 3)));

  changes_.clear();
  write(Flash::kBlockBytes + 5, 0x20);
  write(Flash::kBlockBytes + 5, 0xd0);
  EXPECT_EQ(read(0), Flash::kReady);
  write(0, 0xff);
  EXPECT_EQ(read(Flash::kBlockBytes - 1), 0x5a);
  EXPECT_EQ(read(Flash::kBlockBytes), 0xff);
  EXPECT_EQ(read(2 * Flash::kBlockBytes - 1), 0xff);
  EXPECT_EQ(read(2 * Flash::kBlockBytes), 0x5a);
  EXPECT_THAT(changes_, ElementsAre(Pair(Flash::kBlockBytes, Flash::kBlockBytes)));
}

TEST_F(FlashTest, SetsBitsAgainAsQemusChipDoes) {
  for (const uint8_t value : std::to_array<uint8_t>({0x00, 0xff})) {
    write(0, 0x40);
    write(0, value);
    write(0, 0xff);
    EXPECT_EQ(read(0), value);
  }
}

TEST_F(FlashTest, ErasesNothingThatIsNotConfirmed) {
  write(0, 0x20);
  write(0, 0xff);
  EXPECT_EQ(read(0) & Flash::kSequenceError, Flash::kSequenceError);
  write(0, 0xff);
  EXPECT_EQ(read(0), 0x5a);
  EXPECT_THAT(changes_, IsEmpty());
}

TEST_F(FlashTest, ShowsTheMemoryAfterAnUnknownCommand) {
  for (const uint8_t code : std::to_array<uint8_t>({0x00, 0x01, 0x98, 0xe8, 0xd0})) {
    write(0, code);
    EXPECT_EQ(read(0), 0x5a) << int{code};
    write(0, 0x70);
    EXPECT_EQ(read(0) & Flash::kSequenceError, Flash::kSequenceError) << int{code};
    write(0, 0x50);
  }
}

TEST_F(FlashTest, HasAnIdentifier) {
  write(0, 0x90);
  EXPECT_EQ(read(0), 0x89);
  EXPECT_EQ(read(1), 0x18);
  write(0, 0xff);
  EXPECT_EQ(read(0), 0x5a);
}

TEST_F(FlashTest, ProgramsAccessesOfEveryWidthButNotBeyondItsEnd) {
  for (size_t width = 1; width <= 8; ++width) {
    write(kBytes - 16, 0x40);
    write_register(*flash_, kBytes - 16, 0x0102'0304'0506'0708, width);
    write(0, 0xff);
    EXPECT_EQ(memory_[kBytes - 16], std::byte{8});
    EXPECT_EQ(memory_[kBytes - 16 + width], std::byte{0x5a});
  }
  const std::vector<std::byte> before = memory_;
  for (const uint64_t offset : {uint64_t{kBytes - 1}, uint64_t{kBytes}, ~uint64_t{0} - 1}) {
    write_register(*flash_, offset, 0x40, 1);
    write_register(*flash_, offset, 0, 4);
    if (offset < kBytes) continue;
    write_register(*flash_, offset, 0x20, 1);
    write_register(*flash_, offset, 0xd0, 1);
    EXPECT_EQ(read_register(*flash_, offset, 4), Flash::kReady);
  }
  write(0, 0xff);
  EXPECT_EQ(memory_, before);
}

TEST_F(FlashTest, TellsWhatHasChangedAtTheLatestWhenItIsDestroyed) {
  write(3, 0x40);
  write(3, 1);
  ends_ = true;
  flash_.reset();
  EXPECT_THAT(changes_, ElementsAre(Pair(3, 1)));
}

}  // namespace
}  // namespace wick::devices

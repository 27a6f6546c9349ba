#include "debug/vmcoreinfo.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/debug/guest_note.h"
#include "tests/fakes/guest_ram.h"

namespace wick::debug {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr uint64_t kAddress = 0x12344;

class Vmcoreinfo : public ::testing::Test {
 protected:
  Result<std::optional<GuestNote>> read(std::span<const std::byte> note, uint64_t size,
                                        uint64_t address = kAddress, uint16_t format = 1) {
    (void)memory_.write_bytes({kAddress}, note);
    return GuestNote::read(memory_, vmcoreinfo_entry(address, static_cast<uint32_t>(size), format));
  }
  std::string refusal(std::span<const std::byte> note, uint64_t size, uint64_t address = kAddress,
                      uint16_t format = 1) {
    const auto result = read(note, size, address, format);
    return result ? "accepted" : result.error().message();
  }

  const GuestMemory memory_ = fakes::memory_of(kRamBytes);
  const std::vector<std::byte> note_ = elf_note("VMCOREINFO", "OSRELEASE=6.1.0\nX=1\n");
};

TEST_F(Vmcoreinfo, RefusesSizesThatNoNoteHas) {
  for (const uint64_t size : {0ull, 1ull, 11ull, (1ull << 20) + 1, 0xffffffffull})
    EXPECT_THAT(refusal(note_, size), HasSubstr("12 to 1048576")) << size;
}

TEST_F(Vmcoreinfo, RefusesWhatIsNotRam) {
  for (const uint64_t address : {kRamBytes, kRamBytes - 15, uint64_t{UINT64_MAX}, UINT64_MAX - 15})
    EXPECT_THAT(refusal(note_, 16, address), HasSubstr("is not RAM")) << address;
}

TEST_F(Vmcoreinfo, RefusesANoteWhosePartsAreLongerThanItIs) {
  for (const uint32_t length : {0x1000u, 0x7fffffffu, 0xfffffffcu, 0xffffffffu}) {
    std::vector<std::byte> note = note_;
    store_le(std::span(note).subspan(0, 4), length);
    EXPECT_THAT(refusal(note, note.size()), HasSubstr("is not a note")) << length;
    note = note_;
    store_le(std::span(note).subspan(4, 4), length);
    EXPECT_THAT(refusal(note, note.size()), HasSubstr("is not a note")) << length;
  }
  EXPECT_THAT(refusal(note_, note_.size() - 1), HasSubstr("is not a note"));
}

TEST_F(Vmcoreinfo, RefusesFormatsThatAreNotElf) {
  EXPECT_THAT(refusal(note_, note_.size(), kAddress, 2), HasSubstr("unknown format 2"));
}

TEST_F(Vmcoreinfo, IsNotThereBeforeTheGuestHasGivenIt) {
  EXPECT_EQ(GuestNote::read(memory_, {})->has_value(), false);
  EXPECT_EQ(read(note_, note_.size(), kAddress, 0)->has_value(), false);
}

TEST_F(Vmcoreinfo, HasTheLinesOfTheNote) {
  // The area that Linux gives is longer than the note.
  const auto note = read(note_, 4096);
  ASSERT_TRUE(note && note->has_value());
  EXPECT_EQ((*note)->name(), "VMCOREINFO");
  EXPECT_EQ((*note)->bytes().size(), note_.size());
  EXPECT_EQ((*note)->value("OSRELEASE"), "6.1.0");
  EXPECT_EQ((*note)->value("X"), "1");
  EXPECT_EQ((*note)->value("OS"), std::nullopt);
  EXPECT_EQ((*note)->phys_base(), std::nullopt);
}

TEST_F(Vmcoreinfo, ReadsThePhysicalBase) {
  const auto base = [&](std::string_view number) {
    const auto note = elf_note("VMCOREINFO", "A=\nNUMBER(phys_base)=" + std::string(number));
    return (**read(note, note.size())).phys_base();
  };
  EXPECT_EQ(base("1036976128\n"), 1036976128);
  EXPECT_EQ(base("-16777216"), -16777216);
  for (const std::string_view bad : {"", "x", "1x", "99999999999999999999", " 1"})
    EXPECT_EQ(base(bad), std::nullopt) << bad;
}

TEST_F(Vmcoreinfo, ReadsNoLinesOfANoteWithAnotherName) {
  const auto note = elf_note("OTHER", "X=1\n");
  EXPECT_EQ((**read(note, note.size())).value("X"), std::nullopt);
  const auto empty = elf_note("", "");
  EXPECT_EQ((**read(empty, empty.size())).name(), "");
}

}  // namespace
}  // namespace wick::debug

#include "devices/fw_cfg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "tests/fakes/guest_ram.h"

namespace wick::devices {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kRamBytes = 1 << 20;
constexpr uint64_t kSecondRam = 2 << 20;  // behind a hole
constexpr uint64_t kRequest = 0x1000;
constexpr uint64_t kBuffer = 0x8000;

std::vector<std::byte> bytes(std::string_view text) {
  const auto raw = as_bytes(text.data(), text.size());
  return {raw.begin(), raw.end()};
}

// A guest's driver.
class FwCfgTest : public ::testing::Test {
 protected:
  void select(uint16_t key) {
    std::array<std::byte, 2> data;
    store_le(data, key);
    device_.write(0, data);
  }

  std::string read(size_t count) {
    std::string text(count, '?');
    for (char& c : text) device_.read(1, std::as_writable_bytes(std::span(&c, 1)));
    return text;
  }
  std::string read_item(uint16_t key, size_t count) {
    select(key);
    return read(count);
  }

  // The key of a file by the directory, as a driver finds it; 0: none.
  uint16_t find(std::string_view name, uint32_t* size = nullptr) {
    select(FW_CFG_FILE_DIR);
    const auto count = read_be<uint32_t>();
    for (uint32_t i = 0; i < count; ++i) {
      const auto file_size = read_be<uint32_t>();
      const auto key = read_be<uint16_t>();
      EXPECT_EQ(read(2), std::string(2, '\0'));
      const std::string padded = read(56);
      if (padded.c_str() != name) continue;
      if (size != nullptr) *size = file_size;
      return key;
    }
    return 0;
  }
  template <typename T>
  T read_be() {
    const std::string text = read(sizeof(T));
    return load_be<T>(as_bytes(text.data(), text.size()));
  }

  void write_dma_address(uint64_t address) {
    std::array<std::byte, 4> half;
    store_be(half, static_cast<uint32_t>(address >> 32));
    device_.write(4, half);
    store_be(half, static_cast<uint32_t>(address));
    device_.write(8, half);
  }

  // Returns the control field when the request has been served.
  uint32_t dma(uint32_t control, uint32_t length, uint64_t address, uint64_t at = kRequest) {
    std::array<std::byte, 16> request;
    store_be(std::span(request), control);
    store_be(std::span(request).subspan(4), length);
    store_be(std::span(request).subspan(8), address);
    EXPECT_TRUE(memory_.write_bytes({at}, request));
    write_dma_address(at);
    return std::byteswap(memory_.read<uint32_t>({at}).value());
  }

  std::string ram(uint64_t address, size_t count) {
    const auto found = memory_.slice({address}, count).value();
    return {reinterpret_cast<const char*>(found.data()), count};
  }
  void fill(uint64_t address, std::string_view text) {
    ASSERT_TRUE(memory_.write_bytes({address}, as_bytes(text.data(), text.size())));
  }

  const GuestMemory memory_ = fakes::memory_of({{{0}, kRamBytes}, {{kSecondRam}, kRamBytes}});
  FwCfg device_{memory_};
};

constexpr uint32_t select_and(uint16_t key, uint32_t action) {
  return uint32_t{key} << 16 | FW_CFG_DMA_CTL_SELECT | action;
}

TEST_F(FwCfgTest, ShowsADriverThatItIsThere) {
  EXPECT_EQ(read_item(FW_CFG_SIGNATURE, 4), "QEMU");
  EXPECT_EQ(read_item(FW_CFG_ID, 4), std::string("\x03\0\0\0", 4));
  std::array<std::byte, 8> signature{};
  device_.read(4, signature);
  EXPECT_EQ(load_be<uint64_t>(signature), FW_CFG_DMA_SIGNATURE);
  device_.read(8, std::span(signature).first(4));
  EXPECT_EQ(load_be<uint32_t>(signature), 0x20434647u) << "each half can be read alone";
}

TEST_F(FwCfgTest, ListsItsFilesInTheDirectory) {
  EXPECT_EQ(find("etc/one"), 0);
  ASSERT_TRUE(device_.add("etc/one", bytes("first")));
  ASSERT_TRUE(device_.add("opt/two", bytes("second file")));
  uint32_t size = 0;
  EXPECT_EQ(find("etc/one", &size), FW_CFG_FILE_FIRST);
  EXPECT_EQ(size, 5u);
  const uint16_t two = find("opt/two", &size);
  EXPECT_EQ(size, 11u);
  EXPECT_EQ(read_item(two, 11), "second file");
}

TEST_F(FwCfgTest, GivesZeroesPastTheEndOfAnItemAndWhereThereIsNone) {
  ASSERT_TRUE(device_.add("etc/one", bytes("abc")));
  EXPECT_EQ(read_item(FW_CFG_FILE_FIRST, 6), std::string("abc\0\0\0", 6));
  for (const uint16_t key : std::to_array<uint16_t>({0x21, 0x1234, 0x3fff, 0x8000, 0xffff}))
    EXPECT_EQ(read_item(key, 3), std::string(3, '\0')) << key;
}

TEST_F(FwCfgTest, StartsAnItemAgainWhenItIsSelected) {
  EXPECT_EQ(read_item(FW_CFG_SIGNATURE, 2), "QE");
  EXPECT_EQ(read(2), "MU");
  EXPECT_EQ(read_item(FW_CFG_SIGNATURE, 4), "QEMU");
  EXPECT_EQ(read_item(FW_CFG_SIGNATURE | FW_CFG_WRITE_CHANNEL, 4), "QEMU") << "bit 14 is ignored";
}

TEST_F(FwCfgTest, KeepsItemsOfFixedKeysApartFromThoseOfThePlatform) {
  ASSERT_TRUE(device_.add_item(FW_CFG_NB_CPUS, bytes(std::string_view("\x04\0", 2))));
  ASSERT_TRUE(device_.add_item(FW_CFG_ARCH_LOCAL | FW_CFG_NB_CPUS, bytes("local")));
  EXPECT_EQ(read_item(FW_CFG_NB_CPUS, 2), std::string("\x04\0", 2));
  EXPECT_EQ(read_item(FW_CFG_ARCH_LOCAL | FW_CFG_NB_CPUS, 5), "local");
}

TEST_F(FwCfgTest, RefusesNamesAndKeysThatCannotBe) {
  const auto why = [](const Result<void>& result) {
    return result ? std::string() : result.error().message();
  };
  EXPECT_THAT(why(device_.add("", bytes("x"))), HasSubstr("1 to 55"));
  EXPECT_THAT(why(device_.add(std::string(56, 'n'), bytes("x"))), HasSubstr("1 to 55"));
  EXPECT_THAT(why(device_.add("a\nb", bytes("x"))), HasSubstr("printable"));
  EXPECT_EQ(why(device_.add(std::string(55, 'n'), bytes("x"))), "");
  EXPECT_THAT(why(device_.add(std::string(55, 'n'), bytes("x"))), HasSubstr("already"));
  EXPECT_THAT(why(device_.add_item(FW_CFG_SIGNATURE, bytes("x"))), HasSubstr("not free"));
  EXPECT_THAT(why(device_.add_item(FW_CFG_FILE_FIRST, bytes("x"))), HasSubstr("not free"));
  EXPECT_THAT(why(device_.add_item(0x4005, bytes("x"))), HasSubstr("not free"));
  EXPECT_THAT(why(device_.add_writable("big", std::vector<std::byte>(65537), {})),
              HasSubstr("65536"));
  for (int i = 1; i < 256; ++i) ASSERT_TRUE(device_.add("n" + std::to_string(i), {}));
  EXPECT_THAT(why(device_.add("one-more", {})), HasSubstr("256 files"));
}

TEST_F(FwCfgTest, IgnoresWritesOfOddWidthOrPlace) {
  ASSERT_TRUE(device_.add("etc/one", bytes("abc")));
  const FwCfg::State before = device_.state();
  std::array<std::byte, 8> data;
  data.fill(std::byte{0x20});
  for (uint64_t offset = 0; offset < FwCfg::kPorts; ++offset) {
    for (size_t width = 1; width <= 8 && offset + width <= FwCfg::kPorts; ++width) {
      const bool meant = (offset == 0 && width == 2) || (offset == 4 && width == 4) ||
                         (offset == 4 && width == 8) || (offset == 8 && width == 4);
      if (!meant) device_.write(offset, std::span(data).first(width));
    }
  }
  EXPECT_EQ(device_.state(), before);
}

TEST_F(FwCfgTest, SurvivesReadsOfEveryWidthAtEveryOffset) {
  std::array<std::byte, 8> data;
  for (uint64_t offset = 0; offset < FwCfg::kPorts; ++offset)
    for (size_t width = 1; width <= 8 && offset + width <= FwCfg::kPorts; ++width)
      device_.read(offset, std::span(data).first(width));
  EXPECT_EQ(device_.state().offset_bytes, 4u) << "reads do not leave the item";
}

TEST_F(FwCfgTest, CopiesAnItemToTheGuestByDma) {
  ASSERT_TRUE(device_.add("etc/one", bytes("0123456789")));
  EXPECT_EQ(dma(select_and(FW_CFG_FILE_FIRST, FW_CFG_DMA_CTL_READ), 4, kBuffer), 0u);
  EXPECT_EQ(ram(kBuffer, 5), std::string("0123\0", 5));
  EXPECT_EQ(dma(FW_CFG_DMA_CTL_SKIP, 3, 0), 0u);
  fill(kBuffer, "xxxxxxxx");
  EXPECT_EQ(dma(FW_CFG_DMA_CTL_READ, 5, kBuffer), 0u);
  EXPECT_EQ(ram(kBuffer, 8), std::string("789\0\0xxx", 8));
  EXPECT_EQ(device_.state().dma_address, 0u);
}

TEST_F(FwCfgTest, TakesTheAddressOfARequestInTwoHalvesOrOne) {
  EXPECT_EQ(dma(select_and(FW_CFG_SIGNATURE, FW_CFG_DMA_CTL_READ), 4, kBuffer), 0u);
  EXPECT_EQ(ram(kBuffer, 4), "QEMU");
  EXPECT_EQ(dma(select_and(FW_CFG_ID, FW_CFG_DMA_CTL_SKIP), 0, 0), 0u);
  fill(kBuffer, "....");
  std::array<std::byte, 16> request;
  store_be(std::span(request), select_and(FW_CFG_SIGNATURE, FW_CFG_DMA_CTL_READ));
  store_be(std::span(request).subspan(4), uint32_t{4});
  store_be(std::span(request).subspan(8), kBuffer);
  ASSERT_TRUE(memory_.write_bytes({kRequest}, request));
  std::array<std::byte, 8> address;
  store_be(address, kRequest);
  device_.write(4, address);
  EXPECT_EQ(ram(kBuffer, 4), "QEMU");
}

TEST_F(FwCfgTest, ReadsLargeFilesOnlyWhereTheGuestAsks) {
  std::vector<uint64_t> asked;
  ASSERT_TRUE(device_.add("big", 0xf000'0000, [&](uint64_t offset, std::span<std::byte> to) {
    asked.push_back(offset);
    EXPECT_LE(to.size(), 4096u);
    std::ranges::fill(to, std::byte{'b'});
  }));
  EXPECT_EQ(dma(select_and(FW_CFG_FILE_FIRST, FW_CFG_DMA_CTL_SKIP), 0xe000'0000, 0), 0u);
  EXPECT_EQ(dma(FW_CFG_DMA_CTL_READ, 4, kBuffer), 0u);
  EXPECT_EQ(ram(kBuffer, 5), std::string("bbbb\0", 5));
  EXPECT_EQ(asked, std::vector<uint64_t>{0xe000'0000});
}

TEST_F(FwCfgTest, StopsAtTheFirstPageThatIsNotRam) {
  uint64_t asked_bytes = 0;
  ASSERT_TRUE(device_.add("big", UINT32_MAX,
                          [&](uint64_t, std::span<std::byte> to) { asked_bytes += to.size(); }));
  const uint32_t read_big = select_and(FW_CFG_FILE_FIRST, FW_CFG_DMA_CTL_READ);
  EXPECT_EQ(dma(read_big, UINT32_MAX, kRamBytes - 5000), FW_CFG_DMA_CTL_ERROR);
  EXPECT_EQ(asked_bytes, 5000u);
  EXPECT_EQ(dma(read_big, UINT32_MAX, kRamBytes), FW_CFG_DMA_CTL_ERROR) << "the hole";
  EXPECT_EQ(dma(read_big, UINT32_MAX, UINT64_MAX - 100), FW_CFG_DMA_CTL_ERROR) << "it wraps";
  EXPECT_EQ(asked_bytes, 5000u);
  EXPECT_EQ(dma(select_and(0x1234, FW_CFG_DMA_CTL_READ), UINT32_MAX, kBuffer), FW_CFG_DMA_CTL_ERROR)
      << "zeroes, too";
}

TEST_F(FwCfgTest, SkipsNoFurtherThanTheEndOfAnItem) {
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(dma(select_and(FW_CFG_SIGNATURE, FW_CFG_DMA_CTL_SKIP), UINT32_MAX, 0), 0u);
  EXPECT_EQ(device_.state().offset_bytes, 4u);
  EXPECT_EQ(dma(select_and(0x2222, FW_CFG_DMA_CTL_SKIP), UINT32_MAX, 0), 0u);
}

TEST_F(FwCfgTest, SurvivesARequestOutsideRam) {
  for (const uint64_t at : {kRamBytes, kRamBytes - 1, kRamBytes - 15, UINT64_MAX, UINT64_MAX - 15})
    write_dma_address(at);
  EXPECT_EQ(ram(kRamBytes - 15, 4), std::string("\0\0\0\x01", 4))
      << "the error is told where the control field is RAM";
}

TEST_F(FwCfgTest, ReadsARequestOnceAlsoIfItsAnswerOverwritesIt) {
  ASSERT_TRUE(device_.add("etc/one", std::vector<std::byte>(64, std::byte{0xff})));
  EXPECT_EQ(dma(select_and(FW_CFG_FILE_FIRST, FW_CFG_DMA_CTL_READ), 64, kRequest - 16), 0u);
  EXPECT_EQ(ram(kRequest, 6), std::string("\0\0\0\0\xff\xff", 6));
}

TEST_F(FwCfgTest, RefusesWritesToWhatIsReadOnly) {
  ASSERT_TRUE(device_.add("etc/one", bytes("abc")));
  const FwCfg::State before = device_.state();
  for (const uint16_t key : std::to_array<uint16_t>({FW_CFG_FILE_FIRST, FW_CFG_SIGNATURE, 0x1234}))
    EXPECT_EQ(dma(select_and(key, FW_CFG_DMA_CTL_WRITE), 1, kBuffer), FW_CFG_DMA_CTL_ERROR);
  EXPECT_EQ(read_item(FW_CFG_FILE_FIRST, 3), "abc");
  EXPECT_EQ(device_.state().written, before.written);
}

TEST_F(FwCfgTest, TellsWhatTheGuestWrites) {
  std::vector<std::string> told;
  const auto on_written = [&](std::span<const std::byte> content) {
    told.emplace_back(reinterpret_cast<const char*>(content.data()), content.size());
    EXPECT_EQ(device_.contents("etc/note").size(), content.size()) << "the lock is free";
  };
  ASSERT_TRUE(device_.add_writable("etc/note", bytes("........"), {.on_written = on_written}));
  fill(kBuffer, "ABCDEFGH");
  EXPECT_EQ(dma(select_and(FW_CFG_FILE_FIRST, FW_CFG_DMA_CTL_WRITE), 3, kBuffer), 0u);
  EXPECT_EQ(dma(FW_CFG_DMA_CTL_WRITE, 5, kBuffer), 0u);
  EXPECT_EQ(told, (std::vector<std::string>{"ABC.....", "ABCABCDE"}));
  EXPECT_EQ(device_.contents("etc/note"), bytes("ABCABCDE"));
  EXPECT_EQ(read_item(FW_CFG_FILE_FIRST, 8), "ABCABCDE");
  device_.reset();
  EXPECT_EQ(device_.contents("etc/note"), bytes("........"));
}

TEST_F(FwCfgTest, WritesAsAWholeOrNotAtAll) {
  int told = 0;
  ASSERT_TRUE(
      device_.add_writable("note", bytes("........"), {.on_written = [&](auto) { ++told; }}));
  const uint32_t write = select_and(FW_CFG_FILE_FIRST, FW_CFG_DMA_CTL_WRITE);
  fill(kRamBytes - 4, "ABCD");
  EXPECT_EQ(dma(write, 8, kRamBytes - 4), FW_CFG_DMA_CTL_ERROR) << "half is not RAM";
  EXPECT_EQ(dma(write, 9, kBuffer), FW_CFG_DMA_CTL_ERROR) << "too long";
  EXPECT_EQ(dma(write, UINT32_MAX, kBuffer), FW_CFG_DMA_CTL_ERROR);
  EXPECT_EQ(device_.contents("note"), bytes("........"));
  EXPECT_EQ(told, 0);
}

TEST_F(FwCfgTest, TakesSomeFilesOnlyAsAWhole) {
  ASSERT_TRUE(device_.add_writable("note", bytes("...."), {.whole_only = true}));
  const uint32_t write = select_and(FW_CFG_FILE_FIRST, FW_CFG_DMA_CTL_WRITE);
  fill(kBuffer, "ABCD");
  EXPECT_EQ(dma(write, 3, kBuffer), FW_CFG_DMA_CTL_ERROR);
  EXPECT_EQ(dma(select_and(FW_CFG_FILE_FIRST, FW_CFG_DMA_CTL_SKIP), 1, 0), 0u);
  EXPECT_EQ(dma(FW_CFG_DMA_CTL_WRITE, 3, kBuffer), FW_CFG_DMA_CTL_ERROR);
  EXPECT_EQ(dma(write, 4, kBuffer), 0u);
  EXPECT_EQ(device_.contents("note"), bytes("ABCD"));
}

TEST_F(FwCfgTest, TakesTheAddressOfTheGuestsVmcoreinfo) {
  EXPECT_EQ(device_.contents(FW_CFG_VMCOREINFO_FILENAME), bytes(""));
  ASSERT_TRUE(device_.add_vmcoreinfo());
  const uint16_t key = find("etc/vmcoreinfo");
  EXPECT_EQ(read_item(key, 17), "\x01" + std::string(16, '\0')) << "the host knows ELF notes";
  fill(kBuffer, "sixteen bytes...");
  EXPECT_EQ(dma(select_and(key, FW_CFG_DMA_CTL_WRITE), 15, kBuffer), FW_CFG_DMA_CTL_ERROR);
  EXPECT_EQ(dma(select_and(key, FW_CFG_DMA_CTL_WRITE), 16, kBuffer), 0u);
  EXPECT_EQ(device_.contents(FW_CFG_VMCOREINFO_FILENAME), bytes("sixteen bytes..."));
  device_.reset();
  EXPECT_EQ(device_.contents(FW_CFG_VMCOREINFO_FILENAME), bytes("\x01" + std::string(15, '\0')));
}

TEST_F(FwCfgTest, KeepsTheVmcoreinfoOfAGuestThatHasSlept) {
  ASSERT_TRUE(device_.add_vmcoreinfo(bytes("sixteen bytes...")));
  EXPECT_EQ(device_.contents(FW_CFG_VMCOREINFO_FILENAME), bytes("sixteen bytes..."));
}

TEST_F(FwCfgTest, NamesItsRegistersForStatistics) {
  EXPECT_EQ(device_.name_of(0, true).reg, "selector");
  EXPECT_EQ(device_.name_of(1, false).reg, "data");
  EXPECT_EQ(device_.name_of(8, true).reg, "dma");
}

}  // namespace
}  // namespace wick::devices

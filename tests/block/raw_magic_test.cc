// Tests that a guest cannot turn a raw disk into another format (PITFALLS 21).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "tests/block/raw_fixture.h"

namespace wick::block {
namespace {

using testing::HasSubstr;

struct Forgery {
  const char* format;
  size_t offset;
  std::string_view magic;
};
using namespace std::string_view_literals;
constexpr std::array kForgeries = {
    Forgery{"qcow", 0, "QFI\xfb"sv},
    Forgery{"qed", 0, "QED\0"sv},
    Forgery{"vmdk", 0, "KDMV"sv},
    Forgery{"vmdk", 0, "COWD"sv},
    Forgery{"vmdk", 0, "# Disk Descriptor"sv},
    Forgery{"vhd", 0, "conectix"sv},
    Forgery{"vhdx", 0, "vhdxfile"sv},
    Forgery{"luks", 0, "LUKS\xba\xbe"sv},
    Forgery{"vdi", 64, "\x7f\x10\xda\xbe"sv},
};

class MagicGuard : public RawDisk {
 protected:
  MagicGuard() { make_file(65536); }

  static std::vector<std::byte> forged(const Forgery& forgery, size_t size_bytes) {
    auto bytes = pattern(size_bytes, 1);
    const auto magic = std::as_bytes(std::span(forgery.magic));
    std::ranges::copy(magic, bytes.begin() + static_cast<std::ptrdiff_t>(forgery.offset));
    return bytes;
  }
  void expect_refused(const Result<void>& result) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, EPERM);
    EXPECT_THAT(result.error().message(), HasSubstr("format=raw"));
    EXPECT_TRUE(all_zero(file_content())) << "something was written";
  }
};

TEST_P(MagicGuard, RefusesTheMagicOfAnyOtherFormat) {
  ASSERT_TRUE(open({}));
  for (const Forgery& forgery : kForgeries) {
    const auto result = write(0, forged(forgery, 512));
    expect_refused(result);
    EXPECT_THAT(result.error().message(), HasSubstr(forgery.format));
  }
}

TEST_P(MagicGuard, RefusesALargeWriteAsAWhole) {
  ASSERT_TRUE(open({}));
  for (const Forgery& forgery : kForgeries) expect_refused(write(0, forged(forgery, 32768)));
}

TEST_P(MagicGuard, RefusesAMagicCutOverBuffers) {
  ASSERT_TRUE(open({}));
  for (const Forgery& forgery : kForgeries) {
    const auto bytes = forged(forgery, 1024);
    std::vector<iovec> buffers;
    for (size_t i = 0; i < 100; ++i) buffers.push_back(to_iovec(std::span(bytes).subspan(i, 1)));
    buffers.push_back(to_iovec(std::span(bytes).subspan(100)));
    expect_refused(write(0, buffers));
  }
}

TEST_P(MagicGuard, RefusesTheWriteThatCompletesAMagic) {
  for (const Forgery& forgery : kForgeries) {
    for (size_t cut = 1; cut < forgery.magic.size(); ++cut) {
      make_file(path_, std::vector<std::byte>(65536, std::byte{0xff}));
      ASSERT_TRUE(open({}));
      const auto bytes = forged(forgery, 512);
      const size_t middle = forgery.offset + cut;
      ASSERT_TRUE(write(0, std::span(bytes).first(middle))) << forgery.format << cut;
      const auto result = write(middle, std::span(bytes).subspan(middle));
      ASSERT_FALSE(result) << forgery.format << cut;
      EXPECT_EQ(result.error().code, EPERM);
      EXPECT_EQ(format_of_magic(file_content()), nullptr);
    }
  }
}

TEST_P(MagicGuard, AllowsEverythingElse) {
  ASSERT_TRUE(open({}));
  const auto data = pattern(4096, 2);
  ASSERT_TRUE(write(0, data));
  ASSERT_TRUE(write(100, data));
  ASSERT_TRUE(write(511, std::span(data).first(2)));
  EXPECT_EQ(read_bytes(511, 2), std::vector(data.begin(), data.begin() + 2));
  // A magic where no format looks for it.
  for (const Forgery& forgery : kForgeries) {
    const auto bytes = forged(forgery, 512);
    ASSERT_TRUE(write(512, bytes));
    EXPECT_EQ(read_bytes(512, 512), bytes);
  }
}

TEST_P(MagicGuard, AllowsAnythingOnADiskGivenAsRaw) {
  ASSERT_TRUE(open(kRaw));
  for (const Forgery& forgery : kForgeries) {
    const auto bytes = forged(forgery, 1024);
    ASSERT_TRUE(write(0, bytes));
    EXPECT_EQ(read_bytes(0, 1024), bytes);
  }
}

TEST_P(MagicGuard, WritesTheSectorThatItLookedAt) {
  ASSERT_TRUE(open({}));
  // The guest changes its buffer as soon as the request has begun.
  std::vector<std::byte> bytes = pattern(512, 3);
  const auto innocent = bytes;
  const std::vector<iovec> buffers = {to_iovec(bytes)};
  const auto result = run([&]() -> Task<Result<void>> {
    return [](Backend& disk, std::span<const iovec> data, std::vector<std::byte>& guest,
              EventLoop& on) -> Task<Result<void>> {
      on.post([&guest] { std::memcpy(guest.data(), "QFI\xfb", 4); });
      co_return co_await disk.write(0, data);
    }(*disk_, buffers, bytes, loop());
  });
  EXPECT_TRUE(result);
  EXPECT_EQ(read_bytes(0, 512), innocent);
}

INSTANTIATE_TEST_SUITE_P(, MagicGuard, testing::Values(Engine::kUring, Engine::kThreaded),
                         engine_name);

}  // namespace
}  // namespace wick::block

#include "boot/sha256.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

// FIPS 180-2, appendix B.
constexpr auto kOfAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr auto kOfAMillionA = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256, IsThatOfTheStandard) {
  EXPECT_EQ(sha256_of("abc"), kOfAbc);
  EXPECT_EQ(sha256_of(std::string(1'000'000, 'a')), kOfAMillionA);
}

TEST(Sha256, OfPartsIsThatOfTheWhole) {
  Sha256 hash;
  hash.update(as_bytes("a", 1));
  hash.update({});
  hash.update(as_bytes("bc", 2));
  EXPECT_EQ(hash.finish(), kOfAbc);
}

TEST(Sha256, OfAFileIsThatOfItsContent) {
  const fakes::TempDir folder;
  const auto sha256 = [&](std::string_view content) {
    return sha256_of(*InputFile::open(folder.write("file", content))).value_or("error");
  };
  EXPECT_EQ(sha256("abc"), kOfAbc);
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')), kOfAMillionA);
}

TEST(Sha256, HasOneForm) {
  EXPECT_TRUE(is_sha256(kOfAbc));
  EXPECT_FALSE(is_sha256(""));
  EXPECT_FALSE(is_sha256(std::string(63, '0')));
  EXPECT_FALSE(is_sha256(std::string(65, '0')));
  EXPECT_FALSE(is_sha256(std::string(64, 'g')));
  EXPECT_FALSE(is_sha256(std::string(64, 'A')));
}

}  // namespace
}  // namespace wick::boot

#include "boot/uefi_variables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/fakes/files.h"
#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

using testing::HasSubstr;

constexpr size_t kBytes = 8192;
constexpr GuestAddress kEnd{0xffc8'4000};

class UefiVariablesTest : public testing::Test {
 protected:
  const fakes::TempDir folder_;
  const std::string template_ = folder_.write("VARS.fd", std::string(kBytes, 'v'));
  const std::string path_ = folder_ / "machine.vars";
};

TEST_F(UefiVariablesTest, AreThoseOfTheTemplateAtFirstAndTheMachinesOwnLater) {
  {
    const auto variables = UefiVariables::open(path_, template_, kEnd);
    ASSERT_TRUE(variables) << variables.error().message();
    EXPECT_EQ((*variables)->region().start.value, kEnd.value - kBytes);
    ASSERT_EQ((*variables)->bytes().size(), kBytes);
    EXPECT_EQ((*variables)->bytes()[0], std::byte{'v'});
    (*variables)->bytes()[5000] = std::byte{'w'};
    (*variables)->bytes()[5001] = std::byte{'x'};  // not stored
    (*variables)->store(5000, 1);
  }
  const auto again = UefiVariables::open(path_, template_, kEnd);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ((*again)->bytes()[5000], std::byte{'w'});
  EXPECT_EQ((*again)->bytes()[5001], std::byte{'v'});
}

TEST_F(UefiVariablesTest, WithoutAFileAreLost) {
  const auto variables = UefiVariables::open("", template_, kEnd);
  ASSERT_TRUE(variables);
  (*variables)->bytes()[0] = std::byte{'w'};
  (*variables)->store(0, 1);
  EXPECT_EQ((*UefiVariables::open("", template_, kEnd))->bytes()[0], std::byte{'v'});
}

TEST_F(UefiVariablesTest, BelongToOneMachineAtATime) {
  const auto first = UefiVariables::open(path_, template_, kEnd);
  ASSERT_TRUE(first);
  const auto second = UefiVariables::open(path_, template_, kEnd);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), HasSubstr("another machine"));
}

TEST_F(UefiVariablesTest, RefuseAFileOfAnotherFirmware) {
  folder_.write("machine.vars", std::string(kBytes / 2, 'v'));
  const auto variables = UefiVariables::open(path_, template_, kEnd);
  ASSERT_FALSE(variables);
  EXPECT_THAT(variables.error().message(), HasSubstr("8192 bytes of this firmware's"));
  EXPECT_FALSE(UefiVariables::open(folder_ / "none/x", template_, kEnd));
  EXPECT_FALSE(UefiVariables::open("", folder_.write("odd", "odd"), kEnd));
}

}  // namespace
}  // namespace wick::boot

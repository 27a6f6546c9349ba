// Waits for a device to give a chain back.
#pragma once

#include <gtest/gtest.h>

#include <optional>

#include "tests/fakes/fake_driver.h"
#include "tests/fakes/wait_for.h"

namespace wick::fakes {

inline FakeDriver::Used await_used(FakeDriver& driver) {
  std::optional<FakeDriver::Used> used;
  EXPECT_TRUE(wait_for([&] { return (used = driver.take_used()).has_value(); }));
  return used.value_or(FakeDriver::Used{~0u, ~0u});
}

}  // namespace wick::fakes

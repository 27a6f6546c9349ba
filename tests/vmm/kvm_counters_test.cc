#include "vmm/kvm_counters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace wick::vmm {
namespace {

using testing::ElementsAre;

constexpr uint32_t kNameBytes = 48;
constexpr uint32_t kDescriptors = 24 + kNameBytes;  // after the header and the id

// A counter and a histogram with two values, in the layout of api.rst, 4.133.
std::vector<std::byte> statistics() {
  constexpr uint32_t kValues = kDescriptors + 2 * (16 + kNameBytes);
  std::vector<std::byte> file(kValues + 3 * 8);
  const auto put = [&](size_t offset, auto value) {
    std::memcpy(file.data() + offset, &value, sizeof(value));
  };
  const auto put_descriptor = [&](uint32_t index, const char* name, uint16_t size,
                                  uint32_t offset) {
    const size_t at = kDescriptors + index * (16 + kNameBytes);
    put(at + 6, size);
    put(at + 8, offset);
    std::memcpy(file.data() + at + 16, name, std::strlen(name));
  };
  const uint32_t header[] = {0, kNameBytes, 2, 24, kDescriptors, kValues};
  std::memcpy(file.data(), header, sizeof(header));
  put_descriptor(0, "exits", 1, 0);
  put_descriptor(1, "halt_wait_hist", 2, 8);
  for (uint64_t i = 0; i < 3; ++i) put(kValues + i * 8, uint64_t{100 + i});
  return file;
}

TEST(KvmCounters, HaveNamesAndValues) {
  const auto counters = parse_kvm_counters(statistics());
  ASSERT_TRUE(counters);
  ASSERT_EQ(counters->size(), 2u);
  EXPECT_EQ(counters->at(0).name, "exits");
  EXPECT_THAT(counters->at(0).values, ElementsAre(100));
  EXPECT_EQ(counters->at(1).name, "halt_wait_hist");
  EXPECT_THAT(counters->at(1).values, ElementsAre(101, 102));
}

TEST(KvmCounters, ThatAreCutShortAreRefused) {
  const auto whole = statistics();
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(parse_kvm_counters(std::span(whole).first(size))) << size;
}

}  // namespace
}  // namespace wick::vmm

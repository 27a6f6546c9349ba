// Changes the options of an existing qcow2 image: wick image amend.
//
// Thread rule: as for File. Nobody else uses the image meanwhile.
#pragma once

#include <optional>
#include <string>

#include "block/qcow2/qcow2.h"

namespace wick::block {

struct Qcow2Changes {
  std::optional<uint32_t> version;
  std::optional<bool> lazy_refcounts;
  std::optional<bool> raw_data;
  std::optional<std::string> data_path;
};

// Refuses what amend_qcow2() would refuse. Must be called before anything is changed, because a
// change to version 2 starts with expand_zeroes().
Result<void> check_amend(const Qcow2& image, const Qcow2Changes& changes);

// Replaces zero clusters, which version 2 does not have, by clusters that contain zeroes. The
// caller has called check_amend().
Task<Result<void>> expand_zeroes(Qcow2& image);

// Changes the header. Refuses changes that a feature of the image excludes.
Task<Result<void>> amend_qcow2(File& file, const Qcow2Changes& changes);

}  // namespace wick::block

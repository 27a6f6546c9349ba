// Changes what kind of image an existing one is.
//
// Thread rule: as for File; nobody else uses the image.
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

// Refuses what amend_qcow2() would refuse after expand_zeroes(), which a change to version 2
// needs. To be called before anything is changed.
Result<void> check_amend(const Qcow2& image, const Qcow2Changes& changes);

// Gives clusters to all that reads as zeroes by its entry, which version 2 does not know.
// check_amend() has allowed it.
Task<Result<void>> expand_zeroes(Qcow2& image);

// What the image's other features exclude is refused.
Task<Result<void>> amend_qcow2(File& file, const Qcow2Changes& changes);

}  // namespace wick::block

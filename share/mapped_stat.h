// The attribute kMappedAttribute, in which Security::kMapped stores what the guest sees of a
// file: "uid=1000 gid=1000 mode=0100644 rdev=0:0", the mode in octal.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "share/outcome.h"
#include "share/tree_types.h"

namespace wick::share {

struct MappedStat {
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t mode = 0;  // includes the file type
  uint32_t rdev_major = 0;
  uint32_t rdev_minor = 0;

  std::string text() const;
  // Returns nullopt if `text` does not have the form that text() returns: other programs may have
  // written it.
  static std::optional<MappedStat> parse(std::string_view text);
  // Returns what the guest sees of a file without the attribute.
  static MappedStat of(const Attributes& attributes);
  void apply_to(Attributes& attributes) const;
};

// Reads the attribute of `fd`, which may be an O_PATH descriptor. Returns nullopt if the file lacks
// the attribute, or if the attribute is not valid.
Outcome<std::optional<MappedStat>> read_mapped_stat(const Fd& fd);
Outcome<> write_mapped_stat(const Fd& fd, const MappedStat& stat);

}  // namespace wick::share

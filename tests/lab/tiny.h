// Machines whose only file is a tiny guest.
#pragma once

#include <string>
#include <vector>

#include "tests/guests/tiny_guest.h"
#include "tests/lab/vm.h"

namespace wick::lab {

// `wick run` with a bzImage of `code`, made in `dir`, and `options`.
inline std::vector<std::string> run_tiny(const TempDir& dir, const guests::Code& code,
                                         const std::vector<std::string>& options = {}) {
  write_file(dir / "tiny", guests::bzimage(code));
  std::vector<std::string> argv = wick_run({"-k", dir / "tiny", "-m", "32M"});
  argv.insert(argv.end(), options.begin(), options.end());
  return argv;
}

}  // namespace wick::lab

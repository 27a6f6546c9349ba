#include "cli/nearest.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace wick::cli {

namespace {

// Returns the optimal string alignment distance.
size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> best(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) best[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) best[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i)
    for (size_t j = 1; j <= b.size(); ++j) {
      best[i][j] = std::min({best[i - 1][j] + 1, best[i][j - 1] + 1,
                             best[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        best[i][j] = std::min(best[i][j], best[i - 2][j - 2] + 1);
    }
  return best[a.size()][b.size()];
}

}  // namespace

std::string nearest(std::string_view typed, std::span<const std::string> words) {
  constexpr size_t kMaxTyped = 64;  // bounds the work, which grows with the product of the lengths
  if (typed.size() > kMaxTyped) return {};
  std::pair<size_t, std::string> best{SIZE_MAX, {}};
  for (const std::string& word : words) best = std::min(best, std::pair{edits(typed, word), word});
  return best.first <= typed.size() / 3 ? best.second : std::string();
}

}  // namespace wick::cli

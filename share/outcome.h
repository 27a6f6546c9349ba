// How the operations of a share report errors: as the errno value that the guest gets.
#pragma once

#include <cerrno>
#include <expected>

namespace wick::share {

// A value, or an errno value above 0. TRY (base/result.h) works with it.
template <typename T = void>
using Outcome = std::expected<T, int>;

// Makes an error of `code`, an errno value.
inline std::unexpected<int> refuse(int code) { return std::unexpected(code); }

}  // namespace wick::share

// How functions report errors of the host or the user: by value, never by an exception
// (ARCHITECTURE, "Errors"). An Error says, for the person who reads it, what failed and on
// which object (`context`), why (`code`), and what to do about it (`hint`).
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <utility>

namespace wick {

struct Error {
  int code = 0;         // an errno value, or 0 when there is none
  std::string context;  // "disk.img: cannot open"
  std::string hint;     // "check the path", or empty

  // One line without a full stop: "CONTEXT: strerror(CODE); HINT".
  std::string message() const {
    std::string text = context;
    if (code != 0) text += fmt::format(": {}", std::strerror(code));
    if (!hint.empty()) text += fmt::format("; {}", hint);
    return text;
  }
};

template <typename T = void>
using Result = std::expected<T, Error>;

template <typename... Args>
std::unexpected<Error> fail(fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{0, fmt::format(format, std::forward<Args>(args)...), {}});
}

// `code` is an errno value.
template <typename... Args>
std::unexpected<Error> fail_errno(int code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...), {}});
}

inline std::unexpected<Error> with_hint(std::unexpected<Error> refusal, std::string hint) {
  refusal.error().hint = std::move(hint);
  return refusal;
}

// Returns the error of a failed Result, for coroutines to co_return.
template <typename T>
std::unexpected<Error> failure(Result<T>& result) {
  return std::unexpected(std::move(result).error());
}

}  // namespace wick

// Evaluates to the value of a Result; returns an error from the enclosing function. Not for
// coroutines, which must `co_return` the error.
#define TRY(expression)                                                     \
  __extension__({                                                           \
    auto try_result = (expression);                                         \
    if (!try_result) return std::unexpected(std::move(try_result).error()); \
    *std::move(try_result);                                                 \
  })

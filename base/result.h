// How a function of the host side says that it failed: a value, never an
// exception (DESIGN, "Errors"). An Error is written for the person who will
// read it: what failed and on which object (`context`), why (`code`), and what
// to do about it (`hint`).
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

// `code` is an errno value; take it before anything else can change errno.
template <typename... Args>
std::unexpected<Error> fail_errno(int code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...), {}});
}

inline std::unexpected<Error> with_hint(std::unexpected<Error> refusal, std::string hint) {
  refusal.error().hint = std::move(hint);
  return refusal;
}

// The error of a Result that has one, for coroutines to co_return.
template <typename T>
std::unexpected<Error> failure(Result<T>& result) {
  return std::unexpected(std::move(result).error());
}

}  // namespace wick

// The value of a Result, or return its error from the enclosing function.
// (Not in coroutines: they `co_return` by hand.)
#define TRY(expression)                                                     \
  __extension__({                                                           \
    auto try_result = (expression);                                         \
    if (!try_result) return std::unexpected(std::move(try_result).error()); \
    *std::move(try_result);                                                 \
  })

#include "guest/plan.h"

#include <fmt/ranges.h>

#include "guest/protocol.h"

namespace wick::guest {

Plan::Plan() { add({WICK_PLAN_MAGIC}); }

Plan& Plan::add(std::initializer_list<std::string_view> fields) {
  for (const std::string_view field : fields) {
    text_ += field;
    text_ += '\0';
  }
  return *this;
}

Plan& Plan::maybe() { return add({"try"}); }

Plan& Plan::module(std::string_view path, std::string_view parameters) {
  return add({"module", path, parameters});
}

Plan& Plan::make_folder(std::string_view path, unsigned mode) {
  return add({"mkdir", path, fmt::format("{:o}", mode)});
}

Plan& Plan::mount(std::string_view source, std::string_view target, std::string_view type,
                  unsigned long flags, std::string_view data) {
  return add({"mount", source, target, type, fmt::format("{}", flags), data});
}

Plan& Plan::symlink(std::string_view text, std::string_view path) {
  return add({"symlink", text, path});
}

Plan& Plan::open_port(std::string_view name) { return add({"port", name}); }

Plan& Plan::move_root(std::string_view folder) { return add({"move-root", folder}); }

Plan& Plan::hostname(std::string_view name) { return add({"hostname", name}); }

Plan& Plan::loopback() { return add({"loopback"}); }

Plan& Plan::user(uid_t uid, gid_t gid, std::span<const gid_t> groups) {
  return add({"user", fmt::format("{}", uid), fmt::format("{}", gid),
              fmt::format("{}", fmt::join(groups, ","))});
}

Plan& Plan::pwd(std::string_view folder) { return add({"pwd", folder}); }

Plan& Plan::terminal(console::Size size, bool separate_stderr) {
  return add({"pty", fmt::format("{}", size.columns), fmt::format("{}", size.rows),
              separate_stderr ? "1" : "0"});
}

Plan& Plan::copy(std::string_view from, std::string_view to) { return add({"copy", from, to}); }

Plan& Plan::environment(std::span<const std::string> variables) {
  for (const std::string& variable : variables) add({"env", variable});
  return *this;
}

Plan& Plan::command(std::span<const std::string> arguments) {
  for (const std::string& argument : arguments) add({"arg", argument});
  return *this;
}

}  // namespace wick::guest

// Writes the plan of a guest's init, step by step (guest/protocol.h describes the steps).
//
// Thread rule: none.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "console/backend.h"

namespace wick::guest {

class Plan {
 public:
  Plan();

  // Lets the next step fail without ending init.
  Plan& maybe();
  Plan& module(std::string_view path, std::string_view parameters = {});
  Plan& make_folder(std::string_view path, unsigned mode = 0755);
  // `flags` and `data` are those of mount(2).
  Plan& mount(std::string_view source, std::string_view target, std::string_view type,
              unsigned long flags = 0, std::string_view data = {});
  Plan& symlink(std::string_view text, std::string_view path);
  Plan& open_port(std::string_view name);
  Plan& move_root(std::string_view folder);
  Plan& hostname(std::string_view name);
  Plan& loopback();
  Plan& user(uid_t uid, gid_t gid, std::span<const gid_t> groups);
  Plan& pwd(std::string_view folder);
  Plan& terminal(console::Size size, bool separate_stderr);
  Plan& environment(std::span<const std::string> variables);
  Plan& command(std::span<const std::string> arguments);

  // Makes init copy `from`, a file or a folder, to `to` after the command has ended.
  Plan& copy(std::string_view from, std::string_view to);

  // Returns the content of the file WICK_PLAN_PATH.
  const std::string& text() const { return text_; }

 private:
  // No field may contain a NUL.
  Plan& add(std::initializer_list<std::string_view> fields);
  std::string text_;
};

}  // namespace wick::guest

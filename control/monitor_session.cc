#include "control/monitor_session.h"

#include <fmt/format.h>

#include <algorithm>

namespace wick::control {

namespace {

constexpr std::string_view kPrompt = "(wick) ";

}  // namespace

MonitorSession::MonitorSession(Context& context, Events events)
    : hmp_(context), events_(std::move(events)) {
  events_.send(fmt::format("{} monitor - type 'help' for more information\r\n{}",
                           context.hooks().version, kPrompt));
}

void MonitorSession::receive(std::string_view bytes) {
  input_ += bytes;
  // Only the part after the last newline can become an endless line.
  const size_t last = input_.rfind('\n') + 1;
  if (input_.size() - last <= Hmp::kMaxLineBytes) return;
  if (last > 0) return;  // checked again when the lines before it have been executed
  if (!overlong_) events_.send(fmt::format("the line is too long\r\n{}", kPrompt));
  overlong_ = true;
  input_.clear();
}

bool MonitorSession::run_one() {
  if (waiting_) return false;
  const size_t end = input_.find('\n');
  if (end == std::string::npos) return false;
  std::string line = input_.substr(0, end);
  input_.erase(0, end + 1);
  if (std::exchange(overlong_, false)) return true;
  if (line.ends_with('\r')) line.pop_back();
  waiting_ = true;
  const auto inside = std::make_shared<bool>(true);
  // The Hmp may answer after this object has been destroyed; then `alive` has expired.
  hmp_.execute(line, [this, inside, alive = hmp_.alive()](const std::string& text) {
    if (alive.expired()) return;
    waiting_ = false;
    events_.send(text + std::string(kPrompt));
    if (!*inside && events_.ready) events_.ready();
  });
  *inside = false;
  return !waiting_;
}

}  // namespace wick::control

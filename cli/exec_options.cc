#include "cli/exec_options.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

namespace wick::cli {

namespace {

Result<std::string> nonempty(const std::string& value) {
  if (value.empty()) return fail("must not be empty");
  return value;
}

// Returns the path of an existing folder, without symbolic links. A folder for which the user gives
// no GUEST path has this path in the guest, too.
Result<std::string> host_folder(const std::string& path) {
  TRY(nonempty(path));
  std::error_code error;
  const auto whole = std::filesystem::canonical(path, error);
  if (error) return fail_errno(error.value(), "{}: cannot be shared", path);
  if (!std::filesystem::is_directory(whole, error)) return fail("{}: not a folder", path);
  return whole.string();
}

// Parses DIR or DIR:GUEST.
Result<ExecOptions::Folder> parse_folder(const std::string& value, bool read_only) {
  const size_t colon = value.rfind(":/");
  ExecOptions::Folder folder{
      .host = TRY(host_folder(value.substr(0, colon))), .guest = {}, .read_only = read_only};
  folder.guest = colon == value.npos ? folder.host : value.substr(colon + 1);
  return folder;
}

template <std::string ExecOptions::*member>
Result<void> set(ExecOptions& options, const std::string& value) {
  options.*member = TRY(nonempty(value));
  return {};
}

template <unsigned ExecOptions::*member>
Result<void> set_count(ExecOptions& options, const std::string& value) {
  constexpr unsigned kMax = 1'000'000;
  unsigned number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 1 || number > kMax)
    return fail("must be a number from 1 to {}", kMax);
  options.*member = number;
  return {};
}

template <bool read_only>
Result<void> add_folder(ExecOptions& options, const std::string& value) {
  options.folders.push_back(TRY(parse_folder(value, read_only)));
  return {};
}

constexpr ExecOption kExecOptions[] = {
    {{"--user", "USER", "runs the command as NAME or UID[:GID] (the caller)"},
     false,
     set<&ExecOptions::user>},
    {{"--pwd", "DIR", "the command's folder (the caller's)"}, false, set<&ExecOptions::pwd>},
    {{"-E,--env", "NAME", "NAME or NAME=VALUE for its environment; may repeat"},
     true,
     [](ExecOptions& o, const std::string& v) -> Result<void> {
       if (v.empty() || v.front() == '=') return fail("needs the name of a variable");
       o.environment.push_back(v);
       return {};
     }},
    {{"--root", "DIR|none", "the root, copied on write; none: the initramfs (/)"},
     false,
     [](ExecOptions& o, const std::string& v) -> Result<void> {
       o.root = v == "none" ? v : TRY(host_folder(v));
       return {};
     }},
    {{"--rw", "DIR", "DIR or DIR:GUEST can be written; may repeat"}, true, add_folder<false>},
    {{"--ro", "DIR", "DIR or DIR:GUEST can be read; may repeat"}, true, add_folder<true>},
    {{"--tmpfs", "DIR", "an empty folder in memory; may repeat"},
     true,
     [](ExecOptions& o, const std::string& v) -> Result<void> {
       if (!v.starts_with('/')) return fail("needs an absolute path in the guest");
       o.tmpfs.push_back(v);
       return {};
     }},
    {{"--overlay", "DIR", "keeps what the guest writes to its root (in memory)"},
     false,
     [](ExecOptions& o, const std::string& v) -> Result<void> {
       o.overlay = TRY(host_folder(v));
       return {};
     }},
    {{"--copy-out", "GUEST[:HOST]", "copies a file or folder out, in the end"},
     true,
     [](ExecOptions& o, const std::string& v) -> Result<void> {
       constexpr size_t kMaxCopies = 16;
       if (o.copies.size() == kMaxCopies) return fail("at most {} are possible", kMaxCopies);
       const size_t colon = v.find(':');
       const std::string guest = v.substr(0, colon);
       // "results/" is named "results".
       const std::filesystem::path path = guest.substr(0, guest.find_last_not_of('/') + 1);
       const std::string name = path.filename();
       ExecOptions::Copy copy{guest, colon == v.npos ? name : v.substr(colon + 1)};
       if (copy.guest.empty() || copy.host.empty()) return fail("needs two paths, GUEST:HOST");
       o.copies.push_back(std::move(copy));
       return {};
     }},
    {{"--modules", "DIR|auto|none", "the kernel's modules (auto)"},
     false,
     set<&ExecOptions::modules>},
    {{"--script", "FILE", "runs this file by sh, with COMMAND as its arguments"},
     true,
     [](ExecOptions& o, const std::string& v) -> Result<void> {
       std::error_code error;
       const auto whole = std::filesystem::canonical(TRY(nonempty(v)), error);
       if (error) return fail_errno(error.value(), "cannot be read");
       // sh takes a folder for an empty script.
       if (!std::filesystem::is_regular_file(whole, error)) return fail("is not a regular file");
       o.scripts.push_back(whole.string());
       return {};
     }},
    {{"--json", "FILE", "writes there how the command ended"}, false, set<&ExecOptions::json_path>},
    {{"--junit", "FILE", "writes there a JUnit report of the runs"},
     false,
     set<&ExecOptions::junit_path>},
    {{"--repeat", "N", "runs each command on N machines in turn (1)"},
     false,
     set_count<&ExecOptions::repeat>},
    {{"--jobs", "N", "how many of them run at the same time (1)"},
     false,
     set_count<&ExecOptions::jobs>},
};

Result<void> check(const ExecOptions& options) {
  if (options.root == "none" && !options.overlay.empty())
    return with_hint(fail("--overlay: there is no root to lay it over"), "leave --root none out");
  for (const std::string& script : options.scripts) {
    const std::string root = options.root == "/" ? "" : options.root;
    if (!script.starts_with(root + '/'))
      return with_hint(
          fail("--script {}: the guest has no such file, because its root is another", script),
          "give a file in --root, or leave --root out");
  }
  if (options.root != "/" && !options.pwd.empty() && options.pwd.front() != '/')
    return with_hint(fail("--pwd {}: the guest has another root than the host", options.pwd),
                     "give an absolute path in the guest");
  if (options.jobs > 1 && !options.overlay.empty())
    return with_hint(fail("--overlay: only one run at a time can use a folder"),
                     "leave --jobs out, or start each run with a folder of its own");
  if (options.jobs > 1 && options.repeat == 1 && options.kernels.size() <= 1 &&
      options.scripts.size() <= 1)
    return with_hint(fail("--jobs: there is one run only"),
                     "give --repeat, or several times -k or --script");
  return {};
}

}  // namespace

std::span<const ExecOption> exec_options() { return kExecOptions; }

Result<ExecOptions> resolve_exec(
    const std::function<std::vector<std::string>(const std::string& name)>& values,
    std::vector<std::string> command) {
  ExecOptions options;
  options.command = std::move(command);
  options.kernels = values("kernel");
  for (const ExecOption& option : exec_options()) {
    const std::vector<std::string> given = values(option.name());
    if (given.size() > 1 && !option.repeats)
      return fail("--{}: given more than once; it takes one value", option.name());
    for (const std::string& value : given) {
      if (auto applied = option.apply(options, value); !applied) {
        Error error = std::move(applied).error();
        error.context = fmt::format("--{} '{}': {}", option.name(), value, error.context);
        return std::unexpected(std::move(error));
      }
    }
  }
  TRY(check(options));
  return options;
}

}  // namespace wick::cli

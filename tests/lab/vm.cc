#include "tests/lab/vm.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <regex>
#include <sstream>

namespace wick::lab {

std::string image(const std::string& name) {
  const std::string path = fmt::format("{}/guest-images/out/{}", WICK_SOURCE_DIR, name);
  if (::access(path.c_str(), R_OK) != 0)
    give_up(path + " is not there: run guest-images/build all");
  return path;
}

std::string alpine_disk(const TempDir& dir, const std::string& name) {
  // The first copy is made sparse, so that copies of it are fast.
  static const TempDir master_dir;
  static const std::string master = [] {
    const std::string path = master_dir / "alpine.ext4";
    const Finished copied = finish({"cp", "--sparse=always", image("alpine.pristine.ext4"), path});
    if (copied.status != 0) give_up(copied.err);
    return path;
  }();
  const std::string path = dir / name;
  const Finished copied = finish({"cp", "--sparse=auto", master, path});
  if (copied.status != 0) give_up(copied.err);
  std::filesystem::permissions(path, std::filesystem::perms(0644));
  return path;
}

std::string blank_disk(const TempDir& dir, const std::string& name, uint64_t size_bytes) {
  write_file(dir / name, "");
  std::filesystem::resize_file(dir / name, size_bytes);
  return dir / name;
}

std::vector<std::string> wick(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {WICK_BINARY};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

std::vector<std::string> wick_run(const std::vector<std::string>& options) {
  std::vector<std::string> argv = {WICK_BINARY, "run"};
  argv.insert(argv.end(), options.begin(), options.end());
  return argv;
}

void log_in(Dialogue& console, const std::string& user, const std::string& password) {
  console.expect("login: ");
  console.send(user + "\n");
  console.expect("Password: ");
  console.send(password + "\n");
  console.expect(user == "root" ? ":~# " : ":~$ ");
}

Answer ask(Dialogue& console, const std::string& command, Seconds patience) {
  // Quotes split the marks, so that the echo of the typed command does not contain them.
  static int count = 0;
  const std::string mark = fmt::format("<{}", ++count);
  console.send(fmt::format("echo '{0}''('; {1}; echo '{0}'')'$?'>'\n", mark, command));
  console.expect(mark + "(\r\n", patience);
  std::string output = console.expect(mark + ")", patience);
  std::erase(output, '\r');
  if (output.ends_with('\n')) output.pop_back();
  return {std::stoi(console.expect(">", patience)), output};
}

std::string run_in_guest(Dialogue& console, const std::string& command, Seconds patience) {
  const Answer answer = ask(console, command, patience);
  EXPECT_EQ(answer.status, 0) << "in the guest: " << command << "\n" << answer.output;
  return answer.output;
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

std::string last_line(const std::string& text) {
  const std::vector<std::string> all = lines(text);
  return all.empty() ? "" : all.back();
}

std::string expect_ending(Process& process, int status, std::string_view expected,
                          Seconds patience) {
  EXPECT_EQ(process.wait(patience), status);
  std::string errors = process.errors();
  EXPECT_TRUE(last_line(errors).starts_with(expected))
      << "expected the last line \"" << expected << "\", stderr is:\n"
      << errors;
  EXPECT_TRUE(errors.ends_with('\n'));
  return errors;
}

std::string power_off(Process& vm) {
  vm.console().send("poweroff\n");
  return expect_ending(vm, 0, "wick: the guest powered off");
}

void expect_clean(const std::string& path) {
  const Finished check = finish({"fsck.ext4", "-fn", path});
  EXPECT_EQ(check.status, 0) << path << ":\n" << check.out << check.err;
}

std::string file_in_image(const std::string& image_path, const std::string& file) {
  const Finished content = finish({"debugfs", "-R", "cat " + file, image_path});
  EXPECT_EQ(content.status, 0) << content.err;
  return content.out;
}

std::string complaints(const std::string& dmesg) {
  static const std::regex bad(
      R"(ACPI.*(error|warning)|\bWARN|\bBUG\b|Firmware (bug|warn)|Oops|Call Trace|I/O error|)"
      R"(virtio.*(fail|error)|lockup|\bstall|nobody cared|lost|unstable)",
      std::regex::icase);
  // Correct messages of every kernel on such a machine.
  static const std::array allowed = {
      std::regex("if necessary, use .* and report a bug"),  // PCI; not a fault
      std::regex("AMD-Vi: .* This is not a bug"),           // there is no IOMMU
      // From the lab's emulated CPUs; guests use kvm-clock.
      std::regex("Marking TSC unstable due to TSCs unsynchronized"),
  };
  std::string found;
  for (const std::string& line : lines(dmesg)) {
    const auto matches = [&](const std::regex& pattern) {
      return std::regex_search(line, pattern);
    };
    if (matches(bad) && std::none_of(allowed.begin(), allowed.end(), matches)) found += line + "\n";
  }
  return found;
}

}  // namespace wick::lab

// Commands of wick image in a folder of their own, and qemu-img beside them.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <regex>

#include "cli/options.h"
#include "tests/fakes/files.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {

using Arguments = std::vector<std::string>;

inline std::expected<Command, CommandError> parse(Arguments arguments) {
  arguments.insert(arguments.begin(), "image");
  return parse_command(arguments, [](const std::string&) { return nullptr; });
}

// A test that runs in a folder of its own.
class InOwnFolder : public testing::Test {
 protected:
  InOwnFolder() { std::filesystem::current_path(folder_.path()); }
  ~InOwnFolder() override { std::filesystem::current_path(old_); }

 private:
  const std::filesystem::path old_ = std::filesystem::current_path();
  const fakes::TempDir folder_;
};

// Commands in a folder of their own.
class ImageCommands : public InOwnFolder {
 protected:
  struct Outcome {
    int status = -1;
    std::string out;
    std::string error;
  };
  static Outcome wick(const Arguments& arguments) {
    const auto command = parse(arguments);
    if (!command) return {2, "", command.error().error.message()};
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const auto status = std::visit([](const auto& what) { return image::execute(what); },
                                   std::get<image::ImageCommand>(*command));
    Outcome outcome{status ? *status : 1, testing::internal::GetCapturedStdout(),
                    testing::internal::GetCapturedStderr()};
    if (!status) outcome.error += status.error().message();
    return outcome;
  }
  static Outcome shell(const std::string& command) {
    Outcome outcome;
    outcome.status = WEXITSTATUS(std::system(("(" + command + ") >out 2>err").c_str()));
    outcome.out = fakes::read_file("out");
    outcome.error = fakes::read_file("err");
    return outcome;
  }
  static void expect_same(const Arguments& arguments) {
    std::string line = "qemu-img";
    for (const std::string& argument : arguments) line += " '" + argument + "'";
    const Outcome qemu = shell(line);
    const Outcome ours = wick(arguments);
    EXPECT_EQ(ours.status, qemu.status) << line << ours.error << qemu.error;
    EXPECT_EQ(known_to_all(ours.out), known_to_all(qemu.out)) << line;
  }

  // Removes the key that only qemu-img 8.2 and later have in map.
  static std::string known_to_all(const std::string& text) {
    return std::regex_replace(text, std::regex(", \"compressed\": (true|false)"), "");
  }
};

}  // namespace wick::cli

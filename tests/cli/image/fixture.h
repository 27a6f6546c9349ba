// Commands of wick image in a folder of their own, and qemu-img beside them.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>

#include "cli/options.h"

namespace wick::cli {

using Arguments = std::vector<std::string>;

inline std::expected<Command, CommandError> parse(Arguments arguments) {
  arguments.insert(arguments.begin(), "image");
  return parse_command(arguments, [](const std::string&) { return nullptr; });
}

// Commands in a folder of their own.
class ImageCommands : public testing::Test {
 protected:
  ImageCommands() {
    std::string name = std::filesystem::current_path() / "wick-image-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    old_ = std::filesystem::current_path();
    std::filesystem::current_path(directory_);
  }
  ~ImageCommands() override {
    std::filesystem::current_path(old_);
    std::filesystem::remove_all(directory_);
  }

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
    for (const auto& [name, text] :
         {std::pair("out", &outcome.out), std::pair("err", &outcome.error)}) {
      std::ifstream file(name);
      text->assign(std::istreambuf_iterator<char>(file), {});
    }
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

 private:
  std::filesystem::path directory_;
  std::filesystem::path old_;
};

}  // namespace wick::cli

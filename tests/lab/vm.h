// wick under test: starting it, talking to the guest's shell, and how runs end.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/lab/process.h"

namespace wick::lab {

// The path of guest-images/out/NAME; ends the test if it has not been built.
std::string image(const std::string& name);

// A copy of Alpine's disk in `dir`, sparse, for one machine to write to.
std::string alpine_disk(const TempDir& dir, const std::string& name = "alpine.ext4");

// An empty sparse file.
std::string blank_disk(const TempDir& dir, const std::string& name, uint64_t size_bytes);

// `wick run OPTIONS`, and any other command of wick's.
std::vector<std::string> wick_run(const std::vector<std::string>& options);
std::vector<std::string> wick(const std::vector<std::string>& arguments);

// Waits for a login prompt, logs in, and waits for the shell.
void log_in(Dialogue& console, const std::string& user = "root",
            const std::string& password = "toor");

// Runs `command` in the guest's shell on `console`. The output has no carriage returns and no
// last newline.
struct Answer {
  int status = 0;
  std::string output;
};
Answer ask(Dialogue& console, const std::string& command, Seconds patience = kPatience);
// The same, for commands that succeed; the test fails if one does not.
std::string run_in_guest(Dialogue& console, const std::string& command,
                         Seconds patience = kPatience);

// Waits for the end of `process`, and checks its exit status and that the last
// line on stderr is `last_line` or begins with it. Returns all of stderr.
std::string expect_ending(Process& process, int status, std::string_view last_line,
                          Seconds patience = kPatience);
// Runs `poweroff` in the guest's shell, and expects the ending for it.
std::string power_off(Process& vm);

// Checks that the file system in the image at `path` is clean, without a journal to replay.
void expect_clean(const std::string& path);
// The content of a file inside that image.
std::string file_in_image(const std::string& image_path, const std::string& file);

// The lines of a kernel log that report a fault of the machine.
std::string complaints(const std::string& dmesg);

std::string last_line(const std::string& text);
std::vector<std::string> lines(const std::string& text);

}  // namespace wick::lab

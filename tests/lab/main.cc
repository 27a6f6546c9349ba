// lab_tests: whole virtual machines. Runs where guests can run: here, when this
// host's KVM has hardware virtualization behind it, otherwise in the lab
// (tests/lab/lab). WICK_LAB=0 insists on here, WICK_LAB=1 on the lab.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "base/fd.h"

namespace {

constexpr int kNowhere = 125;

// A KVM that only emulates guests' kernel mode exists too; such CPUs have
// neither flag.
bool kvm_is_usable() {
  if (!wick::Fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC)).valid()) return false;
  static const std::regex flags(R"(^flags\b.*\b(vmx|svm)\b)");
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);)
    if (std::regex_search(line, flags)) return true;
  return false;
}

void say(const std::string& text) {
  std::printf("lab_tests: %s\n", text.c_str());
  std::fflush(stdout);
}

// True: here. False: in the lab.
bool choose_place() {
  if (const char* const lab = std::getenv("WICK_IN_LAB"); lab != nullptr && *lab != '\0') {
    say("in the lab");
    return true;
  }
  const char* const wish = std::getenv("WICK_LAB");
  const std::string place = wish ? wish : "";
  if (place == "0") say("guests run on this host's /dev/kvm (WICK_LAB=0)");
  if (place == "1") say("guests run in the lab (WICK_LAB=1)");
  if (place == "0" || place == "1") return place == "0";
  const bool usable = kvm_is_usable();
  say(usable ? "guests run on this host's /dev/kvm"
             : "no usable hardware virtualization here: guests run in the lab");
  return usable;
}

int run_in_lab(int argc, char** argv) {
  // The lab would pass on, and so eat, what is not for us.
  if (::isatty(STDIN_FILENO) != 1) ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
  static std::string lab = WICK_SOURCE_DIR "/tests/lab/lab";
  std::vector<char*> words = {lab.data()};
  words.insert(words.end(), argv, argv + argc);
  words.push_back(nullptr);
  std::vector<char> self(4096);
  if (::readlink("/proc/self/exe", self.data(), self.size() - 1) > 0) words[1] = self.data();
  // The lab's own kernel may die of its QEMU's faults: that says nothing of wick.
  int status = kNowhere;
  for (int tries = 1; tries <= 2 && status == kNowhere; ++tries) {
    if (tries > 1) say("the lab itself failed (above); once more");
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      ::execv(words[0], words.data());
      std::fprintf(stderr, "lab_tests: %s: %s\n", lab.c_str(), std::strerror(errno));
      ::_exit(kNowhere);
    }
    int ended = 0;
    if (child < 0 || ::waitpid(child, &ended, 0) != child) return kNowhere;
    status = WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
  }
  return status;
}

constexpr const char* kTry = "WICK_LAB_TRY";
constexpr int kMostTries = 3;
// More failures than this are no accident.
constexpr size_t kMostTriedAgain = 5;

std::vector<std::string> failed_tests() {
  std::vector<std::string> names;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    const testing::TestSuite& suite = *all.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); ++j)
      if (const testing::TestInfo& test = *suite.GetTestInfo(j); test.result()->Failed())
        names.push_back(std::string(suite.name()) + "." + test.name());
  }
  return names;
}

// In a lab with several CPUs guests hang now and then, by QEMU's fault (tests/lab/lab).
// In labs, and only there, a few failed tests are run again, and named.
int run_again_in_lab(char* self, int tries, const std::vector<std::string>& failed) {
  std::string names;
  for (const std::string& name : failed) names += (names.empty() ? "" : ":") + name;
  say(
      fmt::format("failed at try {} of {}, which a lab gives, since its emulated CPUs "
                  "lose interrupts now and then: {}",
                  tries, kMostTries, names));
  ::unsetenv("GTEST_TOTAL_SHARDS");
  ::unsetenv("GTEST_SHARD_INDEX");
  ::setenv(kTry, std::to_string(tries + 1).c_str(), 1);
  std::string filter = "--gtest_filter=" + names;
  char* const words[] = {self, filter.data(), nullptr};
  ::execv("/proc/self/exe", words);
  return 1;
}

// A fatal failure ends its test from any depth of calls (GoogleTest, Advanced
// Guide, "Asserting on Subroutines with an Exception").
class EndTestOnFatalFailure final : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.fatally_failed()) throw testing::AssertionException(result);
  }
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  const bool only_list = [&] {
    for (const char* const argument : arguments)
      if (std::strcmp(argument, "--gtest_list_tests") == 0) return true;
    return false;
  }();
  if (!only_list && !choose_place()) return run_in_lab(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new EndTestOnFatalFailure);
  const int status = RUN_ALL_TESTS();
  const char* const earlier = std::getenv(kTry);
  const int tries = earlier ? std::atoi(earlier) : 1;
  if (status == 0 || std::getenv("WICK_IN_LAB") == nullptr || tries >= kMostTries) return status;
  const std::vector<std::string> failed = failed_tests();
  if (failed.empty() || failed.size() > kMostTriedAgain) return status;
  return run_again_in_lab(argv[0], tries, failed);
}

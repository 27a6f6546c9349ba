// lab_tests: whole virtual machines. They run on this host if its KVM has hardware
// virtualization, otherwise in the lab (tests/lab/lab). WICK_LAB=0 selects this host, WICK_LAB=1
// the lab, WICK_LAB=intel the lab with an Intel CPU (tests/lab/intel).
#include <fcntl.h>
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

// Some KVMs only emulate the guest's kernel mode; their CPUs have neither flag.
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

enum class Place { kHere, kLab, kIntelLab };

Place choose_place() {
  if (const char* const lab = std::getenv("WICK_IN_LAB"); lab != nullptr && *lab != '\0') {
    say("in the lab");
    return Place::kHere;
  }
  const char* const wish = std::getenv("WICK_LAB");
  const std::string place = wish ? wish : "";
  if (place == "0") say("guests run on this host's /dev/kvm (WICK_LAB=0)");
  if (place == "1") say("guests run in the lab (WICK_LAB=1)");
  if (place == "intel") say("guests run in the lab with an Intel CPU (WICK_LAB=intel)");
  if (place == "0") return Place::kHere;
  if (place == "1") return Place::kLab;
  if (place == "intel") return Place::kIntelLab;
  const bool usable = kvm_is_usable();
  say(usable ? "guests run on this host's /dev/kvm"
             : "no usable hardware virtualization here: guests run in the lab");
  return usable ? Place::kHere : Place::kLab;
}

// A lab with more than one CPU may crash because of faults of QEMU, not of wick. Such a lab is
// started once more. A failed test is never run again.
int run_in_lab(Place place, int argc, char** argv) {
  // The lab passes on stdin and would consume input that is not for the tests.
  if (::isatty(STDIN_FILENO) != 1) ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
  std::string lab = WICK_SOURCE_DIR "/tests/lab/";
  lab += place == Place::kIntelLab ? "intel" : "lab";
  std::vector<char*> words = {lab.data()};
  words.insert(words.end(), argv, argv + argc);
  words.push_back(nullptr);
  std::vector<char> self(4096);
  if (::readlink("/proc/self/exe", self.data(), self.size() - 1) > 0) words[1] = self.data();
  const char* const cpus = std::getenv("WICK_LAB_CPUS");
  const int max_labs = cpus != nullptr && std::strcmp(cpus, "1") != 0 ? 2 : 1;
  int status = kNowhere;
  for (int labs = 1; labs <= max_labs && status == kNowhere; ++labs) {
    if (labs > 1) say("the lab itself crashed (see above), not a test; starting another lab");
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
  if (const Place place = only_list ? Place::kHere : choose_place(); place != Place::kHere)
    return run_in_lab(place, argc, argv);
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new EndTestOnFatalFailure);
  return RUN_ALL_TESTS();
}

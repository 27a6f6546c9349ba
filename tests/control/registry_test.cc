#include "control/registry.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <thread>

#include "control/start_ticks.h"
#include "tests/fakes/temp_dir.h"
#include "tests/fakes/wait_for.h"

namespace wick::control {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace fs = std::filesystem;

template <typename T>
std::string error_of(const Result<T>& result) {
  return result ? "no error" : result.error().message();
}

class RegistryTest : public ::testing::Test {
 protected:
  Registry registry() const { return *Registry::open(folder_); }

  // Runs `body` in a process that then waits to be killed. Its claims end with it.
  pid_t start_process(const std::function<void()>& body) {
    std::array<int, 2> ready{};
    EXPECT_EQ(::pipe2(ready.data(), O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      body();
      (void)!::write(ready[1], "r", 1);
      for (;;) ::pause();
    }
    char byte = 0;
    ::close(ready[1]);
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    return child;
  }
  static void kill_process(pid_t process) {
    ::kill(process, SIGKILL);
    ::waitpid(process, nullptr, 0);
  }

  const fakes::TempDir temp_{fs::temp_directory_path()};
  const std::string folder_ = temp_ / "wick";
};

MachineRecord record_of(const std::string& name, pid_t pid) {
  MachineRecord record;
  record.name = name;
  record.pid = pid;
  record.start_ticks = start_ticks(pid).value_or(0);
  return record;
}

// --- Names and folders ---

TEST(MachineNames, AreThoseOfFolders) {
  for (const char* const name : {"web", "web-1", "wick-123", "a.b", "Bücher", "_", "n"})
    EXPECT_TRUE(check_machine_name(name)) << name;
  EXPECT_TRUE(check_machine_name(std::string(64, 'a')));
}

TEST(MachineNames, ThatLeadElsewhereAreRefusedWithTheRule) {
  for (const char* const name :
       {"", ".", "..", ".web", "-f", "a/b", "/", "a b", "a\nb", "a\x7f", "../net", "net"})
    EXPECT_THAT(error_of(check_machine_name(name)), HasSubstr("; choose a name such as web-1"))
        << name;
  EXPECT_THAT(error_of(check_machine_name(std::string(65, 'a'))),
              HasSubstr("at most 64 bytes, this one has 65"));
  EXPECT_FALSE(check_machine_name(std::string("a\0b", 3)));
}

TEST(RegistryFolder, IsRootsOrTheSessionsOrOneInTmp) {
  EXPECT_EQ(registry_folder({}, 0), "/run/wick");
  EXPECT_EQ(registry_folder({.xdg_runtime_dir = "/run/user/0"}, 0), "/run/wick");
  EXPECT_EQ(registry_folder({.xdg_runtime_dir = "/run/user/7"}, 7), "/run/user/7/wick");
  EXPECT_EQ(registry_folder({}, 7), "/tmp/wick-7");
  EXPECT_EQ(registry_folder({.xdg_runtime_dir = "run"}, 7), "/tmp/wick-7");
  EXPECT_EQ(registry_folder({.xdg_runtime_dir = ""}, 7), "/tmp/wick-7");
  EXPECT_EQ(registry_folder({.wick_runtime_dir = "/r", .xdg_runtime_dir = "/x"}, 0), "/r");
  EXPECT_EQ(registry_folder({.wick_runtime_dir = "r", .xdg_runtime_dir = "/x"}, 7), "/x/wick");
}

TEST_F(RegistryTest, MakesItsFoldersForTheOwnerAlone) {
  const auto entry = registry().claim("web");
  ASSERT_TRUE(entry) << error_of(entry);
  struct stat status {};
  ASSERT_EQ(::stat((folder_ + "/web").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700u);
  ASSERT_EQ(::stat((folder_ + "/web/lock").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  ASSERT_EQ(::stat(folder_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0022, 0u);
}

TEST_F(RegistryTest, RefusesAFolderThatIsALink) {
  fs::create_directory(temp_ / "elsewhere");
  fs::create_directory_symlink(temp_ / "elsewhere", folder_);
  EXPECT_THAT(error_of(Registry::open(folder_)),
              AllOf(HasSubstr(folder_), HasSubstr("links are not followed")));
  EXPECT_THAT(fs::is_empty(temp_ / "elsewhere"), true);
}

TEST_F(RegistryTest, RefusesAFolderThatOthersMayWriteTo) {
  fs::create_directory(folder_);
  for (const auto write : {fs::perms::group_write, fs::perms::others_write}) {
    fs::permissions(folder_, fs::perms::owner_all | write);
    EXPECT_THAT(error_of(Registry::open(folder_)), HasSubstr("others than its owner may write"));
  }
}

TEST_F(RegistryTest, RefusesAFolderOfAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make one";
  fs::create_directory(folder_);
  ASSERT_EQ(::chown(folder_.c_str(), 1234, 1234), 0);
  EXPECT_THAT(error_of(Registry::open(folder_)), HasSubstr("it is another user's"));
}

TEST_F(RegistryTest, RefusesAFileAndARelativePathAndAMissingParent) {
  temp_.write("wick", "x");
  EXPECT_THAT(error_of(Registry::open(folder_)), HasSubstr("not a folder"));
  EXPECT_THAT(error_of(Registry::open("wick")), HasSubstr("absolute"));
  EXPECT_THAT(error_of(Registry::open("/")), HasSubstr("absolute"));
  EXPECT_THAT(error_of(Registry::open(temp_ / "a/b")), HasSubstr("No such file"));
  EXPECT_THAT(temp_.read("wick"), "x");
}

TEST_F(RegistryTest, FollowsNoLinkInsideTheFolder) {
  const Registry registry = this->registry();
  fs::create_directory(temp_ / "elsewhere");
  temp_.write("precious", "content");
  fs::create_directory_symlink(temp_ / "elsewhere", folder_ + "/web");
  EXPECT_THAT(error_of(registry.claim("web")), HasSubstr("links are not followed"));
  EXPECT_THAT(error_of(registry.find("web")), HasSubstr("no machine of this name"));
  EXPECT_THAT(*registry.names(), IsEmpty());

  fs::create_directory(folder_ + "/db");
  fs::permissions(folder_ + "/db", fs::perms::owner_all);
  fs::create_symlink(temp_ / "precious", folder_ + "/db/lock");
  EXPECT_THAT(error_of(registry.claim("db")), HasSubstr("db/lock: cannot open"));
  EXPECT_FALSE(registry.find("db"));

  // Those of a stale entry are removed, not followed.
  fs::remove(folder_ + "/db/lock");
  fakes::write_file(folder_ + "/db/lock", "");
  for (const char* const file : {"machine.json", "log", "console.log", "ending.json.new"})
    fs::create_symlink(temp_ / "precious", folder_ + "/db/" + file);
  const auto entry = registry.claim("db");
  ASSERT_TRUE(entry) << error_of(entry);
  ASSERT_TRUE(entry->create_file("log"));
  EXPECT_TRUE(entry->publish(record_of("db", ::getpid())));
  EXPECT_EQ(temp_.read("precious"), "content");
}

TEST_F(RegistryTest, RefusesAnEntryOfAnotherUserOrWithAnOpenDoor) {
  const Registry registry = this->registry();
  fs::create_directory(folder_ + "/web");
  fs::permissions(folder_ + "/web", fs::perms::all);
  EXPECT_THAT(error_of(registry.claim("web")), HasSubstr("others than its owner"));
  if (::geteuid() != 0) return;
  fs::permissions(folder_ + "/web", fs::perms::owner_all);
  ASSERT_EQ(::chown((folder_ + "/web").c_str(), 1234, 1234), 0);
  EXPECT_THAT(error_of(registry.claim("web")), HasSubstr("another user's"));
}

TEST_F(RegistryTest, DoesNotWaitForAFifo) {
  const Registry registry = this->registry();
  fs::create_directory(folder_ + "/web");
  fs::permissions(folder_ + "/web", fs::perms::owner_all);
  ASSERT_EQ(::mkfifo((folder_ + "/web/lock").c_str(), 0600), 0);
  EXPECT_FALSE(registry.find("web"));
  EXPECT_THAT(*registry.names(), IsEmpty());
}

TEST_F(RegistryTest, IgnoresWhatIsNoEntry) {
  const Registry registry = this->registry();
  fs::create_directories(folder_ + "/net/wick0");  // of wick net
  fakes::write_file(folder_ + "/net/lock", "");
  fs::create_directory(folder_ + "/empty");
  fakes::write_file(folder_ + "/file", "");
  EXPECT_THAT(*registry.names(), IsEmpty());
}

// --- Lives ---

TEST_F(RegistryTest, KnowsALiveMachineAndItsRecord) {
  const Registry registry = this->registry();
  const auto web = registry.claim("web");
  const auto db = registry.claim("db");
  ASSERT_TRUE(web && db);
  EXPECT_THAT(*registry.names(), ElementsAre("db", "web"));
  const auto view = registry.find("web");
  ASSERT_TRUE(view);
  EXPECT_EQ(view->state(), MachineView::State::kLive);
  EXPECT_FALSE(view->record()) << "it is still being built";
  MachineRecord record = record_of("web", ::getpid());
  record.consoles = {{"ttyS0", view->path("ttyS0.sock")}};
  ASSERT_TRUE(web->publish(record));
  ASSERT_TRUE(view->record());
  EXPECT_EQ(view->record()->pid, ::getpid());
  EXPECT_EQ(view->record()->consoles[0].socket, folder_ + "/web/ttyS0.sock");
  EXPECT_FALSE(*view->wait(milliseconds(0)));
}

TEST_F(RegistryTest, RefusesASecondMachineOfTheSameName) {
  const auto first = registry().claim("web");
  ASSERT_TRUE(first);
  EXPECT_EQ(error_of(registry().claim("web")),
            "web: a machine of this name is running; choose another name, or end it: "
            "wick shutdown web");
  EXPECT_THAT(error_of(registry().remove("web")), HasSubstr("is running"));
  EXPECT_EQ(registry().find("web")->state(), MachineView::State::kLive);
}

TEST_F(RegistryTest, KeepsTheEndingUntilTheNextStart) {
  const Registry registry = this->registry();
  std::optional<MachineEntry> entry = *registry.claim("web");
  ASSERT_TRUE(entry->publish(record_of("web", ::getpid())));
  ASSERT_TRUE(entry->finish(3, "the guest's kernel panicked"));
  EXPECT_EQ(registry.find("web")->state(), MachineView::State::kLive) << "until it has ended";
  entry.reset();
  const auto view = registry.find("web");
  ASSERT_TRUE(view);
  EXPECT_EQ(view->state(), MachineView::State::kEnded);
  EXPECT_EQ(view->ending()->status, 3);
  EXPECT_EQ(view->ending()->reason, "the guest's kernel panicked");
  EXPECT_EQ(parse_ending_record(fakes::read_file(folder_ + "/web/ending.json"))->status, 3);

  entry.emplace(*registry.claim("web"));
  EXPECT_EQ(registry.find("web")->state(), MachineView::State::kLive);
  EXPECT_FALSE(registry.find("web")->ending());
  EXPECT_FALSE(fs::exists(folder_ + "/web/ending.json"));
  EXPECT_FALSE(fs::exists(folder_ + "/web/machine.json"));
  EXPECT_EQ(view->ending()->status, 3) << "of the first machine";
}

TEST_F(RegistryTest, TellsThoseWhoWaitTheEndingOfARemovedEntry) {
  const Registry registry = this->registry();
  std::optional<MachineEntry> entry = *registry.claim("wick-1");
  const auto view = registry.find("wick-1");
  entry->remove(4, "triple fault in the guest");
  entry.reset();
  EXPECT_TRUE(*view->wait(milliseconds(0)));
  EXPECT_EQ(view->ending()->status, 4);
  EXPECT_THAT(*registry.names(), IsEmpty());
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(RegistryTest, RecognisesAKilledMachineByItsLock) {
  const Registry registry = this->registry();
  const pid_t process = start_process([&] {
    static std::optional<MachineEntry> entry = *registry.claim("web");
    (void)entry->publish(record_of("web", ::getpid()));
    fakes::write_file(folder_ + "/web/console.log", "the last words");
  });
  const auto view = registry.find("web");
  EXPECT_EQ(view->state(), MachineView::State::kLive);
  EXPECT_THAT(error_of(registry.claim("web")), HasSubstr("is running"));
  kill_process(process);
  EXPECT_EQ(view->state(), MachineView::State::kCrashed);
  EXPECT_TRUE(*view->wait(std::nullopt));
  EXPECT_FALSE(view->ending());
  EXPECT_THAT(*registry.names(), ElementsAre("web"));

  // A process that got the same PID would not make it live.
  ASSERT_TRUE(view->record());
  const auto again = registry.claim("web");
  ASSERT_TRUE(again) << error_of(again);
  EXPECT_FALSE(fs::exists(folder_ + "/web/console.log"));
}

TEST_F(RegistryTest, KillsTheProcessOfAMachineAndNoOther) {
  const Registry registry = this->registry();
  const pid_t process = start_process([&] {
    static std::optional<MachineEntry> entry = *registry.claim("web");
    (void)entry->publish(record_of("web", ::getpid()));
  });
  const auto view = registry.find("web");
  ASSERT_TRUE(view->kill());
  EXPECT_TRUE(*view->wait(milliseconds(20000)));
  int status = 0;
  ASSERT_EQ(::waitpid(process, &status, 0), process);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_TRUE(view->kill()) << "it has ended";

  // The record names this test, but its start is another one's.
  const auto entry = registry.claim("web");
  MachineRecord record = record_of("web", ::getpid());
  ++record.start_ticks;
  ASSERT_TRUE(entry->publish(record));
  EXPECT_THAT(error_of(registry.find("web")->kill()), HasSubstr("is not the machine's"));
  fakes::write_file(folder_ + "/web/machine.json", "{}");
  EXPECT_THAT(error_of(registry.find("web")->kill()), HasSubstr("its process is not known"));
}

TEST_F(RegistryTest, RemovesAnEndedMachineByName) {
  const Registry registry = this->registry();
  {
    const auto entry = registry.claim("web");
    ASSERT_TRUE(entry->finish(0, "the guest powered off"));
  }
  EXPECT_TRUE(registry.remove("web"));
  EXPECT_TRUE(fs::is_empty(folder_));
  EXPECT_EQ(error_of(registry.remove("web")), "web: no machine of this name; see wick list --all");
}

TEST_F(RegistryTest, TakesADamagedEndingForACrash) {
  const Registry registry = this->registry();
  fs::create_directory(folder_ + "/web");
  fs::permissions(folder_ + "/web", fs::perms::owner_all);
  for (const std::string& ending :
       {std::string("{\"status\":"), std::string("{}"), std::string("[]"),
        std::string("{\"status\":256,\"reason\":\"\",\"when\":0}"), std::string(4 << 20, '[')}) {
    fakes::write_file(folder_ + "/web/lock", ending);
    EXPECT_EQ(registry.find("web")->state(), MachineView::State::kCrashed) << ending.substr(0, 50);
  }
}

// --- Races ---

TEST_F(RegistryTest, OfManyWhoStartANameAtOnceOneGetsIt) {
  constexpr int kRounds = 50;
  constexpr int kThreads = 4;
  for (int round = 0; round < kRounds; ++round) {
    std::atomic<int> ready = 0, winners = 0, done = 0;
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i)
      threads.emplace_back([&] {
        const Registry registry = this->registry();
        ++ready;
        while (ready < kThreads) std::this_thread::yield();
        const auto entry = registry.claim("web");
        if (entry) ++winners;
        if (!entry) {
          EXPECT_THAT(error_of(entry), HasSubstr("is running"));
        }
        ++done;
        while (done < kThreads) std::this_thread::yield();  // all hold what they have
      });
    threads.clear();
    EXPECT_EQ(winners, 1) << "in round " << round;  // each round but the first finds a stale one
  }
}

TEST_F(RegistryTest, NeverGivesANameToTwoWhileEntriesComeAndGo) {
  constexpr int kRounds = 200;
  std::atomic<int> holders = 0;
  std::atomic<int> claims = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&, i] {
      const Registry registry = this->registry();
      for (int round = 0; round < kRounds; ++round) {
        auto entry = registry.claim("web");
        if (!entry) continue;
        EXPECT_EQ(++holders, 1);
        ++claims;
        (void)entry->publish(record_of("web", ::getpid()));
        --holders;
        if (i == 0) (void)entry->finish(0, "");
        if (i == 1) entry->remove(0, "");
      }
    });
  threads.emplace_back([&] {  // a reader never sees a half-written record
    const Registry registry = this->registry();
    while (claims == 0) std::this_thread::yield();
    for (int round = 0; round < kRounds; ++round) {
      const auto view = registry.find("web");
      if (!view) continue;
      const auto file = view->open_file("machine.json");
      std::array<char, 4096> text;
      const ssize_t got = file ? ::read(file->get(), text.data(), text.size()) : -1;
      if (got >= 0) {
        EXPECT_TRUE(parse_machine_record({text.data(), static_cast<size_t>(got)}));
      }
    }
  });
  threads.clear();
  EXPECT_GT(claims, 0);
}

TEST_F(RegistryTest, LetsTheNextMachineStartWhileSomeoneWaitsForTheLast) {
  const Registry registry = this->registry();
  for (int round = 0; round < 50; ++round) {
    std::optional<MachineEntry> entry = *registry.claim("web");
    std::optional<MachineView> view = *registry.find("web");
    std::jthread waiting([&] { EXPECT_TRUE(*view->wait(std::nullopt)); });
    ASSERT_TRUE(entry->finish(round, "ended"));
    entry.reset();
    auto next = registry.claim("web");
    ASSERT_TRUE(next) << error_of(next);
    waiting.join();  // although the next one lives
    EXPECT_EQ(view->ending()->status, round);
  }
}

}  // namespace
}  // namespace wick::control

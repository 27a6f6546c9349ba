// A 9P client on a share of a temporary folder.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "tests/fakes/p9_client.h"
#include "tests/fakes/temp_dir.h"
#include "virtio/p9_session.h"

namespace wick::virtio::p9 {

using fakes::P9Client;

inline constexpr uint32_t kRoot = 0;

class P9SessionTest : public testing::Test {
 protected:
  P9SessionTest() {
    std::filesystem::create_directory(share_path());
    open({});
  }

  void open(share::TreeOptions options, uint32_t msize = 8192) {
    options.path = share_path();
    session_.reset();
    tree_ = share::Tree::open(options).value();
    session_.emplace(*tree_);
    client_.emplace(
        [this](const std::string& request, size_t room) { return exchange(request, room); });
    ASSERT_EQ(client_->version(msize), "9P2000.L");
    ASSERT_TRUE(client_->attach(kRoot));
  }

  // Sends a request in buffers of one size and takes the reply from buffers of another.
  std::string exchange(std::string request, size_t room) {
    std::string reply(room, '\xee');
    std::vector<iovec> readable, writable;
    for (size_t at = 0; at < request.size(); at += 50)
      readable.push_back({request.data() + at, std::min<size_t>(50, request.size() - at)});
    for (size_t at = 0; at < room; at += 70)
      writable.push_back({reply.data() + at, std::min<size_t>(70, room - at)});
    const auto parsed = Request::parse(readable, session_->msize());
    EXPECT_TRUE(parsed);
    const size_t size = session_->execute(*parsed, writable);
    EXPECT_LE(size, room);
    EXPECT_EQ(reply.find_first_not_of('\xee', size), reply.npos) << "written past the reply";
    return reply.substr(0, size);
  }

  std::string share_path() const { return folder_ / "share"; }
  std::string host(const std::string& name) const { return share_path() + "/" + name; }
  std::string content(const std::string& name) const { return fakes::read_file(host(name)); }
  void write_host(const std::string& name, std::string_view text) const {
    fakes::write_file(host(name), text);
  }
  struct stat host_stat(const std::string& name) const {
    struct stat status {};
    EXPECT_EQ(::lstat(host(name).c_str(), &status), 0) << name;
    return status;
  }
  // Walks from the root to a file, and returns 0 or the error.
  int find(uint32_t fid, std::vector<std::string> names) {
    const size_t count = names.size();
    const auto qids = client_->walk(kRoot, fid, std::move(names));
    if (!qids) return qids.error();
    return qids->size() == count ? 0 : ENOENT;
  }
  std::multimap<std::string, P9Client::DirectoryEntry> list(uint32_t fid, uint32_t count) {
    std::multimap<std::string, P9Client::DirectoryEntry> all;
    for (uint64_t offset = 0;;) {
      const auto entries = client_->readdir(fid, offset, count);
      EXPECT_TRUE(entries);
      if (!entries || entries->empty()) return all;
      offset = entries->back().offset;
      for (const auto& entry : *entries) all.emplace(entry.name, entry);
    }
  }

  const fakes::TempDir folder_;
  std::unique_ptr<share::Tree> tree_;
  std::optional<Session> session_;
  std::optional<P9Client> client_;
};

template <typename T>
int error_of(const share::Outcome<T>& outcome) {
  return outcome ? 0 : outcome.error();
}

}  // namespace wick::virtio::p9

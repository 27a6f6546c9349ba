// An install tree in memory, which remembers what was asked of it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "boot/install_tree.h"

namespace wick::fakes {

class MemoryTree : public boot::InstallTree {
 public:
  explicit MemoryTree(std::map<std::string, std::string> files) : files_(std::move(files)) {}

  const std::string& name() const override { return name_; }
  Result<bool> has(const std::string& path) override {
    asked.push_back(path);
    return files_.contains(path);
  }
  Result<std::optional<std::string>> read(const std::string& path, size_t max_bytes) override {
    asked.push_back(path);
    const auto found = files_.find(path);
    if (found == files_.end()) return std::nullopt;
    if (found->second.size() > max_bytes) return fail("{}: too large", path);
    return found->second;
  }

  std::vector<std::string> asked;

 private:
  const std::map<std::string, std::string> files_;
  const std::string name_ = "tree";
};

}  // namespace wick::fakes

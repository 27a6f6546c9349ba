// Archives against cpio(1).
#include "guest/cpio.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::guest {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return as_bytes(text.data(), text.size());
}

TEST(Cpio, IsReadByCpio) {
  const fakes::TempDir dir;
  Cpio cpio;
  cpio.add_file("init", bytes_of("#!/bin/sh\n"), 0755);
  cpio.add_folder("empty", 0700);
  cpio.add_file("a/b/file", bytes_of("12345"));
  cpio.add_file("a/b/none", {});
  const auto archive = cpio.finish();
  EXPECT_EQ(archive.size() % 4, 0u);
  const std::string path =
      dir.write("archive", {reinterpret_cast<const char*>(archive.data()), archive.size()});
  const auto list = fakes::run_shell("cpio -t --quiet <'" + path + "'");
  EXPECT_EQ(list.output, "init\nempty\na\na/b\na/b/file\na/b/none\n");
  const auto unpacked =
      fakes::run_shell("cd '" + dir.path() +
                       "' && cpio -i --quiet <archive && cat init a/b/file && "
                       "stat -c '%a %s' init empty a/b/file a/b/none a | tr '\\n' ' '");
  EXPECT_EQ(unpacked.status, 0) << unpacked.output;
  EXPECT_THAT(unpacked.output, testing::HasSubstr("#!/bin/sh\n12345755 10 700 "));
}

}  // namespace
}  // namespace wick::guest

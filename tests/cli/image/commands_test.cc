// wick image, from its command line to what it prints; qemu-img is the oracle.
#include "image/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/human_size.h"
#include "block/image.h"
#include "image/size.h"
#include "tests/cli/image/fixture.h"

namespace wick::cli {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
template <typename T>
T parsed(const Arguments& arguments) {
  const auto command = parse(arguments);
  if (!command) {
    ADD_FAILURE() << command.error().error.message();
    return {};
  }
  return std::get<T>(std::get<image::ImageCommand>(*command));
}

std::string usage_error(const Arguments& arguments) {
  const auto command = parse(arguments);
  if (command) return "no error";
  EXPECT_EQ(command.error().kind, CommandError::Kind::kUsage);
  return command.error().error.message();
}

TEST(ImageSize, IsReadAsQemuImgReadsIt) {
  EXPECT_EQ(image::parse_image_size("0"), 0u);
  EXPECT_EQ(image::parse_image_size("512"), 512u);
  EXPECT_EQ(image::parse_image_size("512b"), 512u);
  EXPECT_EQ(image::parse_image_size("1k"), 1024u);
  EXPECT_EQ(image::parse_image_size("1.5G"), 3ull << 29);
  EXPECT_EQ(image::parse_image_size("0.3k"), 307u);     // 307.2
  EXPECT_EQ(image::parse_image_size("0.01k"), 10u);     // 10.24
  EXPECT_EQ(image::parse_image_size("0.001M"), 1049u);  // 1048.576
  EXPECT_EQ(image::parse_image_size("0.7k"), 717u);
  EXPECT_EQ(image::parse_image_size("2T"), 2ull << 40);
  EXPECT_EQ(image::parse_image_size("0x200"), 512u);
  for (const char* wrong :
       {"", "k", "3x", "-1", "1.5", "1kk", "0x", "16E", "99999999999999999999", "1.k5", " 1", "1 "})
    EXPECT_FALSE(image::parse_image_size(wrong)) << wrong;
}

TEST(ImageSize, IsShownWithThreeDigits) {
  EXPECT_EQ(human_size(0), "0 B");
  EXPECT_EQ(human_size(999), "999 B");
  EXPECT_EQ(human_size(1000), "0.977 KiB");
  EXPECT_EQ(human_size(3ull << 29), "1.5 GiB");
  EXPECT_EQ(human_size(104857600), "100 MiB");
}

TEST(ImageOptions, OfCreate) {
  const auto create = parsed<image::ImageCreate>(
      {"create", "-f", "qcow2", "-b", "base,1.raw", "-F", "raw", "-o", "cluster_size=4k,compat=v3",
       "-o", "refcount_bits=8,cluster_size=8k", "new.qcow2", "1.5G"});
  const auto& options = std::get<block::Qcow2CreateOptions>(create.options);
  EXPECT_EQ(create.path, "new.qcow2");
  EXPECT_EQ(create.size_bytes, 3ull << 29);
  EXPECT_EQ(options.backing_path, "base,1.raw");
  EXPECT_EQ(options.backing_format, "raw");
  EXPECT_EQ(options.cluster_bytes, 8192u);
  EXPECT_EQ(options.refcount_bits, 8u);
  EXPECT_TRUE(std::holds_alternative<image::RawCreateOptions>(
      parsed<image::ImageCreate>({"create", "new.raw", "1G"}).options));
}

TEST(ImageOptions, OfResizeAreSizesOrDifferences) {
  using Sign = image::ImageResize::Sign;
  EXPECT_EQ(parsed<image::ImageResize>({"resize", "a", "1G"}).sign, Sign::kTo);
  EXPECT_EQ(parsed<image::ImageResize>({"resize", "a", "+1G"}).sign, Sign::kBy);
  const auto less = parsed<image::ImageResize>({"resize", "--shrink", "a", "-512M"});
  EXPECT_EQ(less.sign, Sign::kLessBy);
  EXPECT_EQ(less.bytes, 512u << 20);
  EXPECT_TRUE(less.shrink);
}

TEST(ImageOptions, OfTheOtherCommands) {
  EXPECT_EQ(parsed<image::ImageCheck>({"check", "-r", "all", "a"}).repair, block::Repair::kAll);
  EXPECT_EQ(parsed<image::ImageSnapshot>({"snapshot", "a"}).action,
            image::ImageSnapshot::Action::kList);
  EXPECT_EQ(parsed<image::ImageSnapshot>({"snapshot", "-d", "x y", "a"}).name, "x y");
  EXPECT_TRUE(parsed<image::ImageMap>({"map", "--output=json", "a"}).json);
  const auto compare = parsed<image::ImageCompare>({"compare", "-s", "-f", "raw", "a", "b"});
  EXPECT_EQ(compare.paths[1], "b");
  EXPECT_EQ(compare.formats[0], image::ImageFormat::kRaw);
  EXPECT_EQ(compare.formats[1], std::nullopt);
  EXPECT_EQ(parsed<image::ImageIo>({"io", "-c", "read 0 1", "-c", "flush", "a"}).commands.size(),
            2u);
}

TEST(ImageOptions, ThatAreWrongAreUsageErrors) {
  EXPECT_THAT(usage_error({}), HasSubstr("the commands are create, info, check"));
  EXPECT_THAT(usage_error({"foo"}), HasSubstr("unknown command 'image foo'"));
  EXPECT_THAT(usage_error({"info"}), HasSubstr("FILE is required"));
  EXPECT_THAT(usage_error({"info", "a", "b"}), HasSubstr("'b' is one argument too many"));
  EXPECT_THAT(usage_error({"info", "--wrong", "a"}), HasSubstr("unknown option '--wrong'"));
  EXPECT_THAT(usage_error({"create", "a"}), HasSubstr("SIZE is missing"));
  EXPECT_THAT(usage_error({"create", "a", "1x"}), HasSubstr("not a size"));
  EXPECT_THAT(usage_error({"create", "-f", "vhdx", "a", "1"}), HasSubstr("'vhdx'"));
  EXPECT_THAT(usage_error({"create", "-f", "qcow2", "-o", "foo=1", "a", "1"}), HasSubstr("foo"));
  EXPECT_THAT(usage_error({"create", "-f", "qcow2", "-o", "cluster_size=3k", "a", "1"}),
              HasSubstr("cluster_size"));
  EXPECT_THAT(usage_error({"create", "-b", "base", "a"}), HasSubstr("raw has no backing files"));
  EXPECT_THAT(usage_error({"check", "-r", "some", "a"}), HasSubstr("leaks or all"));
  EXPECT_THAT(usage_error({"snapshot", "-l", "-c", "b", "a"}), HasSubstr("exclude"));
  EXPECT_THAT(usage_error({"info", "--output", "xml", "a"}), HasSubstr("human or json"));
}

TEST(ImageOptions, HelpFitsAScreenAndEndsWithAnExample) {
  for (const char* command :
       {"create", "info", "check", "resize", "snapshot", "map", "compare", "io"}) {
    const auto help = parse({command, "--help"});
    ASSERT_TRUE(help);
    const std::string text = std::get<PrintText>(*help).text;
    EXPECT_LE(std::ranges::count(text, '\n'), 36) << text;
    EXPECT_THAT(text, ContainsRegex("Examples?:\n  wick image " + std::string(command)));
  }
}

TEST_F(ImageCommands, CreateDoesNotDestroyTheBackingFile) {
  ASSERT_EQ(wick({"create", "-f", "qcow2", "a.qcow2", "1M"}).status, 0);
  const auto size = std::filesystem::file_size("a.qcow2");
  std::filesystem::create_symlink("a.qcow2", "link");
  const std::vector<Arguments> all = {
      {"create", "-f", "qcow2", "-b", "a.qcow2", "a.qcow2"},
      {"create", "-f", "qcow2", "-b", "a.qcow2", "link"},
      {"create", "-f", "qcow2", "-b", "a.qcow2", "-o", "data_file=a.qcow2", "b.qcow2"}};
  for (const Arguments& arguments : all) {
    const Outcome refused = wick(arguments);
    EXPECT_EQ(refused.status, 1);
    EXPECT_NE(refused.error.find("is the backing file"), std::string::npos) << refused.error;
    EXPECT_EQ(std::filesystem::file_size("a.qcow2"), size);
  }
}

TEST_F(ImageCommands, SayWhatQemuImgSays) {
  ASSERT_EQ(
      shell("qemu-img create -f raw base.raw 3M; qemu-io -f raw -c 'write 1M 64k' base.raw").status,
      0);
  expect_same({"create", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "over.qcow2"});
  expect_same({"create", "-f", "qcow2", "-o", "compat=0.10,cluster_size=4k", "old.qcow2", "5M"});
  expect_same({"create", "-f", "raw", "new.raw", "3k"});
  ASSERT_EQ(shell("qemu-io -c 'write 0 200k' -c 'write -z 300k 200k' over.qcow2").status, 0);
  ASSERT_EQ(shell("qemu-img snapshot -c 'one two' over.qcow2").status, 0);
  for (const char* image : {"base.raw", "over.qcow2", "old.qcow2"}) {
    expect_same({"info", image});
    expect_same({"info", "--output", "json", "--backing-chain", image});
    expect_same({"snapshot", "-l", image});
    expect_same({"map", image});
    expect_same({"map", "--output=json", image});
  }
  expect_same({"check", "over.qcow2"});
  expect_same({"check", "--output=json", "old.qcow2"});
  expect_same({"check", "base.raw"});
  expect_same({"resize", "old.qcow2", "+1M"});
  expect_same({"resize", "old.qcow2", "-2M"});
  expect_same({"resize", "--shrink", "old.qcow2", "-2M"});
  expect_same({"resize", "new.raw", "1M"});
  expect_same({"compare", "over.qcow2", "over.qcow2"});
  expect_same({"compare", "base.raw", "over.qcow2"});
  expect_same({"compare", "old.qcow2", "new.raw"});
  expect_same({"compare", "-s", "old.qcow2", "new.raw"});
  expect_same({"compare", "nothing", "new.raw"});
  expect_same({"info", "nothing"});
  expect_same({"snapshot", "-d", "nothing", "over.qcow2"});
}

TEST_F(ImageCommands, ShowNamesThatDoNotDriveTheTerminal) {
  const std::string name = "a\x1b[2J\x07\xff";
  const std::string shown = "a\\x1b[2J\\x07\\xff";
  ASSERT_EQ(wick({"create", "-q", "-f", "qcow2", "below.qcow2", "1M"}).status, 0);
  std::filesystem::rename("below.qcow2", name);
  ASSERT_EQ(wick({"io", "-c", "write -q 0 64k", name}).status, 0);
  ASSERT_EQ(wick({"create", "-q", "-f", "qcow2", "-b", name, "-F", "qcow2", "a.qcow2"}).status, 0);
  ASSERT_EQ(wick({"snapshot", "-c", name, "a.qcow2"}).status, 0);
  const std::string info = wick({"info", "a.qcow2"}).out;
  EXPECT_THAT(info, HasSubstr("backing file: " + shown + "\n"));
  EXPECT_THAT(info, HasSubstr("1         " + shown + " "));
  for (const char* command : {"info", "check"}) {
    const std::string c1 = "\xc2\x9b" + name;  // the other way to start an escape sequence
    std::filesystem::copy_file("a.qcow2", c1, std::filesystem::copy_options::overwrite_existing);
    const Outcome json = wick({command, "--output", "json", c1});
    EXPECT_EQ(json.status, 0) << json.error;
    EXPECT_THAT(json.out, HasSubstr(R"(\u009ba\u001b[2J\u0007\ufffd)"));
  }
  EXPECT_THAT(wick({"snapshot", "-l", "a.qcow2"}).out, HasSubstr(shown + " "));
  EXPECT_THAT(wick({"map", "a.qcow2"}).out, HasSubstr(shown + "\n"));
  const std::string data = "data_file=" + name + "d";
  ASSERT_EQ(wick({"create", "-q", "-f", "qcow2", "-o", data, "b.qcow2", "1M"}).status, 0);
  EXPECT_THAT(wick({"info", "b.qcow2"}).out, HasSubstr("data file: " + shown + "d\n"));
}

TEST_F(ImageCommands, WriteAndReadPatterns) {
  ASSERT_EQ(wick({"create", "-q", "-f", "qcow2", "a.qcow2", "4M"}).status, 0);
  EXPECT_THAT(wick({"io", "-c", "flush 1 2", "a.qcow2"}).error,
              HasSubstr("flush takes no numbers"));
  EXPECT_EQ(wick({"io", "-c", "write -P 7 1M 64k", "-c", "write -z -u 1M 4k", "-c", "flush", "-c",
                  "read -P 7 1028k 60k", "a.qcow2"})
                .status,
            0);
  EXPECT_EQ(shell("qemu-io -r -c 'read -P 7 1028k 60k' -c 'read -P 0 1M 4k' a.qcow2").status, 0);
  const auto wrong = wick({"io", "-c", "read -q -P 8 1028k 60k", "-c", "read -q 0 1k", "a.qcow2"});
  EXPECT_EQ(wrong.status, 1);
  EXPECT_EQ(wrong.out, "Pattern verification failed at offset 1052672, 61440 bytes\n");
  EXPECT_EQ(wick({"io", "-c", "write 4M 1k", "a.qcow2"}).status, 1);
  EXPECT_EQ(wick({"io", "-r", "-c", "write 0 1k", "a.qcow2"}).status, 1);
  EXPECT_THAT(wick({"io", "-c", "erase 0 1k", "a.qcow2"}).error, HasSubstr("read, write"));
}

// A header names files outside of the image's folder. Commands that only read open them,
// commands that write do so only with --trust-names.
TEST_F(ImageCommands, ThatWriteOpenNoFileElsewhereUnlessTold) {
  std::filesystem::create_directory("images");
  ASSERT_EQ(shell("qemu-img create -f raw base.raw 1M && qemu-img create -f raw secret 1M &&"
                  "qemu-io -f raw -c 'write -P 5 0 1M' secret && cp secret secret.old &&"
                  "cd images && qemu-img create -f qcow2 -b ../base.raw -F raw over.qcow2 &&"
                  "qemu-img create -f qcow2 -o data_file=../secret,data_file_raw=on data.qcow2 1M")
                .status,
            0);
  ASSERT_EQ(shell("cp secret.old secret && cp base.raw base.old").status, 0);
  const std::vector<Arguments> reading = {{"info", "--backing-chain"},
                                          {"check"},
                                          {"map"},
                                          {"io", "-r", "-c", "read 0 4k"},
                                          {"snapshot", "-l"}};
  const std::vector<Arguments> writing = {{"io", "-c", "write -P 7 0 4k"},
                                          {"snapshot", "-c", "one"},
                                          {"snapshot", "-a", "one"},
                                          {"snapshot", "-d", "one"},
                                          {"commit"},
                                          {"rebase", "-b", ""}};
  const auto run = [](Arguments command, const std::vector<std::string>& more) {
    command.insert(command.end(), more.begin(), more.end());
    return wick(command);
  };
  for (const char* image : {"images/over.qcow2", "images/data.qcow2"}) {
    for (const Arguments& command : reading) {
      const Outcome outcome = run(command, {image});
      EXPECT_EQ(outcome.status, 0) << command[0] << " " << image << outcome.error;
    }
    EXPECT_EQ(wick({"convert", image, "copy.raw"}).status, 0);
    EXPECT_EQ(wick({"compare", image, "copy.raw"}).status, 0);
    const bool data = std::string(image) == "images/data.qcow2";
    for (const Arguments& command : writing) {
      if (data && command[0] != "io") continue;  // QEMU has no snapshots of a data file
      const Outcome refused = run(command, {image});
      EXPECT_EQ(refused.status, 1) << command[0];
      EXPECT_THAT(refused.error, HasSubstr("add --trust-names")) << command[0];
      EXPECT_EQ(shell("cmp secret secret.old && cmp base.raw base.old").status, 0);
    }
    const Outcome resized = wick({"resize", image, "+1M"});
    EXPECT_THAT(resized.error, HasSubstr("add --trust-names"));
    const Outcome converted = wick({"convert", "-n", "-O", "qcow2", "copy.raw", image});
    EXPECT_THAT(converted.error, HasSubstr("add --trust-names"));
    EXPECT_EQ(run({"io", "-c", "write -P 7 0 4k"}, {"--trust-names", image}).status, 0);
    EXPECT_EQ(run({"resize"}, {"--trust-names", image, "+1M"}).status, 0);
  }
  EXPECT_NE(shell("cmp secret secret.old").status, 0);
  for (const Arguments& command : writing) {
    const Outcome done = run(command, {"--trust-names", "images/over.qcow2"});
    EXPECT_EQ(done.status, 0) << command[0] << done.error;
  }
  // A name on the command line needs no --trust-names.
  const Outcome made =
      wick({"convert", "-O", "qcow2", "-o", "data_file=../made.raw", "copy.raw", "images/a.qcow2"});
  EXPECT_EQ(made.status, 0) << made.error;
  EXPECT_EQ(shell("cd images && qemu-img compare ../copy.raw a.qcow2").status, 0);
}

TEST_F(ImageCommands, WorkOnChainsOfTwoHundredBackingFiles) {
  ASSERT_EQ(wick({"create", "-q", "-f", "qcow2", "0.qcow2", "1M"}).status, 0);
  ASSERT_EQ(wick({"io", "-c", "write -q -P 9 0 64k", "0.qcow2"}).status, 0);
  for (int i = 1; i <= 201; ++i)
    ASSERT_EQ(wick({"create", "-q", "-u", "-f", "qcow2", "-b", fmt::format("{}.qcow2", i - 1), "-F",
                    "qcow2", fmt::format("{}.qcow2", i), "1M"})
                  .status,
              0);
  const Outcome chain = wick({"info", "--backing-chain", "200.qcow2"});
  EXPECT_EQ(chain.status, 0) << chain.error;
  EXPECT_EQ(wick({"check", "200.qcow2"}).status, 0);
  EXPECT_THAT(wick({"map", "200.qcow2"}).out, HasSubstr("0.qcow2"));
  EXPECT_EQ(wick({"convert", "200.qcow2", "copy.raw"}).status, 0);
  EXPECT_EQ(wick({"compare", "200.qcow2", "copy.raw"}).status, 0);
  EXPECT_EQ(wick({"io", "-c", "read -P 9 0 64k", "-c", "write -P 8 4k 4k", "200.qcow2"}).status, 0);

  // The advice in the refusal of a deeper chain works.
  const Outcome refused = wick({"commit", "201.qcow2"});
  EXPECT_THAT(refused.error, HasSubstr("convert -O qcow2 101.qcow2 NEW, then wick image rebase -u "
                                       "-b NEW -F qcow2 102.qcow2"));
  EXPECT_EQ(wick({"convert", "-O", "qcow2", "101.qcow2", "new.qcow2"}).status, 0);
  EXPECT_EQ(wick({"rebase", "-u", "-b", "new.qcow2", "-F", "qcow2", "102.qcow2"}).status, 0);
  EXPECT_EQ(
      wick({"io", "-r", "-c", "read -P 9 8k 4k", "-c", "read -P 8 4k 4k", "201.qcow2"}).status, 0);

  EXPECT_EQ(wick({"rebase", "-u", "-b", "101.qcow2", "-F", "qcow2", "102.qcow2"}).status, 0);
  EXPECT_EQ(wick({"commit", "200.qcow2"}).status, 0);
  EXPECT_EQ(wick({"rebase", "-b", "new.qcow2", "-F", "qcow2", "200.qcow2"}).status, 0);
  EXPECT_EQ(wick({"io", "-r", "-c", "read -P 9 0 4k", "-c", "read -P 8 4k 4k", "200.qcow2"}).status,
            0);
}

TEST_F(ImageCommands, ReportALoopOfBackingFiles) {
  ASSERT_EQ(wick({"create", "-q", "-f", "qcow2", "a.qcow2", "1M"}).status, 0);
  ASSERT_EQ(wick({"create", "-q", "-f", "qcow2", "-b", "a.qcow2", "b.qcow2"}).status, 0);
  ASSERT_EQ(wick({"rebase", "-u", "-b", "b.qcow2", "-F", "qcow2", "a.qcow2"}).status, 0);
  const std::vector<Arguments> all = {
      {"info", "--backing-chain"}, {"map"}, {"commit"}, {"io", "-c", "read 0 4k"}};
  for (Arguments command : all) {
    command.push_back("b.qcow2");
    EXPECT_THAT(wick(command).error, HasSubstr("loop")) << command[0];
  }
  EXPECT_EQ(wick({"info", "b.qcow2"}).status, 0);
}

TEST_F(ImageCommands, AskForTheFormatOfARawBase) {
  ASSERT_EQ(wick({"create", "-q", "base.raw", "1M"}).status, 0);
  const auto refused = wick({"create", "-f", "qcow2", "-b", "base.raw", "a.qcow2"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.error, HasSubstr("-F raw"));
  EXPECT_FALSE(std::filesystem::exists("a.qcow2"));
  ASSERT_EQ(wick({"create", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "a.qcow2"}).status, 0);
  ASSERT_EQ(wick({"create", "-f", "qcow2", "-b", "a.qcow2", "b.qcow2"}).status, 0);
  EXPECT_THAT(wick({"info", "b.qcow2"}).out, HasSubstr("backing file format: qcow2"));
}

}  // namespace
}  // namespace wick::cli

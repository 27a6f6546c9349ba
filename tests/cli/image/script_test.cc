// Commands and options of wick image that scripts use, beside qemu-img.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "block/image.h"
#include "block/io_thread.h"
#include "tests/cli/image/fixture.h"

namespace wick::cli {
namespace {

using testing::HasSubstr;

class ImageScripts : public ImageCommands {
 protected:
  static void make(const std::string& command) {
    const Outcome made = shell("set -e; " + command);
    ASSERT_EQ(made.status, 0) << command << made.error;
  }
  static bool equal(const std::string& first, const std::string& second) {
    return shell("qemu-img compare '" + first + "' '" + second + "'").status == 0;
  }
  // wick and qemu-img make `target` from the same files; both results are compared.
  static void expect_same_image(Arguments arguments, const std::string& target) {
    std::string line = "qemu-img";
    for (const std::string& argument : arguments) line += " '" + argument + "'";
    const Outcome qemu = shell(line);
    make("mv " + target + " theirs");
    const Outcome ours = wick(arguments);
    EXPECT_EQ(ours.status, qemu.status) << line << ours.error;
    EXPECT_TRUE(equal(target, "theirs")) << line;
    EXPECT_EQ(info(target), info("theirs")) << line;
  }
  // The output without the lines that differ from file to file.
  static std::string info(const std::string& image) {
    return std::regex_replace(shell("qemu-img info " + image).out,
                              std::regex("(image|disk size|data file): [^\n]*\n"), "");
  }
};

TEST_F(ImageScripts, EndOptionsByTwoDashes) {
  make("qemu-img create -f raw -- -a.raw 1M; qemu-img create -f raw ./--b= 1M");
  expect_same({"info", "--", "-a.raw"});
  expect_same({"info", "--output", "json", "--", "--b="});
  expect_same({"compare", "-f", "raw", "-F", "raw", "--", "-a.raw", "--b="});
  EXPECT_EQ(wick({"convert", "-f", "raw", "-O", "qcow2", "--", "-a.raw", "-c"}).error, "");
  EXPECT_TRUE(std::filesystem::exists("-c"));
  EXPECT_EQ(wick({"create", "-f", "raw", "--", "-d.raw", "1M"}).error, "");
  EXPECT_TRUE(std::filesystem::exists("-d.raw"));
  EXPECT_THAT(wick({"info", "--", "-a.raw", "more"}).error, HasSubstr("one argument too many"));
}

TEST_F(ImageScripts, ReadImagesInUseWhenForced) {
  make("qemu-img create -f raw base.raw 1M; qemu-img create -f qcow2 -b base.raw -F raw a.qcow2");
  const auto thread = block::IoThread::create("image").value();
  const auto writer = block::open_image_file("a.qcow2", {}, thread->io());
  ASSERT_TRUE(writer);
  for (const Arguments& command :
       {Arguments{"convert", "a.qcow2", "copy.raw"}, Arguments{"check", "a.qcow2"},
        Arguments{"map", "a.qcow2"}, Arguments{"compare", "a.qcow2", "base.raw"},
        Arguments{"measure", "a.qcow2"}, Arguments{"bench", "-c", "1", "a.qcow2"},
        Arguments{"dd", "if=a.qcow2", "of=copy.raw"}}) {
    SCOPED_TRACE(command.front());
    const Outcome refused = wick(command);
    EXPECT_NE(refused.status, 0);
    EXPECT_THAT(refused.error, HasSubstr("another program"));
    Arguments forced = command;
    forced.insert(forced.begin() + 1, "-U");
    EXPECT_EQ(wick(forced).error, "");
  }
  EXPECT_EQ(wick({"info", "-U", "a.qcow2"}).status, 0);
  EXPECT_EQ(wick({"check", "-U", "-r", "all", "a.qcow2"}).status, 2);
}

TEST_F(ImageScripts, CompressToWholeSectors) {
  make("yes some text | head -c 3M >a.raw");
  for (const char* options : {"cluster_size=64k", "cluster_size=512,compression_type=zstd"}) {
    ASSERT_EQ(wick({"convert", "-c", "-O", "qcow2", "-o", options, "a.raw", "a.qcow2"}).error, "");
    EXPECT_EQ(std::filesystem::file_size("a.qcow2") % 512, 0) << options;
    EXPECT_EQ(shell("qemu-img check a.qcow2").status, 0);
    EXPECT_TRUE(equal("a.qcow2", "a.raw"));
  }
  make("qemu-img create -f qcow2 b.qcow2 1M");
  ASSERT_EQ(wick({"io", "-c", "write -c -P 5 64k 64k", "b.qcow2"}).status, 0);
  EXPECT_EQ(std::filesystem::file_size("b.qcow2") % 512, 0);
}

TEST_F(ImageScripts, LeaveNoTargetWhenTheyFail) {
  make(
      "truncate -s 1M a.raw; truncate -s 0 empty.raw; truncate -s 70E huge.raw || true;"
      " head -c 1M /dev/urandom >random.raw; qemu-img convert -O qcow2 random.raw bad.qcow2;"
      " truncate -s 600k bad.qcow2; mkdir d");
  for (const Arguments& command :
       {Arguments{"convert", "-O", "vmdk", "a.raw", "d/a\"b"},
        Arguments{"convert", "-O", "vmdk", "-f", "raw", "empty.raw", "d/a"},
        Arguments{"convert", "-O", "vmdk", "a.raw", "d/" + std::string(250, 'x')},
        Arguments{"convert", "-O", "qcow2", "-o", "data_file=d/data", "-B", "no", "a.raw", "d/a"},
        Arguments{"create", "-f", "qcow2", "-b", "nothing", "d/a"},
        Arguments{"create", "-f", "qcow2", "-o", "data_file=nothing/data", "d/a", "1M"},
        Arguments{"dd", "-O", "vmdk", "count=0", "if=a.raw", "of=d/a"}}) {
    const Outcome failed = wick(command);
    if (failed.status == 0) make("rm -f d/*");  // a name that fits
    EXPECT_TRUE(std::filesystem::is_empty("d")) << failed.error;
  }
}

TEST_F(ImageScripts, MapAllKindsOfExtentsAsQemuImgDoes) {
  make(
      "qemu-img create -f qcow2 -o preallocation=metadata p.qcow2 4M;"
      " qemu-img map --output json p.qcow2 >/dev/null");
  expect_same({"map", "--output=json", "p.qcow2"});
  expect_same({"map", "p.qcow2"});
  expect_same({"map", "--start-offset", "100k", "--max-length=1M", "--output=json", "p.qcow2"});
  expect_same({"map", "--start-offset", "3M", "--output=json", "p.qcow2"});
  make("qemu-io -c 'write -z 0 256k' -c 'write -P 1 1M 128k' -c 'write -z 3M 64k' p.qcow2");
  expect_same({"map", "--output=json", "p.qcow2"});
  make(
      "qemu-img create -f qcow2 -o extended_l2=on,cluster_size=128k x.qcow2 2M;"
      " qemu-io -c 'write 0 4k' -c 'write -z 8k 8k' -c 'write 256k 200k' x.qcow2");
  expect_same({"map", "--output=json", "x.qcow2"});
  make(
      "qemu-img create -f qcow2 -b p.qcow2 -F qcow2 -o cluster_size=4k o.qcow2 4M;"
      " qemu-io -c 'write 100k 8k' -c 'write -z 1M 4k' o.qcow2");
  expect_same({"map", "--output=json", "o.qcow2"});
  make(
      "qemu-img create -f qcow2 -o data_file=d.raw,preallocation=metadata d.qcow2 1M;"
      " qemu-io -c 'write 0 64k' -c 'write -z 64k 64k' d.qcow2");
  expect_same({"map", "--output=json", "d.qcow2"});
  make(
      "yes text | head -c 1M >c.raw; qemu-img convert -c -O qcow2 c.raw c.qcow2;"
      " qemu-io -c 'write 0 64k' c.qcow2");
  expect_same({"map", "--output=json", "c.qcow2"});
  // qemu-img has this key since 8.2.
  EXPECT_THAT(wick({"map", "--output=json", "c.qcow2"}).out,
              HasSubstr("\"data\": true, \"compressed\": true}"));
}

TEST_F(ImageScripts, MeasureWhatQemuImgMeasures) {
  make(
      "qemu-img create -f raw a.raw 3M; qemu-io -f raw -c 'write 1M 100k' -c 'write 2M 1k' a.raw;"
      " qemu-img convert -O qcow2 a.raw a.qcow2; qemu-img bitmap --add a.qcow2 one;"
      " qemu-img bitmap --add -g 4k a.qcow2 two; qemu-img snapshot -c s a.qcow2;"
      " qemu-io -c 'write 0 1M' a.qcow2; qemu-img convert -O vdi a.raw a.vdi");
  for (const char* size : {"0", "3k", "1G", "1T", "63G"})
    for (const char* options :
         {"cluster_size=64k", "cluster_size=4k,refcount_bits=64", "preallocation=full",
          "preallocation=metadata", "cluster_size=2M,extended_l2=on", "data_file=x",
          "preallocation=falloc,refcount_bits=1"})
      expect_same({"measure", "-O", "qcow2", "--size", size, "-o", options});
  for (const char* image : {"a.raw", "a.qcow2", "a.vdi"}) {
    expect_same({"measure", image});
    expect_same({"measure", "-O", "qcow2", image});
    expect_same({"measure", "-O", "qcow2", "-o", "cluster_size=4k", "--output", "json", image});
    expect_same({"measure", "-O", "qcow2", "-o", "backing_file=b,backing_fmt=raw", image});
  }
  expect_same({"measure", "-O", "qcow2", "-l", "s", "a.qcow2"});
  expect_same({"measure", "--size", "1000"});
  EXPECT_EQ(wick({"measure", "-O", "qcow2", "--size", "10T", "-o", "cluster_size=512"}).status, 1);
  for (const Arguments& wrong : {Arguments{"measure"}, Arguments{"measure", "--size", "1", "a.raw"},
                                 Arguments{"measure", "-O", "vmdk", "--size", "1"}})
    EXPECT_EQ(wick(wrong).status, 2);
}

TEST_F(ImageScripts, DdCopiesThePartThatQemuImgCopies) {
  make("head -c 1000448 /dev/urandom >a.raw; qemu-img convert -f raw -O qcow2 a.raw a.qcow2");
  int number = 0;
  for (const Arguments& operands :
       {Arguments{}, Arguments{"bs=1M"}, Arguments{"bs=1", "count=100"}, Arguments{"skip=1"},
        Arguments{"bs=3", "count=7", "skip=1"}, Arguments{"bs=64k", "skip=4", "count=9"},
        Arguments{"bs=1M", "skip=9"}, Arguments{"count=0"}, Arguments{"bs=2", "count=9", "skip=5"}})
    for (const std::string source : {"a.raw", "a.qcow2"})
      for (const std::string format : {"raw", "qcow2"}) {
        const std::string target = "dd" + std::to_string(++number);
        Arguments command = {"dd", "-f", source == "a.raw" ? "raw" : "qcow2", "-O", format};
        command.insert(command.end(), operands.begin(), operands.end());
        command.push_back("if=" + source);
        command.push_back("of=" + target);
        expect_same_image(command, target);
      }
  for (const Arguments& wrong :
       {Arguments{"dd", "if=a.raw"}, Arguments{"dd", "of=b"},
        Arguments{"dd", "if=a.raw", "of=b", "bs=0"}, Arguments{"dd", "if=a.raw", "of=b", "bs=3G"},
        Arguments{"dd", "if=a.raw", "of=b", "seek=1"}, Arguments{"dd", "x", "if=a.raw", "of=b"}})
    EXPECT_EQ(wick(wrong).status, 2);
  EXPECT_FALSE(std::filesystem::exists("b"));
  EXPECT_THAT(wick({"dd", "if=a.raw", "of=./a.raw"}).error, HasSubstr("is also read as a source"));
}

TEST_F(ImageScripts, BitmapsAreThoseOfQemuImg) {
  make(
      "qemu-img create -f qcow2 a.qcow2 100M; qemu-io -c 'write 0 1M' a.qcow2;"
      " cp a.qcow2 theirs.qcow2");
  const std::vector<Arguments> steps = {
      {"--add", "one"},     {"--add", "-g", "4k", "--disable", "two"},
      {"--disable", "one"}, {"--enable", "--clear", "two"},
      {"--remove", "one"},  {"--add", "-g", "512", "three"},
      {"--remove", "two"},  {"--remove", "three"},
  };
  for (const Arguments& step : steps) {
    Arguments options(step.begin(), step.end() - 1);
    std::string line = "qemu-img bitmap";
    for (const std::string& option : options) line += " " + option;
    make(line + " theirs.qcow2 " + step.back());
    options.insert(options.begin(), "bitmap");
    options.push_back("a.qcow2");
    options.push_back(step.back());
    EXPECT_EQ(wick(options).error, "") << line;
    EXPECT_EQ(info("a.qcow2"), info("theirs.qcow2")) << line;
    EXPECT_EQ(shell("qemu-img check a.qcow2").status, 0) << line;
    EXPECT_EQ(wick({"check", "a.qcow2"}).status, 0) << line;
    expect_same({"info", "a.qcow2"});
  }
  // A bitmap with content, made by qemu-img.
  make("qemu-img bitmap --add a.qcow2 full; qemu-io -c 'write 10M 5M' a.qcow2");
  EXPECT_EQ(wick({"bitmap", "--clear", "a.qcow2", "full"}).error, "");
  EXPECT_EQ(shell("qemu-img check a.qcow2").out.find("leak"), std::string::npos);
  make("qemu-io -c 'write 20M 1M' a.qcow2");
  EXPECT_EQ(wick({"bitmap", "--remove", "a.qcow2", "full"}).error, "");
  EXPECT_EQ(shell("qemu-img check a.qcow2").status, 0);

  make("qemu-img create -f qcow2 -o compat=0.10 old.qcow2 1M; truncate -s 1M a.raw");
  EXPECT_THAT(wick({"bitmap", "--add", "old.qcow2", "b"}).error, HasSubstr("amend -o compat=1.1"));
  EXPECT_THAT(wick({"bitmap", "--add", "-f", "raw", "a.raw", "b"}).error, HasSubstr("is raw"));
  EXPECT_THAT(wick({"bitmap", "--remove", "a.qcow2", "b"}).error, HasSubstr("no bitmap 'b'"));
  EXPECT_THAT(wick({"bitmap", "--add", "-g", "3k", "a.qcow2", "b"}).error, HasSubstr("power"));
  EXPECT_EQ(wick({"bitmap", "a.qcow2", "b"}).status, 2);
  EXPECT_EQ(wick({"bitmap", "--clear", "-g", "4k", "a.qcow2", "b"}).status, 2);
}

// The count of the L2 table (cluster 4) is wrong, as if its cluster were free.
TEST_F(ImageScripts, ABitmapOverwritesNoTableOfAnImageWithWrongCounts) {
  make(
      "qemu-img create -f qcow2 a.qcow2 10M; qemu-io -c 'write -P 7 0 64k' a.qcow2;"
      " printf '\\0\\0' | dd of=a.qcow2 bs=1 seek=$((2 * 65536 + 4 * 2)) conv=notrunc status=none");
  EXPECT_EQ(wick({"check", "a.qcow2"}).status, 2);
  EXPECT_THAT(wick({"bitmap", "--add", "a.qcow2", "b"}).error,
              HasSubstr("reference counts say that metadata"));
  EXPECT_EQ(wick({"io", "-c", "read -P 7 0 64k", "a.qcow2"}).status, 0);
}

// wick's first write declares the bitmaps as invalid, and a repair frees their clusters.
TEST_F(ImageScripts, TheDirectoryOfInvalidBitmapsIsNoTable) {
  make("qemu-img create -f qcow2 a.qcow2 10M");
  EXPECT_EQ(wick({"bitmap", "--add", "a.qcow2", "b"}).error, "");
  EXPECT_EQ(wick({"io", "-c", "write -P 1 0 64k", "a.qcow2"}).status, 0);
  EXPECT_EQ(wick({"check", "-r", "leaks", "a.qcow2"}).status, 0);
  const Outcome written = wick({"io", "-c", "write -P 2 64k 4M", "a.qcow2"});
  EXPECT_EQ(written.status, 0) << written.error;
  EXPECT_EQ(shell("qemu-img check a.qcow2").status, 0);
}

TEST_F(ImageScripts, BitmapsAreMergedAsByQemuImg) {
  const std::string fill =
      "qemu-img bitmap --add -g 4k NAME one; qemu-img bitmap --add NAME wide;"
      " qemu-io -c 'write 1M 4k' -c 'write 50M 3M' -c 'write 99M 1M' NAME;"
      " qemu-img bitmap --disable NAME one; qemu-io -c 'write 70M 4k' NAME;";
  for (const std::string name : {"a.qcow2", "theirs.qcow2", "other.qcow2"})
    make("qemu-img create -f qcow2 " + name + " 100M;" +
         std::regex_replace(fill, std::regex("NAME"), name));
  // The parts of the disk that a program would copy that asks for the bitmap over NBD.
  int served = 0;
  const auto recorded = [&](const std::string& file, const std::string& name) {
    const std::string copy = std::to_string(++served);  // served until the client leaves
    return shell("cp " + file + " " + copy + " && qemu-nbd -r -f qcow2 -k $PWD/s" + copy +
                 " --fork -B " + name + " " + copy +
                 " && qemu-img map --output=json --image-opts driver=nbd,server.type=unix,"
                 "server.path=s" +
                 copy + ",x-dirty-bitmap=qemu:dirty-bitmap:" + name)
        .out;
  };
  const std::vector<Arguments> steps = {
      {"--merge", "one", "wide"},
      {"--add", "-g", "64k", "--merge", "one", "coarse"},
      {"--add", "-g", "512", "--merge", "wide", "--merge", "one", "fine"},
      {"--merge", "coarse", "-b", "other.qcow2", "-F", "qcow2", "one"},
  };
  make("qemu-img bitmap --add -g 1M other.qcow2 coarse; qemu-io -c 'write 20M 5M' other.qcow2");
  for (const Arguments& step : steps) {
    Arguments options(step.begin(), step.end() - 1);
    std::string line = "qemu-img bitmap";
    for (const std::string& option : options) line += " " + option;
    make(line + " theirs.qcow2 " + step.back());
    options.insert(options.begin(), "bitmap");
    options.push_back("a.qcow2");
    options.push_back(step.back());
    EXPECT_EQ(wick(options).error, "") << line;
    EXPECT_EQ(info("a.qcow2"), info("theirs.qcow2")) << line;
    const std::string there = recorded("a.qcow2", step.back());
    EXPECT_THAT(there, HasSubstr("\"data\": false")) << line;
    EXPECT_EQ(there, recorded("theirs.qcow2", step.back())) << line;
    const Outcome check = shell("qemu-img check a.qcow2");
    EXPECT_EQ(check.status, 0) << line;
    EXPECT_EQ(check.out.find("leak"), std::string::npos) << line;
  }
  make("qemu-img create -f qcow2 small.qcow2 1M; qemu-img bitmap --add small.qcow2 b");
  EXPECT_THAT(wick({"bitmap", "--merge", "b", "-b", "small.qcow2", "a.qcow2", "one"}).error,
              HasSubstr("another size"));
  EXPECT_THAT(wick({"bitmap", "--merge", "none", "a.qcow2", "one"}).error, HasSubstr("no bitmap"));
  EXPECT_EQ(wick({"bitmap", "--add", "-b", "small.qcow2", "a.qcow2", "x"}).status, 2);
  EXPECT_EQ(wick({"bitmap", "--merge", "b", "-F", "qcow2", "a.qcow2", "x"}).status, 2);
}

TEST_F(ImageScripts, OptionsAreListedForOHelp) {
  // The names of qemu-img's options, without those for encryption, which wick does not have.
  const auto names = [](const std::string& text) {
    std::vector<std::string> all;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("  ") && line.find("encr") == line.npos)
        all.push_back(line.substr(0, line.find('=')));
    return all;
  };
  for (const Arguments& arguments : {Arguments{"create", "-f", "qcow2", "-o", "help"},
                                     Arguments{"convert", "-O", "qcow2", "-o", "help"}}) {
    std::string line = "qemu-img";
    for (const std::string& argument : arguments) line += " " + argument;
    const Outcome ours = wick(arguments), theirs = shell(line);
    EXPECT_EQ(ours.status, theirs.status) << line << ours.error;
    EXPECT_TRUE(ours.out.starts_with(theirs.out.substr(0, theirs.out.find('\n')))) << ours.out;
    EXPECT_EQ(names(ours.out), names(theirs.out));
  }
  EXPECT_EQ(wick({"create", "-f", "qcow2", "-o", "size=1M,help", "a.qcow2"}).status, 0);
  EXPECT_FALSE(std::filesystem::exists("a.qcow2"));
  const Outcome amend = wick({"amend", "-f", "qcow2", "-o", "help"});
  EXPECT_EQ(amend.status, 0) << amend.error;
  EXPECT_THAT(amend.out, HasSubstr("Amend options for 'qcow2':"));
  EXPECT_THAT(amend.out, Not(HasSubstr("cluster_size")));
  EXPECT_THAT(wick({"create", "-o", "help"}).out, HasSubstr("preallocation="));
  for (const char* const command : {"create", "convert", "amend"})
    EXPECT_EQ(wick({command, "-o", "size=1M"}).status, 2) << command;
}

// An image may have millions of leaks. Only the first are printed, but all are counted.
TEST_F(ImageScripts, CheckPrintsTheFirstFindingsAndSaysHowManyMoreThereAre) {
  make(
      "qemu-img create -f qcow2 -o cluster_size=512 a.qcow2 1M; qemu-io -c 'write 0 1M' a.qcow2;"
      " dd if=/dev/zero of=a.qcow2 bs=1 seek=$(($(od -An -tu1 -j46 -N1 a.qcow2) * 256)) count=256"
      " conv=notrunc");
  const std::string json = shell("qemu-img check --output=json a.qcow2").out;
  EXPECT_THAT(json, HasSubstr("\"leaks\": 2080"));
  const Outcome checked = wick({"check", "--output=json", "a.qcow2"});
  EXPECT_EQ(checked.status, 3);
  EXPECT_EQ(checked.out, json);
  EXPECT_EQ(std::ranges::count(checked.error, '\n'), 201);
  EXPECT_THAT(checked.error, HasSubstr("\nand 1880 more\n"));
  EXPECT_EQ(wick({"check", "-q", "-r", "leaks", "a.qcow2"}).status, 0);
}

TEST_F(ImageScripts, AmendChangesWhatQemuImgChanges) {
  const std::string start =
      "rm -f a.qcow2; qemu-img create -f qcow2 a.qcow2 4M;"
      " qemu-io -c 'write -P 1 0 1M' -c 'write -z 64k 128k' -c 'write -z 2M 1M' a.qcow2;";
  for (const std::string options : {"compat=0.10", "lazy_refcounts=on", "size=8M", "compat=v3",
                                    "compat=1.1,lazy_refcounts=on"}) {
    make(start + "cp a.qcow2 b.qcow2; qemu-img amend -o " + options + " b.qcow2");
    EXPECT_EQ(wick({"amend", "-o", options, "a.qcow2"}).error, "");
    EXPECT_EQ(info("a.qcow2"), info("b.qcow2")) << options;
    EXPECT_TRUE(equal("a.qcow2", "b.qcow2")) << options;
    EXPECT_EQ(shell("qemu-img check a.qcow2").status, 0) << options;
  }
  make("qemu-img create -f qcow2 -o compat=0.10 c.qcow2 1M");
  EXPECT_EQ(wick({"amend", "-o", "compat=1.1", "c.qcow2"}).error, "");
  EXPECT_THAT(info("c.qcow2"), HasSubstr("compat: 1.1"));
  make("qemu-img create -f qcow2 -o data_file=d.raw,data_file_raw=on d.qcow2 1M; cp d.raw e.raw");
  EXPECT_EQ(wick({"amend", "-o", "data_file_raw=off,data_file=e.raw", "d.qcow2"}).error, "");
  EXPECT_THAT(shell("qemu-img info d.qcow2").out, HasSubstr("data file: e.raw"));
  EXPECT_THAT(wick({"amend", "-o", "data_file_raw=on", "d.qcow2"}).error, HasSubstr("cannot be"));
  EXPECT_THAT(wick({"amend", "-o", "compat=0.10", "d.qcow2"}).error, HasSubstr("compat=0.10"));
  for (const char* wrong : {"cluster_size=4k", "backing_file=x", "foo=1", "preallocation=full"})
    EXPECT_EQ(wick({"amend", "-o", wrong, "a.qcow2"}).status, 2) << wrong;
  EXPECT_EQ(wick({"amend", "a.qcow2"}).status, 2);
}

// Features that compat=0.10 lacks are found before zeroes are written, and before the content
// of a data file beyond the disk's end is discarded.
TEST_F(ImageScripts, AmendThatIsRefusedChangesNothing) {
  const std::string write = " && qemu-io -c 'write -P 1 0 64k' -c 'write -z 64k 64k' a.qcow2";
  const std::string create = "rm -f a.qcow2 d.raw; qemu-img create -f qcow2 -o cluster_size=4k";
  for (const auto& [made, options] :
       {std::pair(create + ",data_file=d.raw a.qcow2 256k" + write +
                      " && head -c 1M /dev/urandom >>d.raw",
                  "compat=0.10"),
        std::pair(create + ",refcount_bits=1 a.qcow2 256k" + write, "compat=0.10"),
        std::pair(create + ",extended_l2=on,cluster_size=16k a.qcow2 256k" + write,
                  "compat=0.10,size=128k"),
        std::pair(create + " a.qcow2 256k" + write + " && qemu-img bitmap --add a.qcow2 b",
                  "compat=0.10"),
        std::pair(create + " a.qcow2 256k" + write + " && qemu-img snapshot -c s a.qcow2",
                  "size=512k,compat=0.10"),
        std::pair(create + " a.qcow2 256k" + write, "size=512k,compat=0.10,lazy_refcounts=on"),
        std::pair(create + " a.qcow2 256k" + write, "size=512k,data_file_raw=off")}) {
    make(made + "; touch d.raw; cp a.qcow2 a.before; cp d.raw d.before");
    EXPECT_EQ(wick({"amend", "-o", options, "a.qcow2"}).status, 1) << made << options;
    EXPECT_EQ(shell("cmp a.qcow2 a.before").out, "") << made << options;
    EXPECT_EQ(shell("cmp d.raw d.before").out, "") << made << options;
  }
}

// If a disk's size is not a multiple of 512 bytes, the guest cannot reach the last sector.
TEST_F(ImageScripts, AmendToVersion2LeavesNoZeroesInAClusterThatNoGuestReaches) {
  make(
      "qemu-img create -f qcow2 -o cluster_size=4k a.qcow2 260k;"
      " qemu-io -c 'write -P 1 0 256k' -c 'write -z 256k 4k' a.qcow2;"
      " printf '\\0\\4\\0\\144' | dd of=a.qcow2 bs=1 seek=28 conv=notrunc");  // 256 KiB and 100
  EXPECT_EQ(wick({"amend", "-o", "compat=0.10", "a.qcow2"}).error, "");
  EXPECT_EQ(wick({"resize", "a.qcow2", "512K"}).error, "");
  make("qemu-io -c 'read -P 1 0 256k' -c 'read -P 0 256k 256k' a.qcow2");
  EXPECT_EQ(shell("qemu-img check a.qcow2").status, 0);
}

// Shrinking leaves zero clusters where a longer backing file would show through.
TEST_F(ImageScripts, AmendToVersion2LeavesNoZeroesBehindTheEndOfADiskThatWasCut) {
  make(
      "truncate -s 1M base.raw; qemu-io -f raw -c 'write -P 65 0 1M' base.raw;"
      " qemu-img create -f qcow2 -o cluster_size=4k -b base.raw -F raw a.qcow2 1M;"
      " qemu-io -c 'write -P 1 200k 400k' a.qcow2");
  EXPECT_EQ(wick({"resize", "--shrink", "a.qcow2", "256K"}).error, "");
  EXPECT_EQ(wick({"amend", "-o", "compat=0.10", "a.qcow2"}).error, "");
  EXPECT_EQ(shell("qemu-img check a.qcow2").status, 0);
  EXPECT_EQ(wick({"resize", "a.qcow2", "1M"}).error, "");
  make("qemu-io -c 'read -P 65 0 200k' -c 'read -P 1 200k 56k' -c 'read -P 0 256k 768k' a.qcow2");
  EXPECT_EQ(shell("qemu-img check a.qcow2").status, 0);
}

TEST_F(ImageScripts, BenchSaysAndWritesWhatQemuImgDoes) {
  make("truncate -s 1M a.raw; cp a.raw b.raw");
  const auto shown = [](const std::string& text) {
    return std::regex_replace(text, std::regex("in [0-9.]+ seconds"), "");
  };
  for (const std::string options :
       {"-c 10", "-c 0", "-c 500 -d 7 -s 8k -S 64k -o 12k",
        "-w -c 30 -d 2 -s 4k -S 8k -o 64k --pattern 7 --flush-interval=4",
        "-w -c 1000 -s 4k --pattern 9", "-c 3 -s 2M -d 1 -o 0"}) {
    Arguments arguments = {"bench", "-f", "raw"};
    std::istringstream words(options);
    for (std::string word; words >> word;) arguments.push_back(word);
    arguments.push_back("a.raw");
    const Outcome theirs = shell("qemu-img bench -f raw " + options + " b.raw");
    const Outcome ours = wick(arguments);
    EXPECT_EQ(ours.status, theirs.status) << options << theirs.error << ours.error;
    EXPECT_EQ(shown(ours.out), shown(theirs.out));
    EXPECT_EQ(shell("cmp a.raw b.raw").out, "") << options;
  }
  EXPECT_EQ(wick({"bench", "--flush-interval", "4", "a.raw"}).status, 2);
  EXPECT_EQ(wick({"bench", "-w", "--flush-interval", "4", "a.raw"}).status, 2);
}

TEST_F(ImageScripts, ConvertTakesQemuImgsOptions) {
  make(
      "qemu-img create -f qcow2 a.qcow2 4M; qemu-io -c 'write -P 1 0 1M' a.qcow2;"
      " qemu-img snapshot -c first a.qcow2; qemu-io -c 'write -P 2 512k 2M' a.qcow2;"
      " qemu-img snapshot -c second a.qcow2; qemu-io -c 'write -z 0 4M' a.qcow2");
  for (const char* snapshot :
       {"first", "2", "snapshot.id=1", "snapshot.name=second", "snapshot.id=1,snapshot.name=first"})
    expect_same_image({"convert", "-l", snapshot, "-O", "qcow2", "a.qcow2", "b.qcow2"}, "b.qcow2");
  EXPECT_EQ(wick({"convert", "-l", "third", "a.qcow2", "b.raw"}).status, 1);
  EXPECT_FALSE(std::filesystem::exists("b.raw"));

  // Space is allocated for everything, or only for data.
  EXPECT_EQ(wick({"convert", "-S", "0", "a.qcow2", "full.raw"}).error, "");
  EXPECT_EQ(shell("stat -c %b full.raw").out, "8192\n");
  EXPECT_EQ(wick({"convert", "-S", "64k", "a.qcow2", "holes.raw"}).error, "");
  EXPECT_EQ(shell("stat -c %b holes.raw").out, "0\n");
  EXPECT_EQ(wick({"convert", "-S", "100", "a.qcow2", "x.raw"}).status, 2);
  for (const char* cache : {"none", "writeback", "writethrough", "directsync", "unsafe"})
    expect_same_image(
        {"convert", "-t", cache, "-T", cache, "-r", "100M", "-l", "first", "a.qcow2", "cache.raw"},
        "cache.raw");
  EXPECT_EQ(wick({"convert", "-t", "fast", "a.qcow2", "x.raw"}).status, 2);

  // Copies only the data of the overlay.
  make(
      "qemu-img create -f raw base.raw 4M; qemu-io -f raw -c 'write -P 3 0 4M' base.raw;"
      " qemu-img create -f qcow2 -b base.raw -F raw over.qcow2;"
      " qemu-io -c 'write -P 4 1M 64k' -c 'write -z 2M 64k' over.qcow2");
  expect_same_image(
      {"convert", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "over.qcow2", "copy.qcow2"},
      "copy.qcow2");
  const std::string map = shell("qemu-img map --output json copy.qcow2").out;
  EXPECT_EQ(map, shell("qemu-img map --output json theirs").out);
  expect_same_image({"convert", "-O", "qcow2", "-o", "backing_file=base.raw,backing_fmt=raw",
                     "over.qcow2", "copy2.qcow2"},
                    "copy2.qcow2");

  make("truncate -s 4M zero.raw");
  EXPECT_EQ(wick({"convert", "-n", "--target-is-zero", "over.qcow2", "zero.raw"}).error, "");
  EXPECT_TRUE(equal("over.qcow2", "zero.raw"));
  EXPECT_EQ(wick({"convert", "--target-is-zero", "over.qcow2", "zero.raw"}).status, 2);
  EXPECT_EQ(wick({"convert", "-C", "over.qcow2", "c.raw"}).error, "");
  EXPECT_EQ(wick({"convert", "-C", "-S", "0", "over.qcow2", "c.raw"}).status, 2);
  EXPECT_EQ(wick({"convert", "over.qcow2", "-"}).error, "");  // a file name like any other
  EXPECT_TRUE(std::filesystem::exists("-"));
}

TEST_F(ImageScripts, SalvageReadsAroundWhatCannotBeRead) {
  make(
      "head -c 1M /dev/urandom >a.raw; qemu-img convert -O qcow2 -f raw -o data_file=d.raw a.raw"
      " a.qcow2; qemu-img convert -f raw -O vmdk a.raw a.vmdk; truncate -s 700k a.vmdk");
  EXPECT_EQ(wick({"convert", "a.vmdk", "b.raw"}).status, 1);
  EXPECT_FALSE(std::filesystem::exists("b.raw"));
  const Outcome salvaged = wick({"convert", "--salvage", "a.vmdk", "b.raw"});
  EXPECT_EQ(salvaged.status, 0) << salvaged.error;
  EXPECT_THAT(salvaged.error, HasSubstr("warning: error while reading offset"));
  EXPECT_EQ(shell("cmp -n 512k a.raw b.raw").out, "");
  EXPECT_EQ(wick({"convert", "-q", "--salvage", "a.vmdk", "b.raw"}).error, "");
}

TEST_F(ImageScripts, SalvageShowsTwoHundredOfTheErrorsAndCountsTheRest) {
  make(
      "head -c 1M /dev/urandom >a.raw; qemu-img convert -f raw -O vmdk a.raw a.vmdk;"
      " truncate -s 700k a.vmdk");
  const Outcome salvaged = wick({"convert", "--salvage", "a.vmdk", "b.raw"});
  EXPECT_EQ(salvaged.status, 0) << salvaged.error;
  EXPECT_EQ(std::ranges::count(salvaged.error, '\n'), 201);
  EXPECT_THAT(salvaged.error, testing::ContainsRegex("\nwick: warning: and [0-9]+ more errors\n"));
  EXPECT_EQ(wick({"convert", "-q", "--salvage", "a.vmdk", "b.raw"}).error, "");
}

TEST_F(ImageScripts, NameImagesAsQemuImgDoes) {
  make("qemu-img create -f qcow2 a.qcow2 1M; qemu-img create -f raw a,b.raw 1M");
  for (const std::string& name :
       {std::string("file:a.qcow2"), std::string(R"(json:{"file.filename":"a.qcow2"})"),
        std::string(R"(json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}})"),
        std::string(R"(json:{"driver":"raw","file":{"driver":"file","filename":"a,b.raw"}})")}) {
    expect_same({"info", name});
    expect_same({"map", name});
    expect_same({"compare", name, name});
  }
  expect_same({"info", R"(json:{"driver":"raw","file.filename":"a.qcow2"})"});
  expect_same({"info", "--image-opts", "driver=qcow2,file.filename=a.qcow2"});
  expect_same({"info", "--image-opts", "driver=raw,file.driver=file,file.filename=a,,b.raw"});
  expect_same({"info", "--image-opts", "file.filename=a.qcow2"});
  expect_same({"compare", "--image-opts", "file.filename=a.qcow2", "file.filename=a.qcow2"});
  EXPECT_EQ(wick({"convert", "--image-opts", "-O", "raw", "file.filename=a.qcow2", "b.raw"}).error,
            "");
  EXPECT_EQ(wick({"create", "-f", "raw", "file:c.raw", "1M"}).error, "");
  EXPECT_TRUE(std::filesystem::exists("c.raw"));
  for (const char* const wrong :
       {"json:{a}", R"(json:{"driver":"nbd","host":"x"})", R"(json:{"driver":"qcow2"})", "json:[]",
        R"(json:{"driver":"qcow2","file":"node"})",
        R"(json:{"driver":"qcow2","file":{"driver":"http","filename":"a.qcow2"}})"})
    EXPECT_EQ(wick({"info", wrong}).status, 2) << wrong;
  EXPECT_EQ(wick({"info", "--image-opts", "a.qcow2"}).status, 2);
  // Such names are not allowed in a header.
  make(R"(qemu-img create -f qcow2 -u -b 'json:{"file.filename":"a.qcow2"}' -F qcow2 h.qcow2 1M)");
  EXPECT_NE(wick({"convert", "h.qcow2", "x.raw"}).status, 0);
}

TEST_F(ImageScripts, CommitGoesDownToAnyBaseOfTheChain) {
  const std::string chain =
      "rm -f *.qcow2; qemu-img create -f qcow2 base.qcow2 2M;"
      " qemu-io -c 'write -P 1 0 2M' base.qcow2;"
      " qemu-img create -f qcow2 -b base.qcow2 -F qcow2 middle.qcow2;"
      " qemu-io -c 'write -P 2 64k 64k' -c 'write -z 1M 64k' middle.qcow2;"
      " qemu-img create -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2 3M;"
      " qemu-io -c 'write -P 3 96k 64k' -c 'write -P 4 2560k 64k' top.qcow2;";
  for (const std::string base : {"base.qcow2", "middle.qcow2"}) {
    make(chain + "qemu-img commit -b " + base + " top.qcow2; cp " + base + " theirs; " + chain +
         "qemu-img convert top.qcow2 seen.raw");
    EXPECT_EQ(wick({"commit", "-t", "writethrough", "-b", base, "top.qcow2"}).error, "");
    EXPECT_TRUE(equal(base, "theirs"));
    EXPECT_TRUE(equal(base, "seen.raw"));
    EXPECT_EQ(shell("qemu-img check " + base).status, 0);
  }
  EXPECT_THAT(wick({"commit", "-b", "other", "top.qcow2"}).error, HasSubstr("not in its chain"));
  EXPECT_EQ(wick({"rebase", "-t", "none", "-T", "none", "-b", "", "top.qcow2"}).error, "");
}

TEST_F(ImageScripts, ResizePreallocatesWhatIsAdded) {
  for (const char* mode : {"falloc", "full"}) {
    make("truncate -s 1M a.raw; rm -f a.qcow2; qemu-img create -f qcow2 a.qcow2 1M");
    EXPECT_EQ(wick({"resize", "-f", "raw", "--preallocation", mode, "a.raw", "3M"}).error, "");
    EXPECT_EQ(shell("stat -c '%s %b' a.raw").out, "3145728 4096\n");
    EXPECT_EQ(wick({"resize", "--preallocation", mode, "a.qcow2", "+2M"}).error, "");
    EXPECT_GE(std::stoul(shell("stat -c %b a.qcow2").out), 4096u);
    EXPECT_EQ(shell("qemu-img check a.qcow2").status, 0);
    EXPECT_EQ(
        wick({"resize", "--shrink", "--preallocation", mode, "-f", "raw", "a.raw", "1M"}).status,
        1);
    make("rm a.raw");
  }
}

// Needs a host that lets the test make a loop device.
TEST_F(ImageScripts, WriteIntoBlockDevicesByTheOptionThatTheyName) {
  make("head -c 1M /dev/urandom >a.raw; truncate -s 2M disk");
  const Outcome loop = shell("losetup -f --show disk");
  if (loop.status != 0) GTEST_SKIP() << "no loop device: " << loop.error;
  const std::string device = loop.out.substr(0, loop.out.find('\n'));
  EXPECT_THAT(wick({"convert", "-f", "raw", "a.raw", device}).error, HasSubstr("convert -n"));
  EXPECT_THAT(wick({"create", "-f", "qcow2", device, "1M"}).error, HasSubstr("convert -n"));
  EXPECT_EQ(wick({"convert", "-n", "-f", "raw", "-O", "raw", "a.raw", device}).error, "");
  EXPECT_EQ(shell("cmp -n 1M a.raw " + device).out, "");
  EXPECT_EQ(shell("losetup -d " + device).status, 0);
}

}  // namespace
}  // namespace wick::cli

// Which modules a guest loads, from toy folders.
#include "guest/modules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/bytes.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::guest {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ModulesTest : public testing::Test {
 protected:
  void write(const std::string& name, std::string_view content) const {
    std::filesystem::create_directories(std::filesystem::path(dir_ / name).parent_path());
    (void)dir_.write(name, content);
  }
  // The names of the files that are loaded for `names`, or the error.
  static std::vector<std::string> order(const Result<Modules>& modules,
                                        std::vector<std::string_view> names) {
    if (!modules) return {modules.error().message()};
    const auto files = modules->resolve(names);
    if (!files) return {files.error().message()};
    std::vector<std::string> found;
    for (const std::string& file : *files) found.push_back(std::filesystem::path(file).filename());
    return found;
  }
  std::string dependency(const std::string& names) const {
    return std::string("\x7f") + "ELF" + std::string("\0license=GPL\0depends=", 21) + names +
           std::string("\0name=x\0", 8);
  }
  const fakes::TempDir dir_;
};

TEST_F(ModulesTest, AreLoadedBehindWhatTheyDependOn) {
  write("modules.dep",
        "kernel/a/virtio_pci.ko.xz: kernel/a/virtio-ring.ko kernel/a/virtio.ko\n"
        "kernel/a/virtio-ring.ko: kernel/a/virtio.ko\n"
        "kernel/a/virtio.ko:\n"
        "kernel/unrelated.ko:\n");
  write("modules.builtin", "kernel/tty/hvc_console.ko\n");
  const auto modules = Modules::open(dir_.path());
  EXPECT_THAT(order(modules, {"virtio_pci"}),
              ElementsAre("virtio.ko", "virtio-ring.ko", "virtio_pci.ko.xz"));
  EXPECT_THAT(order(modules, {"virtio_ring", "virtio", "virtio_pci"}),
              ElementsAre("virtio.ko", "virtio-ring.ko", "virtio_pci.ko.xz"));
  EXPECT_THAT(order(modules, {"hvc_console"}), IsEmpty());
}

TEST_F(ModulesTest, ThatAreMissingAreNamed) {
  write("modules.dep", "");
  write("modules.dep", "kernel/other.ko:\n");
  write("modules.builtin", "kernel/fs/ext4.ko\n");
  EXPECT_THAT(order(Modules::open(dir_.path()), {"virtiofs"}),
              ElementsAre(HasSubstr("this kernel has no module virtiofs")));
  EXPECT_THAT(order(Modules::open(dir_ / "nowhere"), {"virtiofs"}),
              ElementsAre(HasSubstr("neither modules.dep nor modules.order")));
}

TEST_F(ModulesTest, OfABuildTreeTellTheirDependenciesThemselves) {
  write("modules.order", "drivers/virtio/virtio_pci.o\nkernel/drivers/virtio/virtio.ko\n");
  write("modules.builtin", "kernel/drivers/virtio/virtio_ring.ko\n");
  write("drivers/virtio/virtio_pci.ko", dependency("virtio,virtio-ring"));
  write("drivers/virtio/virtio.ko", dependency(""));
  EXPECT_THAT(order(Modules::open(dir_.path()), {"virtio_pci"}),
              ElementsAre("virtio.ko", "virtio_pci.ko"));
}

TEST_F(ModulesTest, InACircleEndTheSearch) {
  write("modules.dep", "a.ko: b.ko\nb.ko: a.ko\n");
  EXPECT_THAT(order(Modules::open(dir_.path()), {"a"}), ElementsAre("b.ko", "a.ko"));
}

TEST_F(ModulesTest, AreDecompressed) {
  write("plain.ko", "content of a module");
  for (const auto& [command, suffix] : std::vector<std::pair<std::string, std::string>>{
           {"xz", ".xz"}, {"gzip", ".gz"}, {"zstd", ".zst"}}) {
    const auto packed = fakes::run_shell(command + " -c '" + (dir_ / "plain.ko") + "' >'" +
                                         (dir_ / "m.ko") + suffix + "'");
    ASSERT_EQ(packed.status, 0) << packed.output;
    const auto content = read_module((dir_ / "m.ko") + suffix);
    ASSERT_TRUE(content) << content.error().message();
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(content->data()), content->size()),
              "content of a module");
  }
}

TEST(ModuleName, HasUnderscores) {
  EXPECT_EQ(module_name("kernel/drivers/virtio/virtio-pci.ko.zst"), "virtio_pci");
  EXPECT_EQ(module_name("a/b.o"), "b");
  EXPECT_EQ(module_name("modules.dep"), "");
}

}  // namespace
}  // namespace wick::guest

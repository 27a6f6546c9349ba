#include "cli/exec_kernel.h"

#include <algorithm>
#include <filesystem>

#include "boot/find_kernel.h"
#include "boot/kernel_release.h"

namespace wick::cli {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kImage = "arch/x86/boot/bzImage";

bool is_there(const fs::path& path) {
  std::error_code none;
  return fs::exists(path, none);
}

Result<std::string> kernel_in(const fs::path& tree) {
  for (const fs::path& path : {tree / kImage, tree / "vmlinux"})
    if (is_there(path)) return path.string();
  return with_hint(fail("{}: neither {} nor vmlinux is there", tree.string(), kImage),
                   "build the kernel, or give its file with -k");
}

// Returns the build tree that contains the kernel's file; empty if there is none.
fs::path tree_of(const fs::path& kernel) {
  std::error_code none;
  const fs::path whole = fs::absolute(kernel, none).lexically_normal();
  fs::path tree = whole.parent_path();
  if (whole.string().ends_with(kImage)) tree = tree.parent_path().parent_path().parent_path();
  return is_there(tree / "include/config/kernel.release") ? tree : fs::path();
}

Result<std::string> given_modules(const fs::path& folder, const std::string& kernel) {
  if (is_there(folder / "modules.dep") || is_there(folder / "modules.order"))
    return folder.string();
  // Looks in the folders that `make INSTALL_MOD_PATH=… modules_install` fills.
  if (const auto release = boot::kernel_release(kernel); release)
    for (const fs::path& path : {folder / *release, folder / "lib/modules" / *release})
      if (is_there(path / "modules.dep")) return path.string();
  return with_hint(fail("--modules: {} has no modules for {}", folder.string(), kernel),
                   "give a folder that has modules.dep or modules.order");
}

}  // namespace

Result<ExecKernel> find_exec_kernel(const std::string& kernel, const std::string& modules,
                                    const std::string& boot_folder,
                                    const std::string& modules_folder) {
  std::error_code none;
  ExecKernel found;
  if (kernel.empty())
    found.path = TRY(boot::newest_kernel(boot_folder));
  else
    found.path = fs::is_directory(kernel, none) ? TRY(kernel_in(kernel)) : kernel;
  if (modules == "none") return found;
  if (modules != "auto") {
    found.modules = TRY(given_modules(modules, found.path));
    return found;
  }
  if (const fs::path tree = tree_of(found.path); !tree.empty()) {
    // A kernel without modules has an empty list or none.
    if (is_there(tree / "modules.order") && fs::file_size(tree / "modules.order", none) > 0)
      found.modules = tree.string();
    return found;
  }
  // An error is ignored here: the machine reports later what is wrong with the kernel's file.
  if (const auto release = boot::kernel_release(found.path); release) {
    const fs::path folder = fs::path(modules_folder) / *release;
    if (is_there(folder / "modules.dep")) found.modules = folder.string();
  }
  return found;
}

std::vector<std::string_view> modules_for(const vmm::MachineConfig& config) {
  using Disk = vmm::DiskConfig::Device;
  using Net = vmm::NetConfig::Device;
  std::vector<std::string_view> names = {config.on_pci() ? "virtio_pci" : "virtio_mmio",
                                         "virtio_console"};
  const auto any_disk = [&](Disk device) {
    return std::ranges::find(config.disks, device, &vmm::DiskConfig::device) != config.disks.end();
  };
  const auto any_net = [&](Net device) {
    return std::ranges::find(config.nets, device, &vmm::NetConfig::device) != config.nets.end();
  };
  if (any_disk(Disk::kVirtio)) names.emplace_back("virtio_blk");
  if (any_disk(Disk::kIde)) names.insert(names.end(), {"ata_piix", "sd_mod", "sr_mod"});
  if (any_net(Net::kVirtio)) names.emplace_back("virtio_net");
  if (any_net(Net::kE1000)) names.emplace_back("e1000");
  for (const vmm::ShareConfig& share : config.shares) {
    if (share.device == vmm::ShareConfig::Device::k9p)
      names.insert(names.end(), {"9pnet_virtio", "9p"});
    else
      names.emplace_back("virtiofs");
  }
  if (config.vsock_cid) names.emplace_back("vmw_vsock_virtio_transport");
  return names;
}

}  // namespace wick::cli

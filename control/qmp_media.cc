// Commands of QMP that change a disk or a medium.
#include <fmt/format.h>

#include "control/names.h"
#include "control/qmp_handlers.h"

namespace wick::control::qmp {

namespace {

using Found = std::expected<vmm::DiskInfo, CommandError>;

// Finds a disk by `device` or `node-name`, of which exactly one must be given.
Found find_node(Context& context, const Json& arguments) {
  const std::string device = text_or(arguments, "device", "");
  const std::string node = text_or(arguments, "node-name", "");
  if (!device.empty() && !node.empty())
    return generic("'device' and 'node-name' exclude each other");
  const std::string& id = device.empty() ? node : device;
  if (const auto disk = find_disk(context.hardware(), id)) return *disk;
  return generic(fmt::format("Cannot find device='{}' nor node-name='{}'", device, node));
}

// Finds a drive by `device` or `id`, of which exactly one must be given. `id` names the guest's
// device; in wick both have the same name.
Found find_drive(Context& context, const Json& arguments) {
  if (arguments.contains("device") == arguments.contains("id"))
    return generic("Need exactly one of 'device' and 'id'");
  const std::string name = text_or(arguments, arguments.contains("id") ? "id" : "device", "");
  const auto disk = find_disk(context.hardware(), device_id(name));
  if (!disk) return device_not_found(name);
  if (disk->media != vmm::DiskConfig::Media::kCdrom)
    return generic(fmt::format("Device '{}' is not removable", name));
  return *disk;
}

}  // namespace

Answer block_resize(Context& context, const Json& arguments) {
  const auto disk = find_node(context, arguments);
  if (!disk) return std::unexpected(disk.error());
  const auto size = arguments.at("size").get<int64_t>();
  if (size < 0) return generic("Parameter 'size' expects a >0 size");
  return answer(context.hardware().resize_disk(disk->id, static_cast<uint64_t>(size)));
}

Answer blockdev_snapshot_sync(Context& context, const Json& arguments) {
  const auto disk = find_node(context, arguments);
  if (!disk) return std::unexpected(disk.error());
  if (const auto format = text_or(arguments, "format", "qcow2"); format != "qcow2")
    return generic(fmt::format("Parameter 'format' does not accept value '{}'; use qcow2", format));
  if (text_or(arguments, "mode", "absolute-paths") != "absolute-paths")
    return generic("Parameter 'mode' does not accept value 'existing': wick makes the overlay");
  const auto path = arguments.at("snapshot-file").get<std::string>();
  if (path.empty()) return generic("Parameter 'snapshot-file' is empty");
  return answer(context.hardware().snapshot_disk(disk->id, path));
}

Answer eject(Context& context, const Json& arguments) {
  const auto drive = find_drive(context, arguments);
  if (!drive) return std::unexpected(drive.error());
  return answer(context.hardware().eject(drive->id, bool_or(arguments, "force", false)));
}

Answer change_medium(Context& context, const Json& arguments) {
  const auto drive = find_drive(context, arguments);
  if (!drive) return std::unexpected(drive.error());
  if (text_or(arguments, "read-only-mode", "retain") == "read-write")
    return generic("Parameter 'read-only-mode' does not accept value 'read-write' for a CD-ROM");
  if (const auto format = text_or(arguments, "format", "raw"); format != "raw")
    return generic(
        fmt::format("Parameter 'format' does not accept value '{}' for a CD-ROM", format));
  return answer(context.hardware().change_medium(
      drive->id, arguments.at("filename").get<std::string>(), bool_or(arguments, "force", false)));
}

}  // namespace wick::control::qmp

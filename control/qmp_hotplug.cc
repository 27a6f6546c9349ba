// Hot-plug. As with QEMU, a client first makes the host's half of a device (blockdev-add,
// netdev_add), and then the guest's half, which refers to the host's half by its name (device_add).
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "control/names.h"
#include "control/qmp_handlers.h"
#include "net/mac_address.h"

namespace wick::control::qmp {

namespace {

using vmm::DiskConfig;
using vmm::NetConfig;

constexpr size_t kMaxForwards = 64;

Answer duplicate_id(const std::string& id) { return generic(fmt::format("Duplicate ID '{}'", id)); }

// The maximum is that of QEMU's node names. An id becomes part of paths, logs and names of threads.
// vmm::Machine itself would accept longer ids.
constexpr size_t kMaxIdBytes = 31;

bool is_good_id(std::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && std::ranges::all_of(id, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
  });
}

// Returns the path of a format node's file. The argument "file" is {"driver": "file", "filename":
// PATH}, or the name of a protocol node.
std::expected<std::string, CommandError> file_path(Context& context, const Json& arguments) {
  const auto file = arguments.find("file");
  if (file == arguments.end()) return generic("Parameter 'file' is missing");
  if (file->is_string()) {
    const auto node = context.spare_disks.find(file->get<std::string>());
    if (node == context.spare_disks.end() || !node->second.file_only)
      return generic(
          fmt::format("Cannot find device='' nor node-name='{}'", file->get<std::string>()));
    return node->second.config.path;
  }
  if (!file->is_object() || !file->contains("filename") || !file->at("filename").is_string())
    return generic("Parameter 'file.filename' is missing");
  const auto driver = file->value("driver", Json("file"));
  if (driver != "file" && driver != "host_device")
    return generic(
        fmt::format("Parameter 'file.driver' does not accept value {}", to_text(driver)));
  return file->at("filename").get<std::string>();
}

Answer add_virtio_disk(Context& context, const Json& arguments, const std::string& wanted_id) {
  const std::string drive = text_or(arguments, "drive", "");
  if (drive.empty()) return generic("drive property not set");
  const auto found = context.spare_disks.find(drive);
  if (found == context.spare_disks.end())
    return generic(fmt::format("Property 'virtio-blk-device.drive' can't find value '{}'", drive));
  if (is_known_id(context.hardware(), found->second.used_by))
    return generic(fmt::format("Drive '{}' is already in use by another block device", drive));
  DiskConfig config = found->second.config;
  if (found->second.file_only) config.format = DiskConfig::Format::kRaw;
  config.serial = text_or(arguments, "serial", "");
  if (const auto queues = arguments.find("num-queues"); queues != arguments.end()) {
    const auto count = queues->get<int64_t>();
    if (count < 1 || count > DiskConfig::kMaxQueues)
      return generic(fmt::format("Property 'num-queues' expects 1 to {}", DiskConfig::kMaxQueues));
    config.queues = static_cast<uint16_t>(count);
  }
  const std::string id = wanted_id.empty() ? drive : wanted_id;
  if (const auto added = context.hardware().add_disk(config, id); !added) return answer(added);
  found->second.used_by = id;
  return nothing();
}

Answer add_net_card(Context& context, const Json& arguments, const std::string& wanted_id,
                    NetConfig::Device device) {
  const std::string netdev = text_or(arguments, "netdev", "");
  const auto found = context.spare_nets.find(netdev);
  if (found == context.spare_nets.end())
    return generic(fmt::format("Property '{}.netdev' can't find value '{}'",
                               arguments.at("driver").get<std::string>(), netdev));
  if (is_known_id(context.hardware(), found->second.used_by))
    return generic(fmt::format("Property '{}.netdev' can't take value '{}', it's in use",
                               arguments.at("driver").get<std::string>(), netdev));
  NetConfig config = found->second.config;
  config.device = device;
  if (const auto mac = text_or(arguments, "mac", ""); !mac.empty()) {
    config.mac = net::parse_mac(mac);
    if (!config.mac) return generic(fmt::format("Property 'mac' doesn't take value '{}'", mac));
  }
  const std::string id = wanted_id.empty() ? netdev : wanted_id;
  if (const auto added = context.hardware().add_card(config, id); !added) return answer(added);
  found->second.used_by = id;
  for (const std::string& forward : found->second.forwards) {
    if (const auto done = context.hardware().add_forward(id, forward); !done) {
      (void)context.hardware().remove_device(id);
      return answer(done);
    }
  }
  return nothing();
}

// A property that device_add accepts, with its JSON type.
struct Property {
  std::string_view name;
  bool is_number = false;
};

std::expected<void, CommandError> check_properties(const Json& arguments,
                                                   std::span<const Property> known) {
  for (const auto& [key, value] : arguments.items()) {
    if (key == "driver" || key == "id" || key == "bus") continue;
    const auto found = std::ranges::find(known, std::string_view(key), &Property::name);
    const auto driver = arguments.at("driver").get<std::string>();
    if (found == known.end())
      return generic(fmt::format("Property '{}.{}' not found", driver, key));
    if (found->is_number ? !value.is_number_integer() : !value.is_string())
      return generic(fmt::format("Invalid parameter type for '{}', expected: {}", key,
                                 found->is_number ? "integer" : "string"));
  }
  return {};
}

}  // namespace

Answer blockdev_add(Context& context, const Json& arguments) {
  const std::string driver = arguments.at("driver").get<std::string>();
  SpareDisk spare;
  spare.file_only = driver == "file" || driver == "host_device";
  if (spare.file_only) {
    spare.config.path = text_or(arguments, "filename", "");
    if (spare.config.path.empty()) return generic("Parameter 'filename' is missing");
  } else {
    const auto path = file_path(context, arguments);
    if (!path) return std::unexpected(path.error());
    spare.config.path = *path;
  }
  const std::string name = text_or(arguments, "node-name", "");
  if (name.empty()) return generic("'node-name' must be specified for the root node");
  if (!is_good_id(name)) return generic(fmt::format("Invalid node-name: '{}'", name));
  if (context.spare_disks.contains(name) || find_disk(context.hardware(), name))
    return generic(fmt::format("Duplicate nodes with node-name='{}'", name));
  if (context.spare_disks.size() >= Context::kMaxSpares)
    return generic("there are too many unused block nodes; remove some by blockdev-del");

  spare.config.format = driver == "qcow2" ? DiskConfig::Format::kQcow2 : DiskConfig::Format::kRaw;
  spare.config.read_only = bool_or(arguments, "read-only", false);
  if (const auto cache = arguments.find("cache"); cache != arguments.end()) {
    if (bool_or(*cache, "no-flush", false))
      spare.config.cache = DiskConfig::Cache::kUnsafe;
    else if (bool_or(*cache, "direct", false))
      spare.config.cache = DiskConfig::Cache::kNone;
  }
  context.spare_disks.emplace(name, std::move(spare));
  return nothing();
}

Answer blockdev_del(Context& context, const Json& arguments) {
  const auto name = arguments.at("node-name").get<std::string>();
  const auto found = context.spare_disks.find(name);
  if (found == context.spare_disks.end()) {
    if (find_disk(context.hardware(), name))
      return generic(fmt::format("Node '{}' is in use", name));
    return generic(fmt::format("Failed to find node with node-name='{}'", name));
  }
  if (is_known_id(context.hardware(), found->second.used_by))
    return generic(fmt::format("Node {} is in use", name));
  context.spare_disks.erase(found);
  return nothing();
}

Answer netdev_add(Context& context, const Json& arguments) {
  const std::string type = arguments.at("type").get<std::string>();
  const std::string id = arguments.at("id").get<std::string>();
  if (!is_good_id(id)) return generic("Parameter 'id' expects an identifier");
  if (context.spare_nets.contains(id) || find_card(context.hardware(), id)) return duplicate_id(id);
  if (context.spare_nets.size() >= Context::kMaxSpares)
    return generic("there are too many unused network back ends; remove some by netdev_del");
  SpareNet spare;
  if (type == "user") {
    spare.config.kind = NetConfig::Kind::kUser;
  } else if (type == "tap" || type == "bridge") {
    spare.config.kind = NetConfig::Kind::kTap;
    spare.config.interface = text_or(arguments, "ifname", "");
    spare.config.bridge = text_or(arguments, "br", "");
    spare.config.vhost = bool_or(arguments, "vhost", false);
  } else {
    return generic(fmt::format("Parameter 'type' does not accept value '{}'", type));
  }
  if (const auto forwards = arguments.find("hostfwd"); forwards != arguments.end()) {
    if (forwards->size() > kMaxForwards)
      return generic(fmt::format("Parameter 'hostfwd' has more than {} elements", kMaxForwards));
    for (const Json& forward : *forwards) {
      if (!forward.is_object() || !forward.contains("str") || !forward.at("str").is_string())
        return generic("Parameter 'hostfwd' expects a list of {\"str\": FORWARD}");
      spare.forwards.push_back(forward.at("str").get<std::string>());
    }
  }
  if (const auto queues = arguments.find("queues"); queues != arguments.end()) {
    const auto count = queues->get<int64_t>();
    if (count < 1 || count > NetConfig::kMaxQueues)
      return generic(fmt::format("Parameter 'queues' expects 1 to {}", NetConfig::kMaxQueues));
    spare.config.queues = static_cast<uint16_t>(count);
  }
  context.spare_nets.emplace(id, std::move(spare));
  return nothing();
}

Answer netdev_del(Context& context, const Json& arguments) {
  const auto id = arguments.at("id").get<std::string>();
  const auto found = context.spare_nets.find(id);
  if (found == context.spare_nets.end()) return device_not_found(id);
  if (is_known_id(context.hardware(), found->second.used_by))
    return generic(
        fmt::format("Device '{}' is in use by '{}'; remove that first", id, found->second.used_by));
  context.spare_nets.erase(found);
  return nothing();
}

Answer device_add(Context& context, const Json& arguments) {
  constexpr Property kDisk[] = {{"drive"}, {"serial"}, {"num-queues", true}};
  constexpr Property kCard[] = {{"netdev"}, {"mac"}};
  const std::string driver = arguments.at("driver").get<std::string>();
  const std::string id = text_or(arguments, "id", "");
  const bool disk = driver == "virtio-blk-pci" || driver == "virtio-blk";
  const bool virtio_net = driver == "virtio-net-pci" || driver == "virtio-net";
  if (!disk && !virtio_net && driver != "e1000")
    return generic(fmt::format("'{}' is not a valid device model name", driver));
  if (!id.empty() && !is_good_id(id)) return generic("Parameter 'id' expects an identifier");
  if (!id.empty() && is_known_id(context.hardware(), id)) return duplicate_id(id);
  const auto checked = check_properties(
      arguments, disk ? std::span<const Property>(kDisk) : std::span<const Property>(kCard));
  if (!checked) return std::unexpected(checked.error());
  if (disk) return add_virtio_disk(context, arguments, id);
  return add_net_card(context, arguments, id,
                      virtio_net ? NetConfig::Device::kVirtio : NetConfig::Device::kE1000);
}

Answer device_del(Context& context, const Json& arguments) {
  const auto name = arguments.at("id").get<std::string>();
  const std::string id = device_id(name);
  if (!is_known_id(context.hardware(), id)) return device_not_found(name);
  return answer(context.hardware().remove_device(id));
}

}  // namespace wick::control::qmp

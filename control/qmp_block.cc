// The queries about disks. QEMU has two nodes for each image: the upper node knows the format, the
// lower one is the file. In wick the upper node has the disk's id, and the lower node has the name
// "#ID-file".
#include <fmt/format.h>

#include "control/image_details.h"
#include "control/names.h"
#include "control/qmp_handlers.h"

namespace wick::control::qmp {

namespace {

using vmm::DiskInfo;

bool is_cdrom(const DiskInfo& disk) { return disk.media == vmm::DiskConfig::Media::kCdrom; }

std::string file_node(const DiskInfo& disk) { return fmt::format("#{}-file", disk.id); }

Json format_specific(const block::qcow2::Header& header) {
  namespace qcow2 = block::qcow2;
  Json data = {
      {"compat", header.version == 2 ? "0.10" : "1.1"},
      {"compression-type", header.compression == qcow2::Compression::kZstd ? "zstd" : "zlib"},
      {"refcount-bits", header.refcount_bits()}};
  if (header.version >= 3) {
    data["lazy-refcounts"] = (header.compatible & qcow2::kLazyRefcounts) != 0;
    data["corrupt"] = (header.incompatible & qcow2::kCorrupt) != 0;
    data["extended-l2"] = header.extended_l2();
  }
  if (header.external_data()) {
    data["data-file"] = header.data_path;
    data["data-file-raw"] = (header.autoclear & qcow2::kRawExternalData) != 0;
  }
  return {{"type", "qcow2"}, {"data", std::move(data)}};
}

Json image_info(const DiskInfo& disk, const ImageDetails& details) {
  Json info = {{"filename", disk.path},
               {"format", disk.format},
               {"virtual-size", disk.size_bytes},
               {"dirty-flag", false}};
  if (details.allocated_bytes) info["actual-size"] = *details.allocated_bytes;
  if (details.qcow2) {
    info["cluster-size"] = details.qcow2->cluster_bytes();
    info["dirty-flag"] = (details.qcow2->incompatible & block::qcow2::kDirty) != 0;
    info["format-specific"] = format_specific(*details.qcow2);
    if (!details.qcow2->backing_path.empty()) {
      info["backing-filename"] = details.qcow2->backing_path;
      info["full-backing-filename"] = disk.backing_path;
      if (!details.qcow2->backing_format.empty())
        info["backing-filename-format"] = details.qcow2->backing_format;
    }
  }
  return info;
}

Json device_info(const DiskInfo& disk, const std::string& node, std::string_view driver,
                 Json image) {
  using Cache = vmm::DiskConfig::Cache;
  Json info = {{"file", disk.path},
               {"node-name", node},
               {"ro", disk.read_only},
               {"drv", driver},
               {"backing_file_depth", disk.backing_path.empty() ? 0 : 1},
               {"encrypted", false},
               {"detect_zeroes", "off"},
               {"bps", 0},
               {"bps_rd", 0},
               {"bps_wr", 0},
               {"iops", 0},
               {"iops_rd", 0},
               {"iops_wr", 0},
               {"write_threshold", 0},
               {"image", std::move(image)},
               {"cache",
                {{"writeback", true},
                 {"direct", disk.cache == Cache::kNone},
                 {"no-flush", disk.cache == Cache::kUnsafe}}}};
  if (!disk.backing_path.empty()) info["backing_file"] = disk.backing_path;
  return info;
}

Json format_node(const DiskInfo& disk, const ImageDetails& details) {
  return device_info(disk, disk.id, disk.format, image_info(disk, details));
}

Json protocol_node(const DiskInfo& disk, const ImageDetails& details, const std::string& node) {
  DiskInfo file = disk;
  file.backing_path.clear();
  Json image = {{"filename", disk.path},
                {"format", "file"},
                {"virtual-size", details.file_bytes},
                {"dirty-flag", false}};
  if (details.allocated_bytes) image["actual-size"] = *details.allocated_bytes;
  return device_info(file, node, "file", std::move(image));
}

Json counters(const DiskInfo& disk, bool guest) {
  const vmm::DiskCounters& count = disk.counters;
  return {{"rd_bytes", count.read_bytes},
          {"wr_bytes", count.write_bytes},
          {"unmap_bytes", 0},
          {"rd_operations", count.reads},
          {"wr_operations", count.writes},
          {"flush_operations", count.flushes},
          {"unmap_operations", count.discards},
          {"rd_total_time_ns", count.read_ns},
          {"wr_total_time_ns", count.write_ns},
          {"flush_total_time_ns", count.flush_ns},
          {"unmap_total_time_ns", 0},
          {"wr_highest_offset", 0},
          {"rd_merged", 0},
          {"wr_merged", 0},
          {"unmap_merged", 0},
          {"failed_rd_operations", count.failed_reads},
          {"failed_wr_operations", count.failed_writes},
          {"failed_flush_operations", count.failed_flushes},
          {"failed_unmap_operations", 0},
          {"invalid_rd_operations", 0},
          {"invalid_wr_operations", 0},
          {"invalid_flush_operations", 0},
          {"invalid_unmap_operations", 0},
          {"account_invalid", guest},
          {"account_failed", guest},
          {"timed_stats", Json::array()}};
}

// Returns the statistics of the file's node. They are 0, because wick counts the guest's requests,
// not the requests to the file.
Json file_stats(const DiskInfo& disk) {
  DiskInfo idle;
  idle.id = disk.id;
  return {{"node-name", file_node(disk)},
          {"stats", counters(idle, false)},
          {"driver-specific",
           {{"driver", "file"},
            {"discard-nb-ok", 0},
            {"discard-nb-failed", 0},
            {"discard-bytes-ok", 0}}}};
}

}  // namespace

Answer query_block(Context& context, const Json&) {
  Json list = Json::array();
  for (const DiskInfo& disk : context.hardware().disks()) {
    Json info = {
        {"device", disk.id},
        {"qdev", device_path(disk)},
        {"type", "unknown"},
        {"removable", is_cdrom(disk)},
        {"locked", disk.locked},
        {"io-status", disk.no_space ? "nospace" : disk.failed ? "failed" : "ok"},
    };
    if (is_cdrom(disk)) info["tray_open"] = disk.tray_open;
    if (disk.inserted) info["inserted"] = format_node(disk, read_image_details(disk));
    list.push_back(std::move(info));
  }
  return list;
}

Answer query_blockstats(Context& context, const Json& arguments) {
  const bool nodes = bool_or(arguments, "query-nodes", false);
  Json list = Json::array();
  for (const DiskInfo& disk : context.hardware().disks()) {
    if (nodes) {
      if (!disk.inserted) continue;
      list.push_back(
          {{"node-name", disk.id}, {"stats", counters(disk, false)}, {"parent", file_stats(disk)}});
      list.push_back(file_stats(disk));
      continue;
    }
    Json info = {{"device", disk.id}, {"qdev", device_path(disk)}, {"stats", counters(disk, true)}};
    if (disk.inserted) {
      info["node-name"] = disk.id;
      info["parent"] = file_stats(disk);
    }
    list.push_back(std::move(info));
  }
  return list;
}

Answer query_named_block_nodes(Context& context, const Json&) {
  Json list = Json::array();
  const auto add = [&list](const DiskInfo& disk, const ImageDetails& details) {
    list.push_back(format_node(disk, details));
    list.push_back(protocol_node(disk, details, file_node(disk)));
  };
  for (const DiskInfo& disk : context.hardware().disks())
    if (disk.inserted) add(disk, read_image_details(disk));
  for (const auto& [name, spare] : context.spare_disks) {
    if (is_known_id(context.hardware(), spare.used_by)) continue;
    DiskInfo disk;
    disk.id = name;
    disk.path = spare.config.path;
    disk.format = spare.config.format == vmm::DiskConfig::Format::kQcow2 ? "qcow2" : "raw";
    disk.read_only = spare.config.read_only;
    disk.cache = spare.config.cache;
    const ImageDetails details = read_image_details(disk);
    disk.size_bytes = details.qcow2 ? details.qcow2->size_bytes : details.file_bytes;
    if (spare.file_only)
      list.push_back(protocol_node(disk, details, name));
    else
      add(disk, details);
  }
  return list;
}

}  // namespace wick::control::qmp

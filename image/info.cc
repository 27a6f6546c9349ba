// wick image info
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/human_size.h"
#include "base/printable.h"
#include "block/io_thread.h"
#include "block/named_file.h"
#include "image/commands.h"
#include "image/files.h"
#include "image/image_info.h"
#include "image/size.h"
#include "image/source.h"

namespace wick::image {

namespace {

using block::qcow2::Bitmap;
using Json = nlohmann::ordered_json;  // keeps the keys in qemu-img's order

constexpr uint64_t kNanoseconds = 1'000'000'000;

Json encryption(const std::optional<ImageInfo::Luks>& luks) {
  if (!luks) return {{"format", "aes"}};
  // "xts-plain64" has two parts: the cipher mode, and how initialization vectors are made.
  const size_t dash = std::min(luks->mode.find('-'), luks->mode.size());
  const std::string mode = luks->mode.substr(0, dash);
  const std::string vectors = luks->mode.substr(std::min(dash + 1, luks->mode.size()));
  const uint64_t key_bits = uint64_t{luks->key_bytes} * 8 / (mode == "xts" ? 2 : 1);
  Json json;
  json["ivgen-alg"] = vectors.substr(0, vectors.find(':'));
  if (const size_t colon = vectors.find(':'); colon != vectors.npos)
    json["ivgen-hash-alg"] = vectors.substr(colon + 1);
  json["hash-alg"] = luks->hash;
  json["cipher-alg"] = fmt::format("{}-{}", luks->cipher, key_bits);
  json["uuid"] = luks->uuid;
  json["format"] = "luks";
  json["cipher-mode"] = mode;
  for (const auto& slot : luks->slots) {
    Json& shown = json["slots"].emplace_back();
    shown["active"] = slot.active;
    if (slot.active) shown["iters"] = slot.iterations;
    shown["key-offset"] = slot.key_offset;
    if (slot.active) shown["stripes"] = slot.stripes;
  }
  json["payload-offset"] = luks->payload_offset;
  json["master-key-iters"] = luks->iterations;
  return json;
}

Json to_json(const Bitmap& bitmap) {
  Json flags = Json::array();
  if ((bitmap.flags & Bitmap::kInUse) != 0) flags.push_back("in-use");
  if ((bitmap.flags & Bitmap::kAuto) != 0) flags.push_back("auto");
  return {{"flags", flags}, {"name", bitmap.name}, {"granularity", bitmap.granularity_bytes()}};
}

Json specific(const ImageInfo::Qcow2& qcow2) {
  const block::qcow2::Header& header = qcow2.header;
  const bool v3 = header.version >= 3;
  Json data;
  data["compat"] = v3 ? "1.1" : "0.10";
  data["compression-type"] =
      header.compression == block::qcow2::Compression::kZstd ? "zstd" : "zlib";
  if (v3) data["lazy-refcounts"] = (header.compatible & block::qcow2::kLazyRefcounts) != 0;
  for (const Bitmap& bitmap : qcow2.bitmaps) data["bitmaps"].push_back(to_json(bitmap));
  data["refcount-bits"] = header.refcount_bits();
  if (header.crypt_method != 0) data["encrypt"] = encryption(qcow2.luks);
  if (header.external_data()) {
    data["data-file"] = header.data_path;
    data["data-file-raw"] = (header.autoclear & block::qcow2::kRawExternalData) != 0;
  }
  if (v3) data["corrupt"] = (header.incompatible & block::qcow2::kCorrupt) != 0;
  if (v3) data["extended-l2"] = header.extended_l2();
  return data;
}

Json to_json(const block::qcow2::Snapshot& snapshot) {
  Json json;
  if (snapshot.icount != ~0ull) json["icount"] = snapshot.icount;
  json["vm-clock-nsec"] = snapshot.vm_clock_ns % kNanoseconds;
  json["name"] = snapshot.name;
  json["date-sec"] = snapshot.date_s;
  json["date-nsec"] = snapshot.date_ns;
  json["vm-clock-sec"] = snapshot.vm_clock_ns / kNanoseconds;
  json["id"] = snapshot.id;
  json["vm-state-size"] = snapshot.vm_state_bytes;
  return json;
}

Json to_json(const ImageInfo& info) {
  Json json;
  const auto* const header = info.qcow2 ? &info.qcow2->header : nullptr;
  if (header && !header->backing_format.empty())
    json["backing-filename-format"] = header->backing_format;
  if (header && !info.qcow2->snapshots.empty())
    for (const auto& snapshot : info.qcow2->snapshots)
      json["snapshots"].push_back(to_json(snapshot));
  json["virtual-size"] = info.size_bytes;
  json["filename"] = info.path;
  if (header) json["cluster-size"] = header->cluster_bytes();
  json["format"] = format_name(info.format);
  json["actual-size"] = info.allocated_bytes;
  if (header) json["format-specific"] = {{"type", "qcow2"}, {"data", specific(*info.qcow2)}};
  if (header && header->crypt_method != 0) json["encrypted"] = true;
  if (header && !header->backing_path.empty()) {
    json["full-backing-filename"] = info.full_backing_path;
    json["backing-filename"] = header->backing_path;
  }
  json["dirty-flag"] = header && (header->incompatible & block::qcow2::kDirty) != 0;
  return json;
}

// Returns format-specific information in qemu-img's form: the JSON, indented, with spaces in place
// of dashes in the keys.
std::string indented(const Json& json, size_t depth) {
  std::string text;
  size_t index = 0;
  for (const auto& [key, value] : json.items()) {
    std::string name = json.is_array() ? fmt::format("[{}]", index++) : key;
    std::ranges::replace(name, '-', ' ');
    text += fmt::format("{:{}}{}:", "", depth * 4, name);
    if (value.is_structured())
      text += "\n" + indented(value, depth + 1);
    else
      text += " " + (value.is_string() ? printable(value.get<std::string>()) : value.dump()) + "\n";
  }
  return text;
}

std::string to_text(const ImageInfo& info) {
  std::string text =
      fmt::format("image: {}\nfile format: {}\nvirtual size: {} ({} bytes)\ndisk size: {}\n",
                  printable(info.path), format_name(info.format), human_size(info.size_bytes),
                  info.size_bytes, human_size(info.allocated_bytes));
  if (!info.qcow2) return text;
  const block::qcow2::Header& header = info.qcow2->header;
  if (header.crypt_method != 0) text += "encrypted: yes\n";
  text += fmt::format("cluster_size: {}\n", header.cluster_bytes());
  if ((header.incompatible & block::qcow2::kDirty) != 0) text += "cleanly shut down: no\n";
  if (!header.backing_path.empty()) {
    text += "backing file: " + printable(header.backing_path);
    if (info.full_backing_path != header.backing_path)
      text += fmt::format(" (actual path: {})", printable(info.full_backing_path));
    text += "\n";
    if (!header.backing_format.empty())
      text += fmt::format("backing file format: {}\n", printable(header.backing_format));
  }
  if (!info.qcow2->snapshots.empty())
    text += "Snapshot list:\n" + snapshot_list(info.qcow2->snapshots);
  return text + "Format specific information:\n" + indented(specific(*info.qcow2), 1);
}

Json specific(const VmdkInfo& vmdk) {
  Json data;
  data["cid"] = vmdk.cid;
  data["parent-cid"] = vmdk.parent_cid;
  data["create-type"] = vmdk.create_type;
  for (const auto& extent : vmdk.extents) {
    Json& shown = data["extents"].emplace_back();
    if (extent.compressed) shown["compressed"] = true;
    shown["virtual-size"] = extent.size_bytes;
    shown["filename"] = extent.path;
    if (extent.grain_bytes > 0) shown["cluster-size"] = extent.grain_bytes;
    shown["format"] = extent.type;
  }
  return data;
}

// Describes a vdi or vmdk image.
Json foreign_json(const Source& source, const std::string& path) {
  Json json;
  json["virtual-size"] = source.disk->size_bytes();
  json["filename"] = path;
  if (source.block_bytes > 0) json["cluster-size"] = source.block_bytes;
  json["format"] = format_name(source.format);
  json["actual-size"] = source.allocated_bytes;
  if (source.vmdk) json["format-specific"] = {{"type", "vmdk"}, {"data", specific(*source.vmdk)}};
  json["dirty-flag"] = false;
  return json;
}

std::string foreign_text(const Source& source, const std::string& path) {
  const uint64_t size = source.disk->size_bytes();
  std::string text = fmt::format(
      "image: {}\nfile format: {}\nvirtual size: {} ({} bytes)\ndisk size: {}\n", printable(path),
      format_name(source.format), human_size(size), size, human_size(source.allocated_bytes));
  if (source.block_bytes > 0) text += fmt::format("cluster_size: {}\n", source.block_bytes);
  if (source.vmdk) text += "Format specific information:\n" + indented(specific(*source.vmdk), 1);
  return text;
}

Result<std::vector<ImageInfo>> inspect(block::IoThread& thread, const ImageInfoQuery& query) {
  std::vector<ImageInfo> chain;
  std::vector<std::string> files;  // of the chain, to find a loop
  std::string path = query.path;
  std::optional<block::Format> format = block_format(query.format);
  for (;;) {
    chain.push_back(TRY(thread.run([&] { return inspect_image(path, format, thread.io()); })));
    const ImageInfo& info = chain.back();
    if (!query.backing_chain || info.full_backing_path.empty()) return chain;
    if (chain.size() > block::kMaxBackingFiles)
      return fail("{}: has more than {} backing files", query.path, block::kMaxBackingFiles);
    files.push_back(info.path);
    path = TRY(block::named_file(info.path, info.qcow2->header.backing_path));
    if (const std::string same = same_file(files, path); !same.empty())
      return fail("{}: the backing files form a loop: {} names {} again", query.path, info.path,
                  same);
    format = TRY(block::named_format(info.path, info.qcow2->header.backing_format));
  }
}

}  // namespace

std::string snapshot_list(std::span<const block::qcow2::Snapshot> snapshots) {
  std::string text = fmt::format("{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}\n", "ID", "TAG", "VM SIZE",
                                 "DATE", "VM CLOCK", "ICOUNT");
  for (const auto& snapshot : snapshots) {
    const uint64_t seconds = snapshot.vm_clock_ns / kNanoseconds;
    const std::string clock =
        fmt::format("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60,
                    snapshot.vm_clock_ns / 1'000'000 % 1000);
    const std::string icount = snapshot.icount == ~0ull ? "" : fmt::to_string(snapshot.icount);
    text += fmt::format("{:<9} {:<16} {:>8}{:>20}{:>13}{:>11}\n", printable(snapshot.id),
                        printable(snapshot.name), human_size(snapshot.vm_state_bytes),
                        fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(snapshot.date_s)), clock,
                        icount);
  }
  return text;
}

Result<int> execute(const ImageInfoQuery& query) {
  const auto thread = TRY(block::IoThread::create("image"));
  Json json = Json::array();
  std::string text;
  const ImageFormat format = TRY(format_of(*thread, query.path, query.format));
  if (is_foreign(format)) {
    const auto source = TRY(open_source(*thread, query.path, {.format = format, .share = true}));
    json.push_back(foreign_json(source, query.path));
    text = foreign_text(source, query.path);
  } else {
    for (const ImageInfo& info : TRY(inspect(*thread, query))) {
      json.push_back(to_json(info));
      text += (text.empty() ? "" : "\n") + to_text(info);
    }
  }
  if (query.json)  // names from an image need not be UTF-8, and may hold control characters
    text = (query.backing_chain ? json : json.front())
               .dump(4, ' ', true, Json::error_handler_t::replace) +
           "\n";
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace wick::image

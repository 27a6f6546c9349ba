#include "cli/image/nbd.h"

#include <charconv>

#include "cli/image/name.h"
#include "image/nbd_protocol.h"
#include "image/nbd_server.h"
#include "image/source.h"

namespace wick::cli {

namespace {

constexpr const char* kHelp =
    R"(The options are those of qemu-nbd. It ends when the last client has left, unless
-t is given, or by SIGINT or SIGTERM, and flushes FILE. Different from qemu-nbd:
without -b only this host can connect; trims free space (--discard); an image's
files must lie in its folder (--trust-names). There is no TLS, -L, -o or -B.
SIGUSR1: look at FILE's size again; clients that connect later are told.

Examples:
  wick image nbd -t -e 4 --socket disk.sock disk.qcow2
  sudo wick image nbd -c /dev/nbd0 disk.qcow2
  sudo wick image nbd -d /dev/nbd0)";

constexpr OptionRow kOptions[] = {
    {"-f,--format", "raw|qcow2|vdi|vmdk", "format of FILE (by its magic); vdi, vmdk: with -r"},
    {"-k,--socket", "PATH", "listen on a Unix socket"},
    {"-b,--bind", "HOST", "address to listen on (127.0.0.1)"},
    {"-p,--port", "PORT", "TCP port (10809)"},
    {"-c,--connect", "DEVICE", "be the disk of /dev/nbdN, in the background; needs root"},
    {"-d,--disconnect", "DEVICE", "end that, without FILE"},
    {"-r,--read-only", nullptr, "clients cannot write"},
    {"-s,--snapshot", nullptr, "drop at the end what clients write"},
    {"-l,--load-snapshot", "SNAPSHOT", "serve this snapshot of FILE, with -r"},
    {"-e,--shared", "N", "clients at a time (1); 0: as many as possible (64)"},
    {"-t,--persistent", nullptr, "go on when the last client has left"},
    {"-x,--export-name", "NAME", "name of the export (none)"},
    {"-D,--description", "TEXT", "description of the export, for people"},
    {"--cache", "CACHE", "none, writeback, unsafe, ... (writeback); -n: none"},
    {"-n,--nocache", nullptr, ""},
    {"--discard", "unmap|ignore|on|off", "what trims do (unmap)"},
    {"--fork", nullptr, "go on in the background once clients can connect"},
    {"--pid-file", "PATH", "write the process's ID to this file"},
    {"-v,--verbose", nullptr, "with -c: stay in the foreground"},
    {"-U,--force-share", nullptr, "with -r: FILE may be in use"},
    {"--trust-names", nullptr, "open files that images name in any folder"},
    {"--image-opts", nullptr, "FILE is driver=...,file.filename=..."},
    {"FILE", "", "the image", 0},
};

// The protocol's default port (NBD specification, "nbd URI").
constexpr uint16_t kDefaultPort = 10809;

template <typename Number>
Result<Number> number_of(const char* option, const std::string& text, Number max) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty() || value > max)
    return fail("{}: \"{}\" is not a number, 0 to {}", option, text, max);
  return value;
}

// Sets the image, and how it is opened.
Result<void> set_image(const Given& given, image::ImageNbd& nbd) {
  const std::string file = given.last("FILE").value_or("");
  if (file.empty()) return fail("FILE is missing");
  auto name = parse_image_name(file, given.has("image-opts"));
  if (!name) return fail("'{}': {}", file, name.error().context);
  nbd.path = name->path;
  if (const auto format = given.last("format")) nbd.format = image::image_format_of_name(*format);
  if (nbd.format && name->format) return fail("'{}': the format is also given by -f", file);
  if (name->format) nbd.format = name->format;
  nbd.read_only = given.has("read-only");
  nbd.ephemeral = given.has("snapshot");
  nbd.snapshot = given.last("load-snapshot").value_or("");
  nbd.share = given.has("force-share");
  nbd.trust_names = given.has("trust-names");
  nbd.cache =
      cache_of_name(given.has("nocache") ? "none" : given.last("cache").value_or("writeback"));
  if (nbd.read_only && nbd.ephemeral) return fail("-s: not with -r, which allows no changes");
  if (!nbd.snapshot.empty() && !nbd.read_only)
    return with_hint(fail("-l: a snapshot cannot be written"), "add -r");
  if (nbd.share && !nbd.read_only)
    return with_hint(fail("-U: an image in use cannot be written"), "add -r");
  const auto discard = given.last("discard");
  nbd.discards = discard != "ignore" && discard != "off";
  return {};
}

// Sets where the image is served: a device, a Unix socket or a TCP address.
Result<void> set_place(const Given& given, image::ImageNbd& nbd) {
  nbd.device = given.last("connect").value_or("");
  nbd.socket_path = given.last("socket").value_or("");
  const bool tcp = given.has("bind") || given.has("port");
  if (given.has("connect") && nbd.device.empty()) return fail("-c: the device is missing");
  if (given.has("connect") + given.has("socket") + tcp > 1)
    return fail("-c, -k and -b or -p exclude each other");
  if (given.has("socket") && nbd.socket_path.empty()) return fail("-k: the path is missing");
  if (!nbd.device.empty() && (given.has("shared") || given.has("persistent")))
    return fail("-{}: not with -c, which serves only the kernel", given.has("shared") ? "e" : "t");
  nbd.bind_address = given.last("bind").value_or("127.0.0.1");
  nbd.port = kDefaultPort;
  if (const auto port = given.last("port")) nbd.port = TRY(number_of<uint16_t>("-p", *port, 65535));
  return {};
}

}  // namespace

CommandSyntax nbd_syntax() {
  return {"nbd", "Serves an image to NBD clients, or as /dev/nbdN.", kHelp, kOptions};
}

Result<image::ImageCommand> make_nbd(const Given& given) {
  image::ImageNbd nbd;
  if (const auto device = given.last("disconnect")) {
    if (given.has("FILE") || given.has("connect")) return fail("-d: without FILE and -c");
    if (device->empty()) return fail("-d: the device is missing");
    nbd.disconnected = *device;
    return nbd;
  }
  TRY(set_image(given, nbd));
  TRY(set_place(given, nbd));
  using image::NbdServer;
  if (const auto clients = given.last("shared")) {
    nbd.max_clients = TRY(number_of<size_t>("-e", *clients, NbdServer::kMaxClients));
    if (nbd.max_clients == 0) nbd.max_clients = NbdServer::kMaxClients;
  }
  nbd.persistent = given.has("persistent");
  nbd.name = given.last("export-name").value_or("");
  nbd.description = given.last("description").value_or("");
  if (nbd.name.size() > image::kNbdMaxStringBytes ||
      nbd.description.size() > image::kNbdMaxStringBytes)
    return fail("-x, -D: at most {} bytes", image::kNbdMaxStringBytes);
  nbd.background = given.has("fork") || (!nbd.device.empty() && !given.has("verbose"));
  nbd.pid_path = given.last("pid-file").value_or("");
  return nbd;
}

}  // namespace wick::cli

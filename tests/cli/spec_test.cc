#include "cli/spec.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace wick::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr std::string_view kKeys = "VALUE[,one=X][,two=X]\n[,three=yes|no|perhaps][,more=X]...";
constexpr uint64_t kMiB = 1 << 20;

template <typename T>
std::string error_of(const Result<T>& result) {
  return result ? "no error" : result.error().message();
}

TEST(Spec, IsAValueThenPairsInOrder) {
  const auto spec = parse_spec("a.img,two=2,one=x=y", kKeys);
  ASSERT_TRUE(spec) << error_of(spec);
  EXPECT_EQ(spec->value, "a.img");
  EXPECT_THAT(spec->pairs, ElementsAre(Pair("two", "2"), Pair("one", "x=y")));
}

TEST(Spec, DoubledCommaIsAComma) {
  const auto spec = parse_spec("a,,b,one=c,,d,,", kKeys);
  ASSERT_TRUE(spec) << error_of(spec);
  EXPECT_EQ(spec->value, "a,b");
  EXPECT_THAT(spec->pairs, ElementsAre(Pair("one", "c,d,")));
}

TEST(Spec, ThreeCommasAreACommaThenAnEnd) {
  const auto spec = parse_spec("a,,,one=1", kKeys);
  ASSERT_TRUE(spec) << error_of(spec);
  EXPECT_EQ(spec->value, "a,");
  EXPECT_THAT(spec->pairs, ElementsAre(Pair("one", "1")));
}

TEST(Spec, UnknownKeyIsNamedAndTheValidOnesListed) {
  EXPECT_EQ(error_of(parse_spec("a,four=4", kKeys)),
            "unknown key 'four'; the keys are one, two, three, more");
}

TEST(Spec, KeyTwiceIsNamed) {
  EXPECT_THAT(error_of(parse_spec("a,one=1,one=1", kKeys)), HasSubstr("'one' is given twice"));
}

TEST(Spec, OnlyAKeyThatRepeatsMayComeTwice) {
  const auto spec = parse_spec("a,more=1,one=2,more=1", kKeys);
  ASSERT_TRUE(spec) << error_of(spec);
  EXPECT_THAT(spec->pairs, ElementsAre(Pair("more", "1"), Pair("one", "2"), Pair("more", "1")));
}

TEST(Spec, AValueIsOneOfTheWordsThereAre) {
  EXPECT_TRUE(parse_spec("a,three=perhaps", kKeys));
  EXPECT_EQ(error_of(parse_spec("a,three=maybe", kKeys)),
            "three=maybe: must be yes, no or perhaps");
}

TEST(Spec, EmptyPartsAreRefused) {
  EXPECT_THAT(error_of(parse_spec("", kKeys)), HasSubstr("value before the first comma"));
  EXPECT_THAT(error_of(parse_spec(",one=1", kKeys)), HasSubstr("value before the first comma"));
  EXPECT_THAT(error_of(parse_spec("a,", kKeys)), HasSubstr("'' has no key"));
  EXPECT_THAT(error_of(parse_spec("a,=1", kKeys)), HasSubstr("'=1' has no key"));
  EXPECT_THAT(error_of(parse_spec("a,one", kKeys)), HasSubstr("'one' has no value"));
  EXPECT_THAT(error_of(parse_spec("a,one=", kKeys)), HasSubstr("'one' has no value"));
}

TEST(Size, SuffixesAreBinary) {
  EXPECT_EQ(parse_size("3K", 1), 3u << 10);
  EXPECT_EQ(parse_size("3m", 1), 3u << 20);
  EXPECT_EQ(parse_size("3G", 1), uint64_t{3} << 30);
  EXPECT_EQ(parse_size("3", 1), 3u);
  EXPECT_EQ(parse_size("3", kMiB), 3 * kMiB);
}

TEST(Size, ReachesTheLargestNumber) {
  EXPECT_EQ(parse_size("18446744073709551615", 1), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(parse_size("17179869183G", 1), uint64_t{17179869183} << 30);
}

TEST(Size, OverflowIsRefused) {
  EXPECT_THAT(error_of(parse_size("18446744073709551616", 1)), HasSubstr("too large"));
  EXPECT_THAT(error_of(parse_size("17179869184G", 1)), HasSubstr("too large"));
  EXPECT_THAT(error_of(parse_size("17592186044416", kMiB)), HasSubstr("too large"));
}

TEST(Size, GarbageIsRefused) {
  for (const char* const text : {"", "M", "12Q", "1MM", "1MiB", "-1", "+1", " 1", "1 ", "1.5G",
                                 "0x10", "1T", "one", "1\n"}) {
    EXPECT_THAT(error_of(parse_size(text, 1)), HasSubstr("not a size")) << text;
  }
}

TEST(Size, ZeroIsRefused) {
  EXPECT_THAT(error_of(parse_size("0", 1)), HasSubstr("zero"));
  EXPECT_THAT(error_of(parse_size("0G", 1)), HasSubstr("zero"));
}

TEST(MemorySize, CountsMiBWithoutASuffix) {
  EXPECT_EQ(parse_memory_size("256"), 256 * kMiB);
  EXPECT_EQ(parse_memory_size("256M"), 256 * kMiB);
}

TEST(MemorySize, IsInWholePages) {
  EXPECT_EQ(parse_memory_size("8K"), 8192u);
  EXPECT_THAT(error_of(parse_memory_size("5K")), HasSubstr("multiple of 4K"));
}

TEST(Seconds, MayHaveAFraction) {
  EXPECT_EQ(parse_seconds("30"), std::chrono::seconds(30));
  EXPECT_EQ(parse_seconds("0.25"), std::chrono::milliseconds(250));
}

TEST(Seconds, RefusesInvalidTimes) {
  for (const char* const text :
       {"", "0", "0.0", "-1", "nan", "inf", "1e3", "5s", "1e", "1 ", "99999999999", "0.0000001"}) {
    EXPECT_FALSE(parse_seconds(text)) << text;
  }
}

TEST(DiskSpec, PathAloneLeavesTheDefaults) {
  const auto disk = parse_disk("a.img");
  ASSERT_TRUE(disk) << error_of(disk);
  EXPECT_EQ(disk->path, "a.img");
  EXPECT_EQ(disk->format, vmm::DiskConfig::Format::kProbe);
  EXPECT_FALSE(disk->read_only);
  EXPECT_EQ(disk->cache, vmm::DiskConfig::Cache::kWriteback);
  EXPECT_EQ(disk->serial, "");
}

TEST(DiskSpec, TakesEveryKey) {
  const auto disk =
      parse_disk("/dev/sdb,format=raw,readonly=on,device=virtio,media=disk,cache=unsafe,serial=d0");
  ASSERT_TRUE(disk) << error_of(disk);
  EXPECT_EQ(disk->path, "/dev/sdb");
  EXPECT_EQ(disk->format, vmm::DiskConfig::Format::kRaw);
  EXPECT_TRUE(disk->read_only);
  EXPECT_EQ(disk->cache, vmm::DiskConfig::Cache::kUnsafe);
  EXPECT_EQ(disk->serial, "d0");
  EXPECT_EQ(parse_disk("a,cache=none")->cache, vmm::DiskConfig::Cache::kNone);
  EXPECT_FALSE(parse_disk("a,readonly=off")->read_only);
  EXPECT_TRUE(parse_disk("a,ephemeral=on")->ephemeral);
  EXPECT_EQ(parse_disk("a,queues=4")->queues, 4);
  for (const char* const queues : {"0", "17", "65535"})
    EXPECT_EQ(error_of(parse_disk(fmt::format("a,queues={}", queues))),
              fmt::format("queues={}: must be 1 to 16", queues));
  for (const char* const queues : {"x", "65536", "4294967297"})
    EXPECT_EQ(error_of(parse_disk(fmt::format("a,queues={}", queues))),
              fmt::format("queues={}: not a number of at most 65535", queues));
  EXPECT_EQ(error_of(parse_disk("a,readonly=on,ephemeral=on")),
            "ephemeral=on: this disk is read-only; leave out ephemeral, or the key that makes "
            "it read-only");
}

TEST(DiskSpec, SaysWhichNamedFilesAreOpened) {
  EXPECT_FALSE(parse_disk("a")->any_backing);
  EXPECT_EQ(parse_disk("a")->data_path, "");
  EXPECT_FALSE(parse_disk("a,backing=folder")->any_backing);
  EXPECT_TRUE(parse_disk("a,backing=any")->any_backing);
  EXPECT_EQ(parse_disk("a,data-file=/b,,c")->data_path, "/b,c");
  EXPECT_EQ(error_of(parse_disk("a,backing=all")), "backing=all: must be folder or any");
  EXPECT_FALSE(parse_disk("a,format=raw,data-file=b"));
}

TEST(DiskSpec, ARawDiskHasNoTablesToKeep) {
  EXPECT_EQ(error_of(parse_disk("a,format=raw,cache-size=1M")),
            "cache-size=1048576: a raw disk has no tables to cache; leave out cache-size");
  EXPECT_TRUE(parse_disk("a,format=raw,cache-size=1M,ephemeral=on"));
  EXPECT_TRUE(parse_disk("a,format=qcow2,cache-size=1M"));
  EXPECT_TRUE(parse_disk("a,cache-size=1M"));
}

TEST(DiskSpec, BadValueNamesTheKeyAndTheValidOnes) {
  EXPECT_EQ(error_of(parse_disk("a,cache=fast")), "cache=fast: must be writeback, none or unsafe");
  EXPECT_EQ(error_of(parse_disk("a,readonly=yes")), "readonly=yes: must be on or off");
  EXPECT_EQ(error_of(parse_disk("a,format=vmdk")), "format=vmdk: must be raw or qcow2");
  EXPECT_EQ(error_of(parse_disk("a,device=scsi")), "device=scsi: must be virtio or ide");
  EXPECT_EQ(error_of(parse_disk("a,media=tape")), "media=tape: must be disk or cdrom");
}

TEST(DiskSpec, ACdromIsOnIdeAndReadOnly) {
  const auto cdrom = parse_disk("a.iso,device=ide,media=cdrom");
  ASSERT_TRUE(cdrom) << error_of(cdrom);
  EXPECT_EQ(cdrom->device, vmm::DiskConfig::Device::kIde);
  EXPECT_EQ(cdrom->media, vmm::DiskConfig::Media::kCdrom);
  EXPECT_TRUE(cdrom->read_only);
  EXPECT_TRUE(parse_disk("a.iso,media=cdrom,device=ide,readonly=on"));
  for (const char* const on_virtio : {"a,media=cdrom", "a,media=cdrom,device=virtio"})
    EXPECT_EQ(error_of(parse_disk(on_virtio)),
              "media=cdrom: CD-ROM drives exist only on IDE; add device=ide, or use --cdrom "
              "FILE");
  EXPECT_THAT(error_of(parse_disk("a,device=ide,media=cdrom,readonly=off")),
              HasSubstr("a CD-ROM cannot be written"));
  EXPECT_FALSE(parse_disk("a,device=ide")->read_only);
}

TEST(DiskSpec, SerialFitsTheGuestsField) {
  EXPECT_TRUE(parse_disk("a,serial=12345678901234567890"));
  EXPECT_THAT(error_of(parse_disk("a,serial=123456789012345678901")),
              HasSubstr("longer than 20 bytes"));
}

TEST(NetSpec, TakesEveryKey) {
  const auto plain = parse_net("tap");
  ASSERT_TRUE(plain) << error_of(plain);
  ASSERT_TRUE(*plain);
  EXPECT_EQ((*plain)->kind, vmm::NetConfig::Kind::kTap);
  EXPECT_EQ((*plain)->device, vmm::NetConfig::Device::kVirtio);
  EXPECT_EQ((*plain)->interface, "");
  EXPECT_EQ((*plain)->bridge, "");
  EXPECT_EQ((*plain)->queues, 1);
  EXPECT_FALSE((*plain)->vhost);
  EXPECT_FALSE((*plain)->mtu);
  EXPECT_FALSE((*plain)->mac);
  const auto all = parse_net(
      "tap,ifname=tap7,bridge=br0,mac=52:54:00:12:34:56,device=virtio,vhost=on,queues=4,mtu=9000");
  ASSERT_TRUE(all) << error_of(all);
  ASSERT_TRUE(*all);
  EXPECT_EQ((*all)->interface, "tap7");
  EXPECT_EQ((*all)->bridge, "br0");
  EXPECT_EQ((*all)->mac, (net::MacAddress{0x52, 0x54, 0, 0x12, 0x34, 0x56}));
  EXPECT_TRUE((*all)->vhost);
  EXPECT_EQ((*all)->queues, 4);
  EXPECT_EQ((*all)->mtu, 9000);
}

TEST(NetSpec, MayBeNoneOrUser) {
  const auto none = parse_net("none");
  ASSERT_TRUE(none) << error_of(none);
  EXPECT_FALSE(*none);
  const auto user = parse_net("user,device=e1000,mac=52:54:00:00:00:01,mtu=1400");
  ASSERT_TRUE(user) << error_of(user);
  EXPECT_EQ((*user)->kind, vmm::NetConfig::Kind::kUser);
  EXPECT_EQ((*user)->device, vmm::NetConfig::Device::kE1000);
  EXPECT_EQ((*user)->mtu, 1400);
}

TEST(ShareSpec, HasAFolderATagAndItsRules) {
  const auto share = parse_share("/srv/a,,b,tag=t,readonly=on,cache=always,security=mapped");
  ASSERT_TRUE(share);
  EXPECT_EQ(share->path, "/srv/a,b");
  EXPECT_EQ(share->tag, "t");
  EXPECT_TRUE(share->read_only);
  EXPECT_EQ(share->cache, vmm::ShareConfig::Cache::kAlways);
  EXPECT_EQ(share->security, share::Security::kMapped);
  EXPECT_EQ(parse_share("/,tag=t")->security, share::Security::kSquash);
  EXPECT_EQ(parse_share("/,tag=t")->device, vmm::ShareConfig::Device::kVirtioFs);
  EXPECT_EQ(parse_share("/,tag=t,device=9p")->device, vmm::ShareConfig::Device::k9p);
  EXPECT_THAT(error_of(parse_share("/,tag=t,device=9p,cache=never")), HasSubstr("cache"));
  EXPECT_THAT(error_of(parse_share("/,tag=t,device=nfs")), HasSubstr("device"));
  const auto mapped =
      parse_share("/,tag=t,security=passthrough,uid-map=0:1000,uid-map=1:5:3,gid-map=0:100");
  ASSERT_TRUE(mapped) << mapped.error().message();
  ASSERT_EQ(mapped->uids.size(), 2u);
  EXPECT_EQ(mapped->uids[1].guest * 100 + mapped->uids[1].host * 10 + mapped->uids[1].count, 153u);
  EXPECT_EQ(mapped->gids.size(), 1u);
  for (const char* wrong : {"0", "0:", "0:1:", "0:1:2:3", "x:1", "0:1:0", "4294967295:0",
                            "0:4294967290:10", "-1:0", "0:1:2,uid-map=1:7"})
    EXPECT_FALSE(parse_share("/,tag=t,security=passthrough,uid-map=" + std::string(wrong)))
        << wrong;
  EXPECT_THAT(error_of(parse_share("/,tag=t,uid-map=0:1")), HasSubstr("security=passthrough"));
  EXPECT_THAT(error_of(parse_share("/srv")), HasSubstr("tag=TAG is missing"));
  EXPECT_THAT(error_of(parse_share("/srv,tag=t,cache=none")), HasSubstr("cache"));
  EXPECT_THAT(error_of(parse_share("/srv,tag=t,security=none")), HasSubstr("security"));
}

TEST(NetSpec, RefusesOtherNetworks) {
  for (const char* const text :
       {"", "nat", "Tap", "TAP", "tap0", "bridge", "slirp", "user:", "tap,,", "tap,,mtu=1500"})
    EXPECT_THAT(error_of(parse_net(text)), HasSubstr("write tap, user or none")) << text;
  EXPECT_FALSE(parse_net("none,mtu=1500"));
  EXPECT_THAT(error_of(parse_net("tap,model=virtio")), HasSubstr("unknown key 'model'"));
  EXPECT_THAT(error_of(parse_net("tap,mtu=1500,mtu=1500")), HasSubstr("'mtu' is given twice"));
}

TEST(NetSpec, OnlyATapHasAnInterface) {
  for (const char* const pair : {"ifname=tap0", "bridge=br0", "vhost=on", "vhost=off", "queues=1"})
    EXPECT_EQ(error_of(parse_net(fmt::format("user,{}", pair))),
              fmt::format("unknown key '{}'; the keys are hostfwd, mac, mtu, device",
                          std::string(pair).substr(0, std::string(pair).find('='))));
  EXPECT_THAT(error_of(parse_net("tap,hostfwd=tcp::1-:2")), HasSubstr("unknown key 'hostfwd'"));
}

TEST(NetSpec, BadValueNamesTheKeyAndTheValidOnes) {
  for (const char* const mac : {"1", "12:34", "52:54:00:12:34", "52:54:00:12:34:5g"})
    EXPECT_EQ(error_of(parse_net(fmt::format("tap,mac={}", mac))),
              fmt::format("mac={}: not six pairs of hexadecimal digits; write one such as "
                          "52:54:00:12:34:56",
                          mac));
  EXPECT_EQ(error_of(parse_net("tap,mac=01:00:5e:00:00:01")),
            "mac=01:00:5e:00:00:01: a group address, because the first byte is odd");
  EXPECT_EQ(error_of(parse_net("tap,mac=00:00:00:00:00:00")),
            "mac=00:00:00:00:00:00: not a valid address");
  EXPECT_EQ(error_of(parse_net("tap,device=rtl8139")), "device=rtl8139: must be virtio or e1000");
  EXPECT_EQ(error_of(parse_net("tap,vhost=yes")), "vhost=yes: must be on or off");
  for (const char* const queues : {"0", "17"})
    EXPECT_EQ(error_of(parse_net(fmt::format("tap,queues={}", queues))),
              fmt::format("queues={}: must be 1 to 16", queues));
  for (const char* const queues : {"-1", "x", "1.5", "65537", "4294967297", "1x"})
    EXPECT_EQ(error_of(parse_net(fmt::format("tap,queues={}", queues))),
              fmt::format("queues={}: not a number of at most 65535", queues));
  for (const char* const mtu : {"0", "67"})
    EXPECT_EQ(error_of(parse_net(fmt::format("tap,mtu={}", mtu))),
              fmt::format("mtu={}: must be 68 to 65535", mtu));
  for (const char* const mtu : {"65536", "131136", "4294968796", "1500B", "-1"})
    EXPECT_EQ(error_of(parse_net(fmt::format("tap,mtu={}", mtu))),
              fmt::format("mtu={}: not a number of at most 65535", mtu));
  EXPECT_EQ((*parse_net("tap,mtu=68"))->mtu, 68);
  EXPECT_EQ((*parse_net("tap,mtu=65535"))->mtu, 65535);
  EXPECT_EQ((*parse_net("tap,queues=16"))->queues, 16);
}

TEST(NetSpec, AnE1000HasOneQueueAndNoVhost) {
  for (const char* const text : {"tap,device=e1000,queues=2", "tap,queues=2,device=e1000"})
    EXPECT_EQ(error_of(parse_net(text)),
              "device=e1000: it has one queue; leave queues or device out");
  EXPECT_EQ(error_of(parse_net("tap,device=e1000,vhost=on")),
            "device=e1000: vhost supports only virtio; leave vhost or device out");
  EXPECT_TRUE(parse_net("tap,device=e1000,queues=1,vhost=off"));
}

TEST(SerialSpec, TakesEveryKind) {
  using Kind = vmm::SerialConfig::Kind;
  EXPECT_EQ(parse_serial("stdio")->kind, Kind::kStdio);
  EXPECT_EQ(parse_serial("pty")->kind, Kind::kPty);
  EXPECT_EQ(parse_serial("null")->kind, Kind::kNull);
  EXPECT_EQ(parse_serial("unix:a:b")->kind, Kind::kUnix);
  EXPECT_EQ(parse_serial("unix:a:b")->path, "a:b");
  EXPECT_EQ(parse_serial("file:/tmp/a")->kind, Kind::kFile);
  EXPECT_EQ(parse_serial("file:/tmp/a")->path, "/tmp/a");
}

TEST(SerialSpec, TakesALog) {
  const auto serial = parse_serial("unix:a,,b,log=c.log");
  ASSERT_TRUE(serial) << error_of(serial);
  EXPECT_EQ(serial->path, "a,b");
  EXPECT_EQ(serial->log_path, "c.log");
}

TEST(SerialSpec, RefusesOtherPlaces) {
  for (const char* const text : {"tcp:1234", "stdio:", "pty:/dev/pts/1", "null:x", "Stdio", "a"})
    EXPECT_THAT(error_of(parse_serial(text)), HasSubstr("write stdio, pty, unix:PATH")) << text;
  for (const char* const text : {"unix:", "unix", "file:", "file"})
    EXPECT_THAT(error_of(parse_serial(text)), HasSubstr("needs a path")) << text;
  EXPECT_THAT(error_of(parse_serial("stdio,mux=on")), HasSubstr("the keys are log"));
}

TEST(HostForward, IsWrittenAsQemuHasIt) {
  const auto forward = net::HostForward::parse("udp:192.0.2.1:5353-10.0.2.99:53");
  ASSERT_TRUE(forward) << error_of(forward);
  EXPECT_EQ(*forward, (net::HostForward{.udp = true,
                                        .host_address = "192.0.2.1",
                                        .host_port = 5353,
                                        .guest_address = "10.0.2.99",
                                        .guest_port = 53}));
  EXPECT_EQ(forward->text(), "udp:192.0.2.1:5353-10.0.2.99:53");
  EXPECT_EQ(*net::HostForward::parse(forward->text()), *forward);
}

TEST(HostForward, ListensOnTheLoopbackUnlessToldOtherwise) {
  for (const char* const text :
       {"tcp::2222-:22", "::2222-:22", "tcp:127.0.0.1:2222-10.0.2.15:22"}) {
    const auto forward = net::HostForward::parse(text);
    ASSERT_TRUE(forward) << text << ": " << error_of(forward);
    EXPECT_EQ(forward->text(), "tcp:127.0.0.1:2222-10.0.2.15:22");
  }
  EXPECT_EQ(net::HostForward::parse("tcp:0.0.0.0:1-:65535")->host_address, "0.0.0.0");
}

TEST(HostForward, MistakesAreNamed) {
  for (const char* const text : {"", "tcp", "2222-22", "tcp::2222", "-:22", "a-b:c"})
    EXPECT_THAT(error_of(net::HostForward::parse(text)), HasSubstr("is not a valid forward"))
        << text;
  EXPECT_THAT(error_of(net::HostForward::parse("sctp::1-:2")), HasSubstr("neither tcp nor udp"));
  EXPECT_THAT(error_of(net::HostForward::parse("tcp:localhost:1-:2")),
              HasSubstr("'localhost' is not an IPv4 address for the host"));
  EXPECT_THAT(error_of(net::HostForward::parse("tcp::1-300.0.0.1:2")),
              HasSubstr("'300.0.0.1' is not an IPv4 address for the guest"));
  for (const char* const port : {"", "0", "65536", "-1", "22x", " 22", "99999999999"}) {
    EXPECT_THAT(error_of(net::HostForward::parse(fmt::format("tcp::1-:{}", port))),
                HasSubstr("the guest's port must be 1 to 65535"))
        << port;
  }
  EXPECT_THAT(error_of(net::HostForward::parse("tcp::65536-:1")), HasSubstr("the host's port"));
  EXPECT_THAT(error_of(net::HostForward::parse("tcp:1-:1")), HasSubstr("tcp:127.0.0.1:2222-:22"));
}

}  // namespace
}  // namespace wick::cli
